"""Records of spans, written short."""

from typing import Any

from pipeline.spans.records import NamedStep, Span, VideoSpans


def spans_of(
    video: str, *spans: tuple[Any, ...], steps: int = 3, duration_s: float | None = 100.0, **about: Any
) -> VideoSpans:
    """A video with steps S1 "do 1", S2 "do 2", ...; spans as (step, start_s, end_s) and fields of `Span`."""
    return VideoSpans(
        video=video,
        dataset="d",
        duration_s=duration_s,
        steps=tuple(NamedStep(id=f"S{n}", name=f"do {n}") for n in range(1, steps + 1)),
        spans=tuple(
            Span(step=step, start_s=start_s, end_s=end_s, **(fields[0] if fields else {}))
            for step, start_s, end_s, *fields in spans
        ),
        **about,
    )
