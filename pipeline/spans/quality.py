"""How good spans are, in numbers: what they cover, how long work takes, and where annotations of a video disagree.

An annotation is a file of spans; several of the same videos (a person's, `align`'s, a language model's) are compared
pairwise (`compare.py`). A video has so much to look at as there are, over its annotations, steps without times, spans
that their method was not sure of, spans without length, and events with no counterpart in another annotation. A count,
not a share: who mends begins where the most is wrong.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ProspectError
from pipeline.spans.compare import compare
from pipeline.spans.project import merged, overlapping
from pipeline.spans.records import Span, VideoSpans

TOLERANCE_S = 2.0  # events so far apart agree
DOUBTFUL = 0.5  # a span of less confidence is looked at
NUM_WORST = 20
COUNTS = {  # of an annotation of one video, or of all
    "videos": "videos",
    "videos_without_spans": "of them without spans",
    "steps": "steps",
    "covered": "of them covered by spans",
    "not_performed": "said not to be performed",
    "without_times": "neither: without times",
    "spans": "spans",
    "error": "of them done wrongly",
    "undone": "of them taking work back",
    "repeated": "stretches of work on a step worked on before",
    "parallel": "spans that begin while another step is under way",
    "moments": "spans without length",
    "flagged": "spans with flags",
    "doubtful": f"spans of confidence under {DOUBTFUL:g}",
}
REASONS = {  # to look at a video
    "events_apart": f"events without another annotation's within {TOLERANCE_S:g} s",
    "without_times": "steps without times",
    "doubtful": COUNTS["doubtful"],
    "moments": COUNTS["moments"],
}


@dataclass(frozen=True, slots=True)
class Annotation:
    """A file of spans."""

    name: str  # beside others
    records: Sequence[VideoSpans]  # each of another video


@dataclass(frozen=True, slots=True)
class VideoQuality:
    """A video in all its annotations."""

    video: str
    counts: Mapping[str, Counter[str]]  # annotation -> COUNTS; of those that have the video
    reasons: Counter[str]  # to look at it: REASONS
    is_compared: bool  # False: there is one annotation, or their lists of steps are unlike

    @property
    def to_look_at(self) -> int:
        return self.reasons.total()


def named(files: Sequence[tuple[Path, Sequence[VideoSpans]]]) -> list[Annotation]:
    """Name annotations by the methods of their spans, by their files where they have none, or others have the same."""
    methods = [
        " + ".join(dict.fromkeys(span.method for record in records for span in record.spans)) or path.name
        for path, records in files
    ]
    return [
        Annotation(name if methods.count(name) == 1 else f"{name} ({path})", records)
        for name, (path, records) in zip(methods, files, strict=True)
    ]


def assess(annotations: Sequence[Annotation]) -> list[VideoQuality]:
    """Give every video's numbers, most to look at first; of equals, those with more parallel and repeated work.

    Raises:
        ProspectError: two annotations have no video with the same steps in common.
    """
    by_name = [(one.name, {record.video: record for record in one.records}) for one in annotations]
    for (name, some), (other, others) in combinations(by_name, 2):
        if not any(video in others and _is_alike(record, others[video]) for video, record in some.items()):
            raise ProspectError(
                f"{name} and {other}: found no video with the same steps in both, expected annotations of the same "
                f"videos (e.g. {next(iter(some))!r} and {next(iter(others))!r})"
            )
    videos = dict.fromkeys(video for _, records in by_name for video in records)
    assessed = [_assess_video(video, {name: of[video] for name, of in by_name if video in of}) for video in videos]
    return sorted(assessed, key=lambda one: (-one.to_look_at, -_parallel(one), one.video))


def quality_record(annotations: Sequence[Annotation], assessed: Sequence[VideoQuality]) -> dict[str, Any]:
    """Give all for programs: each annotation, each pair of them, each video in the order of `assessed`."""
    return {
        "annotations": {one.name: _in_all(one, assessed) for one in annotations},
        "agreement": [
            {"of": [a.name, b.name], **compare(a.records, b.records).numbers(TOLERANCE_S)}
            for a, b in combinations(annotations, 2)
        ],
        "videos": [
            {
                "video": one.video,
                "to_look_at": one.to_look_at,
                "reasons": {key: one.reasons[key] for key in REASONS},
                "is_compared": one.is_compared,
                "annotations": {name: {key: of[key] for key in COUNTS} for name, of in one.counts.items()},
            }
            for one in assessed
        ],
    }


def _assess_video(video: str, records: Mapping[str, VideoSpans]) -> VideoQuality:
    counts = {name: counts_of(record) for name, record in records.items()}
    pairs = [(a, b) for a, b in combinations(records.values(), 2) if _is_alike(a, b)]
    comparisons = [compare([a], [b]) for a, b in pairs]
    reasons = Counter(
        events_apart=sum(one.events_a + one.events_b - 2 * one.within(TOLERANCE_S) for one in comparisons)
    )
    for of in counts.values():
        reasons.update({key: of[key] for key in REASONS if key in COUNTS})
    return VideoQuality(video, counts, reasons, bool(pairs))


def counts_of(record: VideoSpans) -> Counter[str]:
    """Count what COUNTS names in one video."""
    spans, covered = record.spans, {span.step for span in record.spans}
    work = [span for span in spans if span.outcome != "undone"]
    return Counter(
        videos=1,
        videos_without_spans=int(not spans),
        steps=len(record.steps),
        covered=len(covered),
        not_performed=len(record.not_performed),
        without_times=len(record.steps) - len(covered) - len(set(record.not_performed)),
        spans=len(spans),
        error=sum(span.outcome == "error" for span in spans),
        undone=len(spans) - len(work),
        repeated=len(_stretches(record)) - len({span.step for span in work}),
        parallel=overlapping(spans),
        moments=sum(span.end_s == span.start_s for span in work),
        flagged=sum(bool(span.flags) for span in spans),
        doubtful=sum(span.confidence is not None and span.confidence < DOUBTFUL for span in spans),
    )


def _in_all(one: Annotation, assessed: Sequence[VideoQuality]) -> dict[str, Any]:
    """An annotation over its videos."""
    counts = sum((video.counts[one.name] for video in assessed if one.name in video.counts), Counter[str]())
    spans = [span for record in one.records for span in record.spans]
    return {
        **{key: counts[key] for key in COUNTS},
        "durations_s": _spread(_durations(one.records)),
        "confidence": _spread([span.confidence for span in spans if span.confidence is not None]),
        "methods": Counter(span.method for span in spans),
        "flags": Counter(flag for span in spans for flag in span.flags),
    }


def _stretches(record: VideoSpans) -> list[Span]:
    """Stretches of work on steps; what takes work back is none, but parts two."""
    stretches: list[Span] = []
    for step in record.steps:
        of_it = sorted((s for s in record.spans if s.step == step.id), key=lambda span: (span.start_s, span.end_s))
        stretches += [span for span in merged(of_it, Counter()) if span.outcome != "undone"]
    return stretches


def _durations(records: Iterable[VideoSpans]) -> list[float]:
    return [span.end_s - span.start_s for record in records for span in _stretches(record)]


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    names = {"least": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "most": 1.0}
    return {name: round(float(np.quantile(values, at)), 3) if values else None for name, at in names.items()}


def _is_alike(a: VideoSpans, b: VideoSpans) -> bool:
    return {(step.id, step.name) for step in a.steps} == {(step.id, step.name) for step in b.steps}


def _parallel(one: VideoQuality) -> int:
    return sum(of["parallel"] + of["repeated"] for of in one.counts.values())
