"""Tables of step times to spans and dialogues: what anybody can make in a spreadsheet, in ELAN or in Label Studio.

A row of a table (csv, tsv, jsonl) has `video, step, start_s, end_s`, or, for what was said, `video, text, role,
start_s`; `outcome`, `end_s` of a line, `split`, `dataset` and `duration_s` may be there too. ELAN's .eaf files are read
by `elan.py`, Label Studio's exports by `label_studio.py`. The table is the user's own: a mistake in it is refused with
its place, all of them at once, and nothing is left out in silence.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.annotations.clips import SPLITS
from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.importers.delimited import delimited
from pipeline.importers.elan import Tiers, read_elan
from pipeline.importers.formats import HALF_PAIR, has_half_pair, read_text, refuse_others, split_of
from pipeline.importers.label_studio import read_label_studio
from pipeline.importers.outputs import Tally, write_dataset
from pipeline.importers.rows import OUTCOMES, ROLES, TIMES, Row, records_of, seconds

EXPECTED = "a table (.csv, .tsv, .jsonl), ELAN's .eaf or Label Studio's .json export"
COLUMNS = ("video", "step", "start_s", "end_s", "outcome", "text", "role", "split", "dataset", "duration_s")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What rows have that do not say it."""

    split: str | None  # None: as the file's name says
    dataset: str
    fps: float | None  # frames a second of the videos, for Label Studio's frame numbers
    tiers: Tiers  # of .eaf files


def import_table(
    files: Sequence[Path],
    out: Path,
    *,
    split: str | None = None,
    dataset: str | None = None,
    steps: Path | None = None,
    fps: float | None = None,
    tiers: Tiers | None = None,
    force: bool = False,
) -> tuple[list[Path], Tally]:
    """Write OUT/{split}_spans.jsonl and _dialogues.jsonl of all files; returns what was written, and a tally.

    Args:
        split, dataset: of rows that name none; None: as the file's name says, and OUT's name.
        steps: a file with a step's name a line, the steps of every video. None: each video has those of its rows.
        fps: of the videos, where Label Studio gives frame numbers.
        tiers: which of ELAN's tiers hold what.

    Raises:
        InvalidInput: rows that are wrong, all of them; nothing was written.
        ProspectError: a file cannot be read, or files are in the way.
    """
    defaults = Defaults(split, dataset or out.resolve().name, fps, tiers or Tiers())
    tally, problems, rows = Tally(), list[Problem](), list[Row]()
    for file in files:
        refuse_others(file, "table", EXPECTED)
        rows += _read(file, defaults, tally, problems)
        tally.counts["files"] += 1
    tally.counts["rows"] = len(rows)
    listed = _read_steps(steps) if steps else []
    spans, dialogues = records_of(rows, listed, tally, problems)
    if problems:
        raise InvalidInput(problems, f"nothing was written: correct {', '.join(dict.fromkeys(f.name for f in files))}")
    inputs = [*files, *([steps] if steps else [])]
    return write_dataset(out, spans, dialogues, force, importer="table", inputs=inputs), tally


def _read_steps(file: Path) -> list[str]:
    names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    if not names or len(set(names)) < len(names):
        twice = next((name for name in names if names.count(name) > 1), None)
        found = f"{twice!r} twice" if twice else "nothing"
        raise ProspectError(f"{file}: found {found}, expected a step's name a line, each once")
    return names


def _read(file: Path, defaults: Defaults, tally: Tally, problems: list[Problem]) -> list[Row]:
    if file.suffix == ".eaf":
        return read_elan(file, split_of(file, defaults.split), defaults.dataset, defaults.tiers, problems)
    if file.suffix == ".json":
        split = partial(split_of, file, defaults.split)
        return read_label_studio(file, split, defaults.dataset, defaults.fps, tally, problems)
    if file.suffix not in (".csv", ".tsv", ".txt", ".jsonl"):
        raise ProspectError(f"{file}: is {file.suffix or 'without an ending'}, expected {EXPECTED}")
    lines = _json_lines(file) if file.suffix == ".jsonl" else delimited(file, ("video", "start_s"))
    rows: list[Row] = []
    unused: set[str] = set()
    for where, values in lines:
        if not rows and not problems and not {"step", "text"} & values.keys():
            raise ProspectError(
                f"{file} {where}: found {', '.join(values)}, expected `step`, or `text` and `role`, too"
            )
        unused |= {key for key in values if key not in COLUMNS}
        if row := _row(file, where, values, defaults, problems):
            rows.append(row)
    if unused:
        tally.leave_out(f"columns of {file.name} that mean nothing here", ", ".join(sorted(unused)))
    if not rows and not problems:
        raise ProspectError(f"{file}: found no row, expected one at least")
    return rows


def _json_lines(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ProspectError(f"{file} line {number}: not valid JSON ({error}), expected a row a line") from None
        if not isinstance(value, dict):
            raise ProspectError(f"{file} line {number}: found {type(value).__name__}, expected an object, a row a line")
        if has_half_pair(value):
            raise ProspectError(f"{file} line {number}: found {HALF_PAIR}, expected text")
        yield f"line {number}", {key.strip().lower(): "" if v is None else str(v) for key, v in value.items()}


def _row(file: Path, where: str, values: Mapping[str, str], defaults: Defaults, problems: list[Problem]) -> Row | None:
    """A row, or None with its problems."""
    given = {name: values.get(name, "").strip() for name in COLUMNS}
    before = len(problems)

    def found(field: str, what: str, expected: str) -> None:
        problems.append(Problem(file.name, where, "", field, what, expected))

    is_line = bool(given["text"])
    if not given["video"]:
        found("video", "nothing", "the video's name")
    if is_line == bool(given["step"]):
        found("step, text", "both" if is_line else "neither", "one of them: a step worked on, or what was said")
    role = next((name for name in ROLES if name == (given["role"].lower() or "assistant")), None)
    if role is None:
        found("role", repr(given["role"]), f"one of {', '.join(ROLES)}")
    outcome = next((name for name in OUTCOMES if name == (given["outcome"].lower() or "done")), None)
    if outcome is None:
        found("outcome", repr(given["outcome"]), f"one of {', '.join(OUTCOMES)}, or nothing")
    if given["split"] not in ("", *SPLITS):
        found("split", repr(given["split"]), f"one of {', '.join(SPLITS)}")
    needed = ("start_s", "end_s") if not is_line else () if role == "system" else ("start_s",)
    times = _times(given, needed, found)
    if len(problems) > before or outcome is None or role is None:
        return None
    return Row(
        file=file.name,
        where=where,
        video=given["video"],
        split=given["split"] or split_of(file, defaults.split),
        dataset=given["dataset"] or defaults.dataset,
        step=" ".join(given["step"].split()),
        start_s=times["start_s"],
        end_s=times["end_s"],
        outcome=outcome,
        text=given["text"],
        role=role,
        duration_s=times["duration_s"],
    )


def _times(
    given: Mapping[str, str], needed: Sequence[str], found: Callable[[str, str, str], None]
) -> dict[str, float | None]:
    """The times of a row, those of `needed` there, and in order; else `found` is told."""
    times = {field: seconds(given[field]) for field in ("start_s", "end_s", "duration_s")}
    for field, time_s in times.items():
        if time_s is None and (given[field] or field in needed):
            found(field, repr(given[field]) if given[field] else "nothing", TIMES)
    start_s, end_s = times["start_s"], times["end_s"]
    if start_s is not None and end_s is not None and end_s < start_s:
        found("end_s", given["end_s"], f"at least its start_s, {given['start_s']}")
    return times
