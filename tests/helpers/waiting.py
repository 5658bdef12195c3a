"""Tests wait for what they need, not for a time."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], seconds: float = 400, pause_s: float = 0.05) -> None:
    """Until `condition()` is true; the seconds are for a test that would wait for ever, on the busiest machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what the test waits for does not come"
        time.sleep(pause_s)
