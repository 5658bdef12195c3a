"""The settings of a run: one YAML file of `configs/`, checked here, copied beside the run's outputs (`config_file.py`
reads and writes them).

Records are frozen. The text under a field is its documentation: `prospect settings` and docs/settings.md print it.
"""

import math
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.errors import ProspectError
from pipeline.io.storage import is_url

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Binary = Literal["balanced", "plain", "focal"]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class NegativeRate(Settings):
    """Share of silent frames learned from: `start`, or a schedule from `start` to `end` over the run."""

    schedule: Literal["constant", "linear", "cosine", "step"] = "constant"
    """How the rate goes from `start` to `end`."""
    start: float = Field(default=0.5, ge=0, le=1)
    """Rate at the first step."""
    end: float | None = Field(default=None, ge=0, le=1)
    """Rate at the last step; none with a constant schedule."""
    step_at: float | None = Field(default=None, gt=0, lt=1)
    """Of the step schedule: share of the run after which `end` holds."""

    @model_validator(mode="after")
    def _ends(self) -> "NegativeRate":
        if (self.schedule == "constant") != (self.end is None):
            raise ValueError("a constant rate has a start alone, any other schedule start and end")
        if (self.schedule == "step") != (self.step_at is not None):
            raise ValueError("a step schedule has step_at, the share of the run after which end holds; no other has it")
        return self


class DataConfig(Settings):
    """What is learned from, and in which order."""

    dataset: str | None = None
    """Name of the dataset: a folder of `shards`."""
    mix: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """In place of `dataset`: dataset -> passes over it an epoch."""
    shards: Path | str = Path("shards")
    """OUT of build-shards: a folder, or a URL such as s3://bucket/shards."""
    cache: Path = Path("~/.cache/prospect")
    """Where tables of sequences and copies of remote shards are kept."""
    cache_gb: float = Field(default=100, gt=0)
    """Most that copies of remote shards take, in GB."""
    root: Path = Path("data")
    """DATA_ROOT of build-shards: frames files are looked for under it."""
    frames_root: Path | None = None
    """Searched first for frames files."""
    train_split: str = "train"
    """The split that is trained on."""
    eval_splits: tuple[str, ...] = ("val", "test")
    """Splits that are measured; the first is validated on during training. [] for none."""
    packing: Literal["clip", "turn"] = "clip"
    """A sequence is a clip (or a part of it) with every frame once, or one turn with its history as text."""
    memory: Literal["dst", "summary", "none"] = "dst"
    """What is carried from one context to the next: the state, by updates; a summary in words, as in ProAssist, that
    the model writes at a context's end; or nothing. Without dst the model only speaks (clip packing)."""
    knowledge: Literal["steps", "goal", "none"] = "steps"
    """What the prompt tells of the task: the list of its steps (dst needs it), its goal alone, or nothing."""
    without_knowledge: Share = 0.0
    """Share of the training clips, drawn by their ids, whose prompt tells nothing of the task; ProAssist trains on
    every dialogue with and without. Validation has `knowledge` alone."""
    max_seq_len: Positive = 4096
    """Tokens of the longest sequence: the model's window."""
    reserve: Positive = 256
    """Tokens kept free for the turns of one frame; with memory summary as many again for the summary."""
    frame_wrap: Literal["none", "smolvlm"] = "none"
    """smolvlm: the pretraining's tokens around each frame's image tokens."""
    negatives: NegativeRate = NegativeRate()
    """Share of silent frames learned from."""
    event_margin: int = Field(default=0, ge=0)
    """Frames before an event from which no silence is learned, where annotation is less exact than a frame."""
    event_jitter: Literal[0, 1] = 0
    """Most frames that an event's turns are moved by, in training (clip packing)."""
    shuffle_window: Positive = 16
    """Shards whose sequences are permuted together."""
    bucket_batches: Positive = 16
    """Global batches whose sequences are sorted by length together; 1: none."""
    num_workers: int = Field(default=2, ge=0)
    """Processes that read and decode; 0: the training process itself."""
    on_error: Literal["error", "skip"] = "error"
    """What a broken sample does: stop the run, or be counted and left out."""
    max_consecutive_errors: Positive = 10
    """With skip: so many broken samples in a row stop the run all the same."""
    features: Path | None = None
    """Folder of `prospect cache-features`: no frame is decoded, no vision tower run; a connector that is not frozen is
    trained all the same."""
    blind: bool = False
    """Grey frames: what can be known without seeing."""

    @property
    def datasets(self) -> dict[str, float]:
        """Name -> passes over it an epoch."""
        return self.mix or {self.dataset or "": 1.0}

    @property
    def evaluated(self) -> "DataConfig":
        """As a split is laid out that is measured: nothing is drawn."""
        return self.model_copy(update={"without_knowledge": 0.0})

    @property
    def tables(self) -> Path:
        """Folder of cached tables of sequences."""
        return self.cache.expanduser() / "sequences"

    @field_validator("shards")
    @classmethod
    def _place(cls, value: Path | str) -> Path | str:
        return str(value) if is_url(str(value)) else Path(value)

    @model_validator(mode="after")
    def _has_effect(self) -> "DataConfig":
        if self.event_jitter and self.packing == "turn":
            raise ValueError("event_jitter has no effect in turn packing; leave it out, or use packing: clip")
        if self.memory != "dst" and self.packing == "turn":
            raise ValueError(
                f"memory: {self.memory} needs packing: clip, as each dst_update is a sample of its own in turn packing"
            )
        if self.memory == "dst" and (self.knowledge != "steps" or self.without_knowledge):
            raise ValueError(
                "memory: dst needs knowledge: steps in every clip (without_knowledge: 0), as updates name steps of the "
                "prompt; set memory to summary or none"
            )
        if self.without_knowledge and self.knowledge == "none":
            raise ValueError("without_knowledge has no effect with knowledge: none; leave one of them out")
        if self.mix is not None and not self.mix:
            raise ValueError("mix names no dataset")
        return self


