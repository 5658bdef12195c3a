"""Changes of one clip as people annotate it: move, add and remove events, on the record that its file holds.

A `Draft` is a clip's raw record with its turns apart, each with where it was in the file. Every change gives a new
draft that shares what did not change, so that drafts are kept for undo, and only new turns and values are written
(`json_text.py`). Turns stay in the order of their last frames; a turn that is moved goes no further than it must. The
states that turns list are computed after every change, never typed. Whether a draft is a sound clip is for
`validate.py` to say: an unsound one may be on its way to a sound one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from pipeline.annotations.dst import MOVES, Transition, as_transition
from pipeline.annotations.json_text import Element, with_value
from pipeline.annotations.records import updates_of
from pipeline.annotations.turns import ROLES, frame_at
from pipeline.errors import ProspectError

TURNS, STATE = "conversation", "dst_state"
_RANKS = {"complete": 1, "reset": 2, "start": 3}  # of what stands at one frame; before them user and system lines
_LINE, _SAID = 0, 4
States = dict[str, str]


@dataclass(frozen=True, slots=True)
class Draft:
    """A clip's record on its way."""

    raw: Mapping[str, Any]  # as it stands in the file, but for what was changed; its turns are `items`
    items: tuple[Element, ...]
    key: str = TURNS  # of its items; "spans" of a record of spans (pipeline/spans/edits.py)

    @property
    def value(self) -> dict[str, Any]:
        """The whole record."""
        if not self.items and not isinstance(self.raw.get(self.key), list):
            return dict(self.raw)
        return {**self.raw, self.key: [item.value for item in self.items]}

    def text(self, base: str, margin: str = "") -> str:
        """Write the record into `base`, its text when it was taken apart; `margin`: of its first line."""
        return with_value(base, self.value, {self.key: self.items}, margin)


def draft_of(raw: Mapping[str, Any], key: str = TURNS) -> Draft:
    """Take a record apart; turns that are no list are none."""
    listed = raw.get(key)
    items = enumerate(listed if isinstance(listed, list) else [])
    return Draft(raw, tuple(Element(number, item) for number, item in items), key)


def range_of(draft: Draft, number: int) -> tuple[int, int] | None:
    """Give the first and last frame of a turn (both inclusive); None: it has none, or none that can be read."""
    turn = draft.items[number].value
    if not isinstance(turn, dict):
        return None
    start, end, time = turn.get("start_frame"), turn.get("end_frame"), turn.get("time")
    if start is None and end is None and isinstance(time, int | float) and _is_number(time):
        until = time if turn.get("end_time") is None else turn["end_time"]
        return frame_at(time, _fps(draft)), frame_at(until if _is_number(until) else time, _fps(draft))
    return (start, end) if type(start) is int and type(end) is int else None


def role_of(turn: Any) -> str:
    """Give a turn's role as clips have it; "" where it has none."""
    role = turn.get("role") if isinstance(turn, dict) else None
    return ROLES.get(role.lower(), "") if isinstance(role, str) else ""


def transitions_of(turn: Any) -> list[tuple[str, str]]:
    """List (step, transition) of an update, as they stand there."""
    content = turn.get("content") if isinstance(turn, dict) else None
    if role_of(turn) != "dst_update":
        return []
    if isinstance(content, str):
        return [(update.id, update.transition) for update in updates_of(content)]
    listed = content if isinstance(content, list) else []
    return [(str(one.get("id")), str(one.get("transition"))) for one in listed if isinstance(one, dict)]


def steps_of(draft: Draft) -> list[tuple[str, str]]:
    """List (id, name) of the clip's steps, as far as they are sound."""
    steps = draft.raw.get("dst")
    listed = steps if isinstance(steps, list) else []
    return [
        (one["id"], str(one.get("name", "")))
        for one in listed
        if isinstance(one, dict) and isinstance(one.get("id"), str)
    ]


