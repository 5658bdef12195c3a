"""How a stage tells how far it is, without knowing who listens."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]  # stage, done, total (None: unknown)
Tell = Callable[[str], None]  # a line for whoever looks on


def unwatched(stage: str, done: int, total: int | None) -> None:
    """Ignore progress: a `Progress` that nobody listens to."""


def untold(line: str) -> None:
    """Ignore what is told: a `Tell` that nobody listens to."""
