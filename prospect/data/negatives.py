"""Which silent frames are learned from: a stable hash of (seed, epoch, clip, frame) against the rate at the step.

The draw knows nothing of workers, ranks or position in the stream, so it is the same for any number of them and after
a resume; a frame that is kept at some rate is kept at every higher one.
"""

import hashlib
from math import cos, pi

from prospect.config import NegativeRate


def rate_at(rate: NegativeRate, step: int, max_steps: int) -> float:
    """The share of silent frames at optimizer step `step` (from 0) of `max_steps`.

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


def is_kept(seed: int, epoch: int, clip_id: str, frame: int, rate: float) -> bool:
    digest = hashlib.blake2b(f"{seed}/{epoch}/{clip_id}/{frame}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * 2.0**64
