"""Rows of a table of step times, and what becomes of them: what spreadsheets, ELAN and Label Studio files have alike.

A row is a stretch of work on a step, or something that was said. Rows of one video make its spans and its dialogue.
Steps are told apart by name; S1, S2, ... stand in the order of first appearance, or in that of a list.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.errors import Problem
from pipeline.importers.outputs import Tally
from pipeline.spans.records import Dialogue, Line, NamedStep, Span, VideoSpans

Outcome = Literal["done", "error", "undone"]
LineRole = Literal["system", "user", "assistant"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
ROLES: tuple[LineRole, ...] = get_args(LineRole)
CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)  # 75.5, 1:15.5 or 0:01:15.5
TIMES = "seconds from the video's start (75.5), mm:ss or h:mm:ss"
MOST_S = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """One row; either `step` or `text` is empty."""

    file: str
    where: str  # "line 3"
    video: str
    split: str
    dataset: str
    step: str  # worked on from start_s to end_s
    start_s: float | None  # None: a system line from before the video
    end_s: float | None
    outcome: Outcome = "done"
    text: str = ""  # said by `role`, at start_s
    role: LineRole = "assistant"
    duration_s: float | None = None  # of the video, where the row says it


def seconds(text: str) -> float | None:
    """Read a time: seconds, mm:ss or h:mm:ss. None: it is none, or one of more than 1e6 s."""
    clock = CLOCK.fullmatch(text.strip())
    if not clock:
        return None
    hours, minutes, rest = (float(part or 0) for part in clock.groups())
    if (clock[2] and rest >= 60) or (clock[1] and minutes >= 60):
        return None
    time_s = hours * 3600 + minutes * 60 + rest
    return time_s if time_s <= MOST_S else None


def records_of(
    rows: Sequence[Row], listed: Sequence[str], tally: Tally, problems: list[Problem]
) -> tuple[dict[str, list[VideoSpans]], dict[str, list[Dialogue]]]:
    """Give the spans and the dialogues of each split, videos in the order of their first rows.

    Args:
        listed: names of the steps that every video has; those without a row were not performed. Empty: each video has
            the steps that its rows name.
    """
    by_video: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_video[row.video].append(row)
    spans: dict[str, list[VideoSpans]] = {row.split: [] for row in rows}
    dialogues: dict[str, list[Dialogue]] = {row.split: [] for row in rows}
    for video, its_rows in by_video.items():
        if _disagree(its_rows, problems):
            continue
        first = its_rows[0]
        if record := _spans_of(video, its_rows, listed, problems):
            spans[first.split].append(record)
            tally.counts["spans"] += len(record.spans)
            tally.counts["steps not performed"] += len(record.not_performed)
        else:
            tally.leave_out("videos without a step, of which the dialogue alone was written", video)
        if lines := _lines_of(its_rows):
            dialogues[first.split].append(Dialogue(video=video, dataset=first.dataset, lines=tuple(lines)))
            tally.counts["lines"] += len(lines)
    tally.counts["videos"] += len(by_video)
    return spans, dialogues


def _disagree(rows: Sequence[Row], problems: list[Problem]) -> bool:
    """Note rows of a video that say another split, dataset or length than its first."""
    first, before = rows[0], len(problems)
    lengths = [row for row in rows if row.duration_s is not None]
    for row in rows:
        for field in ("split", "dataset"):
            found, expected = getattr(row, field), getattr(first, field)
            if found != expected:
                told = f"{expected!r}, as {first.file} {first.where} has it for the same video"
                problems.append(Problem(row.file, row.where, "", field, repr(found), told))
    for row in lengths:
        if row.duration_s != lengths[0].duration_s:
            told = f"{lengths[0].duration_s}, as {lengths[0].file} {lengths[0].where} has it for the same video"
            problems.append(Problem(row.file, row.where, "", "duration_s", str(row.duration_s), told))
    return len(problems) > before


def _spans_of(video: str, rows: Sequence[Row], listed: Sequence[str], problems: list[Problem]) -> VideoSpans | None:
    work = [row for row in rows if row.step]
    names = list(listed) or list(dict.fromkeys(row.step for row in work))
    ids: Mapping[str, str] = {name: f"S{number}" for number, name in enumerate(names, 1)}
    spans: list[Span] = []
    for row in work:
        if row.step not in ids:
            problems.append(
                Problem(row.file, row.where, "", "step", repr(row.step), f"one of the steps listed: {', '.join(names)}")
            )
        elif row.start_s is None or row.end_s is None:
            continue
        elif row.end_s > MOST_S:
            problems.append(Problem(row.file, row.where, "", "end_s", f"{row.end_s:g}", f"at most {MOST_S:g} s"))
        else:
            spans.append(
                Span(step=ids[row.step], start_s=row.start_s, end_s=row.end_s, outcome=row.outcome, source=row.file)
            )
    if not names:
        return None
    worked_on = {span.step for span in spans}
    return VideoSpans(
        video=video,
        dataset=rows[0].dataset,
        duration_s=next((row.duration_s for row in rows if row.duration_s is not None), None),
        steps=tuple(NamedStep(id=step, name=name) for name, step in ids.items()),
        spans=tuple(spans),
        not_performed=tuple(step for step in ids.values() if step not in worked_on) if work else (),
        provenance={"files": sorted({row.file for row in rows})},
    )


def _lines_of(rows: Sequence[Row]) -> list[Line]:
    said = sorted((row for row in rows if row.text), key=lambda row: -1.0 if row.start_s is None else row.start_s)
    return [Line(role=row.role, text=row.text, start_s=row.start_s, end_s=row.end_s) for row in said]
