"""Metrics after newer benchmarks against numbers worked by hand, at 2 frames a second: frames 2k and 2k+1 are second k."""

from dataclasses import replace

import numpy as np
import pytest

from prospect.evaluation.benchmark_scores import benchmark_metrics, benchmark_ratios, benchmark_terms
from tests.helpers.predictions import prediction

FRAMES = (0, 99)
DONE = [(0, "S1->start"), (40, "S1->complete")]  # the reference of a step that is done at 20 s


def metrics(*predictions):
    return benchmark_metrics([benchmark_terms(one) for one in predictions])


def completions(actions, reference=DONE, **clip):
    found = metrics(prediction(actions, reference, frames=FRAMES, **clip))
    return found["step_completion_30s"], found["step_completion_told_30s"]


def test_a_perfect_prediction():
    reference = [*DONE, (40, "Well done."), (50, "Next.")]
    assert metrics(prediction(reference, reference, frames=FRAMES)) == {
        "speak_f1_per_second": 1.0,
        "speak_nearest_time_diff_s": 0.0,
        "update_f1_per_second": 1.0,
        "update_nearest_time_diff_s": 0.0,
        "step_completion_30s": 1.0,
        "step_completion_told_30s": 1.0,
    }


def test_when_it_spoke():
    """Seconds 2 and 11 of 2, 10 and 35. Nearest: .5 and .5 and 1 of what was said, .5, .5 and 23.5 of the reference."""
    found = metrics(prediction([(5, "a"), (22, "b"), (23, "c")], [(4, "a"), (21, "b"), (70, "c")], frames=FRAMES))
    assert found["speak_f1_per_second"] == 2 * 1 / (2 + 3)
    assert found["speak_nearest_time_diff_s"] == (0.5 + 0.5 + 1 + 0.5 + 0.5 + 23.5) / 6
    assert found["update_f1_per_second"] is None and found["update_nearest_time_diff_s"] is None


def test_two_predictions_on_one_reference():
    """In one second they are one; each is as far from the reference as it is."""
    found = metrics(prediction([(20, "a"), (21, "b")], [(20, "a")], frames=FRAMES))
    assert (found["speak_f1_per_second"], found["speak_nearest_time_diff_s"]) == (1.0, (0 + 0.5 + 0) / 3)
    found = metrics(prediction([(20, "a"), (22, "b")], [(20, "a")], frames=FRAMES))
    assert (found["speak_f1_per_second"], found["speak_nearest_time_diff_s"]) == (2 * 1 / 3, (0 + 1 + 0) / 3)


@pytest.mark.parametrize(
    ("actions", "reference", "f1", "time_diff"),
    [([], [(5, "a")], 0, 30), ([(5, "a")], [], 0, 30), ([], [], None, None), ([(0, "a")], [(61, "a")], 0, 30)],
)
def test_what_has_no_counterpart_is_30_s_away(actions, reference, f1, time_diff):
    found = metrics(prediction(actions, reference, frames=FRAMES))
    assert (found["speak_f1_per_second"], found["speak_nearest_time_diff_s"]) == (f1, time_diff)


def test_updates_of_one_frame_are_one_moment():
    """Predicted at 0.5 and 20 s, reference at 0 and 20 s: the second 0, the second 20; .5, 0, .5 and 0 s away."""
    found = metrics(prediction([(1, "S1->start"), (40, "S1->complete, S2->start")], DONE, frames=FRAMES))
    assert found["update_f1_per_second"] == 1.0
    assert found["update_nearest_time_diff_s"] == (0.5 + 0 + 0.5 + 0) / 4


@pytest.mark.parametrize(
    ("first", "fps", "f1"),
    [
        (100, 2, 1),  # 1.0 and 1.5 s
        (101, 2, 0),  # 0.5 and 1.0 s, in two seconds
        (100, 30, 1),
        (92, 0.1, 0),  # 100 and 110 s
    ],
)
def test_seconds_count_from_the_clips_first_frame(first, fps, f1):
    one = prediction([(102, "a")], [(103, "a")], frames=(first, 120), fps=fps)
    assert metrics(one)["speak_f1_per_second"] == f1


@pytest.mark.parametrize(("frame", "found"), [(9, 0), (10, 1), (40, 1), (70, 1), (71, 0)])
def test_a_completion_is_found_up_to_15_s_away(frame, found):
    assert completions([(0, "S1->start"), (frame, "S1->complete")])[0] == found


@pytest.mark.parametrize(
    "actions",
    [
        [],
        [(40, "S1->complete")],  # never begun, so the step that it worked on was another
        [(0, "S2->start"), (40, "S2->complete")],
        [(0, "S1->start"), (0, "S1->complete"), (40, "S1->complete")],  # long done: the second changes nothing
    ],
)
def test_a_completion_needs_its_step_in_progress(actions):
    assert completions(actions) == (0, 0)


def test_a_step_that_was_in_progress_before_the_clip_needs_no_start():
    one = prediction([(8, "S1->complete")], [(8, "S1->complete")])
    one = replace(one, clip=replace(one.clip, initial_state=("in_progress", "not_started")))
    assert metrics(one)["step_completion_30s"] == 1.0


def test_one_reference_is_found_once():
    """Done, taken back, done again within the window; then the other way round."""
    again = [*DONE, (42, "S1->reset"), (44, "S1->start"), (46, "S1->complete")]
    assert completions(again)[0] == 1.0
    assert completions(DONE, again)[0] == 1 / 2


@pytest.mark.parametrize(("frame", "told"), [(35, 0), (36, 1), (70, 1), (71, 0)])
def test_a_completion_is_told_from_the_prediction_to_the_windows_end(frame, told):
    """Predicted at 18 s, due at 20 s: the window ends at 35 s."""
    assert completions([(0, "S1->start"), (36, "S1->complete"), (frame, "Next.")]) == (1, told)


def test_speech_alone_tells_of_no_completion():
    assert completions([(40, "Well done.")]) == (0, 0)


def test_clips_are_pooled_before_ratios():
    """One of one completion, none of two; a clip without any says nothing of completions, and counts for the rest."""
    right = prediction(DONE, DONE, frames=FRAMES)
    silent = prediction([], [*DONE, (41, "S2->start"), (60, "S2->complete")], frames=FRAMES)
    other = prediction([], [(3, "Hi.")], steps=0)
    assert metrics(other)["step_completion_30s"] is None
    found = metrics(right, silent, other)
    assert found["step_completion_30s"] == 1 / 3 and found["step_completion_told_30s"] == 0.0
    assert found["update_f1_per_second"] == 2 * 2 / (2 + 2 + 3), "40 and 41 are one second"
    assert found["update_nearest_time_diff_s"] == (4 * 0 + 4 * 30) / 8
    assert found["speak_f1_per_second"] == 0.0


def test_nothing_to_measure_is_none():
    assert set(benchmark_metrics([]).values()) == {None}


def test_ratios_take_many_sums_at_once():
    terms = benchmark_terms(prediction(DONE, DONE, frames=FRAMES)).vector()
    many = benchmark_ratios(terms[None].repeat(2, 0) * [[2], [0]])["step_completion_30s"]
    assert many[0] == 1.0 and np.isnan(many[1])
