import pytest

from pipeline.annotations.clips import Turn
from prospect.evaluation.predictions import ClipPrediction
from prospect.evaluation.thresholds import (
    GRID,
    HEADS,
    Sweep,
    best_pairs,
    count_events,
    doubts,
    fires,
    reliability,
    sweep,
    swept_heads,
)
from prospect.stream.records import Action, FrameRecord
from tests.helpers.fakes import make_clip

# Updates at 4 (two) and 8, an utterance at 4; 2 frames a second, window -5..5 frames.
CLIP = make_clip(
    [
        Turn("dst_update", "S1->start", 3, 4),
        Turn("dst_update", "S1->complete", 3, 4),
        Turn("assistant", "Go on.", 3, 4),
        Turn("dst_update", "S2->start", 8, 8),
    ],
    frames=(0, 29),
)


def forced(by_frame: dict[int, list[tuple[float, float]]], clip=CLIP) -> ClipPrediction:
    """Streamed with the reference forced: (p_update, p_speak) of each decision of a frame; else nearly 0."""
    at = {frame: [t for t in clip.turns if t.end_frame == frame] for frame in range(30)}
    records = []
    for frame in range(clip.start_frame, clip.end_frame + 1):
        decisions = by_frame.get(frame, [(0.001, 0.001)] * (len(at[frame]) + 1))
        assert len(decisions) == len(at[frame]) + 1
        actions = tuple(Action(t.role, t.text, *d) for t, d in zip(at[frame], decisions, strict=False))
        records.append(FrameRecord(frame, *decisions[0], actions, *decisions[-1], 0, 0, False, 0.0))
    return ClipPrediction(clip, tuple(records), {})


def at(found: Sweep, threshold: float) -> float:
    return found.f1[GRID.index(threshold)]


@pytest.mark.parametrize(
    ("decisions", "threshold", "count"),
    [
        ([(0.9, True), (0.8, True), (0.1, False)], 0.5, 2),
        (
            [(0.9, True), (0.4, True), (0.9, False)],
            0.5,
            1,
        ),  # missed: the model falls silent, what comes after is not asked
        ([(0.4, True), (0.9, True), (0.9, False)], 0.5, 0),
        ([(0.5, False)], 0.5, 1),  # a threshold is reached by its own value
        ([(0.1, False), (0.9, True), (0.9, False)], 0.5, 2),  # another block first; a fire too many at the end
        ([(0.6, False), (0.9, True)], 0.5, 1),  # fires before its turn, and the frame is over
    ],
)
def test_events_of_a_frame(decisions, threshold, count):
    assert fires(decisions, threshold) == count


def test_a_sweep_counts_events_in_time():
    """Updates: .9 and .6 at frame 4, .3 at frame 8; a false .2 at frame 20, outside every window. Three are due.

    Speech: .8 at frame 4, after both updates; a false .15 there after it, and .08 at frame 20. One is due.
    """
    one = forced(
        {4: [(0.9, 0.1), (0.6, 0.9), (0.1, 0.8), (0.01, 0.15)], 8: [(0.3, 0.7), (0.0, 0.0)], 20: [(0.2, 0.08)]}
    )
    found = sweep([one], "should_update_dst")
    assert at(found, 0.12) == pytest.approx(2 * 3 / (4 + 3))
    assert at(found, 0.1) == pytest.approx(2 * 3 / (5 + 3)), (
        "the third decision of frame 4, where speech is due, fires too"
    )
    assert at(found, 0.24) == 1.0
    assert at(found, 0.5) == pytest.approx(2 * 2 / (2 + 3))
    assert at(found, 0.7) == pytest.approx(2 * 1 / (1 + 3))
    assert at(found, 0.92) == 0.0
    speech = sweep([one], "when_to_speak")
    assert at(speech, 0.5) == 1.0, "where an update is due (.1, .9 and .7) that one goes first"
    assert at(speech, 0.82) == 0.0, "not the .9, which stands where an update is due"
    assert at(speech, 0.1) == 1.0, "two utterances of one frame are one event"
    assert at(speech, 0.06) == pytest.approx(2 * 1 / (2 + 1)), "one too many at frame 20; the .7 at 8 is none"


