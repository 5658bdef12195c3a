"""Projection by hand: seconds to frames, transitions in their order, clips with the state before each."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotations.dst import Update, apply_updates
from pipeline.spans.project import Layout, clips_of_video, events_of, frame_at
from pipeline.spans.records import Dialogue, Line, NamedStep, Span, VideoSpans


def video(*spans: tuple, steps: int = 2, duration_s: float = 10) -> VideoSpans:
    """Spans as (step, start, end) or (step, start, end, outcome)."""
    return VideoSpans(
        video="v",
        dataset="d",
        duration_s=duration_s,
        steps=tuple(NamedStep(id=f"S{n}", name=f"do {n}") for n in range(1, steps + 1)),
        spans=tuple(
            Span(step=step, start_s=start, end_s=end, outcome=outcome[0] if outcome else "done")
            for step, start, end, *outcome in spans
        ),
    )


def told(record: VideoSpans, num_frames: int = 20) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    return [f"{e.frame} {e.step}->{e.transition}" for e in events_of(record, 2, num_frames, counts)], counts


@pytest.mark.parametrize(
    ("time_s", "fps", "frame"), [(0, 2, 0), (0.49, 2, 0), (0.5, 2, 1), (1.999, 2, 3), (0.3, 10, 3), (1.1, 10, 11)]
)
def test_a_moment_stands_at_the_frame_that_shows_it(time_s, fps, frame):
    assert frame_at(time_s, fps) == frame


def test_a_step_starts_at_its_spans_first_moment_and_is_complete_at_its_last():
    events, _ = told(video(("S1", 1.2, 3.9), ("S2", 4.0, 6.0)))
    assert events == ["2 S1->start", "7 S1->complete", "8 S2->start", "12 S2->complete"]


def test_at_one_frame_what_ends_comes_before_what_begins():
    events, _ = told(video(("S2", 1, 3), ("S1", 3, 4)))
    assert events == ["2 S2->start", "6 S2->complete", "6 S1->start", "8 S1->complete"]


def test_a_step_is_complete_at_least_one_frame_after_its_start():
    assert told(video(("S1", 1.0, 1.2)))[0] == ["2 S1->start", "3 S1->complete"]


def test_repeated_work_is_a_reset_and_a_start():
    events, counts = told(video(("S1", 0, 1), ("S1", 4, 5)))
    assert events == ["0 S1->start", "2 S1->complete", "8 S1->reset", "8 S1->start", "10 S1->complete"]
    assert counts["repeated"] == 1 and counts["steps never performed"] == 1


def test_work_taken_back_is_a_reset_at_its_last_moment():
    events, counts = told(video(("S1", 0, 1), ("S1", 4, 5, "undone"), ("S1", 6, 7)))
    assert events == ["0 S1->start", "2 S1->complete", "10 S1->reset", "12 S1->start", "14 S1->complete"]
    assert counts["resets"] == 1 and counts["repeated"] == 0


def test_work_taken_back_before_anything_was_done_is_left_out_and_counted():
    events, counts = told(video(("S1", 1, 2, "undone")))
    assert events == [] and counts["undone before anything was done, left out"] == 1


def test_overlapping_spans_of_a_step_are_one_stretch_of_work():
    events, counts = told(video(("S1", 0, 3), ("S1", 2, 5)))
    assert events == ["0 S1->start", "10 S1->complete"] and counts["overlapping spans of a step, merged"] == 1


def test_spans_of_different_steps_may_overlap_and_are_counted():
    events, counts = told(video(("S1", 0, 3), ("S2", 1, 2)))
    assert events == ["0 S1->start", "2 S2->start", "4 S2->complete", "6 S1->complete"]
    assert counts["spans that overlap another step's"] == 1


def test_a_span_that_ends_with_the_video_is_complete_at_its_last_frame():
    assert told(video(("S1", 8, 10)))[0] == ["16 S1->start", "19 S1->complete"]
    events, counts = told(video(("S1", 9.5, 10)))
    assert events == ["19 S1->start"] and counts["left in progress at the video's end"] == 1
    events, counts = told(video(("S1", 8, 10)), num_frames=15)
    assert events == [] and counts["spans past the video's end, left out"] == 1


def test_long_videos_are_cut_into_clips_with_the_state_before_each():
    dialogue = Dialogue(
        video="v",
        dataset="d",
        lines=(
            Line(role="system", text="Be kind."),
            Line(role="user", text="Hello", start_s=0.2),
            Line(role="assistant", text="Well begun.", start_s=1.0),
            Line(role="assistant", text="Done.", start_s=6.0),
            Line(role="assistant", text="Too late.", start_s=10.0),
        ),
        about={"user_type": "talkative"},
    )
    counts: Counter[str] = Counter()
    record = video(("S1", 1, 6), ("S2", 6, 8))
    first, second = clips_of_video(
        record, events_of(record, 2, 20, counts), dialogue, Layout(2, "frames/v.arrow", 20, 10), counts
    )
    assert (first["start_frame_idx"], first["end_frame_idx"], first["initial_dst_state"]) == (0, 9, {})
    assert (second["start_frame_idx"], second["end_frame_idx"]) == (10, 19)
    assert second["initial_dst_state"] == {"S1": "in_progress"} and second["clip_idx"] == 1
    assert [(turn["role"], turn.get("end_frame"), turn["content"]) for turn in first["conversation"]] == [
        ("system", None, "Be kind."),
        ("user", 0, "Hello"),
        ("DST_UPDATE", 2, [{"id": "S1", "transition": "start"}]),
        ("assistant", 2, "Well begun."),
    ]
    assert [(turn["role"], turn["end_frame"]) for turn in second["conversation"]] == [
        ("DST_UPDATE", 12), ("DST_UPDATE", 12), ("assistant", 12), ("DST_UPDATE", 16),
    ]  # fmt: skip
    assert counts["lines past the video's end, left out"] == 1 and first["metadata"]["user_type"] == "talkative"


def test_a_clip_says_how_its_spans_were_found_and_how_sure_the_least_sure_is():
    def span(start: float, end: float, **more) -> Span:
        return Span(step="S1", start_s=start, end_s=end, **more)

    def certainty(*spans: Span) -> list[tuple[list[str], float | None]]:
        record = video().model_copy(update={"spans": spans})
        clips = clips_of_video(
            record, events_of(record, 2, 20, Counter()), None, Layout(2, "frames/v.arrow", 20, 10), Counter()
        )  # 0 to 4.5 s, 5 to 9.5 s
        return [(clip["metadata"]["method"], clip["metadata"]["confidence"]) for clip in clips]

    sure, unsure = span(1, 2), span(3, 4, method="align", confidence=0.4)
    assert certainty(sure) == [(["human"], 1.0)] * 2, "a clip without spans has its video's"
    assert certainty(sure, unsure, span(6, 7, method="align", confidence=0.9)) == [
        (["align", "human"], 0.4), (["align"], 0.9),
    ]  # fmt: skip
    assert certainty(sure, span(4.5, 5, method="fork")) == [(["fork", "human"], None), (["fork"], None)]
    assert certainty(span(1, 4.9, confidence=0.7), span(4.9, 4.9, method="align", confidence=0.2)) == [
        (["align", "human"], 0.2), (["align"], 0.2),
    ]  # fmt: skip
    assert certainty() == [([], None)] * 2


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["S1", "S2", "S3"]),
            st.floats(0, 10),
            st.floats(0, 10),
            st.sampled_from(["done", "error", "undone"]),
        ),
        max_size=12,
    ),
    st.integers(1, 20),
)
def test_transitions_are_always_legal_in_their_order(spans, num_frames):
    record = video(*((s, min(a, b), max(a, b), o) for s, a, b, o in spans), steps=3)
    state = {step.id: "not_started" for step in record.steps}
    frames = []
    for event in events_of(record, 2, num_frames, Counter()):
        state = apply_updates(state, [Update(event.step, event.transition)])
        frames.append(event.frame)
    assert frames == sorted(frames) and all(0 <= frame < num_frames for frame in frames)
