"""User and system lines of a stream: of a clip, of a script, or typed while it goes on."""

import io
import queue
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError


def script_lines(path: Path) -> list[tuple[float, str]]:
    """Read (seconds, text) of a script of lines `3.5 What is next?`, in order of time.

    Raises:
        ProspectError: a line has no time or no text; names it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProspectError(f"{path}: cannot be read ({error}), expected lines such as `3.5 What is next?`") from None
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s+(\S.*)", line)
            if not match:
                raise ProspectError(
                    f"{path} line {number}: found {line!r}, expected seconds and text: `3.5 What is next?`"
                )
            lines.append((float(match[1]), match[2].rstrip()))
    return sorted(lines, key=lambda line: line[0])  # lines of one time in the script's order


class Lines:
    """User and system turns by frame: of a clip or a script, known beforehand, and typed ones, which go to the next."""

    def __init__(self, turns: Sequence[Turn], script: Sequence[tuple[float, str]], fps: float, first: int) -> None:
        placed = [(turn.end_frame, turn) for turn in turns if turn.end_frame is not None and turn.end_frame >= first]
        self._turns, self._script, self._fps, self._first = placed, list(script), fps, first
        self._typed: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen(self, stream: IO[str]) -> None:
        """Take lines from `stream` as they are typed, without waiting for any."""
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what is no text in the terminal's encoding ends no stream

        def read() -> None:
            for line in stream:
                if line.strip():
                    self._typed.put(line.strip())

        threading.Thread(target=read, daemon=True).start()

    @property
    def script_left(self) -> int:
        """Lines of the script that no frame has had yet."""
        return len(self._script)

    def at(self, frame: int) -> list[Turn]:
        """Give what comes with `frame`: everything due since the frame before."""
        here = [turn for end, turn in self._turns if end <= frame]
        self._turns = self._turns[len(here) :]
        while self._script and self._script[0][0] <= (frame - self._first) / self._fps:
            here.append(Turn("user", self._script.pop(0)[1], frame, frame))
        while not self._typed.empty():
            here.append(Turn("user", self._typed.get(), frame, frame))
        return here
