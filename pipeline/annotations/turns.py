"""Checks of a clip's steps and turns: states replayed in file order, and where turns stand.

One mistake is one line: what follows from it is not reported again. A state that a mistake leaves unknown is taken from
the next turn that tells it; a step that the clip does not list is named once; the order of turns goes on from a turn
that stands too early.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from pipeline.annotations.clips import Progress, Role, Turn
from pipeline.annotations.dst import MOVES, STATES, STEP_ID, State, Update, as_transition, format_updates
from pipeline.annotations.records import RawClip, RawStep, RawTurn, RawUpdate, Read, read_record, updates_of
from pipeline.annotations.report import Report, short

ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "dst_update": "dst_update",
}
States = dict[str, State | None]  # step id -> its state; None: not known, after a mistake
MAX_SECONDS = 10_000_000  # a turn's time; 115 days


@dataclass(slots=True)
class Steps:
    """A clip's steps, and what is known of their states."""

    steps: list[RawStep]
    state: States
    are_known: bool  # the list of steps is sound: a step outside it is a mistake
    unknown: set[str] = field(default_factory=set)  # steps outside it that were named already

    def knows(self, step_id: str, where: str, report: Report) -> bool:
        """Whether the clip lists the step; reports one that it does not, once."""
        if step_id in self.state:
            return True
        if self.are_known and step_id not in self.unknown:
            self.unknown.add(step_id)
            ids = ", ".join(self.state)
            report.add(where, f"step {step_id!r}", f"one of {ids}" if ids else "no step, as the clip's dst lists none")
        return False


@dataclass(frozen=True, slots=True)
class Span:
    """The clip's frames, both ends inclusive, as far as they are sound."""

    first: int | None
    last: int | None
    fps: float | None


def check_steps(clip: Read[RawClip], report: Report) -> Steps:
    """Check step ids and the state before the clip."""
    raw = clip.record
    read = [read_record(RawStep, step, report, f"dst.{place}") for place, step in enumerate(raw.dst)]
    ids = [step.record.id for step in read if "id" not in step.unsound]
    are_known = "dst" not in clip.unsound and len(ids) == len(read)
    seen: set[str] = set()
    for place, step in enumerate(read):
        if "id" in step.unsound:
            continue
        step_id = step.record.id
        if not STEP_ID.fullmatch(step_id):
            report.add(f"dst.{place}.id", repr(step_id), "letters, digits, '_', '.' or '-' (it stands in 'S1->start')")
        if step_id in seen:
            report.add(f"dst.{place}.id", repr(step_id), "each step id once")
        seen.add(step_id)
    steps = Steps([step.record for step in read], dict.fromkeys(ids, "not_started"), are_known)
    given = raw.initial_dst_state
    if "initial_dst_state" in clip.unsound:
        steps.state = dict.fromkeys(ids)
    elif raw.clip_idx > 0 and ids and given is None:
        expected = f"the state of the steps before the clip, as clip_idx is {raw.clip_idx}"
        report.add("initial_dst_state", "nothing", expected)
        steps.state = dict.fromkeys(ids)
    for step_id, value in (given or {}).items():
        if steps.knows(step_id, "initial_dst_state", report):
            steps.state[step_id] = _known_state(step_id, value, "initial_dst_state", report)
    return steps


def check_turns(
    clip: Read[RawClip], steps: Steps, span: Span, report: Report
) -> tuple[list[Turn], tuple[Progress, ...]]:
    """Replay the states in file order; gives the turns that could be made, in file order, and the progress texts."""
    turns: list[Turn] = []
    before = (span.first or 0) - 1  # where what is known before the clip stands
    told = [(before, clip.record.initial_progress)]
    latest = span.first or 0
    for index, raw in enumerate(clip.record.conversation):
        report.at_turn(index, raw.get("role") if isinstance(raw, dict) else type(raw).__name__)
        read = read_record(RawTurn, raw, report)
        turn = read.record
        role = ROLES.get(turn.role.lower())
        if role is None and "role" not in read.unsound:
            report.add("role", repr(turn.role), "system, user, assistant or DST_UPDATE")
        _check_state(turn.dst_state or {}, steps, report)
        if role == "dst_update":
            text = format_updates(_check_updates(read, steps, report))
        else:
            text = _check_text(read, report) if role else ""
        start, end, latest = _check_range(read, role, span, latest, report)
        if role:
            turns.append(Turn(role, text, start, end))
        told.append((before if end is None else max(end, before), turn.progress))
    report.turn = ""
    return turns, tuple(sorted(_progress(told, span), key=lambda progress: progress.frame))


