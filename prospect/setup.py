"""From a run's settings to what it works with: splits, tokenizer, layout, model, features.

`make_blueprint` tells what the model will be without its weights; `load_model` has them.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import torch
from accelerate import PartialState
from transformers import SmolVLMConfig

from pipeline.annotations.clips import prompt_text
from pipeline.annotations.dst import FORWARD, MOVES
from pipeline.errors import ProspectError
from pipeline.io.images import SHOWN_AS
from prospect.config import Config, DataConfig
from prospect.data.decode import DRAFT_GAP
from prospect.data.features import FEATURE_VERSION, Dtype, FeatureStore, Stage
from prospect.data.index import Split, clips_of, read_split
from prospect.data.sequences import learned
from prospect.data.shard_cache import ShardCache
from prospect.layout import HEADERS, LAYOUT_VERSION, SUMMARY_HEADER, Tokens
from prospect.model.checkpoint import (
    ProspectSettings,
    load_image_processor,
    load_tokenizer,
    loading_errors,
    read_config,
    with_tokens,
)
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.hub import checkpoint_folder, checkpoint_name
from prospect.model.lora import add_lora, is_adapter, without_adapter
from prospect.model.presets import PRESETS, make_checkpoint, preset_tokenizer
from prospect.model.quantize import quantize
from prospect.runs import INIT, may_be_hub_id

REMEMBERED = (
    "packing",
    "frame_wrap",
    "max_seq_len",
    "reserve",
    "memory",
    "knowledge",
)  # of the data settings, in each checkpoint


def remembered(data: DataConfig, training: list[Split]) -> dict[str, Any]:
    """List what each checkpoint remembers, as a stream has to be like what it was trained on: some data settings, the
    rates of its clips (`fps`, ascending), the version of the layout, and the transitions that there were."""
    columns = [split.index["clip"].drop_nulls().struct.field("fps") for split in training]
    rates = sorted({rate for column in columns for rate in column.to_list()})
    return {name: getattr(data, name) for name in REMEMBERED} | {
        "fps": [int(rate) if rate == int(rate) else rate for rate in rates],
        "layout": LAYOUT_VERSION,
        "transitions": [name for name in MOVES if name in FORWARD or _occurs(name, training)],
    }


def _occurs(transition: str, splits: list[Split]) -> bool:
    updates = (split.index.filter(pl.col("kind") == "dst_update")["target"] for split in splits)
    return any(texts.str.contains(f"->{transition}", literal=True).any() for texts in updates)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a model will be, known without its weights."""

    tokenizer: Any
    tokens: Tokens
    config: SmolVLMConfig

    def tokens_a_frame(self) -> int:
        """Give the model's own count: the shape that its vision tower and connector give one frame (on no device)."""
        size = self.config.vision_config.image_size
        with loading_errors("the model's config.json"), torch.device("meta"), torch.no_grad():
            model = DSTSmolVLM(self.config)
            return model.encode_frames(torch.empty(1, 3, size, size, dtype=torch.uint8)).shape[1]


def make_blueprint(config: Config) -> Blueprint:
    """Make the blueprint of a run; a preset's tokenizer comes from the training split's texts.

    Raises:
        ProspectError: checkpoint or shards are missing, or so many tokens a frame cannot be given.
    """
    source, wanted = config.model.checkpoint, config.model.tokens_per_frame
    if source:
        source = checkpoint_folder(source, weights=False)
        model_config = read_config(source, wanted, config.model.vision_chunk, _deciding(config, source))
        tokenizer: Any = load_tokenizer(source)
    else:
        assert config.model.preset is not None
        splits = open_splits(config, config.data.train_split)
        texts = (text for split in splits for text in texts_of(split.index, config.data))
        tokenizer = preset_tokenizer(config.model.preset, texts)
        preset = PRESETS[config.model.preset](tokenizer)
        model_config = with_tokens(preset, config.model.preset, wanted, _decision_tokens(config, tokenizer))
    count = ProspectSettings.of(model_config).tokens_per_frame
    return Blueprint(tokenizer, Tokens(tokenizer, count, config.data.frame_wrap), model_config)


def _deciding(config: Config, source: str) -> dict[str, tuple[int, ...] | None]:
    """How a model of the checkpoint `source` is to decide, for `read_config`."""
    return {
        "decision_tokens": _decision_tokens(config, load_tokenizer(source)) if config.model.decide == "tokens" else None
    }


def _decision_tokens(config: Config, tokenizer: Any) -> tuple[int, ...] | None:
    is_asked = config.model.decide == "tokens"
    return Tokens(tokenizer, 1).decision_tokens(config.data.memory == "dst") if is_asked else None


def texts_of(index: pl.DataFrame, data: DataConfig) -> Iterator[str]:
    """List every text of a split as a sequence has it (and steps and updates in any case), for a tokenizer of its
    own."""
    for clip in clips_of(index):
        seen = learned(clip, data)
        yield f"System: {prompt_text(clip.steps, clip.state, seen.goal)}"
        for turn in clip.turns:
            yield f"{HEADERS[turn.role]} {turn.text}"
        for progress in seen.progress:
            yield f"{SUMMARY_HEADER} {progress.text}"


