"""Which silent frames are learned from: a stable hash of (seed, epoch, clip, frame) against the rate at the step.

The draw knows nothing of workers, ranks or position in the stream, so it is the same for any number of them and after
a resume; a frame that is kept at some rate is kept at every higher one.
"""

import hashlib

from prospect.config import NegativeRate


def rate_at(rate: NegativeRate, step: int, max_steps: int) -> float:
    """The share of silent frames at optimizer step `step` (from 0) of `max_steps`."""
    if rate.end is None:
        return rate.start
    progress = min(step / max(max_steps - 1, 1), 1.0)
    return rate.start + (rate.end - rate.start) * progress


def is_kept(seed: int, epoch: int, clip_id: str, frame: int, rate: float) -> bool:
    digest = hashlib.blake2b(f"{seed}/{epoch}/{clip_id}/{frame}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * 2.0**64
