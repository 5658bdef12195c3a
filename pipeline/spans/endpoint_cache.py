"""Answers of an endpoint, kept: JSON lines that are only ever appended, a line an answer, by the hash of the question.

A run that is killed loses what was in flight alone. A line that was cut then is left out when the file is read, and the
next one begins on a line of its own. Two runs may share a file: a line is written in one piece.
"""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ProspectError

FORMAT = "prospect.answers/1"


class AnswerCache:
    """The answers in a file. Its methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        """Read the file, if it is there.

        Raises:
            ProspectError: it cannot be read, or is something else.
        """
        self.path = path
        self.num_damaged = 0  # lines that are not whole
        self._answers: dict[str, str] = {}
        self._lock = threading.Lock()
        self._ends_in_line = True
        if not path.exists():
            return
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise ProspectError(f"{path}: cannot be read ({error}), expected a file of answers") from None
        self._ends_in_line = not text or text.endswith("\n")
        for line in filter(str.strip, text.split("\n")):
            if entry := _entry(line):
                self._answers.update([entry])
            else:
                self.num_damaged += 1
        if self.num_damaged and not self._answers:
            raise ProspectError(f"{path}: found no answer in it, expected a file of answers, or none; pass --cache")

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> str:
        return self._answers[key]

    def add(self, key: str, answer: str, about: Mapping[str, Any]) -> None:
        """Keep an answer, on disk before this returns."""
        line = json.dumps({"format": FORMAT, "key": key, **about, "answer": answer}, ensure_ascii=True) + "\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                begin, self._ends_in_line = b"" if self._ends_in_line else b"\n", False
                file.write(begin + line.encode())
                os.fsync(file.fileno())
            self._ends_in_line = True
            self._answers[key] = answer


def _entry(line: str) -> tuple[str, str] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        return None
    key, answer = value.get("key"), value.get("answer")
    return (key, answer) if isinstance(key, str) and isinstance(answer, str) else None