def test_the_best_pairs_are_distinct_and_near_a_half():
    """The update head is best from 0.3 on to 0.6, the other at 0.9 alone."""
    update = Sweep("should_update_dst", tuple(1.0 if 0.3 <= t <= 0.6 else 0.5 for t in GRID))
    speak = Sweep("when_to_speak", tuple(0.8 if t == 0.9 else 0.2 for t in GRID))
    pairs = best_pairs(update, speak, 3)
    assert pairs[0] == (0.5, 0.9)
    assert len(set(pairs)) == 3 and pairs[1][1] == 0.9 and pairs[1][0] in (0.28, 0.62)


def test_reliability_takes_each_frame_by_its_first_decision():
    """Frame 3 is inside the first event's range, hence silent; 4 and 8 are positives at .9 and .7, 20 says .7."""
    one = forced({3: [(0.9, 1.0)], 4: [(0.9, 0.1), (0.6, 0.1), (0.1, 0.8), (0.01, 0.01)], 8: [(0.7, 0.1), (0.0, 0.0)], 20: [(0.7, 0.0)]})  # fmt: skip
    found = reliability([one])["should_update_dst"]
    low, mid, high = found["bins"]
    assert low == [pytest.approx(0.001), 0.0, 26] and mid == [pytest.approx(0.7), 0.5, 2] and high == [0.9, 0.5, 2]
    assert found["ece"] == pytest.approx((26 * 0.001 + 2 * 0.2 + 2 * 0.4) / 30)


def test_of_a_model_without_dst_one_head_is_calibrated():
    """Frame 4's first decision is the utterance's; all others are silent."""
    spoken = {4: [(0.9, 0.8), (0.9, 0.1)]}
    records = []
    for frame in range(30):
        decisions = spoken.get(frame, [(0.9, 0.001)])
        actions = (Action("assistant", "Go on.", *decisions[0]),) if frame == 4 else ()
        records.append(FrameRecord(frame, *decisions[0], actions, *decisions[-1], 0, 0, False, 0.0))
    one = ClipPrediction(CLIP, tuple(records), {"memory": "none"})
    assert swept_heads([one]) == ("when_to_speak",) and swept_heads([forced({})]) == HEADS
    assert best_pairs(None, sweep([one], "when_to_speak"), 2) == [(0.5, 0.5), (0.5, 0.82)]
    found = reliability([one])
    assert found["when_to_speak"]["bins"] == [[pytest.approx(0.001), 0.0, 29], [pytest.approx(0.8), 1.0, 1]]
    assert list(found) == ["when_to_speak"]


def test_a_head_of_which_nothing_is_known_keeps_the_default():
    one = forced({4: [(0.9, 0.1), (0.6, 0.9), (0.1, 0.8), (0.01, 0.15)]})
    assert {speak for _, speak in best_pairs(sweep([one], "should_update_dst"), None, 3)} == {0.5}
    assert best_pairs(None, None, 3) == [(0.5, 0.5)]


def test_thresholds_of_few_clips_or_events_are_doubted():
    assert [count_events([forced({})] * 2, head) for head in HEADS] == [6, 2]
    assert doubts({"should_update_dst": 30, "when_to_speak": 30}, 10) == []
    (few_clips,) = doubts({"should_update_dst": 300}, 9)
    (few_events,) = doubts({"when_to_speak": 1}, 10)
    assert few_clips.startswith("should_update_dst: found on 300 updates in 9 clips, where 30 in 10 are the least")
    assert few_events.startswith("when_to_speak: found on 1 utterance in 10 clips, where 30 in 10 are the least")
