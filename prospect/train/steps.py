"""Optimizer steps, as the Trainer goes through them: their micro-batches, what happens around them, their mean loss."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from prospect.data.collate import Batch


@dataclass(frozen=True, slots=True)
class Step:
    """The micro-batches of an optimizer step, each loaded when it is used."""

    batches: Iterator[Batch]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        return self.batches


class Steps(TrainerCallback):
    """The Trainer counts the whole run as one epoch; its logs name the real one. It also takes up the intervals of a
    checkpoint that it resumes: those of the settings count. What it keeps between two logs is in no checkpoint: each is
    a log too."""

    def __init__(self, steps_per_epoch: int, evaluate_untrained: Callable[[], None]) -> None:
        self.steps_per_epoch, self.evaluate_untrained = steps_per_epoch, evaluate_untrained

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.global_step:
            self.evaluate_untrained()
        state.logging_steps, state.eval_steps, state.save_steps = args.logging_steps, args.eval_steps, args.save_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        state.epoch = state.global_step / self.steps_per_epoch
        control.should_log = control.should_log or control.should_save


def mean_loss(history: list[dict[str, float]]) -> float:
    """Average the loss over all steps of a run, each of whose logs has the mean over the steps since the one before."""
    logs = [(int(entry["step"]), entry["loss"]) for entry in history if "loss" in entry]
    steps = [0, *(step for step, _ in logs)]
    return sum(loss * (step - before) for (step, loss), before in zip(logs, steps, strict=False)) / steps[-1]
