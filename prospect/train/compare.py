"""The metric table: finished runs beside the untrained model and the baselines that see no pixels.

Numbers compare only between runs of the same data, precision and revision (`origin.py`): a run that differs from the
first is marked, and told how.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.table import Table
from rich.text import Text

from pipeline.errors import ProspectError
from prospect.runs import METRICS

COLUMNS = {  # metric: heading
    "should_update_dst_f1_at_frame": "update F1\nat frame",
    "should_update_dst_f1": "update\nF1",
    "when_to_speak_f1_at_frame": "speak F1\nat frame",
    "dst_gen_exact_match": "DST\nexact",
    "dst_gen_exact_match_start": "DST exact\nstarts",
    "perplexity": "perpl.",
}
ORIGINS = ("data", "precision", "revision")
UNKNOWN = "not known"  # of runs from before metrics.json said it
Values = dict[str, float | None]


class _Origin(BaseModel):
    """What `origin.py` writes."""

    data: dict[str, str] = {}
    precision: str = UNKNOWN
    revision: str = UNKNOWN


class _Metrics(BaseModel):
    """Of metrics.json what is read here, beside the metrics of each split."""

    untrained: dict[str, Values]
    baselines: dict[str, dict[str, Values]]
    origin: _Origin = _Origin()


@dataclass(frozen=True, slots=True)
class _Measured:
    """A run's metrics on a split."""

    values: Values
    untrained: dict[str, Values]  # by split
    baselines: dict[str, dict[str, Values]]  # by split and rule
    origin: dict[str, str]  # of ORIGINS


def comparison(runs: Sequence[Path], split: str) -> Table:
    """Put a row a run, then the baselines of the first run's split, into a table; below it, how runs are unlike.

    Raises:
        ProspectError: a run is not finished, or did not evaluate the split.
    """
    rows = comparison_rows(runs, split)
    table = Table("", *COLUMNS.values(), title=f"{split} split, teacher-forced")
    for number, (name, values) in enumerate(rows.items()):
        cells = ("–" if values[metric] is None else f"{values[metric]:.3f}" for metric in COLUMNS)
        shown = f"{name} *" if "unlike" in values else name
        table.add_row(Text(shown, "bold" if number < len(runs) else ""), *cells, end_section=number == len(runs) - 1)
    if lines := unlike_lines(runs, split, rows):
        table.caption = Text("\n".join(lines))
        table.caption_justify = "left"
    return table


def comparison_rows(runs: Sequence[Path], split: str) -> dict[str, dict[str, Any]]:
    """Give the metrics of the table's rows by name: the runs, `untrained`, and the baselines.

    A run that is not of the first one's data, precision or revision has a list `unlike` of these.
    """
    measured = [_read(folder, split) for folder in runs]
    first = measured[0]
    values = {name: of_run.values for name, of_run in zip(run_names(runs), measured, strict=True)}
    values["untrained"] = first.untrained.get(split, {})
    values |= {name.replace("_", " "): of_rule for name, of_rule in first.baselines.get(split, {}).items()}
    rows: dict[str, dict[str, Any]] = {
        name: {metric: of_row.get(metric) for metric in COLUMNS} for name, of_row in values.items()
    }
    for name, of_run in zip(run_names(runs), measured, strict=True):
        if unlike := [what for what in ORIGINS if of_run.origin[what] != first.origin[what]]:
            rows[name]["unlike"] = unlike
    return rows


def unlike_lines(runs: Sequence[Path], split: str, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Give a line for each thing in which a run is unlike the first."""
    names, origins = run_names(runs), [_read(folder, split).origin for folder in runs]
    return [
        f"* {name}: not of the {what} of {names[0]} ({origin[what]}, not {origins[0][what]})"
        + (f": its numbers do not compare with {names[0]}'s or the baselines'" if what == "data" else "")
        for name, origin in zip(names, origins, strict=True)
        for what in rows[name].get("unlike", [])
    ]


def run_names(runs: Sequence[Path]) -> list[str]:
    """Give the folders' names; whole paths where two are alike."""
    names = [folder.name for folder in runs]
    return names if len({*names}) == len(names) else [str(folder) for folder in runs]


def _read(folder: Path, split: str) -> _Measured:
    path = folder / METRICS
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ProspectError(
            f"{path}: found no such file, expected the folder of a finished run (prospect train)"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ProspectError(f"{path}: not valid JSON ({error}); evaluate the run again, or name other runs") from None
    try:
        metrics = _Metrics.model_validate(record)
        values = TypeAdapter(Values | None).validate_python(record.get(split))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        said = first["msg"].lower()
        raise ProspectError(
            f"{path}: found no metrics of prospect train there ({place}: {said}); name other runs"
        ) from None
    if values is None:
        there = ", ".join(name for name in ("val", "test", "train") if name in record)
        raise ProspectError(f"{path}: found no split {split!r}, it has {there}; pass --split")
    origin = metrics.origin.model_dump() | {"data": metrics.origin.data.get(split, UNKNOWN)}
    return _Measured(values, metrics.untrained, metrics.baselines, origin)
