"""What a run leaves to look at: metrics.jsonl (one line an evaluation), TensorBoard events, and what it ran with.

On resume all of them are cut back to the checkpoint's step. A `Watcher` is told while it goes on.
"""

import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from pipeline.io.storage import write_atomically
from prospect.config import world_size
from prospect.revision import revision
from prospect.runs import METRICS_LOG, SKIPPED_LOG, TENSORBOARD
from prospect.train.saved import Evaluation, Skipped, read_lines

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HEADLINES = {  # metric: short name beside the bar
    "loss": "loss",
    "should_update_dst_f1_at_frame": "update F1",
    "when_to_speak_f1_at_frame": "speak F1",
    "dst_gen_exact_match_start": "EM start",
    "perplexity": "ppl",
}

LOSSES = ("loss", "lm_loss", "dst_gen_loss", "dst_binary_loss", "speak_binary_loss")
PACKAGES = ("prospect-vlm", "torch", "transformers", "accelerate", "peft", "torchao", "tokenizers", "polars", "pyarrow")


def environment() -> dict[str, Any]:
    """List what a run ran on and with, for its folder: packages, the repository's commit, hardware, command."""
    code = revision()
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": code.commit,
        "git_changed": code.is_changed,
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu, {torch.get_num_threads()} threads",
        "num_ranks": world_size(),
        "command": sys.argv,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class Watcher(Protocol):
    """Who looks on while a run goes on: a terminal, a page, or nobody."""

    def tell(self, line: str) -> None:
        """Take a line that a person wants to read."""

    def begin(self, step: int, max_steps: int) -> None:
        """Note that training begins after `step` optimizer steps."""

    def step(self, step: int) -> None:
        """Note that so many optimizer steps are done."""

    def log(self, step: int, losses: Mapping[str, float]) -> None:
        """Take the losses since the last log, the total under "loss"."""

    def end(self) -> None:
        """Note that training has ended, well or not."""


class Unwatched:
    """A watcher that sees nothing: of the other ranks, and of runs in tests."""

    def tell(self, line: str) -> None: ...

    def begin(self, step: int, max_steps: int) -> None: ...

    def step(self, step: int) -> None: ...

    def log(self, step: int, losses: Mapping[str, float]) -> None: ...

    def end(self) -> None: ...


class RunLog(TrainerCallback):
    """Logs of the main process."""

    def __init__(self, folder: Path, watcher: Watcher, start_step: int) -> None:
        self._folder, self._watcher, self._start_step = folder, watcher, start_step
        step = start_step if start_step else -1
        self._there = {
            (record["split"], record["step"]) for record in _cut_back(folder / METRICS_LOG, Evaluation, step)
        }
        _cut_back(folder / SKIPPED_LOG, Skipped, step)
        self._board: SummaryWriter | None = None  # its thread writes into the folder, which a failed set-up removes

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter  # its import costs half a second

        self._board = SummaryWriter(str(self._folder / TENSORBOARD), purge_step=self._start_step + 1)
        self._watcher.begin(self._start_step, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._watcher.step(state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **kwargs: Any
    ) -> None:
        assert self._board
        for name, value in logs.items():
            if isinstance(value, int | float):
                self._board.add_scalar(name, value, state.global_step)
        if "loss" in logs:
            self._watcher.log(state.global_step, {name: logs[name] for name in LOSSES if name in logs})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def evaluation(self, split: str, step: int, epoch: float, metrics: dict[str, Any]) -> None:
        """Write one line of metrics.jsonl, unless a run that was killed has left it; tell the headlines."""
        if (split, step) not in self._there:
            line = json.dumps({"step": step, "epoch": round(epoch, 4), "split": split, **metrics})
            with (self._folder / METRICS_LOG).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        self._watcher.tell(f"step {step} {split}: {headlines(metrics)}")

    def skipped(self, step: int, error: str) -> None:
        """Tell of a broken sample that was left out."""
        self._watcher.tell(f"step {step} skipped: {error}")

    def close(self) -> None:
        self._watcher.end()
        if self._board:
            self._board.close()


def _cut_back(path: Path, kind: type[Evaluation] | type[Skipped], step: int) -> list[dict[str, Any]]:
    """Drops the lines after `step`, and a last one that a kill cut short; the records that are left."""
    kept = [(line, record) for line, record in read_lines(path, kind) if record["step"] <= step]
    if path.exists():
        write_atomically(path, "".join(f"{line}\n" for line, _ in kept).encode())
    return [record for _, record in kept]


def log_skipped(folder: Path, step: int, during: Literal["training", "evaluation"], error: str) -> None:
    """Write a line of skipped.jsonl, to which every rank adds its own, unless a run that was killed has left it."""
    line, path = json.dumps({"step": step, "during": during, "error": error}) + "\n", folder / SKIPPED_LOG
    if during == "training" or not path.is_file() or line not in path.read_text():
        with path.open("a", encoding="utf-8") as file:
            file.write(line)


def count_skipped(folder: Path) -> int:
    """Count broken samples left out so far on all ranks, evaluations included."""
    path = folder / SKIPPED_LOG
    return len(path.read_text().splitlines()) if path.is_file() else 0


def headlines(metrics: Mapping[str, Any]) -> str:
    """Put the headline metrics on a line."""
    values = ((name, metrics[metric]) for metric, name in HEADLINES.items())
    return ", ".join(f"{name} {'-' if value is None else format(value, '.3f')}" for name, value in values)