def open_split(data: DataConfig, dataset: str, name: str) -> Split:
    """Open one dataset's split as a run's settings say.

    Raises:
        ProspectError: its shards are not there, or disagree with their manifest.
    """
    return read_split(data.shards, dataset, name, data.root, ShardCache.of(data))


def open_splits(config: Config, name: str) -> list[Split]:
    """Open the split of every dataset of the run; an evaluation split may be missing in some datasets of a mix.

    Raises:
        ProspectError: none has it, or one that is trained on has not.
    """
    data, splits, missing = config.data, list[Split](), list[ProspectError]()
    for dataset in data.datasets:
        try:
            splits.append(open_split(data, dataset, name))
        except ProspectError as error:
            if name == data.train_split or len(data.datasets) == 1:
                raise
            missing.append(error)
    if not splits:
        raise missing[0]
    return splits


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its weights, and what it is saved with."""

    model: Any  # DSTSmolVLM, or a PeftModel around one
    tokenizer: Any
    image_processor: Any


def load_model(
    config: Config, resume_from: Path | None, training: list[Split], init: Path | None = None
) -> LoadedModel:
    """Load the checkpoint that is resumed, else what the config says.

    With `model.lora` the base as the config says; the Trainer puts the resumed adapters into it. A preset's random
    weights are saved as the checkpoint folder `init`, by default in the run's folder.
    """
    source = str(resume_from) if resume_from and not config.model.lora else config.model.checkpoint
    if source is None:
        assert config.model.preset is not None
        init = init or config.folder / INIT
        if resume_from is None and PartialState().is_main_process:  # one of another seed or preset may lie there
            shutil.rmtree(init, ignore_errors=True)
            texts = chain.from_iterable(texts_of(split.index, config.data) for split in training)
            make_checkpoint(config.model.preset, init, texts, config.train.seed)
        source = str(init)
    source = checkpoint_folder(source if resume_from is None else _base_then(resume_from, source))
    if config.model.lora and is_adapter(Path(source)):
        raise ProspectError(
            f"model.checkpoint: {source} is a LoRA adapter, expected whole weights to train adapters of; merge it "
            f"first: prospect export --checkpoint {source} FOLDER --merge"
        )
    base = {"base": name} if (name := checkpoint_name(source)) != source else {}
    model = DSTSmolVLM.from_checkpoint(
        source,
        tokens_per_frame=config.model.tokens_per_frame,
        vision_chunk=config.model.vision_chunk,
        dtype=config.model.dtype,
        attn_implementation=config.model.attn_implementation,
        settings=remembered(config.data, training) | base | _deciding(config, source),
    )
    if config.model.lora and config.model.lora.quantize == "4bit":
        quantize(model)
    return LoadedModel(prepared(model, config), load_tokenizer(source), load_image_processor(source))


def _base_then(resumed: Path, source: str) -> str:
    """Name what `resumed` was trained from: the revision of a hub id that it was then, as it may have moved since."""
    extra = ProspectSettings.of(read_config(str(resumed), None, 1, {})).extra
    return str(extra.get("base", source)) if may_be_hub_id(source) else source


def prepared(model: Any, config: Config) -> Any:
    """Put LoRA adapters around a DSTSmolVLM, or freeze it in part; with gradient checkpointing where it is set."""
    if config.train.gradient_checkpointing:
        model.recompute_activations()
    if config.model.lora:  # everything else is frozen, but the heads, and the connector if that is wanted
        return add_lora(model, config.model.lora, config.model.freeze_connector, under_autocast=config.train.bf16)
    model.model.vision_model.requires_grad_(not config.model.freeze_vision)
    model.model.connector.requires_grad_(not config.model.freeze_connector)
    return model


def open_features(config: Config, model: Any) -> FeatureStore | None:
    """Open the features that a run reads in place of frames, if it does.

    Raises:
        ProspectError: they were not made, or by another model or other settings.
    """
    if config.data.features is None:
        return None
    key = feature_key(without_adapter(model), feature_dtype(config), feature_stage(config))
    return FeatureStore.open(config.data.features, key)


def feature_dtype(config: Config) -> Dtype:
    return "bfloat16" if config.train.bf16 or config.model.dtype == "bfloat16" else "float32"


def feature_stage(config: Config) -> Stage:
    """Say up to where features are computed once: to the first layer that is trained."""
    return "projected" if config.model.freeze_connector else "pooled"


def feature_key(model: Any, dtype: str, stage: Stage) -> str:
    """Digest all that a frame's feature depends on: weights, tokens a frame, normalisation, size and resize, dtype."""
    settings, size = model.prospect_settings, model.config.vision_config.image_size
    about = [
        settings.tokens_per_frame,
        settings.image_mean,
        settings.image_std,
        size,
        DRAFT_GAP,
        "lanczos",
        SHOWN_AS,
        dtype,
        FEATURE_VERSION,
    ]
    digest = hashlib.sha256(repr(about).encode())
    for part in (model.model.vision_model, *([model.model.connector] if stage == "projected" else [])):
        for name, tensor in sorted(part.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]
