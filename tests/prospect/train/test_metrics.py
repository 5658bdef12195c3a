"""Metrics against numbers worked by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.annotations.clips import Turn
from prospect.config import LossConfig
from prospect.train.baselines import baselines
from prospect.train.metrics import MetricTerms
from tests.helpers.fakes import make_clip


def batch():
    """Two rows. Row 0: update at a frame (1), after a block (0); an update of two tokens that starts a step, and an
    utterance of one. Row 1: two silent frames, and an update of one token that completes."""
    none = -100
    return {
        "input_ids": torch.tensor([[9, 5, 6, 9, 7], [9, 9, 8, 9, 9]]),
        "target_kind": torch.tensor([[0, 2, 2, 0, 1], [0, 0, 2, 0, 0]], dtype=torch.uint8),
        "is_start_update": torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]).bool(),
        "update_labels": torch.tensor([[1, none, none, 0, none], [0, 0, none, none, 1]]),
        "speak_labels": torch.tensor([[0, none, none, 1, none], [0, 0, none, none, 0]]),
        "at_frame": torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 0, 1]]).bool(),
    }


def output(updates, speaks, argmax):
    logits = torch.zeros(len(updates), 2, 2)
    for head, fired in enumerate((updates, speaks)):
        logits[torch.arange(len(fired)), head, torch.tensor(fired)] = 1.0
    counts = torch.tensor([1.0, 3, 2, 3, 1, 4])
    sums = torch.tensor([math.log(4), 6.0, 2.0, 9.0, 3.0, 2.0])
    return SimpleNamespace(sums=sums, counts=counts, decision_logits=logits, target_argmax=torch.tensor(argmax))


def test_terms_of_a_batch():
    terms = MetricTerms()
    terms.add(batch(), output([1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [5, 6, 7, 8]))
    found = terms.metrics(LossConfig())
    assert found["lm_loss"] == pytest.approx(math.log(4)) and found["perplexity"] == pytest.approx(4)
    assert found["dst_gen_loss"] == pytest.approx(2)
    assert found["dst_binary_loss"] == pytest.approx(0.5 * 1 + 0.5 * 3)
    assert found["speak_binary_loss"] == pytest.approx(0.5 * 3 + 0.5 * 0.5)
    assert found["loss"] == pytest.approx(math.log(4) + 2 + 2 + 1.75)
    # update labels 1 0 | 0 0 1, fired 1 0 | 1 0 0: one hit, one false, one missed
    assert (found["should_update_dst_precision"], found["should_update_dst_recall"]) == (0.5, 0.5)
    assert found["should_update_dst_f1_at_frame"] == 0.5
    assert found["when_to_speak_f1"] == 1.0
    assert found["when_to_speak_f1_at_frame"] is None, "no frame is to be spoken at, none was"
    assert (found["dst_gen_exact_match"], found["dst_gen_exact_match_start"]) == (1.0, 1.0)
    assert (found["num_decisions"], found["num_dst_updates"]) == (5, 2)


def test_one_wrong_token_spoils_its_update_alone():
    terms = MetricTerms()
    terms.add(batch(), output([0] * 5, [0] * 5, [5, 0, 7, 8]))
    found = terms.metrics(LossConfig())
    assert (found["dst_gen_exact_match"], found["dst_gen_exact_match_start"]) == (0.5, 0.0)
    assert found["should_update_dst_f1"] == 0.0 and found["should_update_dst_precision"] is None
    terms = MetricTerms()
    terms.add(batch(), output([0] * 5, [0] * 5, [5, 6, 0, 8]))
    assert terms.metrics(LossConfig())["dst_gen_exact_match"] == 1.0, "utterances do not count"


def test_parts_of_a_split_add_up():
    whole, parts = MetricTerms(), MetricTerms()
    for argmax in ([5, 6, 7, 8], [5, 0, 7, 8]):
        whole.add(batch(), output([1, 0, 1, 0, 0], [0, 1, 0, 0, 0], argmax))
        of_rank = MetricTerms()
        of_rank.add(batch(), output([1, 0, 1, 0, 0], [0, 1, 0, 0, 0], argmax))
        parts.add_vector(of_rank.vector())
    assert np.array_equal(whole.vector(), parts.vector())
    assert whole.metrics(LossConfig())["dst_gen_exact_match"] == 0.75


def test_nothing_to_measure_is_none_not_zero():
    found = MetricTerms().metrics(LossConfig())
    assert found["lm_loss"] is None and found["perplexity"] is None and found["dst_gen_exact_match"] is None


def clip(*events, steps=3):
    turns = [Turn("dst_update", text, frame - 1, frame) for frame, text in events]
    return make_clip(turns, frames=(0, 30), steps=steps)


def test_baselines_by_hand():
    train = [clip((5, "S1->start"), (10, "S1->complete"), (15, "S2->start"), (20, "S2->complete"))]
    test = [clip((5, "S2->start"), (10, "S2->complete"), (15, "S1->start"), (20, "S1->complete, S3->start"))]
    found = baselines(train, test)
    # the rule: S1->start (wrong), S2->complete (right), S1->start (right), S1->complete (wrong: two updates)
    assert found["history_only"]["dst_gen_exact_match"] == 0.5
    assert found["history_only"]["dst_gen_exact_match_start"] == pytest.approx(1 / 3)
    # by chance: one of three is started, S2 completed, one of two started, S1 completed (wrong)
    assert found["chance"]["dst_gen_exact_match"] == pytest.approx((1 / 3 + 1 + 1 / 2 + 0) / 4)
    assert found["chance"]["dst_gen_exact_match_start"] == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    assert found["majority"]["dst_gen_exact_match"] == 0.25, "S1->start is the most frequent text"
    # gap of 5 frames: hits all four; after the last event it fires at frames 25..30
    assert found["history_only"]["should_update_dst_f1_at_frame"] == pytest.approx(2 * 4 / (4 + 6 + 4))
    assert found["majority"]["should_update_dst_f1_at_frame"] == 0.0
