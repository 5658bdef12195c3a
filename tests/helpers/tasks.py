"""Work for an engine that fails, or whose worker dies."""

import os
import signal
from pathlib import Path

from pipeline.errors import ProspectError


def odd_fails(number: int) -> int:
    if number % 2:
        raise ProspectError(f"{number} is odd")
    return number


def dies(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def dies_once(marker: Path) -> int:
    """The first worker that gets it dies; it leaves a mark, so that the next lives."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0
