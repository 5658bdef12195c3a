"""Changes of a clip, each counted by hand. RAW_CLIP: S1 starts at 6, is completed at 12, where S2 starts; fps 2."""

import pytest

from pipeline.annotations.edits import (
    add_line,
    add_update,
    draft_of,
    move,
    move_transition,
    next_transition,
    range_of,
    remove,
    set_steps,
    set_text,
    set_transition,
    state_at,
    states_before,
    transitions_of,
)  # fmt: skip
from pipeline.annotations.validate import check_clip
from pipeline.errors import ProspectError
from tests.helpers.fakes import raw_clip


def clip(**changes):
    return draft_of(raw_clip(**changes))


def checked(draft):
    return [str(one) for one in check_clip(draft.value, index=0, file="f", dataset="x", open_frames=None)[1]]


def order(draft):
    return [turn.origin for turn in draft.items]


def test_a_draft_is_its_record_again():
    assert clip().value == raw_clip() and list(clip().value) == list(raw_clip())
    assert checked(clip()) == []


def test_a_moved_turn_keeps_its_length_and_its_place():
    moved = move(clip(), 4, 1, 1)
    assert range_of(moved, 4) == (11, 13) and order(moved) == [0, 1, 2, 3, 4]
    assert range_of(move(clip(), 4, 0, 2), 4) == (10, 14) and range_of(move(clip(), 4, -2, 0), 4) == (8, 12)


def test_a_turn_goes_no_further_than_it_must():
    assert order(move(clip(), 2, 1, 1)) == [0, 1, 3, 2, 4]  # past the utterance at 6
    assert order(move(clip(), 3, 6, 6)) == [0, 1, 2, 3, 4]  # to 12, where it may stand before the update
    assert order(move(clip(), 3, 7, 7)) == [0, 1, 2, 4, 3]
    assert order(move(clip(), 4, -6, -6)) == [0, 1, 2, 3, 4]


def test_states_follow_what_was_moved():
    moved = move(clip(), 3, 7, 7)  # the utterance, behind S1->complete, S2->start
    listed = [turn.value.get("dst_state") for turn in moved.items]
    assert listed == [None, None, {"S1": "not_started"}, {"S1": "in_progress"}, {"S1": "completed"}]
    assert checked(moved) == []


def test_turns_list_the_steps_touched_so_far_where_all_did():
    states = [{"S1": "not_started"}, {"S1": "in_progress"}, {"S1": "in_progress", "S2": "not_started"}]
    turns = [turn | {"dst_state": state} for turn, state in zip(raw_clip()["conversation"][2:], states, strict=True)]
    moved = move(clip(conversation=turns), 1, 7, 7)
    assert moved.items[2].value["dst_state"] == {"S1": "completed", "S2": "in_progress"} and checked(moved) == []


def test_what_did_not_change_is_shared():
    before = clip()
    moved = move(before, 1, 1, 1)
    assert [a.value is b.value for a, b in zip(before.items, moved.items, strict=True)] == [
        True,
        False,
        True,
        True,
        True,
    ]


def test_one_transition_of_several_moves_alone():
    moved = move_transition(clip(), 4, 0, -3)  # S1->complete from 12 to 9
    assert [(range_of(moved, n), transitions_of(moved.items[n].value)) for n in (4, 5)] == [
        ((7, 9), [("S1", "complete")]), ((10, 12), [("S2", "start")])
    ]  # fmt: skip
    assert moved.items[5].value["dst_state"]["S1"] == "completed"
    assert checked(moved) == []


def test_an_update_stands_where_the_rules_put_it():
    added = add_update(clip(), 12, "S2", "complete")
    assert transitions_of(added.items[5].value) == [
        ("S2", "complete")
    ]  # after S2->start: elsewhere it would be illegal
    added = add_update(clip(), 8, "S1", "complete")
    assert [transitions_of(turn.value) for turn in added.items][4] == [("S1", "complete")]
    assert added.items[4].value == {
        "role": "DST_UPDATE", "content": [{"id": "S1", "transition": "complete"}], "start_frame": 8, "end_frame": 8,
        "dst_state": {"S1": "in_progress"},
    }  # fmt: skip
    assert len(checked(added)) == 1 and "S1->complete while S1 is completed" in checked(added)[0]


