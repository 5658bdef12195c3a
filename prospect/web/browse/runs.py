"""Runs: compared as `prospect compare` does, their curves, and what two evaluations say of the same clip."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.annotations.clips import SPLITS
from pipeline.errors import ProspectError
from pipeline.shards.sample import key_of
from prospect import runs
from prospect.evaluation import results
from prospect.evaluation.pages.html import clip_block
from prospect.evaluation.predictions import read_prediction
from prospect.train.compare import COLUMNS, comparison_rows, run_names, unlike_lines
from prospect.train.saved import Evaluation, read_lines, read_metrics
from prospect.web.browse.library import Library

ABOUT_A_LINE = ("step", "epoch", "split")  # of metrics.jsonl, what is no metric


class Runs:
    """The section of runs (`shell.Section`). Evaluations are named by their places in `about`'s list."""

    name = "runs"

    def __init__(self, library: Library) -> None:
        self.library = library
        self.folders, self.evaluations = library.given.runs, library.given.evaluations

    def about(self) -> Any:
        if not self.folders and not self.evaluations:
            return None
        return {
            "runs": run_names(self.folders),
            "unfinished": [name for name, run in self._named if not (run / runs.METRICS).is_file()],
            "splits": self._splits,
            "evaluations": [
                {"name": one.name, "has_scores": (one.folder / results.METRICS).is_file()} for one in self.evaluations
            ],
        }

    def answer(self, place: Sequence[str], query: Mapping[str, str]) -> Any:
        match place:
            case ["compare", split]:
                return self.compared(split)
            case ["curves"]:
                return self.curves()
            case ["scores", number]:
                return self.scores(number)
            case ["clip", number, key]:
                return self.clip(number, key)
        raise ProspectError(f"{'/'.join(place)[:100]}: there is no such page of runs")

    def published(self) -> Iterator[tuple[Sequence[str], Any]]:
        for split in self._splits:
            yield ["compare", split], self.compared(split)
        yield ["curves"], self.curves()
        for number, one in enumerate(map(str, range(len(self.evaluations)))):
            yield ["scores", one], self.scores(one)
            for key in self.library.places:
                if self._file(number, key).is_file():
                    yield ["clip", one, key], self.clip(one, key)

    def compared(self, split: str) -> dict[str, Any]:
        """Give the table of `prospect compare`, of the finished runs that have the split.

        Raises:
            ProspectError: none has it, or a run's metrics cannot be read.
        """
        of_split = [run for run in self._finished if split in read_metrics(run)]
        if not of_split:
            raise ProspectError(
                f"split {split[:80]!r}: no finished run has it, expected one of {', '.join(self._splits)}"
            )
        rows = comparison_rows(of_split, split)
        return {
            "columns": {metric: heading.replace("\n", " ") for metric, heading in COLUMNS.items()},
            "num_runs": len(of_split),
            "rows": [{"name": name, "values": values} for name, values in rows.items()],
            "told": unlike_lines(of_split, split, rows),
        }

    def curves(self) -> list[dict[str, Any]]:
        """Give, of each run with a log, its evaluations during training: by split and metric, points [step, value]."""
        listed = []
        for name, run in self._named:
            points: dict[str, dict[str, list[list[float]]]] = {}
            for _, line in read_lines(run / runs.METRICS_LOG, Evaluation):
                of_split = points.setdefault(line["split"], {})
                for metric, value in line.items():
                    if metric not in ABOUT_A_LINE and isinstance(value, int | float):
                        of_split.setdefault(metric, []).append([line["step"], value])
            listed.append({"name": name, "points": points})
        return [one for one in listed if one["points"]]

    def scores(self, number: str) -> list[dict[str, Any]]:
        """Give the metrics of each clip, as its evaluation's metrics.json has them; none where there is none.

        Raises:
            ProspectError: there is no such evaluation, or its metrics cannot be read.
        """
        path = self._evaluation(number).folder / results.METRICS
        if not path.is_file():
            return []
        clips = results.read_metrics(path)["clips"]
        return [{"key": key_of(one["dataset"], one["id"]), "id": one["id"], "metrics": one["metrics"]} for one in clips]

    def clip(self, number: str, key: str) -> dict[str, Any]:
        """Give an evaluation's prediction of a clip beside its reference, and the thresholds that it streamed with.

        Raises:
            ProspectError: there is no such prediction, or it cannot be read.
        """
        evaluation = self._evaluation(number)
        path = self._file(int(number), key)
        if Path(key).name != key or not path.is_file():
            raise ProspectError(f"clip {key[:100]!r}: {evaluation.name} has no prediction of it")
        prediction = read_prediction(path)
        settings = {name: prediction.settings.get(name) for name in ("update_threshold", "speak_threshold")}
        return clip_block(prediction) | {"id": prediction.clip.id, "settings": settings}

    @property
    def _named(self) -> list[tuple[str, Path]]:
        return list(zip(run_names(self.folders), self.folders, strict=True))

    @property
    def _finished(self) -> list[Path]:
        return [run for run in self.folders if (run / runs.METRICS).is_file()]

    @property
    def _splits(self) -> list[str]:
        there = [read_metrics(run) for run in self._finished]
        return [split for split in reversed(SPLITS) if any(split in metrics for metrics in there)]

    def _evaluation(self, number: str) -> Any:
        if not number.isdecimal() or len(number) > 6 or int(number) >= len(self.evaluations):
            raise ProspectError(f"evaluation {number[:80]!r}: there is none of this number")
        return self.evaluations[int(number)]

    def _file(self, number: int, key: str) -> Path:
        return self.evaluations[number].predictions / f"{key}.json"
