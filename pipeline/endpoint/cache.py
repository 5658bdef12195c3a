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
        self._entries: dict[str, Mapping[str, Any]] = {}
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
                self._entries[entry["key"]] = entry
            else:
                self.num_damaged += 1
        if self.num_damaged and not self._entries:
            raise ProspectError(f"{path}: found no answer in it, expected a file of answers, or none; pass --cache")

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> str:
        answer: str = self._entries[key]["answer"]
        return answer

    def about(self, key: str, name: str) -> str | None:
        """Give what was kept with an answer: "host" or "date"; None: such was not kept."""
        value = self._entries[key].get(name)
        return value if isinstance(value, str) else None

    def add(self, key: str, answer: str, about: Mapping[str, Any]) -> None:
        """Keep an answer, on disk before this returns."""
        entry = {"format": FORMAT, "key": key, **about, "answer": answer}
        line = json.dumps(entry, ensure_ascii=True) + "\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                begin, self._ends_in_line = b"" if self._ends_in_line else b"\n", False
                file.write(begin + line.encode())
                os.fsync(file.fileno())
            self._ends_in_line = True
            self._entries[key] = entry


def _entry(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        return None
    return value if isinstance(value.get("key"), str) and isinstance(value.get("answer"), str) else None
