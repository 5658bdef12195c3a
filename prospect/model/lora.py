"""LoRA by peft: adapters in the text model, the heads (and the connector, unless frozen) trained whole beside them.

A checkpoint is peft's own (adapter_config.json, adapter_model.safetensors) with the model's config.json, so that tokens
a frame and normalisation are remembered. Every loader of this project merges it into its base on the way in.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from pipeline.errors import ProspectError
from prospect.config import LoraSettings
from prospect.model.hub import checkpoint_name
from prospect.runs import INIT

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEADS = ("should_update_dst", "when_to_speak")


def add_lora(model: Any, settings: LoraSettings, freeze_connector: bool) -> PeftModel:
    """Give `model` fresh adapters, which change nothing yet; what is trained is float32, whatever the rest is.

    Raises:
        ProspectError: a target that no layer of the text model has.
    """
    layers = {name.rpartition(".")[2] for name, _ in model.model.text_model.layers.named_modules()}
    if unknown := sorted(set(settings.targets) - layers):
        raise ProspectError(
            f"model.lora.targets: found {', '.join(unknown)}, expected linear layers of the text model, such as q_proj"
        )
    whole = [*HEADS, *([] if freeze_connector else ["modality_projection"])]
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=rf".*\.text_model\..*\.({'|'.join(settings.targets)})",
        modules_to_save=whole,
    )
    with warnings.catch_warnings():  # peft asks for gradient checkpointing by its old name
        warnings.simplefilter("ignore", FutureWarning)
        adapted = get_peft_model(model, lora)
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
    return adapted


def without_adapter(model: Any) -> Any:
    """Give the DSTSmolVLM in a PeftModel, its layers still those with adapters; any other model as it is."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def base_of(adapter: Path) -> str:
    """Give folder or hub id of the checkpoint that `adapter` was trained on; a hub id with the revision that it was.

    Raises:
        ProspectError: the adapter's config cannot be read.
    """
    place = adapter / ADAPTER_CONFIG
    try:
        record = json.loads(place.read_text())
        base = str(record["base_model_name_or_path"])
        revision = str(record.get("revision") or "")
    except (OSError, ValueError, KeyError) as error:
        raise ProspectError(f"{place}: cannot be read ({error!r}), expected a LoRA checkpoint; copy it again") from None
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
