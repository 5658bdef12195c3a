"""The rate of a stream. A model knows the rates that it was trained on alone: at another one steps last longer or
shorter than it learned, and it gets their order and their ends wrong, without a sign.
"""

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any

from pipeline.errors import ProspectError

SAME = 0.01  # rates that differ by less are one, such as 29.97 and 30
DEFAULT_FPS = 2.0  # of a task and a checkpoint that name none


def trained_rates(checkpoint: str, remembered: Mapping[str, Any]) -> tuple[float, ...]:
    """Give the rates of the clips that a checkpoint was trained on, ascending; () where it remembers none.

    Raises:
        ProspectError: what it remembers are no rates.
    """
    rates = remembered.get("fps", [])
    if not isinstance(rates, list) or not all(type(rate) in (int, float) and 0 < rate < float("inf") for rate in rates):
        raise ProspectError(
            f"{checkpoint}/config.json: prospect.fps: found {rates!r}, expected a list of frames a second, such as [2]"
        )
    return tuple(sorted(rates))


def rate_of_stream(given: float | None, clip: float | None, trained: Sequence[float]) -> float:
    """Choose the rate: as it is given, else the clip's, else the checkpoint's (of several the slowest), else 2."""
    known = [rate for rate in (given, clip, *trained[:1]) if rate is not None]
    return known[0] if known else DEFAULT_FPS


def rate_note(rates: Sequence[float], trained: Sequence[float]) -> str | None:
    """Say that some of the `rates` of a stream are none that the checkpoint was trained on; None: nothing to say."""
    others = sorted({rate for rate in rates if not any(isclose(rate, one, rel_tol=SAME) for one in trained)})
    if not trained or not others:
        return None
    return (
        f"frames at {_listed(others)} a second, and the checkpoint was trained on {_listed(trained)}: it expects steps "
        f"of another length in frames, and what it says is not to be relied on; stream at its rate, or train at "
        f"{'these' if len(others) > 1 else 'this one'}"
    )


def _listed(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)