def test_lines_stand_before_updates_and_utterances_behind_them():
    roles = [turn.value["role"] for turn in add_line(clip(), 12, "user", "And now?").items]
    assert roles == ["system", "user", "DST_UPDATE", "assistant", "user", "DST_UPDATE"]
    roles = [turn.value["role"] for turn in add_line(clip(), 12, "assistant", "Go on.").items]
    assert roles == ["system", "user", "DST_UPDATE", "assistant", "DST_UPDATE", "assistant"]
    assert checked(add_line(clip(), 12, "assistant", "Go on.")) == []


def test_a_digit_starts_then_completes():
    assert [next_transition(clip(), frame, "S1") for frame in (5, 6, 11)] == ["start", "complete", "complete"]
    with pytest.raises(ProspectError, match="S1 is completed already at frame 12; Shift"):
        next_transition(clip(), 12, "S1")
    with pytest.raises(ProspectError, match="step 'S9' is not one of the clip's: S1, S2"):
        next_transition(clip(), 12, "S9")
    assert state_at(clip(), 12) == {"S1": "completed", "S2": "in_progress"}


def test_turns_go_and_so_do_single_transitions():
    left = remove(clip(), 4, 1)
    assert transitions_of(left.items[4].value) == [("S1", "complete")] and checked(left) == []
    assert order(remove(clip(), 4)) == [0, 1, 2, 3]
    gone = remove(clip(), 2)
    assert gone.items[2].value["dst_state"] == {"S1": "not_started"} and states_before(gone)[3] == {
        "S1": "not_started",
        "S2": "not_started",
    }


def test_times_stay_times():
    turns = [
        {"role": "user", "content": "Hi", "time": 1},
        {"role": "DST_UPDATE", "content": "S1->start", "time": 4.5, "end_time": 5},
    ]
    draft = clip(conversation=turns, fps=30)
    moved = move(draft, 1, 1, 2)
    assert moved.items[1].value == turns[1] | {"time": 4.54, "end_time": 5.07}
    assert range_of(moved, 1) == (136, 152)
    added = add_update(moved, 200, "S1", "complete")
    assert added.items[2].value == {"role": "DST_UPDATE", "content": "S1->complete", "time": 6.67}
    assert range_of(added, 2) == (200, 200)


def test_a_time_beside_frames_goes_along_with_its_turn():
    turn = {"role": "user", "content": "Hi", "start_frame": 3, "end_frame": 4, "time": 1.7}
    assert move(clip(conversation=[turn]), 0, 2, 2).items[0].value == turn | {
        "start_frame": 5,
        "end_frame": 6,
        "time": 2.7,
    }
    assert move(clip(conversation=[turn]), 0, 0, 2).items[0].value == turn | {"end_frame": 6}


def test_texts_and_steps_are_changed():
    assert set_text(clip(), 1, "Good day").items[1].value["content"] == "Good day"
    with pytest.raises(ProspectError, match="its content is transitions"):
        set_text(clip(), 2, "x")
    named = set_steps(clip(), [("S1", "Take the cup"), ("S2", "Put it"), ("S3", "Go")])
    assert named.raw["dst"][0] == {"type": "step", "id": "S1", "name": "Take the cup"} and named.raw["dst"][2] == {
        "id": "S3",
        "name": "Go",
    }
    assert transitions_of(set_transition(clip(), 4, 1, "S2", "reset").items[4].value) == [
        ("S1", "complete"),
        ("S2", "reset"),
    ]


def test_a_move_before_the_video_is_refused():
    with pytest.raises(ProspectError, match=r"turn 1: found frames -1\.\.0, expected"):
        move(clip(), 1, -4, -4)


def test_a_clip_with_mistakes_can_be_changed():
    broken = clip(
        conversation=["no turn", {"role": "user"}, {"role": "user", "content": "Hi", "start_frame": 3, "end_frame": 4}],
        dst="none",
    )
    moved = move(add_line(broken, 9, "assistant", "Hello"), 2, 1, 1)
    assert [turn.value for turn in moved.items][2:] == [
        {"role": "user", "content": "Hi", "start_frame": 4, "end_frame": 5},
        {"role": "assistant", "content": "Hello", "start_frame": 9, "end_frame": 9},
    ]
    with pytest.raises(ProspectError, match="turn 0 has no frames"):
        move(broken, 0, 1, 1)
