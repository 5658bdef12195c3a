"""Assembly101's mistake annotations to spans (https://github.com/assembly-101/assembly101-mistake-detection).

A csv a recording, without a heading: first frame, last frame (30 a second), attach or detach, a part, what it is
attached to, correct, mistake or correction, a remark. Each pair of parts is a step, in whichever order a row names
them (`attach cabin, interior` is undone by `detach interior, cabin`); steps stand in the order of their first attach.

An attach is a span: outcome `error` where it is a mistake, else `done`. A detach is a span `undone`. So the attach that
lasts is the one that leaves a step completed. The annotations are others', and have typos: rows that cannot be used
are left out, each named with its reason, and the rest is kept.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.importers.delimited import delimited
from pipeline.importers.formats import read_text, refuse_others, split_of
from pipeline.importers.outputs import Tally, write_dataset
from pipeline.importers.rows import TIMES, seconds
from pipeline.spans.records import NamedStep, Span, VideoSpans

FPS = 30  # of the annotations' frame numbers
EXPECTED = "a csv of frames, attach or detach, two parts, correct/mistake/correction"
VERDICTS = ("correct", "mistake", "correction")
RECORDING = re.compile(r"(?:(?:dis)?assembly_)?(.+?)(?:__\w+)?")  # assembly_RECORDING__CAMERA


@dataclass(frozen=True, slots=True)
class Action:
    """A row that can be used."""

    where: str
    start_s: float
    end_s: float
    verb: str  # attach or detach
    parts: tuple[str, str]
    verdict: str
    remark: str


@dataclass(frozen=True, slots=True)
class View:
    """A video of a recording: several cameras saw it."""

    video: str
    duration_s: float | None
    split: str | None


def import_assembly101_mistakes(
    files: Sequence[Path],
    out: Path,
    *,
    split: str | None = None,
    dataset: str | None = None,
    videos: Path | None = None,
    force: bool = False,
) -> tuple[list[Path], Tally]:
    """Write OUT/{split}_spans.jsonl; returns what was written, and a tally of what was read and left out.

    Args:
        files: the csv files, or folders of them.
        split: of recordings for which `videos` says none.
        dataset: None: OUT's name.
        videos: a table `video` (e.g. RECORDING__CAMERA, with or without `assembly_` before it) and, optional,
            `duration_s` and `split`: the videos to make records for, each of the recording that its name says. None:
            one a file, named as the file, of unknown length.

    Raises:
        InvalidInput: the table of videos has mistakes; nothing was written.
        ProspectError: a file cannot be read or has no row that can be used, or files are in the way.
    """
    tally = Tally()
    views = _views(videos) if videos else {}
    spans: dict[str, list[VideoSpans]] = {}
    paths = [path for file in files for path in (sorted(file.glob("*.csv")) if file.is_dir() else [file])]
    if not paths:
        raise ProspectError(f"{', '.join(map(str, files))}: found no .csv file, expected {EXPECTED}")
    for path in paths:
        actions = _read(path, tally)
        unnamed = [View(path.stem, None, None)]
        for view in views.get(_recording(path.stem), []) if videos else unnamed:
            record = _record(view, dataset or out.resolve().name, path.name, actions)
            spans.setdefault(view.split or split_of(path, split), []).append(record)
            tally.counts["videos"] += 1
            tally.counts["steps"] += len(record.steps)
        if videos and _recording(path.stem) not in views:
            tally.leave_out(f"recordings without a video in {videos.name}, left out", path.stem)
        tally.counts["files"] += 1
    inputs = [*paths, *([videos] if videos else [])]
    return write_dataset(out, spans, {}, force, importer="assembly101-mistakes", inputs=inputs), tally


def _recording(video: str) -> str:
    """The recording's own name: `assembly_RECORDING__CAMERA` without the task and the camera."""
    name = RECORDING.fullmatch(video)
    return name[1] if name else video