def _progress(told: list[tuple[int, str | None]], span: Span) -> Iterator[Progress]:
    """The progress texts; that of a system turn after the clip is no part of it."""
    for frame, text in told:
        if text and text.strip() and (span.last is None or frame <= span.last):
            yield Progress(frame, text.strip())


def _known_state(step_id: str, value: str, where: str, report: Report) -> State | None:
    for state in STATES:
        if value == state:
            return state
    report.add(f"{where}.{step_id}", short(value), " | ".join(STATES))
    return None


def _check_state(given: Mapping[str, str], steps: Steps, report: Report) -> None:
    """The state that a turn says is before it, against the replayed one."""
    for step_id, value in given.items():
        if not steps.knows(step_id, "dst_state", report):
            continue
        replayed = steps.state[step_id]
        if replayed is None:
            steps.state[step_id] = _known_state(step_id, value, "dst_state", report)
        elif value != replayed:
            report.add(f"dst_state.{step_id}", short(value), f"{replayed!r}, the replayed state before this turn")
            steps.state[step_id] = None


def _check_text(read: Read[RawTurn], report: Report) -> str:
    content = read.record.content
    text = content if isinstance(content, str) else ""
    if not text.strip() and "content" not in read.unsound:
        report.add("content", short(content), "a text that is not empty")
    return text


def _check_updates(read: Read[RawTurn], steps: Steps, report: Report) -> list[Update]:
    if "content" in read.unsound:
        steps.state = dict.fromkeys(steps.state)
        return []
    content = read.record.content
    if isinstance(content, str) and "->" in content:
        content = updates_of(content)
    if isinstance(content, str) or not content:
        report.add("content", short(content), "a list of {id, transition} that is not empty, or 'S1->start'")
        steps.state = dict.fromkeys(steps.state)
        return []
    updates = [_check_update(update, steps, report) for update in content]
    return [update for update in updates if update is not None]


def _check_update(raw: RawUpdate, steps: Steps, report: Report) -> Update | None:
    if not steps.knows(raw.id, "content.id", report):
        return None
    transition = as_transition(raw.transition)
    if transition is None:
        report.add("content.transition", short(raw.transition), " | ".join(MOVES))
        steps.state[raw.id] = None
        return None
    update = Update(raw.id, transition)
    before, after = MOVES[transition]
    if steps.state[raw.id] not in (*before, None):
        found = f"{update} while {raw.id} is {steps.state[raw.id]}"
        report.add(f"content.{raw.id}", found, f"{raw.id} {' or '.join(before)}")
    steps.state[raw.id] = after  # the annotator's word, so that one mistake is reported once
    return update


def _check_range(
    read: Read[RawTurn], role: Role | None, span: Span, latest: int, report: Report
) -> tuple[int | None, int | None, int]:
    """Check the turn's frames; gives them, and the latest end_frame seen so far."""
    start, end = read.record.start_frame, read.record.end_frame
    if read.unsound & {"start_frame", "end_frame"}:
        return start, end, latest
    if start is None and end is None and read.record.time is not None:
        start, end = _frames_at(read.record, span, report)
        if start is None:
            return start, end, latest
    if start is None or end is None:
        if role != "system" or (start is None) != (end is None):
            report.add("end_frame" if end is None else "start_frame", "nothing", "a frame index, or seconds as time")
        return start, end, latest
    if start > end:
        report.add("end_frame", end, f"start_frame {start} or later")
        return start, end, latest
    if span.first is None or span.last is None:
        return start, end, latest
    if not span.first <= start or not end <= span.last:
        if role != "system":
            expected = f"frames inside the clip, {span.first}..{span.last}"
            report.add("start_frame, end_frame", f"{start}..{end}", expected)
        return start, end, latest
    if end < latest:
        report.add("end_frame", end, f"{latest} or later, as an earlier turn stands there (turns in frame order)")
    return start, end, end


def _frames_at(turn: RawTurn, span: Span, report: Report) -> tuple[int | None, int | None]:
    """The rows shown at `time` and `end_time`: floor(seconds * fps), counted exactly from the file's first row."""
    seconds = {"time": turn.time, "end_time": turn.time if turn.end_time is None else turn.end_time}
    wrong = [name for name, value in seconds.items() if not _is_time(value)]
    for name in wrong[:1]:
        report.add(name, short(seconds[name]), "seconds from the beginning of the frames file, 0 or more")
    if wrong or span.fps is None:
        return None, None
    start, end = (frame_at(value, span.fps) for value in seconds.values())
    return start, end


def frame_at(seconds: float, fps: float) -> int:
    """Give the row shown at `seconds`, counted exactly from the file's first row."""
    return math.floor(Fraction(str(seconds)) * Fraction(str(fps)))


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS
