"""Spans and dialogues: annotation of videos in seconds, apart from clips (docs/design.md §11).

`spans.jsonl` has a record a video: its steps, and when each was worked on. `dialogues.jsonl` has a record a dialogue:
what was said, when. Nothing in them depends on frames, so a changed rate or split asks nobody again.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr, ValidationError

from pipeline.annotations.dst import STEP_ID
from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.io.storage import LocalFolder, beginning, plain_name

PAST_END_S = 0.5  # a span may end so much later than its video: clocks of annotation tools and containers differ

Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Text = Annotated[StrictStr, Field(pattern=r"\S")]
Name = Annotated[Text, AfterValidator(plain_name)]  # paths are made of it


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NamedStep(Record):
    id: StrictStr
    name: Annotated[StrictStr, Field(pattern=r"^[^\r\n]*\S[^\r\n]*$")]


class Span(Record):
    """A stretch of work on a step. A step may have several, or none, and spans may overlap."""

    step: StrictStr
    start_s: Seconds
    end_s: Seconds
    outcome: Literal["done", "error", "undone"] = "done"  # error: done, but wrongly; undone: taken back
    source: StrictStr = ""  # where the times are from, e.g. the file
    method: StrictStr = "human"  # how they were found
    confidence: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    flags: tuple[StrictStr, ...] = ()


class VideoSpans(Record):
    """All that is known of when a video's steps were worked on."""

    format: Literal["prospect.spans/1"] = "prospect.spans/1"
    video: Name
    dataset: Name
    duration_s: Seconds | None = None  # None: unknown; the frames file says it
    steps: Annotated[tuple[NamedStep, ...], Field(min_length=1)]
    spans: tuple[Span, ...] = ()
    not_performed: tuple[StrictStr, ...] = ()
    provenance: dict[str, Any] = {}


class Line(Record):
    """Something said."""

    role: Literal["system", "user", "assistant"]
    text: Text
    start_s: Seconds | None = None  # None: a system line from before the video
    end_s: Seconds | None = None


class Dialogue(Record):
    format: Literal["prospect.dialogues/1"] = "prospect.dialogues/1"
    video: Name
    dataset: Name
    id: Text | None = None  # where a video has several
    lines: tuple[Line, ...]
    about: dict[str, Any] = {}  # e.g. user type, quality scores: kept in the clip's metadata


def read_spans(path: Path) -> list[VideoSpans]:
    """Read and check a file of spans.

    Raises:
        InvalidInput: every mistake in it, with its record.
    """
    return _read(path, VideoSpans, problems_of, lambda record: record.video)


def read_dialogues(path: Path) -> list[Dialogue]:
    """Read and check a file of dialogues, likewise."""
    return _read(path, Dialogue, problems_of_dialogue, lambda record: f"{record.video}/{record.id}")


def write_records(path: Path, records: Iterable[BaseModel]) -> int:
    """Write spans or dialogues, a line each, whole or not at all; returns how many."""
    count = 0
    with LocalFolder(path.parent).new_file(path.name) as partial, partial.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(record.model_dump_json() + "\n")
            count += 1
    return count


def refuse_no_spans(path: Path) -> None:
    """
    Raises:
        ProspectError: a file stands there that has no spans, and is therefore not to be written over.
    """
    if path.exists() and b'"prospect.spans/1"' not in beginning(path, 200):
        raise ProspectError(f"{path}: found another file than one of spans; move it away, or pass another --out")


def problems_of(record: VideoSpans, file: str = "") -> list[Problem]:
    """List what is wrong with a record of the right shape."""
    where = f"video {record.video!r}"
    problems: list[Problem] = []

    def found(field: str, what: object, expected: str) -> None:
        problems.append(Problem(file, where, "", field, str(what), expected))

    ids = [step.id for step in record.steps]
    for number, step in enumerate(ids):
        if not STEP_ID.fullmatch(step):
            found(f"steps.{number}.id", repr(step), "letters, digits, '_', '.', with '-' between them")
        if step in ids[:number]:
            found(f"steps.{number}.id", repr(step), "each id once")
    worked_on = {span.step for span in record.spans}
    for number, span in enumerate(record.spans):
        field = f"spans.{number}"
        if span.step not in ids:
            found(f"{field}.step", repr(span.step), f"one of {', '.join(ids)}")
        if span.end_s < span.start_s:
            found(f"{field}.end_s", span.end_s, f"at least its start_s, {span.start_s}")
        if record.duration_s is not None and span.end_s > record.duration_s + PAST_END_S:
            found(f"{field}.end_s", span.end_s, f"at most the video's duration_s, {record.duration_s}")
    for number, step in enumerate(record.not_performed):
        if step not in ids:
            found(f"not_performed.{number}", repr(step), f"one of {', '.join(ids)}")
        elif step in worked_on:
            found(f"not_performed.{number}", repr(step), "a step without spans")
    return problems


def problems_of_dialogue(record: Dialogue, file: str = "") -> list[Problem]:
    """List what is wrong with a dialogue of the right shape."""
    problems: list[Problem] = []
    where = f"video {record.video!r}"
    before = 0.0
    for number, line in enumerate(record.lines):
        if line.start_s is None:
            if line.role != "system":
                expected = "a time (only a system line may have none)"
                problems.append(Problem(file, where, f"line {number}", "start_s", "none", expected))
            continue
        if line.end_s is not None and line.end_s < line.start_s:
            expected = f"at least its start_s, {line.start_s}"
            problems.append(Problem(file, where, f"line {number}", "end_s", str(line.end_s), expected))
        if line.start_s < before:
            expected = f"at least {before}, the line's before it"
            problems.append(Problem(file, where, f"line {number}", "start_s", str(line.start_s), expected))
        before = line.start_s
    return problems


Checked = TypeVar("Checked", VideoSpans, Dialogue)


def _read(
    path: Path,
    kind: type[Checked],
    check: Callable[[Checked, str], list[Problem]],
    identity: Callable[[Checked], str],
) -> list[Checked]:
    records: list[Checked] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, value in _lines(path):
        where = f"line {number}"
        try:
            record = kind.model_validate(value)
        except ValidationError as error:
            for detail in error.errors():
                field = ".".join(map(str, detail["loc"])) or "record"
                found = "nothing" if detail["type"] == "missing" else repr(detail["input"])[:80]
                problems.append(Problem(path.name, where, "", field, found, detail["msg"]))
            continue
        problems += check(record, f"{path.name} {where}")
        name = identity(record)
        if name in seen:
            expected = f"a record of its own, as line {seen[name]} has it"
            problems.append(Problem(path.name, where, "", "video", repr(record.video), expected))
        seen[name] = number
        records.append(record)
    if problems:
        raise InvalidInput(problems, f"correct {path}")
    if not records:
        raise ProspectError(f"{path}: found no record, expected {kind.__name__} as JSON lines")
    return records


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, json.loads(line)
    except (OSError, UnicodeDecodeError) as error:
        raise ProspectError(f"{path}: cannot be read ({error}), expected JSON lines") from None
    except (ValueError, RecursionError) as error:
        raise ProspectError(f"{path} line {number}: not valid JSON ({error}), expected a record a line") from None
