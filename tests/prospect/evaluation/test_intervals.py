"""Bootstrap intervals: against a plain loop, and where they are known."""

import numpy as np
import pytest

from prospect.evaluation.dst_scores import dst_metrics, dst_ratios, dst_terms
from prospect.evaluation.intervals import RESAMPLES, Resampled, delay_intervals, intervals
from prospect.evaluation.speech_scores import SpeechTerms, speech_ratios
from tests.helpers.predictions import prediction


def share(sums):
    """part of whole"""
    with np.errstate(invalid="ignore"):
        return {"share": sums[..., 0] / sums[..., 1]}


def test_equal_clips_leave_no_doubt():
    assert intervals(np.array([[1.0, 2.0]] * 5), share, seed=0) == {"share": Resampled((0.5, 0.5), 0)}


def test_the_same_seed_gives_the_same_interval():
    terms = np.array([[1.0, 2.0], [0.0, 3.0], [4.0, 4.0], [1.0, 5.0]])
    first = intervals(terms, share, seed=1)
    assert first == intervals(terms, share, seed=1) != intervals(terms, share, seed=2)


def test_the_interval_is_that_of_pooled_metrics_over_drawn_clips():
    """20 clips, each right or wrong, half and half: the share of right ones is binomial, of deviation sqrt(.25 / 20)."""
    low, high = intervals(np.array([[i % 2, 1.0] for i in range(20)]), share, seed=0)["share"].interval
    assert (low, high) == (pytest.approx(0.5 - 1.96 * 0.1118, abs=0.051), pytest.approx(0.5 + 1.96 * 0.1118, abs=0.051))


def test_fewer_than_two_clips_have_none():
    assert intervals(np.array([[1.0, 2.0]]), share, seed=0) == {"share": Resampled(None, 0)}
    assert intervals(np.zeros((0, 12)), dst_ratios, seed=0)["dst_update_f1"] == Resampled(None, RESAMPLES)
    for delays in ([[1.0]], []):
        assert all(one.interval is None for one in delay_intervals(delays, seed=0).values())


def test_a_metric_undefined_too_often_has_none():
    """One clip of k has events; a resample has none of it with (1 - 1/k)^k: 25% for two. Of six clips with three, it is
    (3/6)^6: 1.6%."""
    rare = intervals(np.array([[1.0, 1.0], [0.0, 0.0]]), share, seed=0)["share"]
    assert rare.interval is None and rare.num_undefined == pytest.approx(250, abs=60)
    often = intervals(np.array([[1.0, 1.0]] * 3 + [[0.0, 0.0]] * 3), share, seed=0)["share"]
    assert often.interval == (1.0, 1.0)
    assert often.num_undefined == pytest.approx(1000 / 2**6, abs=12), "left out, and counted"


def test_speech_terms_resample():
    """training.md 12: what is undefined was counted as 0."""
    terms = [SpeechTerms(2, 0, 1, 0, 1.8, 2, 1.0), SpeechTerms(0, 0, 3, 0, 0.0, 0, 0.0)]
    found = intervals(np.array([of_clip.vector() for of_clip in terms]), speech_ratios, seed=0)
    # resamples are: the first twice (recall 4/6), one of each (2/6), the second twice (0)
    assert found["recall"].interval == (0.0, pytest.approx(4 / 6))
    assert found["semantic_score"].interval is None, "a quarter of the resamples has no pair: not 0.0 to 0.9"


CLIPS = [
    prediction([(5, "S1->start")], [(4, "S1->start")]),
    prediction([(3, "S1->start"), (9, "S1->complete")], [(3, "S1->start"), (5, "S1->complete")]),
    prediction([(6, "S2->start")], [(8, "S1->start")]),
    prediction([(2, "S2->start")], [(4, "S2->start")]),
]


def test_delays_resample_as_a_loop_would():
    terms = [dst_terms(clip) for clip in CLIPS]
    found = delay_intervals([of_clip.delays_s for of_clip in terms], seed=3)
    rng = np.random.default_rng(3)
    values = []
    for drawn in rng.multinomial(4, [0.25] * 4, size=RESAMPLES):
        values.append(dst_metrics([t for t, times in zip(terms, drawn, strict=True) for _ in range(times)]))
    for name, resampled in found.items():
        defined = [value[name] for value in values if value[name] is not None]
        assert resampled.num_undefined == len(values) - len(defined)
        assert resampled.interval == pytest.approx(tuple(np.quantile(defined, (0.025, 0.975))))


def test_dst_ratios_resample_as_a_loop_would():
    terms = [dst_terms(clip) for clip in CLIPS]
    found = intervals(np.array([of_clip.vector() for of_clip in terms]), dst_ratios, seed=3)
    rng = np.random.default_rng(3)
    values = []
    for drawn in rng.multinomial(4, [0.25] * 4, size=RESAMPLES):
        values.append(dst_metrics([t for t, times in zip(terms, drawn, strict=True) for _ in range(times)]))
    for name in ("dst_update_accuracy", "joint_state_accuracy", "dst_update_f1"):
        assert found[name].interval == pytest.approx(tuple(np.quantile([v[name] for v in values], (0.025, 0.975))))
    assert found["when_to_speak_f1"] == Resampled(None, RESAMPLES)
