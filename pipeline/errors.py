"""Errors that a user can cause. The command line prints them as one message and exits 1; no traceback."""

from collections.abc import Sequence
from dataclasses import dataclass


class ProspectError(ValueError):
    """Bad input, options or files. The message says where, what was found, what was expected, and the fix."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the input, with its place."""

    file: str  # annotation file, as the user would name it
    clip: str  # "clip 3 (video_uid 'x', clip_idx 0)", or "" when the file itself is at fault
    turn: str  # "turn 5 (DST_UPDATE)", or ""
    field: str  # e.g. "dst_state.S1"
    found: str
    expected: str

    def __str__(self) -> str:
        place = " ".join(part for part in (self.file, self.clip, self.turn) if part)
        return f"{place}: {self.field}: found {self.found}, expected {self.expected}"


class InvalidInput(ProspectError):
    """Every problem found, raised once, after all of it was checked."""

    def __init__(self, problems: Sequence[Problem], fix: str, place: str = "in the input") -> None:
        """`fix`: what to do, and what was done so far; `place`: of the problems, for a heading."""
        self.problems = tuple(problems)
        self.fix = fix
        self.place = place
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__(f"{count} {place}:\n{lines}\n{fix}")
