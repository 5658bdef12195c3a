"""The order of training: planned from the index as a pure function of (seed, epoch), dealt to ranks, seekable.

An epoch permutes the shards and, within each window of them, the sequences. It is cut into global batches; what is
left over (less than one) is dropped by rule. A rank takes its slice of each global batch, so every rank has equal
steps and the global batches do not depend on their number. The position is the optimizer step alone.
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
    seed: int
    shuffle_window: int  # shards
    global_batch_size: int  # sequences

    @property
    def steps_per_epoch(self) -> int:
        return len(self.shard_of) // self.global_batch_size

    @property
    def num_dropped(self) -> int:
        """Sequences left over in each epoch (others in each)."""
        return len(self.shard_of) % self.global_batch_size

    def epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        """The sequences of an epoch, every one once."""
        rng = np.random.default_rng((self.seed, epoch))
        shards = rng.permutation(np.unique(self.shard_of))
        windows = [shards[i : i + self.shuffle_window] for i in range(0, len(shards), self.shuffle_window)]
        return np.concatenate([rng.permutation(np.flatnonzero(np.isin(self.shard_of, window))) for window in windows])

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


def make_order(plan: pl.DataFrame, seed: int, shuffle_window: int, global_batch_size: int) -> Order:
    shard_of = plan["shard"].rle_id().to_numpy().astype(np.int64)
    return Order(shard_of, seed, shuffle_window, global_batch_size)


def evaluation_batches(num_sequences: int, batch_size: int, rank: int = 0, ranks: int = 1) -> list[list[Request]]:
    """Every sequence exactly once over all ranks, in order; nothing dropped, nothing repeated."""
    mine = [Request(i, 0, 0) for i in range(rank, num_sequences, ranks)]
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
