"""A table of spans that people edit in a spreadsheet, and its way back: TSV, a row a span.

A row that stands there as it was written keeps its span whole. One that was changed (in whatever cell) or added is a
span of method `human`, without a confidence; a span without a row is gone. Times count to the millisecond. A step is
its id and its name; of a row that was added, one of them is enough.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.importers.delimited import delimited
from pipeline.importers.rows import OUTCOMES, TIMES, seconds
from pipeline.spans.records import PAST_END_S, Span, VideoSpans, read_spans, refuse_no_spans, write_records

COLUMNS = ("video", "step", "start_s", "end_s", "outcome", "method", "confidence", "flags")
Key = tuple[str | float, ...]  # what a row says but its video: equal where nothing was changed
Found = Callable[[str, str, str], None]  # field, found, expected


def write_table(file: IO[str], records: Iterable[VideoSpans]) -> None:
    """Write a row for each span, videos in the order given, spans in that of their starts."""
    table = csv.writer(file, "excel-tab", lineterminator="\n")
    table.writerow(COLUMNS)
    for record in records:
        names = {step.id: step.name for step in record.steps}
        for span in sorted(record.spans, key=lambda span: (span.start_s, span.end_s)):
            times = (_time(span.start_s), _time(span.end_s))
            step = _plain(f"{span.step} {names[span.step]}")
            told = (span.outcome, _plain(span.method), _confidence(span.confidence), _flags(span))
            table.writerow((record.video, step, *times, *told))


def apply_edits(edits: Path, spans: Path, out: Path, *, force: bool = False) -> Counter[str]:
    """Write OUT: SPANS as the table EDITS has them, whole or not at all; returns counts of what became of spans.

    Raises:
        InvalidInput: mistakes in the table, all of them, each by its line; nothing was written.
        ProspectError: a file cannot be read, or OUT is in the way.
    """
    if out.exists() and any(out.samefile(file) for file in (edits, spans) if file.exists()):
        raise ProspectError(f"{out}: is what is read, expected another --out")
    if out.exists() and not force:
        raise ProspectError(f"{out}: is there already; pass --force to write over it, or another --out")
    refuse_no_spans(out)
    by_video = {record.video: _Edited(record, edits.name) for record in read_spans(spans)}
    problems: list[Problem] = []
    num_rows = 0
    for where, row in delimited(edits, COLUMNS):
        num_rows += 1
        name = row.get("video", "")
        video = by_video.get(name) or by_video.get(name.strip())
        if video is None:
            problems.append(Problem(edits.name, where, "", "video", repr(name), f"a video of {spans.name}"))
        else:
            video.take(where, {column: row.get(column, "").strip() for column in COLUMNS}, problems)
    if problems:
        raise InvalidInput(problems, f"nothing was written: correct {edits}")
    if not num_rows:
        raise ProspectError(f"{edits}: found no row, expected one for each span that is to stay")
    counts: Counter[str] = Counter()
    write_records(out, [video.result(counts) for video in by_video.values()])
    return counts


class _Edited:
    """A video's spans, and what rows make of them."""

    def __init__(self, record: VideoSpans, file: str) -> None:
        self._record, self._file = record, file
        self._ids = _step_ids(record)
        self._left: dict[Key, list[int]] = defaultdict(list)  # places of spans that no row had yet
        for place, span in enumerate(record.spans):
            self._left[_key(span)].append(place)
        self._kept: set[int] = set()
        self._new: list[Span] = []
        self._seen: dict[Key, str] = {}  # -> its line

    def take(self, where: str, cells: Mapping[str, str], problems: list[Problem]) -> None:
        """Take a row; mistakes in it go to `problems`."""
        before = len(problems)

        def found(field: str, what: str, expected: str) -> None:
            problems.append(Problem(self._file, f"{where} (video {self._record.video!r})", "", field, what, expected))

        row = _row(cells, self._ids, found)
        if row is None or len(problems) > before:
            return
        key = (row.step, round(row.start_s, 3), round(row.end_s, 3), row.outcome, *_about(cells))
        if places := self._left[key]:
            self._kept.add(places.pop(0))
        elif key in self._seen:
            found("row", "another", f"each row once, as {self._seen[key]} has it")
        elif (duration_s := self._record.duration_s) is not None and row.end_s > duration_s + PAST_END_S:
            found("end_s", cells["end_s"], f"at most the video's duration_s, {duration_s:g}")
        else:
            self._new.append(row.model_copy(update={"source": self._file, "flags": _flags_in(cells["flags"])}))
        self._seen[key] = where

    def result(self, counts: Counter[str]) -> VideoSpans:
        """Give the record as the rows have it; as it was, where all of them are as they were."""
        counts["unchanged"] += len(self._kept)
        counts["changed or added: human"] += len(self._new)
        counts["no longer there"] += len(self._record.spans) - len(self._kept)
        counts["videos that have no spans any more"] += bool(self._record.spans and not self._kept and not self._new)
        if len(self._kept) == len(self._record.spans) and not self._new:
            return self._record
        kept = [span for place, span in enumerate(self._record.spans) if place in self._kept]
        spans = sorted([*kept, *self._new], key=lambda span: (span.start_s, span.end_s))
        covered = {span.step for span in spans}
        return self._record.model_copy(
            update={
                "spans": tuple(spans),
                "not_performed": tuple(step for step in self._record.not_performed if step not in covered),
                "provenance": {**self._record.provenance, "edited": self._file},
            }
        )


