"""The metric table: finished runs beside the untrained model and the baselines that see no pixels."""

import json
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.errors import ProspectError

COLUMNS = {  # metric: heading
    "should_update_dst_f1_at_frame": "update F1\nat frame",
    "should_update_dst_f1": "update\nF1",
    "when_to_speak_f1_at_frame": "speak F1\nat frame",
    "dst_gen_exact_match": "DST\nexact",
    "dst_gen_exact_match_start": "DST exact\nstarts",
    "perplexity": "perpl.",
}


def comparison(runs: list[Path], split: str) -> Table:
    """A row a run, then the baselines of the first run's split.

    Raises:
        ProspectError: a run is not finished, or did not evaluate the split.
    """
    table = Table("", *COLUMNS.values(), title=f"{split} split, teacher-forced")
    found = [(folder, _metrics(folder, split)) for folder in runs]
    for folder, metrics in found:
        table.add_row(Text(folder.name, "bold"), *_cells(metrics[split]))
    first = found[0][1]
    table.add_section()
    table.add_row("untrained", *_cells(first["untrained"].get(split, {})))
    for name, values in first["baselines"].get(split, {}).items():
        table.add_row(name.replace("_", " "), *_cells(values))
    return table


def finished_runs(folder: Path) -> list[Path]:
    """The runs of `folder` that have metrics.json, by name.

    Raises:
        ProspectError: there is none.
    """
    found = sorted(path.parent for path in folder.glob("*/metrics.json"))
    if not found:
        raise ProspectError(
            f"{folder}: found no finished run, expected one with metrics.json; make one with prospect train"
        )
    return found


def _metrics(folder: Path, split: str) -> dict[str, Any]:
    path = folder / "metrics.json"
    try:
        metrics: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise ProspectError(
            f"{path}: found no such file, expected the folder of a finished run (prospect train)"
        ) from None
    except ValueError as error:
        raise ProspectError(f"{path}: not valid JSON ({error}); evaluate the run again, or name other runs") from None
    if not isinstance(metrics, dict) or not {"untrained", "baselines"} <= metrics.keys():
        raise ProspectError(f"{path}: found no metrics of prospect train there; name other runs")
    if split not in metrics:
        there = ", ".join(name for name in ("val", "test", "train") if name in metrics)
        raise ProspectError(f"{path}: found no split {split!r}, it has {there}; pass --split")
    return metrics


def _cells(values: dict[str, Any]) -> list[str]:
    found = (values.get(name) for name in COLUMNS)
    return ["" if value is None else f"{value:.3f}" for value in found]
