"""Resuming: it seeks to the step of the data position, one small record saved with each checkpoint.

All that the batches and the weights depend on has to be as it was: the settings (beside the run's outputs), and what no
setting says (in the record).
"""

import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field
from transformers.trainer_callback import TrainerState

from pipeline.errors import ProspectError
from pipeline.io.records import RECORD, read_record
from pipeline.io.storage import write_json
from prospect.config import Config
from prospect.runs import OPTIMIZER, POSITION, SCHEDULER, checkpoints

# fmt: off
MAY_CHANGE = frozenset({  # on resume: where things are, what is told and kept, and how the same step is computed
    "name", "runs", "data.shards", "data.cache", "data.cache_gb", "data.root", "data.frames_root", "data.features",
    "data.num_workers", "data.on_error", "data.max_consecutive_errors", "model.vision_chunk",
    "model.attn_implementation", "train.micro_batch_size", "train.max_loss", "train.gradient_checkpointing",
    "train.padding_free", "train.compile", "train.fsdp", "train.eval_steps", "train.save_steps", "train.log_steps",
    "train.keep_checkpoints", "train.wandb",
    "train.epochs", "train.max_steps",  # what comes of these two is in DataPosition
})
# fmt: on


@dataclass(frozen=True, slots=True)
class DataPosition:
    """Where the stream stands after `step` optimizer steps, and what it depends on beside the settings."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    step: Annotated[int, Field(ge=0)]
    epoch: Annotated[int, Field(ge=0)]
    order: int  # version of the rule that gives the order of an epoch
    plan: str  # fingerprint of shards, tokenizer and layout, of all datasets
    max_steps: int  # the learning rate and a linear negative rate depend on it

    def save(self, folder: Path) -> None:
        write_json(folder / POSITION, asdict(self))

    def check_resumes(self, checkpoint: Path) -> "DataPosition":
        """Read the position saved in `checkpoint`.

        Raises:
            ProspectError: it was saved by a run with other data, order or length; names both values of each.
        """
        saved = read_record(checkpoint / POSITION, DataPosition, _other(checkpoint))
        names = [f.name for f in fields(self) if f.name not in ("step", "epoch")]
        other = [
            f"{name}: {getattr(saved, name)!r} in the checkpoint, {getattr(self, name)!r} now"
            for name in names
            if getattr(saved, name) != getattr(self, name)
        ]
        if other:
            raise ProspectError(
                f"{checkpoint}: cannot be resumed, as the stream has changed ({'; '.join(other)}); restore these "
                "settings, or start a new run with --set name=..."
            )
        return saved


@dataclass(frozen=True, slots=True)
class _TrainerState:
    """What is read of transformers' trainer_state.json: of all its fields those that steer a run that goes on."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="ignore")

    global_step: Annotated[int, Field(ge=0)]
    max_steps: int
    log_history: list[dict[str, Any]]
    epoch: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    total_flos: float = 0
    num_input_tokens_seen: int = 0
    train_batch_size: int | None = None
    stateful_callbacks: dict[str, Any] = field(default_factory=dict)


def check_same_settings(saved: Config, config: Config) -> None:
    """Raise ProspectError where a run would not go on as it began; names both values of each setting."""
    before, now = _flat(saved.model_dump(mode="json")), _flat(config.model_dump(mode="json"))
    names = sorted(before.keys() | now.keys())
    changed = [name for name in names if name not in MAY_CHANGE and before.get(name) != now.get(name)]
    other = [f"{name}: {before.get(name)!r} before, {now.get(name)!r} now" for name in changed]
    if other:
        raise ProspectError(
            f"{config.folder}: cannot be resumed with other settings ({'; '.join(other)}); restore these, or start a "
            "new run with --set name=..."
        )


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Section.setting -> value."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def check_readable(checkpoint: Path, rank: int) -> bool:
    """Check the files beside the weights, as after a copy that was cut short; tells whether the random states of this
    `rank` are among them. Without, as when another number of ranks saved it, the run goes on from other ones.

    Raises:
        ProspectError: one is missing or cannot be read, or it is of another step; names it.
    """
    fix = _other(checkpoint)
    path = checkpoint / "trainer_state.json"
    state = read_record(path, _TrainerState, fix)
    with restoring(checkpoint, path.name):
        TrainerState.load_from_json(str(path))
    position = read_record(checkpoint / POSITION, DataPosition, fix)
    if state.global_step != position.step:
        raise ProspectError(
            f"{path}: global_step: found {state.global_step}, expected {position.step} as in {POSITION}; {fix}"
        )
    of_ranks = [checkpoint / "rng_state.pth", checkpoint / f"rng_state_{rank}.pth"]
    mine = [path for path in of_ranks if path.is_file()]
    if not mine and not list(checkpoint.glob("rng_state*.pth")):
        raise ProspectError(f"{of_ranks[0]}: found no such file, expected the random states; {fix}")
    for path in (checkpoint / OPTIMIZER, checkpoint / SCHEDULER, *mine):
        try:
            zipfile.ZipFile(path).close()  # torch's format
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise ProspectError(f"{path}: cannot be read ({error}); {fix}") from None
    return bool(mine)


@contextmanager
def restoring(checkpoint: str | Path | None, what: str) -> Iterator[None]:
    """Raise what goes wrong while transformers takes up `what` of a checkpoint as ours: these files are torch's
    pickles, and nothing but taking them up tells what is in them."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (
        OSError, EOFError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ProspectError(
            f"{checkpoint}: its {what} cannot be taken up ({reason}); {_other(Path(str(checkpoint)))}"
        ) from None


def _other(checkpoint: Path) -> str:
    return f"remove {checkpoint}, and --resume goes on from the one before"


def publish(staged: Path, folder: Path, keep: int) -> None:
    """Give the complete checkpoint `staged` its place in `folder`, the run's checkpoints, on disk before its name; of
    the others keep the last `keep` - 1."""
    for path in sorted(path for path in staged.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    place = folder / staged.name
    if place.exists():  # of a run that was resumed from an earlier step
        shutil.rmtree(place)
    staged.rename(place)
    shutil.rmtree(staged.parent)
    for old in checkpoints(folder.parent)[:-keep]:
        shutil.rmtree(old)
