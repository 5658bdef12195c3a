"""The metric table: finished runs beside the untrained model and the baselines that see no pixels."""

import json
from pathlib import Path
from typing import Any

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


def comparison(runs: list[Path], split: str) -> Table:
    """Put a row a run, then the baselines of the first run's split, into a table.

    Raises:
        ProspectError: a run is not finished, or did not evaluate the split.
    """
    rows = comparison_rows(runs, split)
    table = Table("", *COLUMNS.values(), title=f"{split} split, teacher-forced")
    for number, (name, values) in enumerate(rows.items()):
        cells = ("" if values[metric] is None else f"{values[metric]:.3f}" for metric in COLUMNS)
        table.add_row(Text(name, "bold" if number < len(runs) else ""), *cells, end_section=number == len(runs) - 1)
    return table


def comparison_rows(runs: list[Path], split: str) -> dict[str, dict[str, float | None]]:
    """Give the metrics of the table's rows by name: the runs, `untrained`, and the baselines."""
    metrics = [(folder, _metrics(folder, split)) for folder in runs]
    first = metrics[0][1]
    rows = {folder.name: of_run[split] for folder, of_run in metrics}
    rows["untrained"] = first["untrained"].get(split, {})
    rows |= {name.replace("_", " "): values for name, values in first["baselines"].get(split, {}).items()}
    return {name: {metric: values.get(metric) for metric in COLUMNS} for name, values in rows.items()}


def _metrics(folder: Path, split: str) -> dict[str, Any]:
    path = folder / METRICS
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