def _views(file: Path) -> dict[str, list[View]]:
    views: dict[str, list[View]] = {}
    problems: list[Problem] = []
    for where, values in delimited(file, ("video",)):
        video, duration, split = (values.get(name, "").strip() for name in ("video", "duration_s", "split"))
        duration_s = seconds(duration) if duration else None
        if not video:
            problems.append(Problem(file.name, where, "", "video", "nothing", "a video's name"))
        elif duration and duration_s is None:
            problems.append(Problem(file.name, where, "", "duration_s", repr(duration), TIMES))
        elif split not in ("", "train", "val", "test"):
            problems.append(Problem(file.name, where, "", "split", repr(split), "train, val or test"))
        else:
            views.setdefault(_recording(video), []).append(View(video, duration_s, split or None))
    if problems:
        raise InvalidInput(problems, f"nothing was written: correct {file}")
    return views


def _read(file: Path, tally: Tally) -> list[Action]:
    refuse_others(file, "assembly101-mistakes", EXPECTED)
    actions: list[Action] = []
    attached: set[frozenset[str]] = set()
    for where, row in _rows(file):
        action = _action(where, row)
        if isinstance(action, str):
            tally.leave_out(f"rows {action}, left out", f"{file.name} {where} ({','.join(row)})")
            continue
        pair = frozenset(action.parts)
        if action.verb == "detach" and pair not in attached:
            why = "that detach what is not attached then"
            tally.leave_out(f"rows {why}, left out", f"{file.name} {where} ({','.join(row)})")
            continue
        (attached.add if action.verb == "attach" else attached.remove)(pair)
        actions.append(action)
        tally.counts[{"attach": "attaches", "detach": "detaches"}[action.verb]] += 1
        tally.counts["attaches that are mistakes"] += (action.verb, action.verdict) == ("attach", "mistake")
    if not actions:
        raise ProspectError(f"{file}: found no row that can be used, expected {EXPECTED}")
    return actions


def _rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Rows in the order of their first frames; those without one first."""
    reader = csv.reader(io.StringIO(read_text(file), newline=""))
    try:
        rows = [(f"line {reader.line_num}", [value.strip() for value in row]) for row in reader if any(row)]
    except csv.Error as error:
        raise ProspectError(f"{file} line {reader.line_num}: cannot be read as csv ({error})") from None
    yield from sorted(rows, key=lambda row: int(row[1][0]) if row[1][0].isdecimal() else -1)


def _action(where: str, row: Sequence[str]) -> Action | str:
    """An action, or why the row cannot be used."""
    if len(row) not in (6, 7):
        return "with another number of columns than 6 or 7"
    first, last, verb, part, other, verdict, remark = [*row, ""][:7]
    if not (re.fullmatch("[0-9]{1,7}", first) and re.fullmatch("[0-9]{1,7}", last)):
        return "whose frames are no whole numbers"
    if int(last) < int(first):
        return "that end before they begin"
    if verb.lower() not in ("attach", "detach"):
        return "whose verb is neither attach nor detach"
    if not part or not other:
        return "without two parts"
    if verdict.lower() not in VERDICTS:
        return f"that are none of {', '.join(VERDICTS)}"
    parts = (part.lower(), other.lower())
    return Action(where, int(first) / FPS, int(last) / FPS, verb.lower(), parts, verdict.lower(), remark)


def _record(view: View, dataset: str, file: str, actions: Sequence[Action]) -> VideoSpans:
    names: dict[frozenset[str], str] = {}
    for action in actions:  # the first of a pair is an attach
        names.setdefault(frozenset(action.parts), f"Attach {action.parts[0]} to {action.parts[1]}")
    ids: Mapping[frozenset[str], str] = {pair: f"S{number}" for number, pair in enumerate(names, 1)}
    spans = [
        Span(
            step=ids[frozenset(action.parts)],
            start_s=action.start_s,
            end_s=action.end_s,
            outcome="undone" if action.verb == "detach" else "error" if action.verdict == "mistake" else "done",
            source=f"{file} {action.where}",
            flags=tuple(filter(None, (action.verdict if action.verdict != "correct" else "", action.remark))),
        )
        for action in actions
    ]
    return VideoSpans(
        video=view.video,
        dataset=dataset,
        duration_s=view.duration_s,
        steps=tuple(NamedStep(id=ids[pair], name=name) for pair, name in names.items()),
        spans=tuple(spans),
        provenance={"file": file, "fps": FPS},
    )
