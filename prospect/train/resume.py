"""The data position: one small record saved with each checkpoint, checked before a run is resumed.

Resuming seeks to `step`; everything that the order of batches or their content depends on has to be the same.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipeline.errors import ProspectError
from pipeline.manifest import json_bytes
from pipeline.storage import write_atomically

FILE = "data_position.json"


@dataclass(frozen=True, slots=True)
class DataPosition:
    """Where the stream stands after `step` optimizer steps, and what it depends on."""

    step: int
    epoch: int
    order: int  # version of the rule that gives the order of an epoch
    plan: str  # fingerprint of shards, tokenizer and layout, of all datasets
    mix: str  # passes over each dataset an epoch
    packing: str
    tokens_per_frame: int
    max_seq_len: int
    seed: int
    global_batch_size: int
    shuffle_window: int
    bucket_batches: int
    max_steps: int  # the learning rate and a linear negative rate depend on it
    negatives: str
    event_jitter: int

    def save(self, folder: Path) -> None:
        write_atomically(folder / FILE, json_bytes(asdict(self)))

    def check_resumes(self, checkpoint: Path) -> "DataPosition":
        """The position saved in `checkpoint`.

        Raises:
            ProspectError: it was saved by a run with other data or settings; names both values of each.
        """
        try:
            saved = DataPosition(**json.loads((checkpoint / FILE).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ProspectError(
                f"{checkpoint / FILE}: cannot be read ({error}); resume from another checkpoint"
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


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if (path / FILE).is_file()]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def publish(staged: Path, folder: Path, keep: int) -> None:
    """Give the complete checkpoint `staged` its place in `folder`, on disk before its name; of the others keep the
    last `keep` - 1."""
    for path in sorted(path for path in staged.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    place = folder / staged.name
    if place.exists():  # of a run that was resumed from an earlier step
        shutil.rmtree(place)
    staged.rename(place)
    staged.parent.rmdir()
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