def states_before(draft: Draft) -> list[States]:
    """Give the state of every step before each turn, and after the last. An illegal transition counts as made."""
    state = {step: "not_started" for step, _ in steps_of(draft)}
    given = _given_state(draft)
    state |= {step: value for step, value in given.items() if step in state}
    states = [dict(state)]
    for turn in draft.items:
        for step, name in transitions_of(turn.value):
            transition = as_transition(name)
            if transition and step in state:
                state[step] = MOVES[transition][1]
        states.append(dict(state))
    return states


def state_at(draft: Draft, frame: int) -> States:
    """Give the state of every step after all that stands at `frame` or before it."""
    last = 0
    for number in range(len(draft.items)):
        place = range_of(draft, number)
        if place is not None and place[1] <= frame:
            last = number + 1
    return states_before(draft)[last]


def move(draft: Draft, number: int, start_by: int, end_by: int) -> Draft:
    """Shift a turn's first and last frame by so many frames.

    Raises:
        ProspectError: the turn has no frames, or would end before it begins.
    """
    place = range_of(draft, number)
    if place is None:
        raise ProspectError(f"turn {number} has no frames that could be moved")
    start, end = place[0] + start_by, place[1] + end_by
    if not 0 <= start <= end:
        raise ProspectError(
            f"turn {number}: found frames {start}..{end}, expected a first one of 0 or more, then the last"
        )
    return _with_states(
        draft, _placed(_replaced(draft, number, _at(draft, draft.items[number].value, start, end)), number)
    )


def move_transition(draft: Draft, number: int, place: int, by: int) -> Draft:
    """Shift one transition of an update, which becomes a turn of its own where others stand with it."""
    if len(transitions_of(draft.items[number].value)) <= 1:
        return move(draft, number, by, by)
    split, alone = split_transition(draft, number, place)
    return move(split, alone, by, by)


def split_transition(draft: Draft, number: int, place: int) -> tuple[Draft, int]:
    """Give a transition of a turn of several a turn of its own, right after it; gives its number too."""
    turn, pairs = draft.items[number].value, transitions_of(draft.items[number].value)
    left = [pair for other, pair in enumerate(pairs) if other != place]
    rest = Element(draft.items[number].origin, turn | {"content": _content(turn["content"], left)})
    own = Element(None, turn | {"content": _content(turn["content"], [pairs[place]])})
    return replace(draft, items=(*draft.items[:number], rest, own, *draft.items[number + 1 :])), number + 1


def add_update(
    draft: Draft, frame: int, step: str, transition: Transition, more: Mapping[str, Any] | None = None
) -> Draft:
    """Put a transition at a frame, as a turn of its own."""
    like = next((turn.value for turn in draft.items if role_of(turn.value) == "dst_update"), None)
    content = _content(like["content"] if like else [], [(step, transition)])
    role = like["role"] if like else "DST_UPDATE"
    return _added(draft, {"role": role, "content": content}, frame, _RANKS[transition], more or {}, step)


def add_line(draft: Draft, frame: int, role: str, text: str, more: Mapping[str, Any] | None = None) -> Draft:
    """Put a system or user line, or an utterance of the assistant, at a frame."""
    like = next((turn.value for turn in draft.items if role_of(turn.value) == role), None)
    turn = {"role": like["role"] if like else role, "content": text}
    return _added(draft, turn, frame, _SAID if role == "assistant" else _LINE, more or {})


def set_text(draft: Draft, number: int, text: str) -> Draft:
    """Say something else in a turn.

    Raises:
        ProspectError: it is an update, whose content is transitions.
    """
    turn = draft.items[number].value
    if not isinstance(turn, dict) or role_of(turn) == "dst_update":
        raise ProspectError(f"turn {number} has no text: its content is transitions")
    return _replaced(draft, number, turn | {"content": text})


