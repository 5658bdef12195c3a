"""Validation metrics (docs/design.md §8) from additive terms: reduced in the step, summed over batches and ranks.

Nothing is kept per token, so memory does not grow with the split. B batch, T tokens, N decisions, M targets.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prospect.config import Binary, LossConfig
from prospect.layout import DST_TARGET, IGNORE
from prospect.losses import losses_from, total_loss

HEADS = ("should_update_dst", "when_to_speak")
SCOPES = ("", "_at_frame")  # all labelled decisions; first decisions of frames alone
_NUM_TERMS = 6 + 6 + 2 * 2 * 3 + 4


@dataclass(slots=True)
class MetricTerms:
    """Sums over a split. `vector()` and `add_vector()` carry them between ranks."""

    losses: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 6)))  # sums, counts
    hits: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2, 3)))  # head, scope, (tp, fp, fn)
    exact: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))  # all/start, (right, of)

    def add(self, batch: dict[str, Any], output: Any) -> None:
        """Add one batch; `output` is the model's DSTOutput in eval mode."""
        self.losses += torch.stack([output.sums, output.counts]).double().cpu().numpy()
        labelled = batch["update_labels"] != IGNORE  # (B, T)
        truth = (
            torch.stack([batch["update_labels"], batch["speak_labels"]], -1)[labelled].bool().cpu().numpy()
        )  # (N, 2)
        fired = output.decision_logits.float().argmax(-1).bool().cpu().numpy()  # (N, 2)
        at_frame = batch["at_frame"][labelled].cpu().numpy()  # (N,)
        self.add_decisions(truth, fired, at_frame)
        right = (output.target_argmax == batch["input_ids"][batch["target_kind"] > 0]).cpu().numpy()  # (M,)
        self.add_updates(batch["target_kind"].cpu().numpy(), batch["is_start_update"].cpu().numpy(), right)

    def add_decisions(
        self, truth: npt.NDArray[np.bool_], fired: npt.NDArray[np.bool_], at_frame: npt.NDArray[np.bool_]
    ) -> None:
        """Add decisions; truth and fired (N, 2): should_update_dst, when_to_speak; at_frame (N,)."""
        for scope, chosen in enumerate((np.ones_like(at_frame), at_frame)):
            t, f = truth[chosen], fired[chosen]
            self.hits[:, scope] += np.stack([(t & f).sum(0), (~t & f).sum(0), (t & ~f).sum(0)], -1)

    def add_updates(
        self,
        target_kind: npt.NDArray[np.uint8],
        is_start_update: npt.NDArray[np.bool_],
        right: npt.NDArray[np.bool_],
    ) -> None:
        """Add exact matches of whole dst_update blocks: every token right, <end_of_utterance> included.

        target_kind and is_start_update (B, T); right (M,) for the targets of any kind, row by row. A block's targets
        follow each other and two blocks never touch, as each begins with a header.
        """
        tokens_right = np.zeros(target_kind.shape, dtype=bool)
        tokens_right[target_kind > 0] = right
        is_dst = target_kind == DST_TARGET
        before = np.pad(is_dst, ((0, 0), (1, 0)))[:, :-1]
        block = np.cumsum((is_dst & ~before).ravel())[is_dst.ravel()] - 1  # (tokens of updates,) number of the block
        count = int(block[-1]) + 1 if len(block) else 0
        whole = np.bincount(block, ~tokens_right[is_dst], minlength=count) == 0  # (blocks,)
        starts = np.bincount(block, is_start_update[is_dst], minlength=count) > 0
        self.exact += [[whole.sum(), count], [(whole & starts).sum(), starts.sum()]]

    def vector(self) -> npt.NDArray[np.float64]:
        return np.concatenate([self.losses.ravel(), self.hits.ravel(), self.exact.ravel()])

    def add_vector(self, vector: npt.NDArray[np.float64]) -> None:
        assert vector.shape == (_NUM_TERMS,)
        self.losses += vector[:12].reshape(2, 6)
        self.hits += vector[12:24].reshape(2, 2, 3)
        self.exact += vector[24:].reshape(2, 2)

    def metrics(self, loss: LossConfig) -> dict[str, float | int | None]:
        """Give the named metrics; None where there is nothing to measure (no such targets or decisions)."""
        sums, counts = (torch.from_numpy(row) for row in self.losses)
        total = total_loss(sums, counts, loss).item() if counts.sum() else None
        metrics: dict[str, float | int | None] = {"loss": total, **named_losses(sums, counts, loss.binary)}
        lm_loss = metrics["lm_loss"]
        metrics["perplexity"] = None if lm_loss is None else math.exp(min(lm_loss, 700.0))
        for head, by_scope in zip(HEADS, self.hits, strict=True):
            for scope, (tp, fp, fn) in zip(SCOPES, by_scope, strict=True):
                metrics[f"{head}_precision{scope}"] = _ratio(tp, tp + fp)
                metrics[f"{head}_recall{scope}"] = _ratio(tp, tp + fn)
                metrics[f"{head}_f1{scope}"] = _ratio(2 * tp, 2 * tp + fp + fn)
        for suffix, (right, of) in zip(("", "_start"), self.exact, strict=True):
            metrics[f"dst_gen_exact_match{suffix}"] = _ratio(right, of)
        metrics["num_decisions"] = int(counts[2:4].sum())
        metrics["num_dst_updates"] = int(self.exact[0, 1])
        return metrics


def named_losses(sums: torch.Tensor, counts: torch.Tensor, binary: Binary) -> dict[str, float | None]:
    """Give the four losses of summed terms, each (6,); None where there is no such target."""
    present = counts[0] > 0, counts[1] > 0, counts[2:4].sum() > 0, counts[4:].sum() > 0
    losses = losses_from(sums, counts, binary)
    return {name: loss.item() if here else None for (name, loss), here in zip(losses.items(), present, strict=True)}


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None
