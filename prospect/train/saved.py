"""What a run tells of itself, read back: metrics.json, and the lines of metrics.jsonl and skipped.jsonl."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from pipeline.errors import ProspectError
from pipeline.io.records import MOST_BYTES, parse_record, read_whole
from prospect.runs import METRICS

OPEN = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)  # a record with more in it than these fields
Step = Annotated[int, Field(ge=0)]
Scores = dict[str, Any]  # metric -> number, or null where there was nothing to measure


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """metrics.json, beside its splits."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    untrained: dict[str, Scores]  # split ->
    baselines: dict[str, dict[str, Scores]]  # split -> baseline ->


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A line of metrics.jsonl, beside its scores."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    step: Step
    epoch: float
    split: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A line of skipped.jsonl."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    step: Step


def read_metrics(run: Path) -> dict[str, Any]:
    """Read the metrics of a finished run.

    Raises:
        ProspectError: it is not finished, or they cannot be read.
    """
    path = run / METRICS
    if not path.exists():
        raise ProspectError(f"{path}: found no such file, expected the folder of a finished run (prospect train)")
    fix = "name other runs, or train this one again"
    data = read_whole(path, fix)
    parse_record(data, RunMetrics, str(path), fix)
    metrics: dict[str, Any] = json.loads(data)
    return metrics


def read_lines(path: Path, kind: type[Evaluation] | type[Skipped]) -> list[tuple[str, dict[str, Any]]]:
    """Read the whole lines of a log with their records; a last one that a kill cut short is left out.

    Raises:
        ProspectError: a line is no such record; names it.
    """
    fix = "restore the file, or start over with --overwrite"
    if not path.exists():
        return []
    try:
        text = read_whole(path, fix, MOST_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ProspectError(f"{path}: found bytes that are no text ({error}); {fix}") from None
    lines = [line for line in text.split("\n")[:-1]]
    for number, line in enumerate(lines, 1):
        parse_record(line, kind, f"{path} line {number}", fix)
    return [(line, json.loads(line)) for line in lines]