def set_transition(draft: Draft, number: int, place: int, step: str, transition: Transition) -> Draft:
    """Make another transition of one of an update's."""
    turn, pairs = draft.items[number].value, transitions_of(draft.items[number].value)
    pairs[place] = (step, transition)
    return _with_states(draft, _replaced(draft, number, turn | {"content": _content(turn["content"], pairs)}))


def remove(draft: Draft, number: int, place: int | None = None) -> Draft:
    """Remove a turn, or one transition of an update of several."""
    turn, pairs = draft.items[number].value, transitions_of(draft.items[number].value)
    if place is not None and len(pairs) > 1:
        left = [pair for other, pair in enumerate(pairs) if other != place]
        return _with_states(draft, _replaced(draft, number, turn | {"content": _content(turn["content"], left)}))
    return _with_states(draft, replace(draft, items=draft.items[:number] + draft.items[number + 1 :]))


def set_steps(draft: Draft, steps: Sequence[tuple[str, str]]) -> Draft:
    """Give the clip other steps; of those that stay, other keys stay."""
    listed = draft.raw.get("dst")
    old = {one.get("id"): one for one in listed if isinstance(one, dict)} if isinstance(listed, list) else {}
    made = [{**old.get(step, {}), "id": step, "name": name} for step, name in steps]
    return _with_states(draft, replace(draft, raw={**draft.raw, "dst": made}))


def next_transition(draft: Draft, frame: int, step: str) -> Transition:
    """Tell which transition brings a step on at a frame.

    Raises:
        ProspectError: it is completed there.
    """
    state = state_at(draft, frame).get(step)
    if state is None:
        raise ProspectError(
            f"step {step!r} is not one of the clip's: {', '.join(step for step, _ in steps_of(draft)) or 'none'}"
        )
    if state == "completed":
        raise ProspectError(f"{step} is completed already at frame {frame}; Shift with its digit takes it back")
    return "start" if state == "not_started" else "complete"


def _added(draft: Draft, turn: dict[str, Any], frame: int, rank: int, more: Mapping[str, Any], step: str = "") -> Draft:
    """Put a turn behind all before its frame, and behind those there of its rank or of its step."""
    made = _at(draft, turn, frame, frame)
    if any(isinstance(other.value, dict) and isinstance(other.value.get(STATE), dict) for other in draft.items):
        made[STATE] = {}
    number = 0
    for place, other in enumerate(draft.items):
        found = range_of(draft, place)
        is_before = _rank(other.value) <= rank or step in dict(transitions_of(other.value))
        if found is not None and (found[1] < frame or (found[1] == frame and is_before)):
            number = place + 1
    turns = (*draft.items[:number], Element(None, made | dict(more)), *draft.items[number:])
    return _with_states(draft, replace(draft, items=turns))


def _rank(turn: Any) -> int:
    pairs = transitions_of(turn)
    if pairs:
        return max(_RANKS.get(name, _LINE) for _, name in pairs)
    return _SAID if role_of(turn) == "assistant" else _LINE


def _at(draft: Draft, turn: Mapping[str, Any], start: int, end: int) -> dict[str, Any]:
    """The turn at other frames, said as it says its own, or as the clip's others do; times beside frames go along."""
    fps, others = _fps(draft), [one.value for one in draft.items if isinstance(one.value, dict)]
    by_time = "end_frame" not in turn and (
        "time" in turn or ("role" in turn and bool(others) and all("end_frame" not in one for one in others))
    )
    if by_time:
        made = dict(turn) | {"time": _seconds(start, fps)}
        if end != start or "end_time" in turn:
            made["end_time"] = _seconds(end, fps)
        return made
    made = dict(turn) | {"start_frame": start, "end_frame": end}
    before = turn.get("end_frame")
    if type(before) is int and end - before == start - turn["start_frame"]:
        for key in ("time", "end_time"):
            if _is_number(turn.get(key)):
                made[key] = round(turn[key] + (end - before) / fps, 3)
    return made


