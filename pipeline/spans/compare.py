"""`prospect annotate --compare A B`: how far two annotations of the same videos are from each other.

Spans of one step are paired, nearest first, and each span has at most one partner; a pair's two boundaries are compared
as they are. An event is a `start` or a `complete` (of work that is taken back: the `reset`, at its end); it is within t
seconds if its span has a partner whose event is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import ProspectError
from pipeline.spans.records import Span, VideoSpans


@dataclass(frozen=True, slots=True)
class Comparison:
    """A against B, over the videos that both have."""

    num_videos: int
    events_a: int
    events_b: int
    gaps_s: tuple[float, ...]  # B - A, of each pair of events
    missing_a: tuple[tuple[str, str], ...]  # (video, step) with spans in B alone
    missing_b: tuple[tuple[str, str], ...]
    only_a: tuple[str, ...]  # videos
    only_b: tuple[str, ...]
    other_steps: tuple[str, ...]  # videos in both, with unlike lists of steps: not compared

    def within(self, tolerance_s: float) -> int:
        return sum(abs(gap) <= tolerance_s + 1e-9 for gap in self.gaps_s)

    def numbers(self, tolerance_s: float) -> dict[str, Any]:
        """Give it for programs."""
        away = np.abs(self.gaps_s)
        count = self.within(tolerance_s)
        return {
            "videos": self.num_videos,
            "tolerance_s": tolerance_s,
            "events": {"a": self.events_a, "b": self.events_b, "paired": len(self.gaps_s), "within": count},
            "f1": 2 * count / (self.events_a + self.events_b) if self.events_a + self.events_b else None,
            "boundary_difference_s": {
                "median": round(float(np.median(away)), 3) if len(away) else None,
                "p90": round(float(np.quantile(away, 0.9)), 3) if len(away) else None,
            },
            "steps_missing_in_a": [{"video": video, "step": step} for video, step in self.missing_a],
            "steps_missing_in_b": [{"video": video, "step": step} for video, step in self.missing_b],
            "videos_only_in_a": list(self.only_a),
            "videos_only_in_b": list(self.only_b),
            "videos_with_other_steps": list(self.other_steps),
        }


def compare(a: Sequence[VideoSpans], b: Sequence[VideoSpans]) -> Comparison:
    """Compare two annotations.

    Raises:
        ProspectError: they have no video in common, or its steps are others.
    """
    of_a, of_b = {record.video: record for record in a}, {record.video: record for record in b}
    common = [video for video in of_a if video in of_b]
    if not common:
        names = f"{next(iter(of_a), 'none')!r}, ... in the first and {next(iter(of_b), 'none')!r}, ... in the second"
        raise ProspectError(
            f"--compare: found no video in both files ({names}), expected two annotations of one dataset"
        )
    unlike = {video for video in common if _names(of_a[video]) != _names(of_b[video])}
    alike = [video for video in common if video not in unlike]
    if not alike:
        raise ProspectError(
            f"--compare: the {len(common)} videos in both files have unlike lists of steps (ids and names), e.g. "
            f"{common[0]!r}; expected two annotations of one dataset"
        )
    gaps: list[float] = []
    missing_a: list[tuple[str, str]] = []
    missing_b: list[tuple[str, str]] = []
    for video in alike:
        for step in of_a[video].steps:
            ours = [span for span in of_a[video].spans if span.step == step.id]
            theirs = [span for span in of_b[video].spans if span.step == step.id]
            missing_a += [(video, step.id)] if theirs and not ours else []
            missing_b += [(video, step.id)] if ours and not theirs else []
            for one, other in _pairs(ours, theirs):
                gaps += [after - before for before, after in zip(_events(one), _events(other), strict=True)]
    return Comparison(
        len(alike),
        _count(of_a[video] for video in alike),
        _count(of_b[video] for video in alike),
        tuple(gaps),
        tuple(missing_a),
        tuple(missing_b),
        tuple(video for video in of_a if video not in of_b),
        tuple(video for video in of_b if video not in of_a),
        tuple(video for video in common if video in unlike),
    )


def _names(record: VideoSpans) -> set[tuple[str, str]]:
    return {(step.id, step.name) for step in record.steps}


def _events(span: Span) -> tuple[float, ...]:
    return (span.end_s,) if span.outcome == "undone" else (span.start_s, span.end_s)


def _count(records: Iterable[VideoSpans]) -> int:
    return sum(len(_events(span)) for record in records for span in record.spans)


def _pairs(ours: Sequence[Span], theirs: Sequence[Span]) -> list[tuple[Span, Span]]:
    """Nearest first; work goes with work, and what takes it back with what takes it back."""
    near = sorted(
        (abs(one.start_s - other.start_s) + abs(one.end_s - other.end_s), i, j)
        for i, one in enumerate(ours)
        for j, other in enumerate(theirs)
        if (one.outcome == "undone") == (other.outcome == "undone")
    )
    pairs: dict[int, int] = {}
    for _, i, j in near:
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return [(ours[i], theirs[j]) for i, j in sorted(pairs.items())]