def _row(cells: Mapping[str, str], ids: Mapping[str, str], found: Found) -> Span | None:
    """A row's own values; `found` is told every mistake in them."""
    step = ids.get(_plain(cells["step"]))
    if step is None:
        found("step", repr(cells["step"]), f"one of {', '.join(map(repr, dict.fromkeys(ids.values())))}, or its name")
    outcome = next((name for name in OUTCOMES if name == (cells["outcome"].lower() or "done")), None)
    if outcome is None:
        found("outcome", repr(cells["outcome"]), f"one of {', '.join(OUTCOMES)}")
    start_s, end_s = seconds(cells["start_s"]), seconds(cells["end_s"])
    for field, time_s in (("start_s", start_s), ("end_s", end_s)):
        if time_s is None:
            found(field, repr(cells[field]) if cells[field] else "nothing", TIMES)
    if start_s is not None and end_s is not None and end_s < start_s:
        found("end_s", cells["end_s"], f"at least its start_s, {cells['start_s']}")
    if step is None or outcome is None or start_s is None or end_s is None:
        return None
    return Span(step=step, start_s=start_s, end_s=end_s, outcome=outcome)


def _step_ids(record: VideoSpans) -> dict[str, str]:
    """What a cell may have for a step -> its id. An id goes before a name; a name that two steps have is of none."""
    names = Counter(_plain(step.name) for step in record.steps)
    by_name = {_plain(step.name): step.id for step in record.steps if names[_plain(step.name)] == 1}
    whole = {_plain(f"{step.id} {step.name}"): step.id for step in record.steps}
    return {**by_name, **whole, **{step.id: step.id for step in record.steps}}


def _key(span: Span) -> Key:
    cells = {"method": _plain(span.method), "confidence": _confidence(span.confidence), "flags": _flags(span)}
    return (span.step, round(span.start_s, 3), round(span.end_s, 3), span.outcome, *_about(cells))


def _about(cells: Mapping[str, str]) -> tuple[str | float, str | float, str | float]:
    try:
        confidence: str | float = float(cells["confidence"])  # a spreadsheet writes 0.50 as 0.5
    except ValueError:
        confidence = cells["confidence"]
    return _plain(cells["method"]), confidence, _plain(cells["flags"])


def _flags_in(cell: str) -> tuple[str, ...]:
    return tuple(filter(None, (flag.strip() for flag in cell.split(";"))))


def _flags(span: Span) -> str:
    return _plain("; ".join(span.flags))


def _confidence(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _time(time_s: float) -> str:
    return f"{time_s:.3f}".rstrip("0").rstrip(".")


def _plain(text: str) -> str:
    """On one line, as a cell has it."""
    return " ".join(text.split())
