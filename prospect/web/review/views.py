"""What the review page shows of an entry: its lanes, its problems at their turns, and how far undo goes.

Everything here is computed from the draft by the same functions as everywhere (`validate.py`, `edits.py`): the page
draws, and knows no rule.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.annotations.clips import Clip
from pipeline.annotations.edits import Draft, range_of, role_of, states_before, steps_of, transitions_of
from pipeline.annotations.validate import Look, check_clip
from pipeline.errors import Problem, ProspectError
from pipeline.io.frame_store import FrameFile, open_named
from pipeline.spans.edits import problems_of_draft
from prospect.web.review.documents import AnnotationFile, Documents, Entry, Kind

TURN = re.compile(r"turn (\d+)\b")
MOST_SECONDS = 24 * 3600.0
UNKNOWN_S = 60.0  # how long a video of spans is shown that nothing tells the length of


def checked(
    documents: Documents, file: AnnotationFile, draft: Draft, look: Look = "first"
) -> tuple[Clip | None, list[Problem]]:
    """Check a clip's draft as `prospect validate` does."""
    opener = partial(open_named, roots=documents.roots(file.dataset))
    return check_clip(draft.value, index=0, file=file.name, dataset=file.dataset, open_frames=opener, look=look)


def frames_of(documents: Documents, file: AnnotationFile, raw: Mapping[str, Any]) -> FrameFile:
    """Open the frames of an entry.

    Raises:
        ProspectError: it names none that are there.
    """
    name = f"frames/{raw.get('video')}.arrow" if file.kind == "spans" else frames_name(raw)
    return documents.frames(file, name)


def frames_name(raw: Mapping[str, Any]) -> str:
    """Give the frames file that a clip's record names, or by default has."""
    name = raw.get("frames_file")
    return name if isinstance(name, str) and name else f"frames/{raw.get('video_uid')}.arrow"


def view_of(documents: Documents, file: AnnotationFile, index: int, entry: Entry) -> dict[str, Any]:
    """Give all that the page draws."""
    raw = entry.draft.raw
    frames, aspect, missing = None, 1.0, ""
    try:
        frames = frames_of(documents, file, raw)
        aspect = frames.shape[1] / frames.shape[0] if frames.shape else 0.0
    except ProspectError as error:
        missing = str(error)
    about = {
        "dataset": file.dataset,
        "file": file.name,
        "index": index,
        "kind": file.kind,
        "title": title_of(file.kind, raw),
        "steps": [{"id": step, "name": name} for step, name in _steps(file, entry.draft)],
        "frames": {"count": len(frames) if frames else 0, "aspect": aspect, "missing": missing},
        "revision": entry.revision,
        "can_undo": entry.at > 0,
        "can_redo": entry.at + 1 < len(entry.drafts),
        "is_changed": entry.is_changed,
    }
    if file.kind == "spans":
        return about | _spans_view(entry.draft, frames)
    return about | clip_view(entry.draft, *checked(documents, file, entry.draft), frames)


def title_of(kind: Kind, raw: Any) -> str:
    """Name an entry for people."""
    if not isinstance(raw, Mapping):
        return "no object"
    if kind == "spans":
        return str(raw.get("video", "a video without a name"))
    part = raw.get("clip_idx", 0)
    return str(raw.get("id") or f"{raw.get('video_uid', 'a clip without a name')}" + (f" part {part}" if part else ""))


def problems_by_turn(problems: list[Problem]) -> tuple[dict[int, list[str]], list[str]]:
    """Sort problems: those of a turn by its number, and the others."""
    of_turn: dict[int, list[str]] = {}
    others = []
    for problem in problems:
        told = f"{problem.field}: found {problem.found}, expected {problem.expected}"
        if found := TURN.match(problem.turn):
            of_turn.setdefault(int(found[1]), []).append(told)
        else:
            others.append(told)
    return of_turn, others


def _steps(file: AnnotationFile, draft: Draft) -> list[tuple[str, str]]:
    if file.kind == "clips":
        return steps_of(draft)
    listed = draft.raw.get("steps")
    return (
        [(str(one.get("id")), str(one.get("name", ""))) for one in listed if isinstance(one, dict)]
        if isinstance(listed, list)
        else []
    )


