"""User and system lines of a stream: of a clip, of a script, or typed while it goes on.

No line ends a stream. A frame takes as many of those that wait as its reserve of tokens holds, in order; the others go
to the frames after it. One that is longer than the reserve by itself is never said: a note tells how long it may be.
"""

import io
import queue
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError

SCRIPT_LINE = re.compile(r"\s*(?:(?:(\d+):(?=[0-5]\d:))?(\d+):(?=[0-5]\d[.\s]))?(\d+(?:\.\d+)?)\s+(\S.*)")
EXAMPLES = "`3.5 What is next?` or `0:03.5 What is next?`"
SHOWN = 40  # characters of a line that a note shows


@dataclass(frozen=True, slots=True)
class Heard:
    """What a frame takes of the lines."""

    turns: tuple[Turn, ...]
    notes: tuple[str, ...]  # of lines that are too long for any frame


def script_lines(path: Path) -> list[tuple[float, str]]:
    """Read (seconds, text) of a script of lines `3.5 What is next?`, in order of time; `0:03.5` and `1:00:03` are
    times too, as the tool prints them.

    Raises:
        ProspectError: a line has no time or no text; names it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProspectError(f"{path}: cannot be read ({error}), expected lines such as {EXAMPLES}") from None
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            match = SCRIPT_LINE.fullmatch(line)
            if not match:
                raise ProspectError(f"{path} line {number}: found {line!r}, expected seconds and text: {EXAMPLES}")
            hours, minutes, seconds, said = match.groups(default="0")
            lines.append((3600 * float(hours) + 60 * float(minutes) + float(seconds), said.rstrip()))
    return sorted(lines, key=lambda line: line[0])  # lines of one time in the script's order


class Lines:
    """User and system turns by frame: of a clip or a script, known beforehand, and typed ones, which go to the next."""

    def __init__(self, turns: Sequence[Turn], script: Sequence[tuple[float, str]], fps: float, first: int) -> None:
        placed = [(turn.end_frame, turn) for turn in turns if turn.end_frame is not None and turn.end_frame >= first]
        self._turns, self._script, self._fps, self._first = placed, list(script), fps, first
        self._typed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._waiting: deque[Turn] = deque()  # that were due, and did not fit

    def listen(self, stream: IO[str]) -> None:
        """Take lines from `stream` as they are typed, without waiting for any."""
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what is no text in the terminal's encoding ends no stream

        def read() -> None:
            with suppress(OSError):  # a terminal that is gone: nothing more is typed, and the stream goes on
                for line in stream:
                    if line.strip():
                        self.say(line)

        threading.Thread(target=read, daemon=True).start()

    def say(self, text: str) -> None:
        """Let a user say something: it goes to the next frame. From any thread."""
        self._typed.put(text.strip())

    @property
    def left(self) -> int:
        """Lines of the script, and others that were due, that no frame has had yet."""
        return len(self._script) + len(self._waiting)

    def heard(self, frame: int, length: Callable[[Turn], int], most: int) -> Heard:
        """Give what `frame` takes.

        Args:
            length: of a turn's block, in tokens.
            most: tokens that the lines of one frame may take.
        """
        self._waiting += self.at(frame)
        turns: list[Turn] = []
        notes: list[str] = []
        room = most
        while self._waiting:
            line = self._waiting[0]
            taken = length(line)
            if taken > most:
                notes.append(_too_long(line.text, taken, most))
            elif taken > room:
                break
            else:
                turns.append(line)
                room -= taken
            self._waiting.popleft()
        return Heard(tuple(turns), tuple(notes))

    def at(self, frame: int) -> list[Turn]:
        """Give what is due with `frame`: everything since the frame before."""
        here = [turn for end, turn in self._turns if end <= frame]
        self._turns = self._turns[len(here) :]
        while self._script and self._script[0][0] <= (frame - self._first) / self._fps:
            here.append(Turn("user", self._script.pop(0)[1], frame, frame))
        while not self._typed.empty():
            here.append(Turn("user", self._typed.get(), frame, frame))
        return here


def _too_long(text: str, taken: int, most: int) -> str:
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return (
        f"not heard, as it takes {taken} tokens and a frame {most} at most (some {len(text) * most // taken} "
        f"characters of such text): {shown!r}; say it in shorter lines"
    )
