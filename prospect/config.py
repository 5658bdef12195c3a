"""The settings of a run: one YAML file of `configs/`, checked here, copied beside the run's outputs.

Records are frozen; a key that does not exist is refused and the nearest one named.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.errors import ProspectError
from pipeline.storage import is_url
from prospect.data.shard_cache import ShardCache

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NegativeRate(_Settings):
    """Share of silent frames learned from: `start`, or a schedule from `start` to `end` over the run."""

    schedule: Literal["constant", "linear", "cosine", "step"] = "constant"
    start: float = Field(default=0.5, ge=0, le=1)
    end: float | None = Field(default=None, ge=0, le=1)
    step_at: float | None = Field(default=None, gt=0, lt=1)  # of `step`: share of the run after which `end` holds

    @model_validator(mode="after")
    def _ends(self) -> "NegativeRate":
        if (self.schedule == "constant") != (self.end is None):
            raise ValueError("a constant rate has a start alone, any other schedule start and end")
        if (self.schedule == "step") != (self.step_at is not None):
            raise ValueError("a step schedule has step_at, the share of the run after which end holds; no other has it")
        return self


class DataConfig(_Settings):
    dataset: str = "toyworld"
    mix: dict[str, Annotated[float, Field(gt=0)]] | None = None  # in place of it: dataset -> passes over it an epoch
    shards: Path | str = Path("shards")  # OUT of build-shards: a folder, or a URL such as s3://bucket/shards
    cache: Path = Path("~/.cache/prospect")  # plans of sequences, copies of remote shards
    cache_gb: float = Field(default=100, gt=0)  # most that copies of remote shards take
    root: Path = Path("data/toy")  # DATA_ROOT of build-shards: frames files are looked for under it
    frames_root: Path | None = None  # searched first
    train_split: str = "train"
    eval_splits: tuple[str, ...] = ("val", "test")  # the first is validated on during training
    toy: Literal["standard", "hard"] | None = None  # make this toy world and its shards when absent
    packing: Literal["clip", "turn"] = "clip"
    dst: bool = True  # false: no DST turns and no Current Progress, as a baseline that only speaks (`clip` packing)
    max_seq_len: Positive = 4096
    reserve: Positive = 256  # tokens kept free for the turns of one frame
    frame_wrap: Literal["none", "smolvlm"] = "none"
    negatives: NegativeRate = NegativeRate()
    event_jitter: Literal[0, 1] = 0  # most frames that an event's turns are moved by, in training (`clip` packing)
    shuffle_window: Positive = 16  # shards whose sequences are permuted together
    bucket_batches: Positive = 16  # global batches whose sequences are sorted by length together; 1: none
    num_workers: int = Field(default=2, ge=0)
    on_error: Literal["error", "skip"] = "error"  # what a broken sample does: stop the run, or be counted and left out
    max_consecutive_errors: Positive = 10  # with skip: so many in a row stop the run all the same
    features: Path | None = None  # folder of `prospect cache-features`: no frame is decoded, no tower run
    blind: bool = False  # grey frames: what can be known without seeing

    @property
    def datasets(self) -> dict[str, float]:
        """Name -> passes over it an epoch."""
        return self.mix or {self.dataset: 1.0}

    @property
    def plans(self) -> Path:
        """Folder of cached plans of sequences."""
        return self.cache.expanduser() / "plans"

    @property
    def shard_cache(self) -> ShardCache:
        return ShardCache(self.cache.expanduser(), int(self.cache_gb * 1e9))

    @field_validator("shards")
    @classmethod
    def _place(cls, value: Path | str) -> Path | str:
        return str(value) if is_url(str(value)) else Path(value)

    @model_validator(mode="after")
    def _has_effect(self) -> "DataConfig":
        if self.event_jitter and self.packing == "turn":
            raise ValueError("event_jitter has no effect in turn packing; leave it out, or use packing: clip")
        if not self.dst and self.packing == "turn":
            raise ValueError(
                "dst: false needs packing: clip, as each dst_update is a sample of its own in turn packing"
            )
        if self.mix is not None and not self.mix:
            raise ValueError("mix names no dataset")
        if self.toy and is_url(self.shards):
            raise ValueError("toy builds its shards in a folder; shards is a URL")
        return self


class LoraSettings(_Settings):
    """Low-rank adapters of the text model (Hu et al., arXiv 2106.09685); the heads are trained beside them."""

    rank: Positive = 16
    alpha: Positive = 32  # the adapters' output is scaled by alpha / rank
    dropout: float = Field(default=0, ge=0, lt=1)
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip


class ModelConfig(_Settings):
    checkpoint: str | None = None  # hub id or folder of a SmolVLM checkpoint; None: random weights from `preset`
    preset: Literal["toy", "smolvlm2-256m", "smolvlm2-500m", "smolvlm2-2.2b"] | None = None
    tokens_per_frame: int | Literal["native"] = 4
    vision_chunk: Positive = 64  # frames in one forward of the vision tower
    freeze_vision: bool = False
    freeze_connector: bool = False
    lora: LoraSettings | None = None  # None: every weight that is not frozen is trained
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the weights
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"

    @model_validator(mode="after")
    def _one_source(self) -> "ModelConfig":
        if (self.checkpoint is None) == (self.preset is None):
            raise ValueError("give either checkpoint or preset")
        return self


class LossConfig(_Settings):
    lm: float = Field(default=1.0, ge=0)
    dst_gen: float = Field(default=1.0, ge=0)
    dst_binary: float = Field(default=1.0, ge=0)
    speak_binary: float = Field(default=1.0, ge=0)
    balanced: bool = True  # ProAssist's mean of positives and negatives; false: the plain mean


class TrainConfig(_Settings):
    seed: int = Field(default=0, ge=0, lt=2**32)
    epochs: Positive = 10
    max_steps: Positive | None = None  # stops earlier than `epochs`
    global_batch_size: Positive = 16  # sequences of one optimizer step, over all ranks
    micro_batch_size: Positive = 2  # sequences of one forward on one rank; accumulation follows
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"  # 8 bits: block-wise states, bf16 weights rounded by chance
    learning_rate: float = Field(default=1e-5, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    adam_betas: tuple[Share, Share] = (0.9, 0.999)
    warmup_steps: int = Field(default=100, ge=0)
    lr_schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_loss: float = Field(default=100, gt=0)  # a micro-batch above it, or not finite, stops the run
    bf16: bool = False
    gradient_checkpointing: bool = False
    fsdp: bool = False  # several ranks: share weights, gradients and optimizer states out, instead of copies (DDP)
    eval_steps: Positive = 500
    save_steps: Positive = 500
    log_steps: Positive = 10
    keep_checkpoints: Positive = 5
    wandb: bool = False  # log to Weights & Biases too (the package wandb, its own settings and environment)
    loss: LossConfig = LossConfig()


class Config(_Settings):
    """A whole run; its outputs go to `runs/NAME`."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")  # of a folder: no name of dots alone
    runs: Path = Path("runs")
    data: DataConfig = DataConfig()
    model: ModelConfig
    train: TrainConfig = TrainConfig()

    @property
    def folder(self) -> Path:
        return self.runs / self.name

    @model_validator(mode="after")
    def _features_are_fixed(self) -> "Config":
        model = self.model
        is_fixed = model.freeze_connector and (model.freeze_vision or model.lora)
        if self.data.features and (not is_fixed or self.data.blind):
            raise ValueError(
                "data.features needs model.freeze_vision and model.freeze_connector (a trained one changes every "
                "feature), and frames that are not blind"
            )
        return self

    @model_validator(mode="after")
    def _learns(self) -> "Config":
        if self.model.dtype == "bfloat16" and not self.model.lora and self.train.optimizer == "adamw":
            raise ValueError(
                "bfloat16 weights under plain AdamW: most updates of a small learning rate round away; use "
                "train.optimizer adamw_8bit (stochastic rounding), model.lora, or model.dtype float32 with train.bf16"
            )
        return self


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply `a.b=value` overrides (values are YAML).

    Raises:
        ProspectError: no such file, no YAML, an unknown key (with the nearest one), or a value out of range.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml"))) if path.parent.is_dir() else ""
        raise ProspectError(f"{path}: no such config; in {path.parent} there is: {there or 'nothing'}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProspectError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(record, dict):
        raise ProspectError(f"{path}: found {type(record).__name__}, expected sections such as data:, model:, train:")
    for override in overrides:
        _apply(record, override)
    try:
        return Config.model_validate(record)
    except ValidationError as error:
        lines = [_explain(detail, record) for detail in error.errors()]
        raise ProspectError("\n".join(f"{path}: {line}" for line in lines)) from None


def dump_config(config: Config) -> str:
    """The resolved settings as YAML; `load_config` reads them back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def world_size() -> int:
    """Number of ranks, as torchrun and accelerate say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


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


def _apply(record: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ProspectError(f"--set {override!r}: expected KEY=VALUE, e.g. --set train.learning_rate=1e-4")
    *sections, last = key.split(".")
    for section in sections:
        inner = record.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ProspectError(f"--set {key}: {section!r} is a value, not a section")
        record = inner
    try:
        record[last] = _number(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ProspectError(f"--set {key}: found {value!r}, not valid YAML ({' '.join(str(error).split())})") from None


def _number(value: Any) -> Any:
    """YAML reads `1e-4` as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _explain(detail: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    place = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        section: Any = Config
        for name in detail["loc"][:-1]:
            kind = section.model_fields[name].annotation
            section = next(one for one in (kind, *get_args(kind)) if hasattr(one, "model_fields"))  # of `X | None`
        nearest = difflib.get_close_matches(str(detail["loc"][-1]), section.model_fields, n=1, cutoff=0)
        prefix = ".".join(map(str, detail["loc"][:-1]))
        suggestion = f"{prefix}.{nearest[0]}" if prefix else nearest[0]
        return f"no setting {place!r}; did you mean {suggestion!r}?"
    if detail["type"] == "missing":
        return f"{place}: found nothing, expected this setting"
    found = "" if isinstance(detail["input"], Mapping | BaseModel) else f"found {detail['input']!r}, "
    return f"{place or 'config'}: {found}{detail['msg'][:1].lower()}{detail['msg'][1:]}"
