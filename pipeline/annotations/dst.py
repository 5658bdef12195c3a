"""Dialogue state tracking: the states of steps, their transitions, and the two text forms.

A state text is ``S1:completed, S2:in_progress``; an update text is ``S1->complete, S2->start``. Nothing else parses.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["not_started", "in_progress", "completed"]
Transition = Literal["start", "complete", "reset"]

STATES: tuple[State, ...] = ("not_started", "in_progress", "completed")
MOVES: Mapping[Transition, tuple[tuple[State, ...], State]] = {  # from one of these states, to that
    "start": (("not_started",), "in_progress"),
    "complete": (("in_progress",), "completed"),
    "reset": (("in_progress", "completed"), "not_started"),  # work that is undone
}
FORWARD: tuple[Transition, ...] = ("start", "complete")  # of datasets in which nothing is undone
STEP_ID = re.compile(r"[A-Za-z0-9_.]+(?:-[A-Za-z0-9_.]+)*")  # no ",", ":", "->" or space: both texts must parse


@dataclass(frozen=True, slots=True)
class Update:
    """One transition of one step, e.g. ``S1->start``."""

    step: str
    transition: Transition

    def __str__(self) -> str:
        return f"{self.step}->{self.transition}"


def format_updates(updates: Iterable[Update]) -> str:
    return ", ".join(map(str, updates))


def parse_updates(text: str) -> tuple[Update, ...]:
    """Invert `format_updates`. Raises ValueError for any other text, the empty one included."""
    updates = []
    for piece in text.split(", "):
        step, _, name = piece.rpartition("->")
        transition = as_transition(name)
        if transition is None or not STEP_ID.fullmatch(step):
            raise ValueError(f"{text!r} is not an update text such as 'S1->complete, S2->start'")
        updates.append(Update(step, transition))
    return tuple(updates)


def as_transition(name: str) -> Transition | None:
    return next((transition for transition in MOVES if transition == name), None)


def format_state(steps: Iterable[str], state: Mapping[str, State], *, touched_only: bool = False) -> str:
    """Write ``S1:completed, S2:in_progress`` over `steps`, in their order; `touched_only` leaves out not_started."""
    return ", ".join(f"{s}:{state[s]}" for s in steps if not (touched_only and state[s] == "not_started"))


def state_in_words(names: Mapping[str, str], state: Mapping[str, State]) -> str:
    """Tell the state as a progress text does, by the `names` of the steps (id -> name), in their order.

    `Done: Attach the red wheel; Insert the blue rod. Now: Mount the green block.`; "" where no step is touched.
    """
    parts = []
    for label, value in (("Done", "completed"), ("Now", "in_progress")):
        if told := "; ".join(name for step, name in names.items() if state[step] == value):
            parts.append(f"{label}: {told}.")
    return " ".join(parts)


def apply_updates(state: Mapping[str, State], updates: Iterable[Update]) -> dict[str, State]:
    """Give the state after `updates`, one after the other.

    Raises:
        ValueError: a step that is not in `state`, or a transition that is illegal in the state it meets.
    """
    new = dict(state)
    for update in updates:
        before, after = MOVES[update.transition]
        if update.step not in new:
            raise ValueError(f"step {update.step!r} is not one of {', '.join(new)}")
        if new[update.step] not in before:
            raise ValueError(f"{update} needs {update.step} {' or '.join(before)}, but it is {new[update.step]}")
        new[update.step] = after
    return new


def legal_updates(
    steps: Sequence[str], state: Mapping[str, State], transitions: Iterable[Transition] = FORWARD
) -> list[Update]:
    """List the `transitions` that are legal in `state`, in step order."""
    transitions = tuple(transitions)
    return [Update(s, t) for s in steps for t in transitions if state[s] in MOVES[t][0]]
