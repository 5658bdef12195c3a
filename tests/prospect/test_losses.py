import math

import pytest
import torch
from torch.nn import functional as F

from prospect.config import LossConfig
from prospect.losses import TERMS, count_targets, loss_sums, losses_from, total_loss

# B = 1, T = 6. Decisions at 1, 3, 5; LM targets at 2, 3; a DST target at 4.
KIND = torch.tensor([[0, 0, 1, 1, 2, 0]], dtype=torch.uint8)
UPDATE = torch.tensor([[-100, 1, -100, 0, -100, 0]])
SPEAK = torch.tensor([[-100, 0, -100, 0, -100, 0]])


def test_counts_come_from_labels_alone() -> None:
    counts = count_targets(KIND, UPDATE, SPEAK)
    assert dict(zip(TERMS, counts.tolist(), strict=True)) == {
        "lm": 2,
        "dst_gen": 1,
        "update_pos": 1,
        "update_neg": 2,
        "speak_pos": 0,
        "speak_neg": 3,
    }
    assert counts.dtype == torch.float32


def test_sums_add_each_cross_entropy_to_its_term() -> None:
    uniform = torch.zeros(3, 8)  # cross entropy log 8 each
    decisions = torch.zeros(3, 2, 2)
    decisions[0, 0] = torch.tensor([0.0, math.log(3.0)])  # p(update) = 3/4 where the label is 1
    sums = loss_sums(
        uniform, torch.tensor([5, 6, 7]), torch.tensor([1, 1, 2]), decisions, torch.tensor([[1, 0], [0, 0], [0, 0]])
    )
    log2, log8 = math.log(2), math.log(8)
    torch.testing.assert_close(sums, torch.tensor([2 * log8, log8, -math.log(0.75), 2 * log2, 0, 3 * log2]))


def test_balanced_losses_by_hand() -> None:
    sums, counts = torch.tensor([6.0, 5, 3, 8, 0, 9]), torch.tensor([3.0, 1, 1, 4, 0, 3])
    losses = losses_from(sums, counts)
    assert {name: value.item() for name, value in losses.items()} == {
        "lm_loss": 2.0,
        "dst_gen_loss": 5.0,
        "dst_binary_loss": 0.5 * 3 + 0.5 * 2,
        "speak_binary_loss": 0.5 * 0 + 0.5 * 3,  # no positives: half the mean of the negatives
    }


def test_plain_mean_by_hand() -> None:
    sums, counts = torch.tensor([6.0, 5, 3, 8, 0, 9]), torch.tensor([3.0, 1, 1, 4, 0, 3])
    losses = losses_from(sums, counts, "plain")
    assert losses["dst_binary_loss"].item() == pytest.approx(11 / 5)
    assert losses["speak_binary_loss"].item() == 3.0


def test_a_focal_sum_weights_each_decision_by_its_missing_probability_squared() -> None:
    decisions = torch.zeros(2, 2, 2)
    decisions[0, 0] = torch.tensor([0.0, math.log(3.0)])  # p(update) = 3/4 where the label is 1
    none = torch.zeros(0, dtype=torch.int64)
    sums = loss_sums(torch.zeros(0, 8), none, none, decisions, torch.tensor([[1, 0], [0, 0]]), focusing=2.0)
    log2 = math.log(2)
    torch.testing.assert_close(sums, torch.tensor([0, 0, -math.log(0.75) / 16, log2 / 4, 0, 2 * log2 / 4]))


def test_focal_losses_by_hand_are_streamos() -> None:
    """alpha_k = N / (K N_k) for the K classes that there are; the sum of alpha_k S_k over N."""
    sums, counts = torch.tensor([6.0, 5, 3, 8, 0, 9]), torch.tensor([3.0, 1, 1, 4, 0, 3])
    losses = losses_from(sums, counts, "focal")
    alpha = 5 / (2 * 1), 5 / (2 * 4)
    assert losses["dst_binary_loss"].item() == pytest.approx((alpha[0] * 3 + alpha[1] * 8) / 5) == 0.5 * 3 + 0.5 * 2
    assert losses["speak_binary_loss"].item() == 3.0, "of one class its mean, not half of it"


def test_a_decision_that_is_sure_and_right_has_a_focal_loss_and_gradient_of_zero() -> None:
    decisions = torch.tensor([[[0.0, -math.inf], [200.0, 0.0]]], requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    sums = loss_sums(torch.zeros(0, 8), none, none, decisions, torch.tensor([[0, 0]]), focusing=2.0)
    sums.sum().backward()
    assert sums.tolist() == [0] * 6 and decisions.grad.tolist() == [[[0, 0], [0, 0]]]


@pytest.mark.parametrize("binary", ["balanced", "plain", "focal"])
def test_nothing_learned_is_a_loss_of_zero_with_gradients(binary) -> None:
    logits, decisions = torch.zeros(0, 8, requires_grad=True), torch.zeros(0, 2, 2, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64)
    sums = loss_sums(logits, nothing, nothing, decisions, torch.zeros(0, 2, dtype=torch.int64))
    loss = total_loss(sums, torch.zeros(6), LossConfig(binary=binary))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and decisions.grad is not None


def test_weights_scale_their_loss() -> None:
    sums, counts = torch.tensor([6.0, 5, 3, 8, 0, 9]), torch.tensor([3.0, 1, 1, 4, 0, 3])
    weights = LossConfig(lm=1, dst_gen=10, dst_binary=100, speak_binary=1000)
    assert total_loss(sums, counts, weights).item() == pytest.approx(2 + 50 + 250 + 1500)


@pytest.mark.parametrize("binary", ["balanced", "plain", "focal"])
def test_micro_batches_with_the_steps_counts_add_up_to_the_big_batch(binary) -> None:
    settings = LossConfig(binary=binary)
    parts = torch.tensor([[6.0, 5, 3, 8, 0, 9], [1.0, 0, 2, 2, 4, 1]])
    counts = torch.tensor([3.0, 1, 3, 6, 2, 7])
    whole = total_loss(parts.sum(0), counts, settings)
    assert sum(total_loss(part, counts, settings).item() for part in parts) == pytest.approx(whole.item())


def test_cross_entropy_is_taken_in_float32() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)).mul(20).bfloat16()
    ids = torch.arange(4)
    sums = loss_sums(logits, ids, torch.ones(4), torch.zeros(0, 2, 2).bfloat16(), torch.zeros(0, 2, dtype=torch.int64))
    assert sums.dtype == torch.float32
    assert sums[0].item() == F.cross_entropy(logits.float(), ids, reduction="sum").item()


def test_an_infinite_term_leaves_the_others_alone() -> None:
    logits = torch.tensor([[-math.inf, 0.0], [0.0, 0.0]])
    sums = loss_sums(
        logits, torch.tensor([0, 0]), torch.tensor([1, 2]), torch.zeros(0, 2, 2), torch.zeros(0, 2, dtype=torch.int64)
    )
    assert math.isinf(sums[0]) and sums[1].item() == pytest.approx(math.log(2))
