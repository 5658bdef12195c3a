"""Projection: spans and dialogues, in seconds, to clips of frames (docs/design.md §11 and §2).

One rule for every source: what happens at t seconds stands at frame floor(t * fps). A step's `start` is at the frame
of its span's first moment, `complete` at that of its last, at least one frame later. Work that is repeated, or taken
back, is a `reset` before what follows.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

from pipeline.annotations.dst import Transition
from pipeline.spans.records import Dialogue, Line, Span, VideoSpans

MADE_BY = {"made_by": "prospect project"}  # in the metadata of each clip: such files may be written over
_RANK: Mapping[Transition, int] = {"complete": 0, "reset": 1, "start": 2}  # of events at one frame


@dataclass(frozen=True, slots=True)
class Event:
    """A transition at a frame."""

    frame: int
    step: str
    transition: Transition


def frame_at(time_s: float, fps: float) -> int:
    """Give the frame that shows the moment `time_s`; a time that is a frame's own up to rounding is that frame."""
    return floor(time_s * fps + 1e-6)


def events_of(record: VideoSpans, fps: float, num_frames: int, counts: Counter[str]) -> list[Event]:
    """Give a video's transitions, legal in their order from all steps not started; `counts` says what was done."""
    events: list[Event] = []
    for step in record.steps:
        spans = sorted((s for s in record.spans if s.step == step.id), key=lambda span: (span.start_s, span.end_s))
        events += _events_of_step(step.id, list(merged(spans, counts)), fps, num_frames, counts)
    counts["spans"] += len(record.spans)
    counts["videos without spans"] += not record.spans
    counts["steps never performed"] += len({step.id for step in record.steps} - {span.step for span in record.spans})
    counts["spans that overlap another step's"] += overlapping(record.spans)
    order = {step.id: place for place, step in enumerate(record.steps)}
    return sorted(events, key=lambda event: (event.frame, _RANK[event.transition], order[event.step]))


def merged(spans: Iterable[Span], counts: Counter[str]) -> Iterator[Span]:
    """Give a step's stretches of work; of `spans` in the order of their starts, those that overlap are one."""
    last: Span | None = None
    for span in spans:
        if last and "undone" not in (last.outcome, span.outcome) and span.start_s < last.end_s:
            counts["overlapping spans of a step, merged"] += 1
            last = last.model_copy(update={"end_s": max(last.end_s, span.end_s)})
            continue
        if last:
            yield last
        last = span
    if last:
        yield last


def _events_of_step(
    step: str, spans: Sequence[Span], fps: float, num_frames: int, counts: Counter[str]
) -> Iterator[Event]:
    is_touched, free = False, 0  # from which frame on the step's next event may stand
    for span in spans:
        start, end = max(frame_at(span.start_s, fps), free), frame_at(span.end_s, fps)
        if start >= num_frames:
            counts["spans past the video's end, left out"] += 1
            continue
        if span.outcome == "undone":
            if is_touched:
                free = min(max(end, free), num_frames - 1)
                yield Event(free, step, "reset")
            counts["resets" if is_touched else "undone before anything was done, left out"] += 1
            is_touched = False
            continue
        if is_touched:
            counts["repeated"] += 1
            yield Event(start, step, "reset")
        yield Event(start, step, "start")
        is_touched, free = True, max(end, start + 1)
        if free >= num_frames and start + 1 < num_frames:
            free = num_frames - 1
        if free < num_frames:
            yield Event(free, step, "complete")
        else:
            counts["left in progress at the video's end"] += 1
            return


def overlapping(spans: Sequence[Span]) -> int:
    """Count spans that begin while one of another step is under way."""
    count, under_way = 0, list[Span]()
    for span in sorted(spans, key=lambda span: span.start_s):
        under_way = [other for other in under_way if other.end_s > span.start_s]
        count += any(other.step != span.step for other in under_way)
        under_way.append(span)
    return count


@dataclass(frozen=True, slots=True)
class Layout:
    """How clips are made of a video."""

    fps: float
    frames_file: str
    num_frames: int
    max_clip_frames: int | None = None  # longer videos are cut; None: never


def clips_of_video(
    record: VideoSpans, events: Sequence[Event], dialogue: Dialogue | None, layout: Layout, counts: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Give a video's clips (docs/design.md §2), one after the other, with the state before each; `events` are its
    transitions."""
    lines = _lines_in(dialogue, layout, counts) if dialogue else []
    state = {step.id: "not_started" for step in record.steps}
    length = layout.max_clip_frames or layout.num_frames
    frames = [_frames_of(span, layout.fps) for span in record.spans]
    about = dialogue.about if dialogue else {}
    provenance = {name: value for name, value in record.provenance.items() if name != "blocks"}  # long: see annotate
    for number, first in enumerate(range(0, layout.num_frames, length)):
        last = min(first + length, layout.num_frames) - 1
        here = [event for event in events if first <= event.frame <= last]
        worked_on = [
            span for span, (start, end) in zip(record.spans, frames, strict=True) if start <= last and end >= first
        ]
        said = [line for line in lines if (number == 0 if line[0] is None else first <= line[0] <= last)]
        counts["clips"] += 1
        counts.update(event.transition for event in here)
        counts["utterances"] += sum(line.role == "assistant" for _, line in said)
        yield {
            "video_uid": record.video,
            "clip_idx": number,
            **({"id": f"{record.video}-{dialogue.id}-c{number:03d}"} if dialogue and dialogue.id else {}),
            "dataset": record.dataset,
            "fps": layout.fps,
            "frames_file": layout.frames_file,
            "start_frame_idx": first,
            "end_frame_idx": last,
            "dst": [{"type": "step", "id": step.id, "name": step.name} for step in record.steps],
            "initial_dst_state": {step: value for step, value in state.items() if value != "not_started"},
            "conversation": _conversation(here, said, layout.fps),
            "metadata": {**MADE_BY, "provenance": provenance, **about, **_certainty(worked_on or record.spans)},
        }
        for event in here:
            state[event.step] = {"start": "in_progress", "complete": "completed", "reset": "not_started"}[
                event.transition
            ]


def _frames_of(span: Span, fps: float) -> tuple[int, int]:
    """The frames of a span's events, one after the other at least."""
    start = frame_at(span.start_s, fps)
    return start, max(frame_at(span.end_s, fps), start + 1)


def _certainty(spans: Sequence[Span]) -> dict[str, Any]:
    """How a clip's spans were found, for filters: their methods, and the least of their confidences.

    A person's span that states no confidence is certain; where another states none, the least is not known.
    """
    stated = [1.0 if span.confidence is None and span.method == "human" else span.confidence for span in spans]
    known = [confidence for confidence in stated if confidence is not None]
    return {
        "method": sorted({span.method for span in spans}),
        "confidence": min(known) if known and len(known) == len(stated) else None,
    }


def _lines_in(dialogue: Dialogue, layout: Layout, counts: Counter[str]) -> list[tuple[int | None, Line]]:
    """The lines with their frames; None: before the first."""
    lines: list[tuple[int | None, Line]] = []
    for line in dialogue.lines:
        frame = None if line.start_s is None else frame_at(line.start_s, layout.fps)
        if frame is not None and frame >= layout.num_frames:
            counts["lines past the video's end, left out"] += 1
        else:
            lines.append((frame, line))
    return lines


def _conversation(
    events: Sequence[Event], lines: Sequence[tuple[int | None, Line]], fps: float
) -> list[dict[str, Any]]:
    """Turns in frame order; at one frame user and system lines, then updates, then what the assistant says."""
    turns: list[tuple[tuple[int, int], dict[str, Any]]] = []
    for frame, line in lines:
        turn: dict[str, Any] = {"role": line.role, "content": line.text}
        if frame is not None:
            turn |= {"start_frame": frame, "end_frame": frame, "time": line.start_s}
        place = (-1 if frame is None else frame, 2 if line.role == "assistant" else 0)
        turns.append((place, turn))
    for event in events:
        update: dict[str, Any] = {"role": "DST_UPDATE", "content": [{"id": event.step, "transition": event.transition}]}
        where = {"start_frame": event.frame, "end_frame": event.frame, "time": event.frame / fps}
        turns.append(((event.frame, 1), update | where))
    return [turn for _, turn in sorted(turns, key=lambda entry: entry[0])]
