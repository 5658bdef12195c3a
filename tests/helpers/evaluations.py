"""An evaluation's folder, as `prospect evaluate` leaves it, of predictions that were written down by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.io.storage import write_json
from pipeline.shards.sample import clip_key
from prospect.evaluation.pages.html import write_report
from prospect.evaluation.predictions import ClipPrediction, write_prediction


def write_evaluation(folder: Path, rows: Mapping[str, Sequence[ClipPrediction]]) -> dict[str, Any]:
    """Write predictions, metrics.json and report.html; gives what metrics.json holds."""
    for row, predictions in rows.items():
        (folder / "predictions" / row).mkdir(parents=True, exist_ok=True)
        for one in predictions:
            write_prediction(folder / "predictions" / row / f"{clip_key(one.clip)}.json", one)
    metrics = evaluation_metrics(rows["model"], [*rows, "always_silent"])
    write_json(folder / "metrics.json", metrics)
    write_report(folder / "report.html", metrics, rows["model"], None)
    return metrics


def evaluation_metrics(predictions: Sequence[ClipPrediction], rows: Sequence[str]) -> dict[str, Any]:
    """The least that metrics.json holds, with one metric."""
    numbers = {"metrics": {"dst_update_f1": 0.5}, "intervals": {"dst_update_f1": [0.1, 0.9]}, "undefined_resamples": {}}
    datasets = dict.fromkeys(sorted({one.clip.dataset for one in predictions}), numbers)
    return {
        "format": "prospect.evaluation/1",
        "checkpoint": "c",
        "num_clips": len(predictions),
        "num_frames": sum(len(one.frames) for one in predictions),
        "settings": {"update_threshold": 0.5, "speak_threshold": 0.5},
        "embedder": "e",
        "rows": {row: {"all": numbers, "datasets": datasets} for row in rows},
        "clips": [
            {"id": one.clip.id, "dataset": one.clip.dataset, "metrics": {"dst_update_f1": 0.5}} for one in predictions
        ],
        "notes": ["a note"],
        "more": {"kept": True},
    }