class LoraSettings(Settings):
    """Low-rank adapters of the text model (Hu et al., arXiv 2106.09685); the heads are trained beside them."""

    rank: Positive = 16
    """Width of the adapters."""
    alpha: Positive = 32
    """The adapters' output is scaled by alpha / rank."""
    dropout: float = Field(default=0, ge=0, lt=1)
    """Share of the adapters' inputs that is left out at each step."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Linear layers of the text model that get adapters."""
    quantize: Literal["none", "4bit"] = "none"
    """4bit: the text model's frozen linear layers in NF4 (QLoRA), by bitsandbytes, on a GPU."""


class ModelConfig(Settings):
    """What is trained, from which weights."""

    checkpoint: str | None = None
    """Hub id (`ORG/NAME`, or with `@REVISION`) or folder of a SmolVLM checkpoint; or give `preset`."""
    preset: Literal["toy", "toy-hard", "smolvlm2-256m", "smolvlm2-500m", "smolvlm2-2.2b"] | None = None
    """In place of `checkpoint`: random weights of a known size."""
    tokens_per_frame: int | Literal["native"] = 4
    """Image tokens a frame: a square up to the model's own number, which is `native`."""
    vision_chunk: Positive = 64
    """Frames in one forward of the vision tower."""
    decide: Literal["heads", "tokens"] = "heads"
    """What says which block comes next: two heads of our own, or the LM head's logits of three tokens."""
    freeze_vision: bool = False
    """Leave the vision tower as it is."""
    freeze_connector: bool = False
    """Leave the connector as it is."""
    lora: LoraSettings | None = None
    """Train adapters of the text model; none: every weight that is not frozen."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention kernel, by transformers' name."""

    @model_validator(mode="after")
    def _one_source(self) -> "ModelConfig":
        if (self.checkpoint is None) == (self.preset is None):
            raise ValueError("give either checkpoint or preset")
        return self


class LossConfig(Settings):
    """Weight of each loss in the total."""

    lm: float = Field(default=1.0, ge=0)
    """Tokens of utterances."""
    dst_gen: float = Field(default=1.0, ge=0)
    """Tokens of updates."""
    dst_binary: float = Field(default=1.0, ge=0)
    """Decisions whether the state changes (should_update_dst)."""
    speak_binary: float = Field(default=1.0, ge=0)
    """Decisions whether to speak (when_to_speak)."""
    binary: Binary = "balanced"
    """How decisions are averaged: ProAssist's mean of positives and negatives, all alike, or Streamo's focal loss."""