def _seconds(frame: int, fps: float) -> float:
    """The shortest number of seconds whose row is `frame`."""
    exact = Fraction(frame) / Fraction(str(fps))
    digits = 0
    while frame_at(seconds := math.ceil(exact * 10**digits) / 10**digits, fps) != frame:
        digits += 1
    return int(seconds) if seconds == int(seconds) else seconds


def _placed(draft: Draft, number: int) -> Draft:
    """Move a turn as few places as puts it into the order of last frames."""
    turn, others = draft.items[number], [*draft.items[:number], *draft.items[number + 1 :]]
    rest = replace(draft, items=tuple(others))
    own = range_of(draft, number)
    ends = [
        place[1] if (place := range_of(rest, other)) and _counts(rest, other) else None for other in range(len(others))
    ]
    assert own is not None
    least = max((at + 1 for at, end in enumerate(ends) if end is not None and end < own[1]), default=0)
    most = min((at for at, end in enumerate(ends) if end is not None and end > own[1]), default=len(others))
    new = min(max(number, least), max(most, least))
    return replace(draft, items=(*others[:new], turn, *others[new:]))


def _counts(draft: Draft, number: int) -> bool:
    """Whether a turn has a place in the order: a system turn from before the clip has none."""
    first = draft.raw.get("start_frame_idx")
    place = range_of(draft, number)
    return place is not None and (type(first) is not int or place[1] >= first)


def _with_states(before: Draft, draft: Draft) -> Draft:
    """Compute the states that turns list. Which steps: those touched so far, where the clip's turns listed just these
    before the change; else each turn's own."""
    touched_before, states = _touched(before), states_before(draft)
    is_custom = any(
        (listed := _listed(turn)) is not None and set(listed) != touched_before[number]
        for number, turn in enumerate(before.items)
    )
    turns = []
    for turn, state, touched in zip(draft.items, states, _touched(draft), strict=False):
        listed = _listed(turn)
        if listed is None:
            turns.append(turn)
            continue
        steps = (
            [step for step in listed if step in state]
            if is_custom and listed
            else [step for step in state if step in touched]
        )
        old = [step for step in listed if step in steps]
        wanted = {step: state[step] for step in (*old, *(step for step in steps if step not in old))}
        if wanted != listed:
            turn = replace(turn, value=turn.value | {STATE: wanted})
        turns.append(turn)
    return replace(draft, items=tuple(turns))


def _touched(draft: Draft) -> list[set[str]]:
    """The steps touched up to each turn, its own among them."""
    touched = {step for step, value in _given_state(draft).items() if value != "not_started"}
    found = []
    for turn in draft.items:
        touched = touched | {step for step, _ in transitions_of(turn.value)}
        found.append(touched)
    return found


def _listed(turn: Element) -> dict[str, Any] | None:
    state = turn.value.get(STATE) if isinstance(turn.value, dict) else None
    return state if isinstance(state, dict) else None


def _given_state(draft: Draft) -> Mapping[str, Any]:
    metadata = draft.raw.get("metadata")
    given = draft.raw.get("initial_dst_state")
    if given is None and isinstance(metadata, dict):
        given = metadata.get("initial_dst_state")
    return given if isinstance(given, dict) else {}


def _content(like: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    """Transitions as the clip writes them: a list of {id, transition}, or a text."""
    if isinstance(like, str):
        return ", ".join(f"{step}->{name}" for step, name in pairs)
    return [{"id": step, "transition": name} for step, name in pairs]


def _replaced(draft: Draft, number: int, value: Any) -> Draft:
    turns = list(draft.items)
    turns[number] = Element(turns[number].origin, value)
    return replace(draft, items=tuple(turns))


def _fps(draft: Draft) -> float:
    fps = draft.raw.get("fps", 2)
    return fps if _is_number(fps) and 0 < fps <= 1000 else 2


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1e7
