"""Changes of a video's spans as people annotate them, on the record that `spans.jsonl` holds (docs/design.md §11).

As `pipeline/annotations/edits.py` does for clips: every change gives a new draft, and what did not change is shared.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from pipeline.annotations.edits import Draft, draft_of
from pipeline.annotations.json_text import Element
from pipeline.errors import ProspectError
from pipeline.io.records import problem_of
from pipeline.spans.records import Span, VideoSpans, problems_of

SPANS = "spans"
OUTCOMES = ("done", "error", "undone")
LEAST_S = 0.1  # of a span that has just begun


def spans_draft(raw: Mapping[str, Any]) -> Draft:
    """Take a record of spans apart."""
    return draft_of(raw, SPANS)


def move_span(draft: Draft, number: int, start_by: float, end_by: float) -> Draft:
    """Shift the beginning and the end of a span, in seconds.

    Raises:
        ProspectError: it would end before it begins.
    """
    span = _span(draft, number)
    start, end = round(span["start_s"] + start_by, 3), round(span["end_s"] + end_by, 3)
    if not 0 <= start <= end:
        raise ProspectError(f"span {number}: found {start}..{end} s, expected a beginning of 0 or more, then the end")
    return _changed(draft, number, {"start_s": start, "end_s": end})


def mark_step(draft: Draft, step: str, at_s: float) -> Draft:
    """Begin a span of a step at a moment; or end the one that was begun so before it, and has no length yet."""
    begun = [
        number for number, item in enumerate(draft.items)
        if _is_span(item.value) and item.value["step"] == step and item.value.get("end_s") == _least_end(item.value)
        and item.value["start_s"] < at_s
    ]  # fmt: skip
    if begun:
        return _changed(draft, begun[-1], {"end_s": round(at_s, 3)})
    span = {"step": step, "start_s": round(at_s, 3), "end_s": round(at_s + LEAST_S, 3)}
    like: Mapping[str, Any] = next((item.value for item in draft.items if _is_span(item.value)), {})
    span |= {key: value for key, value in (("outcome", "done"), ("method", "human")) if key in like}
    number = sum(_is_span(item.value) and item.value["start_s"] <= at_s for item in draft.items)
    items = (*draft.items[:number], Element(None, span), *draft.items[number:])
    return _edited(replace(draft, items=items))


def set_outcome(draft: Draft, number: int, outcome: str) -> Draft:
    """Say how a span ended: done, error or undone."""
    if outcome not in OUTCOMES:
        raise ProspectError(f"found outcome {outcome!r}, expected one of {', '.join(OUTCOMES)}")
    return _changed(draft, number, {"outcome": outcome})


def remove_span(draft: Draft, number: int) -> Draft:
    _span(draft, number)
    return _edited(replace(draft, items=draft.items[:number] + draft.items[number + 1 :]))


def problems_of_draft(draft: Draft) -> list[tuple[int | None, str]]:
    """List what is wrong with the record, with the number of the span at fault."""
    try:
        found = problems_of(VideoSpans.model_validate(draft.value))
        problems = [(one.field, f"found {one.found}, expected {one.expected}") for one in found]
    except ValidationError as error:
        problems = [(".".join(map(str, one["loc"])), problem_of({**one, "loc": ()})) for one in error.errors()]
    return [(_number(field), f"{field}: {told}") for field, told in problems]


def _number(field: str) -> int | None:
    parts = field.split(".")
    return int(parts[1]) if parts[0] == SPANS and len(parts) > 1 and parts[1].isdigit() else None


def _is_span(value: Any) -> bool:
    try:
        Span.model_validate(value)
    except ValidationError:
        return False
    return True


def _span(draft: Draft, number: int) -> Mapping[str, Any]:
    if not 0 <= number < len(draft.items) or not _is_span(draft.items[number].value):
        raise ProspectError(f"span {number}: there is none that can be changed")
    return draft.items[number].value


def _least_end(span: Mapping[str, Any]) -> float:
    return round(span["start_s"] + LEAST_S, 3)


def _changed(draft: Draft, number: int, values: Mapping[str, Any]) -> Draft:
    items = list(draft.items)
    items[number] = Element(items[number].origin, {**_span(draft, number), **values})
    return _edited(replace(draft, items=tuple(items)))


def _edited(draft: Draft) -> Draft:
    """Say in the record's provenance that a person changed it, as read-back edits do."""
    provenance = draft.raw.get("provenance")
    if isinstance(provenance, dict) and "edited" not in provenance:
        return replace(draft, raw={**draft.raw, "provenance": {**provenance, "edited": "prospect review"}})
    return draft
