"""Resuming: it seeks to the step of the data position, one small record saved with each checkpoint.

All that the batches and the weights depend on has to be as it was: the settings (beside the run's outputs), and what no
setting says (in the record).
"""

import json
import os
import shutil
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.errors import ProspectError
from pipeline.io.storage import write_json
from prospect.config import Config
from prospect.runs import POSITION, checkpoints

# fmt: off
MAY_CHANGE = frozenset({  # on resume: where things are, what is told and kept, and how the same step is computed
    "name", "runs", "data.shards", "data.cache", "data.cache_gb", "data.root", "data.frames_root", "data.features",
    "data.num_workers", "data.on_error", "data.max_consecutive_errors", "model.vision_chunk",
    "model.attn_implementation", "train.micro_batch_size", "train.max_loss", "train.gradient_checkpointing",
    "train.fsdp", "train.eval_steps", "train.save_steps", "train.log_steps", "train.keep_checkpoints", "train.wandb",
    "train.epochs", "train.max_steps",  # what comes of these two is in DataPosition
})
# fmt: on


@dataclass(frozen=True, slots=True)
class DataPosition:
    """Where the stream stands after `step` optimizer steps, and what it depends on beside the settings."""

    step: int
    epoch: int
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
        try:
            saved = DataPosition(**json.loads((checkpoint / POSITION).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ProspectError(
                f"{checkpoint / POSITION}: cannot be read ({error}); resume from another checkpoint"
            ) from None
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


def check_readable(checkpoint: Path) -> None:
    """Raise ProspectError where the files beside the weights are missing or cut short, as after a copy that was."""
    for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json"):
        path = checkpoint / name
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            else:
                zipfile.ZipFile(path).close()  # torch's format
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ProspectError(
                f"{path}: cannot be read ({error}); remove {checkpoint}, and --resume goes on from the one before"
            ) from None


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