class TrainConfig(Settings):
    """How it is trained, told and kept."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of random weights, order, negative sampling and dropout."""
    epochs: Positive = 10
    """Passes over the data; with data.mix, rounds of its passes."""
    max_steps: Positive | None = None
    """Optimizer steps after which the run stops, if `epochs` would take more."""
    global_batch_size: Positive = 16
    """Sequences of one optimizer step, over all ranks."""
    micro_batch_size: Positive = 2
    """Sequences of one forward on one rank; accumulation follows from it and global_batch_size."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """8bit: block-wise states, bf16 weights rounded by chance."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Peak learning rate, reached after the warm-up."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    adam_betas: tuple[Share, Share] = (0.9, 0.999)
    """Of AdamW."""
    warmup_steps: float = Field(default=0.05, ge=0)
    """Optimizer steps over which the learning rate rises; below 1: a share of the run's."""
    lr_schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """Course of the learning rate after the warm-up."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_loss: float = Field(default=100, gt=0)
    """A micro-batch's loss above it, or not finite, stops the run."""
    bf16: bool = False
    """Compute in bfloat16 (autocast)."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""
    padding_free: bool = False
    """Put the sequences of a micro-batch one after another, each of which sees itself alone; none is padded to the
    longest."""
    compile: bool = False
    """Compile the text model's layers (torch.compile): a slow first step, and faster ones after it."""
    fsdp: bool = False
    """Several ranks: share out weights, gradients and optimizer states, instead of copies (DDP)."""
    eval_steps: Positive = 500
    """Optimizer steps between validations."""
    save_steps: Positive = 500
    """Optimizer steps between checkpoints."""
    log_steps: Positive = 10
    """Optimizer steps between logs of the losses; a checkpoint is a log too."""
    keep_checkpoints: Positive = 5
    """Checkpoints that are kept: the last so many."""
    wandb: bool = False
    """Log to Weights & Biases too (the package wandb, its own settings and environment)."""
    loss: LossConfig = LossConfig()
    """Weights of the losses."""

    @field_validator("warmup_steps")
    @classmethod
    def _steps_or_share(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError("a whole number of steps expected, or a share below 1")
        return value


class Config(Settings):
    """A whole run; its outputs go to `runs/NAME`."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")  # of a folder: no name of dots alone
    """Of the run's folder."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    data: DataConfig = DataConfig()
    """What is learned from."""
    model: ModelConfig
    """What is trained."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""

    @property
    def folder(self) -> Path:
        return self.runs / self.name

    @model_validator(mode="after")
    def _names_data(self) -> "Config":
        if not self.data.dataset and not self.data.mix:
            raise ValueError("no data.dataset: expected the name of a folder in data.shards, or data.mix")
        return self

    @model_validator(mode="after")
    def _features_are_fixed(self) -> "Config":
        is_fixed = self.model.freeze_vision or self.model.lora
        if self.data.features and (not is_fixed or self.data.blind):
            raise ValueError(
                "data.features needs model.freeze_vision (a trained tower changes every feature), and frames that are "
                "not blind"
            )
        return self

    @model_validator(mode="after")
    def _has_padding(self) -> "Config":
        if self.train.padding_free and self.train.micro_batch_size == 1:
            raise ValueError(
                "train.padding_free has no effect with train.micro_batch_size 1, which pads nothing; leave it out, or "
                "raise train.micro_batch_size"
            )
        return self

    @model_validator(mode="after")
    def _is_whole(self) -> "Config":
        if self.train.fsdp and self.train.optimizer == "adamw_8bit":
            raise ValueError(
                "train.optimizer: the states of 8-bit AdamW (torchao) are not shared out; with train.fsdp use adamw "
                "(model.dtype float32 with train.bf16), or leave out train.fsdp"
            )
        if self.train.fsdp and self.model.lora and self.model.lora.quantize != "none":
            raise ValueError("model.lora.quantize: 4-bit weights are not shared out; leave out train.fsdp")
        return self

    @model_validator(mode="after")
    def _learns(self) -> "Config":
        if self.model.dtype == "bfloat16" and not self.model.lora and self.train.optimizer == "adamw":
            raise ValueError(
                "bfloat16 weights under plain AdamW: most updates of a small learning rate round away; use "
                "train.optimizer adamw_8bit (stochastic rounding), model.lora, or model.dtype float32 with train.bf16"
            )
        return self


def world_size() -> int:
    """Number of ranks, as torchrun and accelerate say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_ranks() -> int:
    """Number of ranks on this machine, likewise."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def warmup_steps(train: TrainConfig, max_steps: int) -> int:
    """Optimizer steps of the warm-up in a run of `max_steps`; a share is rounded up, as in transformers."""
    return math.ceil(train.warmup_steps * max_steps if train.warmup_steps < 1 else train.warmup_steps)


def long_warmup(train: TrainConfig, max_steps: int) -> str | None:
    """Say that the learning rate never reaches its peak in a run of `max_steps`, with the fix; None: it does."""
    steps = warmup_steps(train, max_steps)
    if not 0 < max_steps <= steps:
        return None
    return (
        f"train.warmup_steps {steps} is as long as the run of {max_steps} steps: the learning rate never reaches "
        f"{train.learning_rate:g}; set a share of the run, such as train.warmup_steps=0.05, or train longer"
    )


def accumulation_steps(train: TrainConfig) -> int:
    """Micro-batches of one rank in an optimizer step.

    Raises:
        ProspectError: the global batch does not divide evenly.
    """
    per_step = train.micro_batch_size * world_size()
    if train.global_batch_size % per_step:
        raise ProspectError(
            f"train.global_batch_size: found {train.global_batch_size}, expected a multiple of micro_batch_size "
            f"{train.micro_batch_size} x {world_size()} ranks = {per_step}"
        )
    return train.global_batch_size // per_step
