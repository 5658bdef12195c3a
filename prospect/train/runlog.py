"""What a run leaves to look at: metrics.jsonl (one line an evaluation), TensorBoard events, a progress bar, and what it
ran with.

On resume all of them are cut back to the checkpoint's step.
"""

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from pipeline.storage import write_atomically
from prospect.config import world_size

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HEADLINES = {  # metric: short name beside the bar
    "should_update_dst_f1_at_frame": "update F1",
    "when_to_speak_f1_at_frame": "speak F1",
    "dst_gen_exact_match_start": "EM start",
    "perplexity": "ppl",
}

SKIPPED = "skipped.jsonl"
LOSSES = {"lm_loss": "lm", "dst_gen_loss": "dst", "dst_binary_loss": "update?", "speak_binary_loss": "speak?"}
PACKAGES = ("prospect-vlm", "torch", "transformers", "accelerate", "peft", "torchao", "tokenizers", "polars", "pyarrow")


def environment() -> dict[str, Any]:
    """What a run ran on and with, for its folder: packages, the repository's commit, hardware, command."""

    def git(*arguments: str) -> str | None:
        here = Path(__file__).parent
        try:
            done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": git("rev-parse", "HEAD"),
        "git_changed": None if changes is None else bool(changes),
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


class RunLog(TrainerCallback):
    """Logs of the main process."""

    def __init__(self, folder: Path, console: Console, start_step: int) -> None:
        self._path = folder / "metrics.jsonl"
        step = start_step if start_step else -1
        self._there = {(record["split"], record["step"]) for record in _cut_back(self._path, step)}
        _cut_back(folder / SKIPPED, step)
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(
            *columns, TextColumn("{task.fields[now]}"), console=console, transient=True, disable=not console.is_terminal
        )
        self._board: SummaryWriter | None = None  # its thread writes into the folder, which a failed set-up removes
        self._console = console
        self._start_step = start_step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter  # its import costs half a second

        self._board = SummaryWriter(str(self._path.parent / "tensorboard"), purge_step=self._start_step + 1)
        self._task = self._bar.add_task("training", total=state.max_steps, completed=self._start_step, now="")
        self._bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **kwargs: Any
    ) -> None:
        assert self._board
        for name, value in logs.items():
            if isinstance(value, int | float):
                self._board.add_scalar(name, value, state.global_step)
        if "loss" in logs:
            losses = (f"{name} {logs[key]:.3f}" for key, name in LOSSES.items() if key in logs)
            self._bar.update(self._task, now=f"loss {logs['loss']:.4f} ({', '.join(losses)})")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def evaluation(self, split: str, step: int, epoch: float, metrics: dict[str, Any]) -> None:
        """One line of metrics.jsonl, unless a run that was killed has left it; headlines on the console."""
        if (split, step) not in self._there:
            line = json.dumps({"step": step, "epoch": round(epoch, 4), "split": split, **metrics})
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        self._console.print(f"step {step} {split}: loss {metrics['loss']:.4f}, {headlines(metrics)}", soft_wrap=True)

    def skipped(self, step: int, error: str) -> None:
        """A broken sample that was left out, on the console."""
        self._console.print(f"step {step} skipped: {error}", soft_wrap=True, markup=False, highlight=False)

    def close(self) -> None:
        self._bar.stop()
        if self._board:
            self._board.close()


def _cut_back(path: Path, step: int) -> list[dict[str, Any]]:
    """Drops the lines after `step`, and a last one that a kill cut short; the records that are left."""
    if not path.is_file():
        return []
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    kept = [(line, record) for line in lines if (record := json.loads(line))["step"] <= step]
    write_atomically(path, "".join(line for line, _ in kept).encode())
    return [record for _, record in kept]


def log_skipped(folder: Path, step: int, during: Literal["training", "evaluation"], error: str) -> None:
    """A line of skipped.jsonl, to which every rank adds its own, unless a run that was killed has left it."""
    line, path = json.dumps({"step": step, "during": during, "error": error}) + "\n", folder / SKIPPED
    if during == "training" or not path.is_file() or line not in path.read_text():
        with path.open("a", encoding="utf-8") as file:
            file.write(line)


def count_skipped(folder: Path) -> int:
    """Broken samples left out so far on all ranks, evaluations included."""
    path = folder / SKIPPED
    return len(path.read_text().splitlines()) if path.is_file() else 0


def headlines(metrics: dict[str, Any]) -> str:
    found = ((name, metrics[metric]) for metric, name in HEADLINES.items())
    return ", ".join(f"{name} {'-' if value is None else format(value, '.3f')}" for name, value in found)
