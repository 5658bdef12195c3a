"""The order of training: planned from the index as a pure function of (seed, epoch), dealt to ranks, seekable.

An epoch permutes the shards and, within each window of them, the sequences. What is left over for no whole global batch
(less than one) is dropped by rule. The rest is bucketed by length: every `bucket_batches` global batches' worth of
sequences is sorted by length, cut into global batches, and these are permuted, so that the sequences of a batch are of
nearly one length and little is padded. A rank takes its slice of each global batch, so every rank has equal steps and
the global batches do not depend on their number. The position is the optimizer step alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to load."""

    sequence: int  # row of the plan
    epoch: int
    step: int  # optimizer step, from 0; what the negative rate depends on


@dataclass(frozen=True, slots=True)
class Order:
    shard_of: npt.NDArray[np.int64]  # of each sequence, numbered in shard order
    lengths: npt.NDArray[np.int64]  # tokens of each sequence
    seed: int
    shuffle_window: int  # shards
    global_batch_size: int  # sequences
    bucket_batches: int  # global batches whose sequences are sorted by length together; 1: none

    @property
    def steps_per_epoch(self) -> int:
        return len(self.shard_of) // self.global_batch_size

    @property
    def num_dropped(self) -> int:
        """Sequences left over in each epoch (others in each)."""
        return len(self.shard_of) % self.global_batch_size

    def epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """The sequences of an epoch, every one once; the dropped ones last."""
        rng = np.random.default_rng((self.seed, epoch))
        shards = rng.permutation(np.unique(self.shard_of))
        windows = [shards[i : i + self.shuffle_window] for i in range(0, len(shards), self.shuffle_window)]
        shuffled = np.concatenate(
            [rng.permutation(np.flatnonzero(np.isin(self.shard_of, window))) for window in windows]
        )
        return shuffled if self.bucket_batches == 1 else self._bucketed(shuffled, rng)

    def _bucketed(self, shuffled: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
        kept = len(shuffled) - self.num_dropped
        buckets = []
        for start in range(0, kept, self.bucket_batches * self.global_batch_size):
            bucket = shuffled[start : min(start + self.bucket_batches * self.global_batch_size, kept)]
            by_length = bucket[np.argsort(self.lengths[bucket], kind="stable")]
            buckets.append(rng.permutation(by_length.reshape(-1, self.global_batch_size)).ravel())
        return np.concatenate([*buckets, shuffled[kept:]])

    def micro_batches(
        self, start_step: int, num_steps: int, micro_batch_size: int, rank: int = 0, ranks: int = 1
    ) -> Iterator[list[Request]]:
        """This rank's micro-batches from optimizer step `start_step` on; seeks, nothing is replayed."""
        share = self.global_batch_size // ranks
        epoch, sequences = -1, np.empty(0, dtype=np.int64)
        for step in range(start_step, num_steps):
            if step // self.steps_per_epoch != epoch:
                epoch = step // self.steps_per_epoch
                sequences = self.epoch(epoch)
            batch = sequences[step % self.steps_per_epoch * self.global_batch_size :][rank * share : (rank + 1) * share]
            for first in range(0, share, micro_batch_size):
                yield [Request(int(i), epoch, step) for i in batch[first : first + micro_batch_size]]


def make_order(
    plan: pl.DataFrame, seed: int, shuffle_window: int, global_batch_size: int, bucket_batches: int = 1
) -> Order:
    shard_of = plan["shard"].rle_id().to_numpy().astype(np.int64)
    lengths = plan["num_tokens"].to_numpy().astype(np.int64)
    return Order(shard_of, lengths, seed, shuffle_window, global_batch_size, bucket_batches)


def evaluation_batches(num_sequences: int, batch_size: int, rank: int = 0, ranks: int = 1) -> list[list[Request]]:
    """Every sequence exactly once over all ranks, in order; nothing dropped, nothing repeated."""
    mine = [Request(i, 0, 0) for i in range(rank, num_sequences, ranks)]
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
