"""The four losses as sums and counts, which add up over micro-batches, ranks and a whole split (docs/design.md §7).

1. `count_targets` counts from labels alone, before any forward: the caller adds the counts of an optimizer step.
2. `loss_sums` adds up the cross entropies of one micro-batch; those of decisions weighted by `focusing`.
3. `losses_from` and `total_loss` divide sums by counts.

Both vectors have six components, in the order of TERMS. Every loss is linear in the sums, hence k micro-batches, each
divided by the counts of the whole step, give the loss and the gradient of one big batch.

B batch, T tokens, V vocabulary, M targets, N decisions.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from prospect.config import Binary, LossConfig
from prospect.layout import DST_TARGET, IGNORE, LM_TARGET

DEFAULT = LossConfig()
TERMS = ("lm", "dst_gen", "update_pos", "update_neg", "speak_pos", "speak_neg")
FOCUSING = 2.0  # of the focal loss: Streamo's gamma, and that of Lin et al. (arXiv 1708.02002)


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


def focusing(loss: LossConfig) -> float:
    """Give the exponent with which `loss` weights each decision's cross entropy; 0: not at all."""
    return FOCUSING if loss.binary == "focal" else 0.0


def loss_sums(
    target_logits: Tensor,
    target_ids: Tensor,
    target_kinds: Tensor,
    decision_logits: Tensor,
    decision_labels: Tensor,
    focusing: float = 0.0,
) -> Tensor:
    """Sum the cross entropies in each term, computed in float32: (6,), differentiable even where nothing is learned.

    Args:
        target_logits: (M, V), already shifted: row m predicts target m.
        target_ids: int64 (M,).
        target_kinds: integer (M,), 1 or 2.
        decision_logits: (N, 2, 2): decision, head (update, speak), class.
        decision_labels: int64 (N, 2), 0 or 1.
        focusing: a decision's cross entropy counts (1 - p)^focusing times, p being the probability of its label.
    """
    token = F.cross_entropy(target_logits.float(), target_ids, reduction="none")  # (M,)
    head = F.cross_entropy(decision_logits.float().flatten(0, 1), decision_labels.flatten(), reduction="none")  # (N*2,)
    if focusing:
        head = (-torch.expm1(-head)) ** focusing * head  # as p is exp(-cross entropy)
    by_kind = [_sum_where(target_kinds == kind, token) for kind in (LM_TARGET, DST_TARGET)]
    head = head.view_as(decision_labels)  # (N, 2)
    by_label = [_sum_where(decision_labels[:, which] == label, head[:, which]) for which in (0, 1) for label in (1, 0)]
    return torch.stack(by_kind + by_label)  # (6,)


def losses_from(sums: Tensor, counts: Tensor, binary: Binary = "balanced") -> dict[str, Tensor]:
    """Give the four losses, each a scalar. Of decisions, by `binary`:

    - balanced: ProAssist's (arXiv 2506.05904), 0.5 S_pos / max(N_pos, 1) + 0.5 S_neg / max(N_neg, 1), so a batch
      without positives has half the mean of its negatives.
    - plain: (S_pos + S_neg) / (N_pos + N_neg), the mean of all.
    - focal: Streamo's (arXiv 2512.21334, and its published code): the sum of alpha_k (1 - p)^2 CE over all N decisions,
      divided by N, with alpha_k = N / (K N_k) for the K classes that there are. As alpha cancels N, that is the mean
      of S_k / N_k over those classes, where `loss_sums` has put (1 - p)^2 into S. Streamo's classes are three tokens;
      here each decision has two, so that heads and tokens learn by the same losses.
    """
    mean = sums / counts.clamp(min=1)  # (6,)
    pairs = slice(2, 4), slice(4, 6)  # positives and negatives of update, of speak
    if binary == "balanced":
        update, speak = (mean[pair].mean() for pair in pairs)
    elif binary == "plain":
        update, speak = (sums[pair].sum() / counts[pair].sum().clamp(min=1) for pair in pairs)
    else:
        update, speak = (mean[pair].sum() / (counts[pair] > 0).sum().clamp(min=1) for pair in pairs)
    return {"lm_loss": mean[0], "dst_gen_loss": mean[1], "dst_binary_loss": update, "speak_binary_loss": speak}


def total_loss(sums: Tensor, counts: Tensor, loss: LossConfig = DEFAULT) -> Tensor:
    """Add up the four losses by their weights; `counts` are those of the whole optimizer step."""
    losses = losses_from(sums, counts, loss.binary)
    return (
        loss.lm * losses["lm_loss"]
        + loss.dst_gen * losses["dst_gen_loss"]
        + loss.dst_binary * losses["dst_binary_loss"]
        + loss.speak_binary * losses["speak_binary_loss"]
    )


def _sum_where(mask: Tensor, values: Tensor) -> Tensor:
    """Unlike a product with the mask, an infinite value of one term does not turn the others into NaN."""
    return torch.where(mask, values, values.new_zeros(())).sum()
