"""The four losses as sums and counts, which add up over micro-batches, ranks and a whole split (docs/design.md §7).

1. `count_targets` counts from labels alone, before any forward: the caller adds the counts of an optimizer step.
2. `loss_sums` adds up the cross entropies of one micro-batch.
3. `losses_from` and `total_loss` divide sums by counts.

Both vectors have six components, in the order of TERMS. Every loss is linear in the sums, hence k micro-batches, each
divided by the counts of the whole step, give the loss and the gradient of one big batch.

B batch, T tokens, V vocabulary, M targets, N decisions.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from prospect.config import LossConfig
from prospect.layout import DST_TARGET, IGNORE, LM_TARGET

DEFAULT = LossConfig()
TERMS = ("lm", "dst_gen", "update_pos", "update_neg", "speak_pos", "speak_neg")


def count_targets(target_kind: Tensor, update_labels: Tensor, speak_labels: Tensor) -> Tensor:
    """Count the cross entropies in each term: float32 (6,).

    Args:
        target_kind: integer (B, T): 0 none, 1 LM target, 2 DST target.
        update_labels: int64 (B, T): -100 none, 0, 1.
        speak_labels: int64 (B, T): likewise, at the same positions.
    """
    masks = [target_kind == LM_TARGET, target_kind == DST_TARGET]
    for labels in (update_labels, speak_labels):
        masks += [labels == 1, labels == 0]
    return torch.stack([mask.sum() for mask in masks]).float()  # (6,)


def label_places(target_kind: Tensor, update_labels: Tensor) -> tuple[Tensor, Tensor]:
    """Find where the flattened (B * T) labels have targets (M,) and decisions (N,)."""
    masks = target_kind > 0, update_labels != IGNORE
    return masks[0].flatten().nonzero().squeeze(1), masks[1].flatten().nonzero().squeeze(1)


def loss_sums(
    target_logits: Tensor, target_ids: Tensor, target_kinds: Tensor, decision_logits: Tensor, decision_labels: Tensor
) -> Tensor:
    """Sum the cross entropies in each term, computed in float32: (6,), differentiable even where nothing is learned.

    Args:
        target_logits: (M, V), already shifted: row m predicts target m.
        target_ids: int64 (M,).
        target_kinds: integer (M,), 1 or 2.
        decision_logits: (N, 2, 2): decision, head (update, speak), class.
        decision_labels: int64 (N, 2), 0 or 1.
    """
    token = F.cross_entropy(target_logits.float(), target_ids, reduction="none")  # (M,)
    head = F.cross_entropy(decision_logits.float().flatten(0, 1), decision_labels.flatten(), reduction="none")  # (N*2,)
    by_kind = [_sum_where(target_kinds == kind, token) for kind in (LM_TARGET, DST_TARGET)]
    head = head.view_as(decision_labels)  # (N, 2)
    by_label = [_sum_where(decision_labels[:, which] == label, head[:, which]) for which in (0, 1) for label in (1, 0)]
    return torch.stack(by_kind + by_label)  # (6,)


def losses_from(sums: Tensor, counts: Tensor, balanced: bool = True) -> dict[str, Tensor]:
    """Give the four losses, each a scalar.

    A head's loss is ProAssist's balance (arXiv 2506.05904), 0.5 S_pos / max(N_pos, 1) + 0.5 S_neg / max(N_neg, 1), so
    a batch without positives has half the mean of its negatives. `balanced=False` gives the plain mean over both.
    """
    mean = sums / counts.clamp(min=1)  # (6,)
    if balanced:
        update, speak = 0.5 * (mean[2] + mean[3]), 0.5 * (mean[4] + mean[5])
    else:
        update = (sums[2] + sums[3]) / (counts[2] + counts[3]).clamp(min=1)
        speak = (sums[4] + sums[5]) / (counts[4] + counts[5]).clamp(min=1)
    return {"lm_loss": mean[0], "dst_gen_loss": mean[1], "dst_binary_loss": update, "speak_binary_loss": speak}


def total_loss(sums: Tensor, counts: Tensor, loss: LossConfig = DEFAULT) -> Tensor:
    """Add up the four losses by their weights; `counts` are those of the whole optimizer step."""
    losses = losses_from(sums, counts, loss.balanced)
    return (
        loss.lm * losses["lm_loss"]
        + loss.dst_gen * losses["dst_gen_loss"]
        + loss.dst_binary * losses["dst_binary_loss"]
        + loss.speak_binary * losses["speak_binary_loss"]
    )


def _sum_where(mask: Tensor, values: Tensor) -> Tensor:
    """Unlike a product with the mask, an infinite value of one term does not turn the others into NaN."""
    return torch.where(mask, values, values.new_zeros(())).sum()
