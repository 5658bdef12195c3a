"""What is drawn for a frame, by a stable hash of (seed, epoch, clip, frame): whether a silent one is learned from,
against the rate at the step, and by how many frames an event is moved. And what is drawn for a clip, of its id alone:
whether its prompt tells of the task.

The draw knows nothing of workers, ranks or position in the stream, so it is the same for any number of them and after
a resume; a frame that is kept at some rate is kept at every higher one.
"""

import hashlib
from math import cos, pi

from prospect.config import NegativeRate


def rate_at(rate: NegativeRate, step: int, max_steps: int) -> float:
    """Give the share of silent frames at optimizer step `step` (from 0) of `max_steps`.

    With p the progress from 0 (first step) to 1 (last): linear start + (end - start) p; cosine
    end + (start - end) (1 + cos(pi p)) / 2; step: start while p < step_at, then end.
    """
    if rate.end is None:
        return rate.start
    progress = min(step / max(max_steps - 1, 1), 1.0)
    if rate.step_at is not None:
        return rate.start if progress < rate.step_at else rate.end
    if rate.schedule == "cosine":
        return rate.end + (rate.start - rate.end) * (1 + cos(pi * progress)) / 2
    return rate.start + (rate.end - rate.start) * progress


def is_drawn(clip_id: str, share: float) -> bool:
    """Draw whether a clip is among a `share` of all: always the same ones."""
    return _draw(f"{clip_id}/knowledge") < share * 2.0**64


def is_kept(seed: int, epoch: int, clip_id: str, frame: int, rate: float) -> bool:
    return _draw(f"{seed}/{epoch}/{clip_id}/{frame}") < rate * 2.0**64


def jitter_of(seed: int, epoch: int, clip_id: str, frame: int, most: int) -> int:
    """Draw by how many frames the event at `frame` is moved: -most..most, all alike."""
    return _draw(f"{seed}/{epoch}/{clip_id}/{frame}/jitter") % (2 * most + 1) - most


def _draw(what: str) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.blake2b(what.encode(), digest_size=8).digest(), "big")
