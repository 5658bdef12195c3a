"""LoRA by peft: adapters in the text model; heads (and the connector, unless frozen) trained whole beside them, and of
an assembled checkpoint the rows of its new tokens, which no pretraining has seen: left at their mean, they would be
equally likely for ever.

A checkpoint is peft's own (adapter_config.json, adapter_model.safetensors) with the model's config.json, so that tokens
a frame and normalisation are remembered. Every loader of this project merges it into its base on the way in.
"""

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from pydantic import ConfigDict, Field

from pipeline.errors import ProspectError
from pipeline.io.records import read_record, shown
from prospect.config import LoraSettings
from prospect.model.hub import checkpoint_name
from prospect.runs import INIT

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FIX = "copy the checkpoint again"
LAYER = r"\w{1,64}"
# Layers' names, or this module's own expression of them: any other may take for ever on the names of a model.
TARGETS = re.compile(rf"{LAYER}(\.{LAYER})*|\.\*\\\.text_model\\\.\.\*\\\.\(({LAYER})(\|{LAYER})*\)")
HEADS = ("should_update_dst", "when_to_speak")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What is read of peft's adapter_config.json before peft reads it; what this module never writes is refused, as
    patterns of names may take for ever, and layers may be multiplied."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="ignore")

    base_model_name_or_path: str
    peft_type: Literal["LORA"]
    r: Annotated[int, Field(gt=0, le=4096)]
    target_modules: str | list[str]  # text: a regular expression, which peft matches with every module's name
    revision: str | None = None  # of the base
    trainable_token_indices: dict[Literal["embed_tokens", "lm_head"], list[int]] | None = None
    exclude_modules: None = None
    layers_pattern: None = None
    layer_replication: None = None
    rank_pattern: Annotated[dict[str, int], Field(max_length=0)] = field(default_factory=dict)
    alpha_pattern: Annotated[dict[str, int], Field(max_length=0)] = field(default_factory=dict)


def add_lora(model: Any, settings: LoraSettings, freeze_connector: bool, under_autocast: bool = False) -> PeftModel:
    """Give `model` fresh adapters, which change nothing yet; what is trained is float32, whatever the rest is.

    Args:
        under_autocast: it always runs so. Autocast takes each adapter's input in bf16; peft, which does not know it,
            would make a float32 copy of every one before, and keep it for the backward pass.

    Raises:
        ProspectError: a target that no layer of the text model has.
    """
    layers = {name.rpartition(".")[2] for name, _ in model.model.text_model.layers.named_modules()}
    if unknown := sorted(set(settings.targets) - layers):
        raise ProspectError(
            f"model.lora.targets: found {', '.join(unknown)}, expected linear layers of the text model, such as q_proj"
        )
    new = list(model.prospect_settings.new_tokens)
    tables = ["embed_tokens"] if model.config.tie_word_embeddings else ["embed_tokens", "lm_head"]
    heads = [] if model.decision_tokens else HEADS
    whole = [*heads, *([] if freeze_connector else ["modality_projection"])]
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=rf".*\.text_model\..*\.({'|'.join(settings.targets)})",
        modules_to_save=whole or None,
        trainable_token_indices={table: new for table in tables} if new else None,
    )
    with warnings.catch_warnings():  # peft asks for gradient checkpointing by its old name
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(model, lora)
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
    if under_autocast:
        for module in adapted.modules():
            if isinstance(module, LoraLayer):
                module.cast_input_dtype_enabled = False
    return adapted


def without_adapter(model: Any) -> Any:
    """Give the DSTSmolVLM in a PeftModel, its layers still those with adapters; any other model as it is."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def read_adapter(folder: Path) -> AdapterConfig:
    """Read what peft saved beside an adapter's weights.

    Raises:
        ProspectError: it is none of ours; names the field.
    """
    place = folder / ADAPTER_CONFIG
    saved = read_record(place, AdapterConfig, FIX)
    for name in [saved.target_modules] if isinstance(saved.target_modules, str) else saved.target_modules:
        if not TARGETS.fullmatch(name):
            raise ProspectError(
                f"{place}: target_modules: found {shown(name)}, expected names of layers, or what prospect train "
                f"writes; {FIX}"
            )
    return saved


def base_of(adapter: Path) -> str:
    """Give folder or hub id of the checkpoint that `adapter` was trained on; a hub id with the revision that it was.

    Raises:
        ProspectError: the adapter's config cannot be read.
    """
    saved = read_adapter(adapter)
    base, revision = saved.base_model_name_or_path, saved.revision
    of_run = adapter.parent.parent / INIT  # a preset's random weights stand in the run's folder, which may have moved
    if Path(base).name == INIT and not Path(base).is_dir() and of_run.is_dir():
        return str(of_run)
    if Path(base).is_dir():
        return base
    base = checkpoint_name(base)  # a snapshot in the hub's cache of another machine
    return f"{base}@{revision}" if revision and "@" not in base else base


def merged(base: Any, adapter: Path) -> Any:
    """Give the base model, the adapter's product added to its weights, and the adapter's heads in place of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return PeftModel.from_pretrained(base, str(adapter)).merge_and_unload()
