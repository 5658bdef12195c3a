"""The judge's scores of clips to means and spreads, and into metrics.json beside the other metrics.

Of an axis, with s(c, r) the score of clip c in repeat r:

    mean         over clips of the clip's mean over its repeats, as ProAssist has it (stream_evaluator.py, llm_eval)
    interval     95% bootstrap interval of that mean over clips, as of the other metrics
    std_clips    standard deviation (n - 1) over clips of the clip's mean: how unlike clips are
    std_repeats  standard deviation (n - 1) over repeats of the mean over clips: how far the number would move if all
                 were judged again; of the clips that have a score in each repeat

A repeat without an answer that can be used is left out of its clip's mean, a clip without any out of all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict

from pipeline.errors import ProspectError
from pipeline.io.records import RECORD, parse_record
from prospect.evaluation.intervals import intervals
from prospect.evaluation.judge_question import AXES, Verdict
from prospect.evaluation.matching import FloatArray

Format = Literal["prospect.judge/1"]
FORMAT: Format = "prospect.judge/1"
SEED = 0  # of the bootstrap
PREFIX = "judge_"  # of the axes' names beside the other metrics
JUDGED = tuple(PREFIX + axis for axis in AXES)
MOST_SAID = 2000  # characters of an analysis that are kept


@dataclass(frozen=True, slots=True)
class AxisScores:
    """An axis over some clips; None: too few clips or repeats to say."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD
    mean: float
    interval: tuple[float, float] | None
    std_clips: float | None
    std_repeats: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    __pydantic_config__: ClassVar[ConfigDict] = RECORD
    num_clips: int  # that have a score
    axes: dict[str, AxisScores]


@dataclass(frozen=True, slots=True)
class JudgedClip:
    """A clip's scores, a place a repeat; None: no answer that can be used."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD
    id: str
    dataset: str
    scores: dict[str, list[int | None]]  # by axis
    analyses: list[str | None]

    def mean(self, axis: str) -> float | None:
        known = [score for score in self.scores[axis] if score is not None]
        return fmean(known) if known else None


@dataclass(frozen=True, slots=True)
class JudgedRow:
    __pydantic_config__: ClassVar[ConfigDict] = RECORD
    fingerprint: str  # of what was shown to the judge
    all: Summary
    datasets: dict[str, Summary]
    clips: list[JudgedClip]


@dataclass(frozen=True, slots=True)
class Judge:
    """What stands under "judge" in metrics.json."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD
    format: Format
    model: str
    hosts: list[str]  # of the base URL
    dates: list[str]  # UTC days on which the answers came: the first and the last
    template: str  # version of the prompt
    parameters: dict[str, Any]
    repeats: int
    rows: dict[str, JudgedRow]
    notes: list[str]

    @property
    def title(self) -> str:
        """Name the judge, on a line."""
        where, when = ", ".join(self.hosts), " to ".join(dict.fromkeys(self.dates))
        return f"judged by {self.model} at {where}, {when}, prompt {self.template}, {self.repeats} repeats"


def judged_clip(clip_id: str, dataset: str, verdicts: Sequence[Verdict | None]) -> JudgedClip:
    scores = {axis: [int(getattr(one, axis)) if one else None for one in verdicts] for axis in AXES}
    analyses = [one.analysis[:MOST_SAID] if one else None for one in verdicts]
    return JudgedClip(clip_id, dataset, scores, analyses)


def judged_row(fingerprint: str, clips: Sequence[JudgedClip]) -> JudgedRow:
    """Pool a row's clips; at least one of them has a score."""
    by_dataset: dict[str, list[JudgedClip]] = {}
    for clip in clips:
        by_dataset.setdefault(clip.dataset, []).append(clip)
    datasets = {name: summary(part) for name, part in sorted(by_dataset.items())}
    return JudgedRow(fingerprint, summary(clips), datasets, list(clips))


def summary(clips: Sequence[JudgedClip]) -> Summary:
    """Give each axis over the clips that have a score; without any, no axis."""
    known = [clip for clip in clips if clip.mean(AXES[0]) is not None]
    if not known:
        return Summary(0, {})
    means = np.array([[clip.mean(axis) for axis in AXES] for clip in known], dtype=np.float64)  # (C, axes)
    resampled = intervals(np.column_stack([np.ones(len(known)), means]), _means, SEED)
    axes = {}
    for place, axis in enumerate(AXES):
        whole = [clip.scores[axis] for clip in known if None not in clip.scores[axis]]
        of_repeats = [fmean(map(float, of_repeat)) for of_repeat in zip(*whole, strict=True)]
        axes[axis] = AxisScores(
            float(means[:, place].mean()), resampled[axis].interval, _std(means[:, place].tolist()), _std(of_repeats)
        )
    return Summary(len(known), axes)


def with_judge(metrics: Mapping[str, Any], judge: Judge) -> dict[str, Any]:
    """Put the judge into what metrics.json holds: its block, and its means beside the other metrics, as `judge_AXIS`.
    Those of an earlier one go."""
    rows = {
        name: {
            "all": _beside(row["all"], judge.rows.get(name), None),
            "datasets": {
                dataset: _beside(numbers, judge.rows.get(name), dataset) for dataset, numbers in row["datasets"].items()
            },
        }
        for name, row in metrics["rows"].items()
    }
    means = {(clip.dataset, clip.id): clip for clip in (judge.rows["model"].clips if "model" in judge.rows else [])}
    clips = []
    for clip in metrics["clips"]:
        one = means.get((clip["dataset"], clip["id"]))
        added = {PREFIX + axis: one.mean(axis) for axis in AXES} if one else {}
        clips.append({**clip, "metrics": {**_others(clip["metrics"]), **added}})
    return {**metrics, "rows": rows, "clips": clips, "judge": json.loads(json.dumps(asdict(judge)))}


def read_judge(block: Mapping[str, Any], place: str, fix: str) -> Judge:
    """Read what `with_judge` wrote; raises ProspectError where it is no such thing."""
    judge = parse_record(json.dumps(block), Judge, f"{place}: judge", fix)
    for row in judge.rows.values():
        axes = [set(clip.scores) for clip in row.clips] + [set(one.axes) for one in (row.all, *row.datasets.values())]
        if any(names not in (set(AXES), set()) for names in axes) or not row.all.axes:
            raise ProspectError(f"{place}: judge: found other axes than {', '.join(AXES)}; {fix}")
    return judge


def _beside(numbers: Mapping[str, Any], row: JudgedRow | None, dataset: str | None) -> dict[str, Any]:
    of_row = row and (row.all if dataset is None else row.datasets.get(dataset))
    axes = of_row.axes if of_row else {}
    means = {PREFIX + axis: one.mean for axis, one in axes.items()}
    ranges = {PREFIX + axis: list(one.interval) if one.interval else None for axis, one in axes.items()}
    return {
        **numbers,
        "metrics": {**_others(numbers["metrics"]), **means},
        "intervals": {**_others(numbers["intervals"]), **ranges},
    }


def _others(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.startswith(PREFIX)}


def _means(sums: FloatArray) -> dict[str, FloatArray]:
    """Sums (N, 1 + axes), the number of clips first, to means (N)."""
    return {axis: sums[:, 1 + place] / sums[:, 0] for place, axis in enumerate(AXES)}


def _std(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
