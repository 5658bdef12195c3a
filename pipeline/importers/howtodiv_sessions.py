"""A session of HowToDIV, read from its text: instructions, then turns, each with an interval of the video.

Both of its forms: NIV's `[00:00:01,580, 00:00:05,630]` and EgoPER's `[2.5, 26.7]`, the latter, where users err, with a
line of how they deviate, `['error', 'Fold tortilla']`. What generated the texts left `<end_of_turn>` in some of them.
"""

import re
from dataclasses import dataclass

from pipeline.spans.records import Line

_TIME = r"(\d+:\d+:\d+(?:[.,]\d+)?|\d+(?:\.\d+)?)"
_INTERVAL = re.compile(rf"\[\s*{_TIME}\s*,\s*{_TIME}\s*\]?")
_DEVIATION = re.compile(r"\[\s*(['\"])(?P<kind>\w+)\1\s*,\s*(['\"])(?P<what>.*)\3\s*\]")
_INSTRUCTION = re.compile(r"(\d{1,6})[.)]\s+(\S.*)")
_TURN = re.compile(r"Turn\s+(\d{1,6})")
_SAID = re.compile(r"(User|Expert)\s*:\s*(.*)")
_LONGEST_S = 24 * 3600.0
_AS_TOLD = ("None", "follow_instruction")  # in place of a deviation


class Unusable(Exception):
    """A session that cannot be used: why, and where in it."""

    def __init__(self, why: str, where: str = "") -> None:
        super().__init__(why)
        self.why, self.where = why, where


@dataclass(frozen=True, slots=True)
class Turn:
    start_s: float
    end_s: float
    deviation: tuple[str, str] | None  # how the user's work departs from the instruction: kind, and in words
    said: tuple[tuple[str, str], ...]  # "User" or "Expert", and what

    def lines(self, time_s: float) -> list[Line]:
        """Give what is said, at `time_s`."""
        return [
            Line(role="user" if who == "User" else "assistant", text=text, start_s=time_s)
            for who, text in self.said
            if text
        ]


@dataclass(frozen=True, slots=True)
class Session:
    instructions: tuple[str, ...]  # without the "Done" at their end
    turns: tuple[Turn, ...]  # the k-th, from 1, shows the work on instruction k-1


def parse_session(text: str) -> Session:
    """Read a session.

    Raises:
        Unusable: it is none, or has turns without an interval.
    """
    head, dialogue, rest = _parts(text)
    numbered = [_INSTRUCTION.fullmatch(line) for line in head]
    instructions = [match[2] for match in numbered if match]
    is_numbered = [match and int(match[1]) for match in numbered] == [*range(1, len(head) + 1)]
    if instructions and instructions[-1].rstrip(".!").lower() == "done":
        instructions.pop()
    if not (instructions and is_numbered and dialogue):
        raise Unusable("files without numbered instructions and a dialogue, left out")
    turns = _turns(rest)
    if not turns:
        raise Unusable("sessions without turns, left out")
    if len(turns) > len(instructions) + 1:
        where = f"{len(turns)} turns, {len(instructions)} steps"
        raise Unusable("sessions with more turns than their steps need, left out", where)
    return Session(tuple(instructions), tuple(turns))


def _parts(text: str) -> tuple[list[str], bool, list[str]]:
    """The instructions' lines, whether a dialogue follows, and its lines (with the empty ones)."""
    lines = [line.strip() for line in text.replace("<end_of_turn>", "").removeprefix("\ufeff").splitlines()]
    end = lines.index("Dialogue") if "Dialogue" in lines else len(lines)
    head = [line for line in lines[:end] if line and line != "Instructions"]
    return head, end < len(lines), lines[end + 1 :]


def _turns(lines: list[str]) -> list[Turn]:
    turns: list[tuple[float, float, tuple[str, str] | None, list[tuple[str, str]]]] = []
    interval: tuple[float, float] | None = None  # of the turn that comes, as its deviation
    deviation: tuple[str, str] | None = None
    said: list[tuple[str, str]] = []  # in the turn that was begun last
    goes_on, before = False, ""
    for line in lines:
        if match := _INTERVAL.fullmatch(line):
            interval, goes_on = (_seconds(match[1]), _seconds(match[2])), False
        elif match := _DEVIATION.fullmatch(line):
            deviation, goes_on = None if match["kind"] in _AS_TOLD else (match["kind"], match["what"]), False
        elif match := _TURN.fullmatch(line):
            said, goes_on = [], False
            turns.append((*_usable(interval, int(match[1]), len(turns) + 1), deviation, said))
            interval, deviation = None, None
        elif turns and (match := _SAID.fullmatch(line)):
            said.append((match[1], match[2]))
            goes_on = True
        elif line.startswith("[") and not before:
            goes_on = False  # stands where an interval does
        elif goes_on and line:
            said[-1] = (said[-1][0], f"{said[-1][1]} {line}".strip())
        before = line
    return [Turn(start_s, end_s, deviation, tuple(said)) for start_s, end_s, deviation, said in turns]


def _usable(interval: tuple[float, float] | None, number: int, expected: int) -> tuple[float, float]:
    where = f"turn {expected}"
    if number != expected:
        raise Unusable("sessions whose turns are not numbered 1, 2, ..., left out", where)
    if interval is None:
        raise Unusable("sessions with turns that have no interval, left out", where)
    start_s, end_s = interval
    if not start_s <= end_s <= _LONGEST_S:
        where += f", {start_s} to {end_s} s"
        raise Unusable("sessions with an interval that ends before it begins, or days later, left out", where)
    return interval


def _seconds(text: str) -> float:
    seconds = 0.0
    for part in text.replace(",", ".").split(":"):
        seconds = seconds * 60 + float(part)
    return round(seconds, 3)