def clip_view(draft: Draft, clip: Clip | None, problems: list[Problem], frames: FrameFile | None) -> dict[str, Any]:
    """Give the lanes of a clip, with its problems at their turns.

    Args:
        clip: that the draft is, where it has no problems.
    """
    of_turn, others = problems_by_turn(problems)
    ranges = [range_of(draft, number) for number in range(len(draft.items))]
    first, last = (clip.start_frame, clip.end_frame) if clip else extent(draft, ranges, frames)
    turns = [
        {
            "number": number,
            "role": role_of(item.value),
            "text": text_of(item.value),
            "updates": [{"step": step, "transition": name} for step, name in transitions_of(item.value)],
            "start": None if place is None else place[0],
            "end": None if place is None else place[1],
            "is_new": item.origin is None,
            "problems": of_turn.get(number, []),
        }
        for number, (item, place) in enumerate(zip(draft.items, ranges, strict=True))
    ]
    fps = clip.fps if clip else draft.raw.get("fps", 2)
    return {
        "fps": fps if isinstance(fps, int | float) and 0 < fps <= 1000 else 2,
        "first": first,
        "last": last,
        "turns": turns,
        "bars": _bars(draft, ranges, first, last),
        "states": _states(draft, ranges, first),
        "problems": others,
        "num_problems": len(problems),
    }


def extent(draft: Draft, ranges: list[tuple[int, int] | None], frames: FrameFile | None) -> tuple[int, int]:
    """Give the first and last frame of a clip that may have mistakes, as far as they can be told."""
    first, last = draft.raw.get("start_frame_idx"), draft.raw.get("end_frame_idx")
    first = first if type(first) is int and first >= 0 else 0
    ends = [place[1] for place in ranges if place is not None]
    if type(last) is not int or last < first:
        last = len(frames) - 1 if frames else max(ends, default=first)
    return first, min(max(last, first), first + 1_000_000)


def text_of(turn: Any) -> str:
    """Give what a turn says; "" of an update."""
    content = turn.get("content") if isinstance(turn, dict) else turn
    return content if isinstance(content, str) else "" if transitions_of(turn) else repr(content)[:200]


def _bars(draft: Draft, ranges: list[tuple[int, int] | None], first: int, last: int) -> list[dict[str, Any]]:
    """Stretches of work, one from each start to what ends it, with the transitions that are their edges."""
    bars: list[dict[str, Any]] = []
    begun: dict[str, dict[str, Any]] = {
        step: {"step": step, "from": first, "start": None}
        for step, state in states_before(draft)[0].items()
        if state == "in_progress"
    }
    for number, item in enumerate(draft.items):
        place = ranges[number]
        for at, (step, transition) in enumerate(transitions_of(item.value)):
            if place is None:
                continue
            edge = {"turn": number, "place": at}
            bar = begun.pop(step, None)
            if transition == "start":
                if bar:
                    bars.append(bar | {"to": place[1], "end": None, "state": "in_progress"})
                begun[step] = {"step": step, "from": place[1], "start": edge}
            elif bar:
                state = "completed" if transition == "complete" else "not_started"
                bars.append(bar | {"to": place[1] + 1, "end": edge, "state": state})
            else:  # a mistake: nothing was begun
                bars.append(
                    {"step": step, "from": place[1], "to": place[1] + 1, "start": None, "end": edge, "state": "wrong"}
                )
    bars += [bar | {"to": last + 1, "end": None, "state": "in_progress"} for bar in begun.values()]
    return bars


def _states(draft: Draft, ranges: list[tuple[int, int] | None], first: int) -> dict[str, list[tuple[int, str]]]:
    """By step: from which frame on it is in which state."""
    states = states_before(draft)
    found: dict[str, list[tuple[int, str]]] = {step: [(first, state)] for step, state in states[0].items()}
    for number, place in enumerate(ranges):
        for step, state in states[number + 1].items():
            if place is not None and state != states[number][step]:
                found[step].append((place[1], state))
    return found


def _spans_view(draft: Draft, frames: FrameFile | None) -> dict[str, Any]:
    problems = problems_of_draft(draft)
    duration = draft.raw.get("duration_s")
    fps = frames.fps if frames else None
    ends = [item.value.get("end_s") for item in draft.items if isinstance(item.value, dict)]
    known = [end for end in ends if isinstance(end, int | float) and end < MOST_SECONDS]
    if not isinstance(duration, int | float) or not 0 < duration < MOST_SECONDS:
        duration = len(frames) / fps if frames and fps else max(known, default=0) or UNKNOWN_S
    of_span: dict[int, list[str]] = {}
    for number, told in problems:
        if number is not None:
            of_span.setdefault(number, []).append(told)
    return {
        "duration": max([duration, *known]),
        "fps": fps or 2,
        "spans": [
            {
                "number": number,
                "value": item.value if isinstance(item.value, dict) else {},
                "problems": of_span.get(number, []),
            }
            for number, item in enumerate(draft.items)
        ],
        "problems": [told for number, told in problems if number is None],
        "num_problems": len(problems),
    }
