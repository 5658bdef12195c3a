"""Expansion against hand-worked clips, and the promise that a clip is rebuilt from its samples."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotations.clips import Clip, Turn
from pipeline.errors import ProspectError
from pipeline.shards.expand import expand
from pipeline.shards.sample import decode, encode, rebuild_clip
from tests.helpers.clips import ASSEMBLIES, clip_in, clips
from tests.helpers.fakes import make_clip


def rows(
    clip: Clip, max_silent_frames: int = 32, max_event_frames: int = 8
) -> list[tuple[str, int, int, str | None, str]]:
    return [
        (s.kind, s.start_frame, s.end_frame, s.target.text if s.target else None, s.next)
        for s in expand(clip, max_silent_frames, max_event_frames)
    ]


def test_silent_runs_are_cut_at_turns_ranges_and_length():
    clip = make_clip(
        [
            Turn("user", "hi", 2, 3),
            Turn("dst_update", "S1->start", 12, 14),
            Turn("assistant", "good", 12, 14),
            Turn("user", "and now?", 17, 17),
        ],
        frames=(0, 19),
    )
    assert rows(clip, max_silent_frames=5) == [
        ("silent", 0, 2, None, "user"),
        ("silent", 3, 7, None, "silent"),
        ("silent", 8, 11, None, "dst_update"),
        ("dst_update", 12, 14, "S1->start", "assistant"),
        ("assistant", 12, 14, "good", "silent"),
        ("silent", 15, 16, None, "user"),
        ("silent", 17, 19, None, "end"),
    ]


def test_a_frame_in_any_active_sample_is_never_silent():
    clip = make_clip([Turn("dst_update", "S1->start", 3, 4), Turn("assistant", "go on", 1, 6)], frames=(0, 7))
    assert rows(clip) == [
        ("silent", 0, 0, None, "dst_update"),
        ("dst_update", 3, 4, "S1->start", "assistant"),
        ("assistant", 1, 6, "go on", "silent"),
        ("silent", 7, 7, None, "end"),
    ]


def test_a_long_range_gives_its_last_frames_to_the_event_and_the_others_to_silence():
    clip = make_clip([Turn("dst_update", "S1->start", 0, 9), Turn("assistant", "good", 9, 20)], frames=(0, 20))
    assert rows(clip, max_event_frames=3) == [
        ("silent", 0, 6, None, "dst_update"),
        ("dst_update", 7, 9, "S1->start", "silent"),
        ("silent", 10, 17, None, "assistant"),
        ("assistant", 18, 20, "good", "end"),
    ]
    samples = expand(clip, 32, 3)
    assert samples[1].target == Turn("dst_update", "S1->start", 0, 9), "the turn keeps its own range"
    assert rebuild_clip([decode(encode(sample), "test") for sample in samples]) == clip


def test_state_and_history_are_those_before_the_turn():
    clip = make_clip(
        [
            Turn("system", "be kind", None, None),
            Turn("dst_update", "S1->complete", 1, 2),
            Turn("dst_update", "S2->start", 1, 2),
            Turn("user", "ok?", 2, 2),
        ],
        frames=(1, 3),
        initial=("in_progress", "not_started"),
    )
    first, second, silent = expand(clip, 32, 8)
    assert first.dst_state == ("in_progress", "not_started")
    assert [turn.text for turn in first.history] == ["be kind", "ok?"]
    assert second.dst_state == ("completed", "not_started")
    assert [turn.text for turn in second.history] == ["be kind", "ok?", "S1->complete"]
    assert silent.dst_state == ("completed", "in_progress")
    assert silent.trailing == ()


def test_a_clip_without_turns_is_silent():
    assert rows(make_clip(frames=(4, 6))) == [("silent", 4, 6, None, "end")]


def test_a_system_turn_after_the_clip_trails():
    samples = expand(make_clip([Turn("system", "bye", 12, 13)], frames=(0, 1)), 32, 8)
    assert [turn.text for turn in samples[-1].trailing] == ["bye"]
    assert samples[-1].next == "system"


@pytest.mark.parametrize("annotations", ASSEMBLIES, ids=lambda path: path.parent.name)
def test_a_clip_of_real_size_has_its_turns_at_their_frames(annotations):
    samples = rows(clip_in(annotations))
    active = [row for row in samples if row[0] != "silent"]
    starts = [195, 214, 305, 371, 396, 425]
    assert [(row[2], row[3]) for row in active if row[0] == "dst_update"] == [
        (195, "S1->start"),
        *[pair for i, f in enumerate(starts[1:], 1) for pair in ((f, f"S{i}->complete"), (f, f"S{i + 1}->start"))],
        (451, "S6->complete"),
    ]
    assert [row[2] for row in active if row[0] == "assistant"] == [195, 214, 226, 262, 305, 371, 396, 425]
    assert [(row[1], row[2]) for row in samples if row[0] == "silent"] == [
        (196, 211), (215, 223), (227, 258), (259, 259), (263, 294), (295, 302), (306, 337), (338, 368), (372, 393),
        (397, 422), (426, 448),
    ]  # fmt: skip
    assert samples[-1] == ("dst_update", 449, 451, "S6->complete", "end")


@settings(max_examples=300, deadline=None)
@given(clips(), st.integers(1, 6), st.integers(1, 8))
def test_a_clip_is_rebuilt_from_its_samples(clip, max_silent_frames, max_event_frames):
    samples = expand(clip, max_silent_frames, max_event_frames)
    decoded = [decode(encode(sample), "test") for sample in samples]
    assert rebuild_clip(decoded) == clip
    assert [json.loads(encode(sample)) for sample in decoded] == [json.loads(encode(sample)) for sample in samples]
    covered = [frame for sample in samples for frame in sample.frames]
    assert set(covered) == set(range(clip.start_frame, clip.end_frame + 1))
    silent = [frame for sample in samples if sample.kind == "silent" for frame in sample.frames]
    assert len(silent) == len(set(silent)) and not set(silent) & {
        frame for sample in samples if sample.kind != "silent" for frame in sample.frames
    }


def test_rebuilding_notices_a_missing_sample():
    samples = expand(make_clip([Turn("assistant", "hi", 3, 4)]), 32, 8)
    with pytest.raises(ProspectError, match=r"expected 0\.\.2 of one clip"):
        rebuild_clip([samples[0], samples[2]])
