"""What the page may ask to be changed: one record a kind of change, checked, then made by the pipeline's own edits."""

from collections.abc import Callable
from functools import reduce
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.annotations import edits
from pipeline.annotations.dst import STEP_ID, Transition
from pipeline.annotations.edits import Draft
from pipeline.errors import ProspectError
from pipeline.io.records import problems_of
from pipeline.spans import edits as spans
from prospect.web.review.documents import Kind

MOST_STEPS = 200
Frame = Annotated[int, Field(ge=0, le=2**31 - 1)]
Number = Annotated[int, Field(ge=0, le=1_000_000)]
By = Annotated[int, Field(ge=-(2**31), le=2**31)]
Text = Annotated[str, Field(pattern=r"\S", max_length=20_000)]
Role = Literal["system", "user", "assistant"]


class _Change(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Edge(_Change):
    """A transition, by its turn and its place in it."""

    turn: Number
    place: Number


class Move(_Change):
    kind: Literal["move"]
    turn: Number
    start_by: By
    end_by: By

    def made(self, draft: Draft) -> Draft:
        return edits.move(draft, _known(draft, self.turn), self.start_by, self.end_by)


class MoveEdges(_Change):
    """Shift the beginning of a stretch of work, its end, or both."""

    kind: Literal["move_edges"]
    edges: Annotated[list[Edge], Field(min_length=1, max_length=2)]
    by: By

    def made(self, draft: Draft) -> Draft:
        names = [_nth(draft, edge) for edge in self.edges]

        def one(made: Draft, name: tuple[str, str, int]) -> Draft:
            number, place = _found(made, name)
            return edits.move_transition(made, number, place, self.by)

        return reduce(one, names if self.by < 0 else names[::-1], draft)


class Mark(_Change):
    """Bring a step on at a frame: start it, or complete it; or take it back."""

    kind: Literal["mark"]
    frame: Frame
    step: str
    transition: Transition | None = None

    def made(self, draft: Draft) -> Draft:
        return edits.add_update(
            draft, self.frame, self.step, self.transition or edits.next_transition(draft, self.frame, self.step)
        )


class Say(_Change):
    kind: Literal["say"]
    frame: Frame
    role: Role
    text: Text

    def made(self, draft: Draft) -> Draft:
        return edits.add_line(draft, self.frame, self.role, self.text)


class SetText(_Change):
    kind: Literal["text"]
    turn: Number
    text: Text

    def made(self, draft: Draft) -> Draft:
        return edits.set_text(draft, _known(draft, self.turn), self.text)


class Remove(_Change):
    kind: Literal["remove"]
    turn: Number
    place: Number | None = None

    def made(self, draft: Draft) -> Draft:
        return edits.remove(draft, _known(draft, self.turn), self.place)


class NamedStep(_Change):
    id: Annotated[str, Field(pattern=f"^{STEP_ID.pattern}$", max_length=80)]
    name: Annotated[str, Field(pattern=r"^[^\r\n]*\S[^\r\n]*$", max_length=500)]


class SetSteps(_Change):
    kind: Literal["steps"]
    steps: Annotated[list[NamedStep], Field(max_length=MOST_STEPS)]

    def made(self, draft: Draft) -> Draft:
        return edits.set_steps(draft, [(step.id, step.name) for step in self.steps])


Seconds = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class MoveSpan(_Change):
    kind: Literal["move_span"]
    span: Number
    start_by: Seconds
    end_by: Seconds

    def made(self, draft: Draft) -> Draft:
        return spans.move_span(draft, self.span, self.start_by, self.end_by)


class MarkSpan(_Change):
    kind: Literal["mark_span"]
    step: str
    at: Annotated[Seconds, Field(ge=0)]

    def made(self, draft: Draft) -> Draft:
        return spans.mark_step(draft, self.step, self.at)


class SetOutcome(_Change):
    kind: Literal["outcome"]
    span: Number
    outcome: Literal["done", "error", "undone"]

    def made(self, draft: Draft) -> Draft:
        return spans.set_outcome(draft, self.span, self.outcome)


class RemoveSpan(_Change):
    kind: Literal["remove_span"]
    span: Number

    def made(self, draft: Draft) -> Draft:
        return spans.remove_span(draft, self.span)


_OF_CLIPS: TypeAdapter[Any] = TypeAdapter(
    Annotated[Move | MoveEdges | Mark | Say | SetText | Remove | SetSteps, Field(discriminator="kind")]
)
_OF_SPANS: TypeAdapter[Any] = TypeAdapter(
    Annotated[MoveSpan | MarkSpan | SetOutcome | RemoveSpan, Field(discriminator="kind")]
)


def change_of(kind: Kind, value: Any) -> Callable[[Draft], Draft]:
    """Read a change that the page asks for.

    Raises:
        ProspectError: it is none.
    """
    try:
        change = (_OF_CLIPS if kind == "clips" else _OF_SPANS).validate_python(value)
    except ValidationError as error:
        raise ProspectError(f"this cannot be done: {'; '.join(problems_of(error))}") from None
    return change.made


def _known(draft: Draft, number: int) -> int:
    if number >= len(draft.items):
        raise ProspectError(f"turn {number}: there is none")
    return number


def _nth(draft: Draft, edge: Edge) -> tuple[str, str, int]:
    """Name a transition so that it is found again when turns changed places: the how-manieth of its kind it is."""
    every = [
        (n, p, pair) for n, item in enumerate(draft.items) for p, pair in enumerate(edits.transitions_of(item.value))
    ]
    own = next((pair for n, p, pair in every if (n, p) == (edge.turn, edge.place)), None)
    if own is None:
        raise ProspectError(f"turn {edge.turn}: there is no transition {edge.place}")
    return *own, sum(pair == own and (n, p) < (edge.turn, edge.place) for n, p, pair in every)


def _found(draft: Draft, name: tuple[str, str, int]) -> tuple[int, int]:
    step, transition, nth = name
    every = [
        (number, place)
        for number, item in enumerate(draft.items)
        for place, pair in enumerate(edits.transitions_of(item.value))
        if pair == (step, transition)
    ]
    return every[nth]
