"""Means and spreads of scores that can be worked out by hand."""

from math import sqrt

import pytest

from prospect.evaluation.judge_question import AXES, Verdict
from prospect.evaluation.judge_scores import FORMAT, Judge, judged_clip, judged_row, read_judge, summary, with_judge
from tests.helpers.evaluations import evaluation_metrics
from tests.helpers.predictions import prediction


def clip(name, correctness, overall, dataset="toy"):
    """Scores of two axes in three repeats, of the others always 3; None: no answer."""
    verdicts = [
        None if a is None else Verdict(analysis=name, correctness=a, promptness=3, efficiency=3, overall=b)
        for a, b in zip(correctness, overall, strict=True)
    ]
    return judged_clip(name, dataset, verdicts)


A = clip("a", (5, 5, 5), (5, 4, 3))
B = clip("b", (4, 3, 2), (1, 2, 3))
LACKING = clip("c", (None, 2, None), (None, 5, None))
NONE = clip("d", (None,) * 3, (None,) * 3)


def test_means_and_spreads_of_two_clips():
    """Correctness: clips 5 and 3, repeats 4.5, 4, 3.5. Overall: clips 4 and 2, repeats 3, 3, 3."""
    axes = summary([A, B]).axes
    assert list(axes) == list(AXES)
    correctness, overall = axes["correctness"], axes["overall"]
    assert (correctness.mean, correctness.std_clips, correctness.std_repeats) == (4, pytest.approx(sqrt(2)), 0.5)
    assert (overall.mean, overall.std_clips, overall.std_repeats) == (3, pytest.approx(sqrt(2)), 0)
    assert overall.interval == (2, 4)  # a quarter of the resamples has one clip twice
    assert (axes["promptness"].mean, axes["promptness"].std_clips, axes["promptness"].interval) == (3, 0, (3, 3))


def test_a_repeat_without_an_answer_is_left_out_of_its_clip_and_a_clip_without_any_of_all():
    """Clips 5, 3 and 2; the repeats are those of the first two clips."""
    found = summary([A, B, LACKING, NONE])
    assert found.num_clips == 3
    assert found.axes["correctness"].mean == pytest.approx(10 / 3)
    assert found.axes["correctness"].std_repeats == 0.5
    assert found.axes["correctness"].std_clips == pytest.approx(sqrt(7 / 3))
    alone = summary([LACKING]).axes["overall"]
    assert (alone.mean, alone.interval, alone.std_clips, alone.std_repeats) == (5, None, None, None)
    assert summary([NONE]).num_clips == 0 and summary([NONE]).axes == {}


def judge(*clips, row="model", notes=()):
    rows = {row: judged_row("f", clips)}
    return Judge(FORMAT, "m", ["h:1"], ["2026-01-02", "2026-01-02"], "t", {"temperature": 0.5}, 3, rows, list(notes))


OTHER = clip("b", (4, 3, 2), (1, 2, 3), dataset="other")
METRICS = evaluation_metrics(
    [prediction(clip_id="a"), prediction(clip_id="b", dataset="other"), prediction(clip_id="d")], ["model", "blind"]
)


def test_scores_stand_beside_the_other_metrics_and_nothing_is_lost():
    metrics = with_judge(METRICS, judge(A, OTHER, NONE))
    model = metrics["rows"]["model"]
    assert model["all"]["metrics"] == {
        "dst_update_f1": 0.5, "judge_correctness": 4, "judge_promptness": 3, "judge_efficiency": 3, "judge_overall": 3
    }  # fmt: skip
    assert model["all"]["intervals"]["judge_overall"] == [2, 4]
    assert [model["datasets"][name]["metrics"]["judge_overall"] for name in ("toy", "other")] == [4, 2]
    assert [one["metrics"].get("judge_overall") for one in metrics["clips"]] == [4, 2, None]
    assert metrics["rows"]["blind"] == METRICS["rows"]["blind"]
    block = metrics.pop("judge")
    assert (block["model"], block["hosts"], block["template"], block["repeats"]) == ("m", ["h:1"], "t", 3)
    assert block["rows"]["model"]["clips"][1]["scores"]["correctness"] == [4, 3, 2]
    assert metrics.keys() == METRICS.keys() and metrics["more"] == METRICS["more"]


def test_an_earlier_judges_scores_go():
    metrics = with_judge(with_judge(METRICS, judge(A, OTHER)), judge(A, row="blind"))
    assert metrics["rows"]["model"] == METRICS["rows"]["model"]
    assert metrics["rows"]["blind"]["all"]["metrics"]["judge_overall"] == 4
    assert metrics["clips"] == METRICS["clips"]


def test_a_judge_is_read_back():
    one = judge(A, OTHER, NONE, notes=["n"])
    assert read_judge(with_judge(METRICS, one)["judge"], "p", "fix") == one
    assert one.title == "judged by m at h:1, 2026-01-02, prompt t, 3 repeats"
