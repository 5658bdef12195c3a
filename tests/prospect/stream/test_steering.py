"""What a person changes while a stream goes on."""

from dataclasses import replace

import pytest

from pipeline.errors import ProspectError
from prospect.stream.context import POLICIES
from prospect.stream.lines import Lines
from prospect.stream.player import Steered, play
from prospect.stream.steering import Steering
from tests.helpers.streams import TASK, source_frames, streamer, with_bias

STEPS = {"S1": "do S1", "S2": "schön 做"}


def stream_of(stream, steer=Steered, count=6, task=TASK, first=0):
    return play(stream, source_frames(count)[first:], task, Lines([], [], 2, 0), 2, steer=steer)


def decided(played):
    record = played.record
    return record.p_update, record.p_speak, record.p_update_last, record.p_speak_last, record.context_tokens


@pytest.mark.parametrize("policy", POLICIES)
def test_after_a_correction_the_stream_is_that_of_a_task_begun_with_the_corrected_state(model, tokens, policy):
    """Frames 3 to 5 of a stream in which S1 was completed before frame 3, against a stream that begins there."""
    silent, state = with_bias(model, -9, -9), {"S1": "completed", "S2": "not_started"}
    steered = streamer(silent, tokens, context=policy)
    steering = Steering(steered, STEPS)
    found = []
    for played in stream_of(steered, steering.apply):
        found.append(played)
        if played.record.frame == 2:
            steering.correct("S1", "completed")
            assert steering.waiting == {"S1": "completed"}
    begun = list(stream_of(streamer(silent, tokens, context=policy), task=replace(TASK, state=state), first=3))
    assert [decided(one) for one in found[3:]] == [decided(one) for one in begun]
    assert [one.record.is_restart for one in found] == [False, False, False, True, False, False]
    assert [dict(one.corrected) for one in found] == [{}, {}, {}, {"S1": "completed"}, {}, {}]
    assert found[3].notes == ("corrected: S1 is completed",) and found[-1].state == state


def test_a_correction_to_what_is_tracked_already_changes_nothing(model, tokens):
    steered = streamer(with_bias(model, -9, -9), tokens)
    steering = Steering(steered, STEPS)
    steering.correct("S1", "not_started")
    assert [(dict(one.corrected), one.record.is_restart) for one in stream_of(steered, steering.apply, 2)] == [
        ({}, False)
    ] * 2


def test_both_thresholds_are_in_effect_from_the_next_frame_on(model, tokens):
    """Both heads say .5 everywhere."""
    steered = streamer(with_bias(model, 0, 0), tokens, update_threshold=0.6, speak_threshold=0.6, max_actions=1)
    steering = Steering(steered, STEPS)
    acted, notes = [], []
    for played in stream_of(steered, steering.apply):
        acted.append([action.role for action in played.record.actions][:1])
        notes.append(played.notes)
        if played.record.frame == 1:
            steering.set_threshold("update", 0.4)
        if played.record.frame == 3:
            steering.set_threshold("update", 1)
            steering.set_threshold("speak", 0.5)
    assert acted[:3] == [[], [], ["dst_update"]] and acted[4:] == [["assistant"], ["assistant"]]
    assert notes[2] == ("update fires at 0.4 from here on",)
    assert notes[4] == ("update fires at 1 from here on", "speak fires at 0.5 from here on")
    assert (steered.settings.update_threshold, steered.settings.speak_threshold) == (1, 0.5)


@pytest.mark.parametrize("value", [-0.1, 1.01, "0.5", None, True, float("nan")])
def test_a_threshold_that_is_none_is_refused(model, tokens, value):
    with pytest.raises(ProspectError, match=r"threshold of 'update': found .*, expected a number from 0 to 1"):
        Steering(streamer(model, tokens), STEPS).set_threshold("update", value)


def test_what_cannot_be_corrected_is_refused(model, tokens):
    with pytest.raises(ProspectError, match="found step 'S9', state 'completed'; expected a step of the task"):
        Steering(streamer(model, tokens), STEPS).correct("S9", "completed")
    with pytest.raises(ProspectError, match="found step 'S1', state 'done'"):
        Steering(streamer(model, tokens), STEPS).correct("S1", "done")
    with pytest.raises(ProspectError, match="tracks no state, so there is none to correct: it only speaks"):
        Steering(streamer(model, tokens, memory="none"), STEPS).correct("S1", "completed")
