"""Problems of one clip (or dialogue), collected with their places."""

from typing import Any

from pipeline.errors import Problem

MOST = (100, 400, 1000)  # characters of a problem's field, of what was found, and of what was expected
UTF8 = "text that UTF-8 can hold (no lone surrogates)"


class Report:
    """Collects the problems of one clip; `turn` is where the checks stand."""

    def __init__(self, file: str, clip: str) -> None:
        self.file, self.clip, self.turn = file, clip, ""
        self.problems: list[Problem] = []

    def add(self, field: str, found: object, expected: str) -> None:
        text = found if isinstance(found, str) else repr(found)
        parts = (shown(part, most) for part, most in zip((field, text, expected), MOST, strict=True))
        self.problems.append(Problem(self.file, self.clip, self.turn, *parts))

    def at_turn(self, index: int, role: Any) -> None:
        """Stand at a turn, named by its place and role."""
        is_plain = isinstance(role, str) and role.isprintable() and len(role) <= 40
        self.turn = f"turn {index} ({role if is_plain else short(role)})"


def short(value: object, most: int = 80) -> str:
    """Show a value as Python writes it, in `most` characters."""
    text = repr(value[:most] if isinstance(value, (str, list)) else value)
    return text if len(text) <= most else text[: most - 3] + "..."


def shown(text: str, most: int = MOST[1]) -> str:
    """Escape what no terminal should be given: control characters, marks of direction, lone surrogates."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
