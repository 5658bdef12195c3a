"""DST metrics against numbers worked by hand; the window is 5 frames to each side, at 2 frames a second."""

import numpy as np
import pytest

from prospect.evaluation.dst_scores import dst_metrics, dst_ratios, dst_terms
from prospect.evaluation.intervals import intervals
from tests.helpers.predictions import prediction

REFERENCE = [(2, "S1->start"), (8, "S1->complete"), (8, "S2->start"), (8, "Well done."), (14, "S2->complete")]
FRAMES = (0, 19)


def metrics(*predictions):
    return dst_metrics([dst_terms(p) for p in predictions])


def test_a_perfect_prediction():
    found = metrics(prediction(REFERENCE, REFERENCE, frames=FRAMES))
    delays = {name: found.pop(name) for name in ("update_delay_s_median", "update_delay_s_p90")}
    assert set(found.values()) == {1.0}
    assert set(delays.values()) == {0.0}


def test_silence():
    found = metrics(prediction([], REFERENCE, frames=FRAMES))
    assert found == {
        "should_update_dst_precision": None,
        "should_update_dst_recall": 0.0,
        "should_update_dst_f1": 0.0,
        "when_to_speak_precision": None,
        "when_to_speak_recall": 0.0,
        "when_to_speak_f1": 0.0,
        "dst_update_accuracy": None,
        "dst_update_f1": 0.0,
        "joint_state_accuracy": 0.1,  # frames 0 and 1 of 20
        "joint_state_at_end": 0.0,
        "update_delay_s_median": None,
        "update_delay_s_p90": None,
    }


def test_one_of_each():
    predicted = [
        (4, "S1->start"),  # found, 1 s late
        (7, "S2->start"),  # found, 0.5 s early
        (9, "Go on."),  # found, other words
        (10, "S1->complete"),  # found, 1 s late
        (15, "S2->start"),  # found in the place of S2->complete
        (19, "S1->start"),  # nothing within 5 frames that is free
        (19, "Bye."),
    ]
    found = metrics(prediction(predicted, REFERENCE, frames=FRAMES))
    assert found["should_update_dst_precision"] == 4 / 5
    assert found["should_update_dst_recall"] == 4 / 4
    assert found["should_update_dst_f1"] == 8 / 9
    assert (found["when_to_speak_precision"], found["when_to_speak_recall"]) == (1 / 2, 1.0)
    assert found["when_to_speak_f1"] == 2 / 3
    assert found["dst_update_accuracy"] == 3 / 4
    assert found["dst_update_f1"] == 2 * 3 / 9
    # right at 0 1, 4 5 6 (7: S2 too early, 8 9: S1 too late), 10..13 (from 14 on S2 stays in progress)
    assert found["joint_state_accuracy"] == 9 / 20
    assert found["joint_state_at_end"] == 0.0
    assert found["update_delay_s_median"] == 1.0  # of -0.5, 1, 1
    assert found["update_delay_s_p90"] == 1.0


def test_delays_between_quantiles_are_interpolated():
    predicted = [(2, "S1->start"), (10, "S1->complete")]
    found = metrics(prediction(predicted, REFERENCE, frames=FRAMES))
    assert (found["update_delay_s_median"], found["update_delay_s_p90"]) == (0.5, pytest.approx(0.9))


def test_content_has_its_own_matching():
    """In time 7 -> 6 and 4 -> 4 are nearest, both wrong in content; by content alone both are right."""
    found = metrics(
        prediction([(4, "S1->start"), (7, "S2->start")], [(4, "S2->start"), (6, "S1->start")], frames=FRAMES)
    )
    assert (found["dst_update_accuracy"], found["dst_update_f1"]) == (0.0, 1.0)
    assert found["update_delay_s_median"] is None


def test_clips_are_pooled_before_ratios():
    # 4 of 4 updates found in one clip, none of 1 in the other
    found = metrics(
        prediction(REFERENCE, REFERENCE, frames=FRAMES), prediction([], [(0, "S1->start")], frames=(0, 4), steps=1)
    )
    assert found["should_update_dst_recall"] == 4 / 5
    assert found["joint_state_accuracy"] == 20 / 25
    assert found["joint_state_at_end"] == 1 / 2


def test_the_window_is_the_datasets():
    # assembly101: a reference from 4 frames before to 8 frames after the prediction
    late = [(7, "S1->start")]
    assert metrics(prediction(late, REFERENCE, frames=FRAMES))["should_update_dst_recall"] == 1 / 4
    early = [(0, "S1->complete")]
    assert metrics(prediction(early, [(8, "S1->complete")], dataset="assembly101"))["should_update_dst_recall"] == 1.0
    assert metrics(prediction(early, [(8, "S1->complete")]))["should_update_dst_recall"] == 0.0


def test_an_illegal_prediction_leaves_the_state_as_it_is():
    found = metrics(prediction([(2, "S1->start"), (4, "S2->complete")], [(2, "S1->start")]))
    assert found["joint_state_accuracy"] == 1.0


def test_a_clip_in_which_no_state_changes_says_nothing_of_the_joint_state():
    """Without steps or without a reference update; what is predicted there still counts as an update too many."""
    nothing_done = prediction([(3, "S1->start")], [(2, "Hi.")])
    no_steps = prediction([], [(2, "Hi.")], steps=0)
    silent = prediction([], REFERENCE, frames=FRAMES)  # right at frames 0 and 1 of 20
    alone = metrics(nothing_done, no_steps)
    assert (alone["joint_state_accuracy"], alone["joint_state_at_end"]) == (None, None)
    assert (alone["should_update_dst_precision"], alone["when_to_speak_recall"]) == (0.0, 0.0)
    together = metrics(nothing_done, no_steps, silent)
    assert (together["joint_state_accuracy"], together["joint_state_at_end"]) == (0.1, 0.0)
    many = np.stack([dst_terms(one).vector() for one in (nothing_done, no_steps, silent)])
    found = intervals(many[:2], dst_ratios, 0)
    assert found["joint_state_accuracy"].interval is None and found["when_to_speak_recall"].interval == (0.0, 0.0)


def test_nothing_to_measure_is_none():
    found = dst_metrics([])
    assert set(found.values()) == {None} and len(found) == 12


def test_ratios_take_many_sums_at_once():
    terms = dst_terms(prediction(REFERENCE, REFERENCE, frames=FRAMES)).vector()
    many = dst_ratios(terms[None].repeat(3, 0) * [[1], [2], [0]])
    assert many["dst_update_accuracy"].shape == (3,)
    assert many["dst_update_accuracy"][:2].tolist() == [1.0, 1.0]
    assert np.isnan(many["dst_update_accuracy"][2])
