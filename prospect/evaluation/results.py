"""An evaluation's folder: the names in it, and metrics.json read back.

RUN/evaluation/SPLIT/
  predictions/ROW/CLIP.json
  metrics.json
  report.html
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, field_validator

from pipeline.io.records import parse_record, read_whole

Format = Literal["prospect.evaluation/1"]
FORMAT: Format = "prospect.evaluation/1"
METRICS, REPORT, PREDICTIONS = "metrics.json", "report.html", "predictions"
SILENT = "always_silent"  # a row without predictions of its own
FIX = "expected what prospect evaluate writes: run it again"


class _Numbers(BaseModel):
    metrics: dict[str, float | None]
    intervals: dict[str, tuple[float, float] | None]


class _Row(BaseModel):
    all: _Numbers
    datasets: dict[str, _Numbers]


class _Clip(BaseModel):
    id: str
    dataset: str
    metrics: dict[str, float | None]


class _Metrics(BaseModel):
    """What others rely on in metrics.json; there is more in it."""

    format: Format
    checkpoint: str
    num_clips: int
    num_frames: int
    settings: dict[str, Any]
    embedder: str
    rows: dict[str, _Row]
    clips: list[_Clip]
    notes: list[str]

    @field_validator("rows")
    @classmethod
    def _are_alike(cls, rows: dict[str, _Row]) -> dict[str, _Row]:
        if "model" not in rows or any(row.datasets.keys() != rows["model"].datasets.keys() for row in rows.values()):
            raise ValueError("expected a row model, and the same datasets in each")
        return rows


def read_metrics(path: Path) -> dict[str, Any]:
    """Read an evaluation's metrics.json, all that is in it.

    Raises:
        ProspectError: it is none.
    """
    data = read_whole(path, FIX)
    parse_record(data, _Metrics, str(path), FIX)
    metrics: dict[str, Any] = json.loads(data)
    return metrics
