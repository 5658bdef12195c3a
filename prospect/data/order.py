"""The order of training: planned from the index as a pure function of (seed, epoch), dealt to ranks, seekable.

A pass over a dataset permutes its shards and, within each window of them, the sequences. An epoch takes the next
`weight` passes of each dataset (half a pass where the weight is 0.5: the other half comes in the next epoch) and
interleaves them evenly at random. What is left over for no whole global batch (less than one) is dropped by rule. The
rest is bucketed by length: every `bucket_batches` global batches' worth of sequences is sorted by length, cut into
global batches, and these are permuted, so that the sequences of a batch are of nearly one length and little is padded.
A rank takes its slice of each global batch, so every rank has equal steps and the global batches do not depend on their
number. The position is the optimizer step alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.errors import ProspectError

ORDER_VERSION = 2  # part of every data position: raise it when the same seed gives another order
PASS, MIX, BUCKET = 0, 1, 2  # what a random state is for

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to load."""

    sequence: int  # row of the tables of sequences, one after the other
    epoch: int
    step: int  # optimizer step, from 0; what the negative rate depends on


@dataclass(frozen=True, slots=True)
class Source:
    """The sequences of one dataset."""

    first: int  # number of its first sequence
    shards: Indices  # the first sequence of each shard, counted from `first`, and the end
    per_epoch: int  # sequences of it in an epoch

    @property
    def count(self) -> int:
        return int(self.shards[-1])


@dataclass(frozen=True, slots=True)
class Order:
    sources: tuple[Source, ...]
    lengths: Indices  # tokens of each sequence
    seed: int
    shuffle_window: int  # shards
    global_batch_size: int  # sequences
    bucket_batches: int  # global batches whose sequences are sorted by length together; 1: none

    @property
    def num_sequences(self) -> int:
        """Of an epoch, dropped ones included."""
        return sum(source.per_epoch for source in self.sources)

    @property
    def steps_per_epoch(self) -> int:
        return self.num_sequences // self.global_batch_size

    @property
    def num_dropped(self) -> int:
        """Sequences left over in each epoch (others in each)."""
        return self.num_sequences % self.global_batch_size

    def epoch(self, epoch: int) -> Indices:
        """List the sequences of an epoch; the dropped ones last. Weights of 1: every sequence once."""
        streams = [self._next_passes(number, epoch) for number in range(len(self.sources))]
        mixed = streams[0]
        if len(streams) > 1:
            owners = np.repeat(np.arange(len(streams)), [len(stream) for stream in streams])
            owners = self._random(MIX, epoch).permutation(owners)
            mixed = np.empty(len(owners), dtype=np.int64)
            for number, stream in enumerate(streams):
                mixed[owners == number] = stream
        return mixed if self.bucket_batches == 1 else self._bucketed(mixed, self._random(BUCKET, epoch))

    def _next_passes(self, number: int, epoch: int) -> Indices:
        """What an epoch takes of a dataset: the next `per_epoch` sequences of its endless passes."""
        source = self.sources[number]
        start, end = epoch * source.per_epoch, (epoch + 1) * source.per_epoch
        if start == end:
            return np.empty(0, dtype=np.int64)
        first, last = start // source.count, (end - 1) // source.count
        passes = np.concatenate([self._pass(number, which) for which in range(first, last + 1)])
        return passes[start - first * source.count : end - first * source.count]

    def _pass(self, number: int, which: int) -> Indices:
        source, rng = self.sources[number], self._random(PASS, number, which)
        shards = rng.permutation(len(source.shards) - 1)
        windows = [np.sort(shards[i : i + self.shuffle_window]) for i in range(0, len(shards), self.shuffle_window)]
        of_shard = np.split(np.arange(source.count), source.shards[1:-1])
        shuffled = [rng.permutation(np.concatenate([of_shard[shard] for shard in window])) for window in windows]
        return source.first + np.concatenate(shuffled)

    def _bucketed(self, shuffled: Indices, rng: np.random.Generator) -> Indices:
        kept = len(shuffled) - self.num_dropped
        buckets = []
        for start in range(0, kept, self.bucket_batches * self.global_batch_size):
            bucket = shuffled[start : min(start + self.bucket_batches * self.global_batch_size, kept)]
            by_length = bucket[np.argsort(self.lengths[bucket], kind="stable")]
            buckets.append(rng.permutation(by_length.reshape(-1, self.global_batch_size)).ravel())
        return np.concatenate([*buckets, shuffled[kept:]])

    def _random(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=purpose))

    def micro_batches(
        self, start_step: int, num_steps: int, micro_batch_size: int, rank: int = 0, ranks: int = 1
    ) -> Iterator[list[Request]]:
        """Give this rank's micro-batches from optimizer step `start_step` on; seeks, nothing is replayed."""
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
    tables: Sequence[pl.DataFrame],
    seed: int,
    shuffle_window: int,
    global_batch_size: int,
    bucket_batches: int = 1,
    weights: Sequence[float] = (1.0,),
) -> Order:
    """Make the order of the sequences of `tables`, one a dataset; `weights`: passes over each in an epoch.

    Raises:
        ProspectError: a weight so small that its dataset would never be drawn.
    """
    sources, first = [], 0
    for table, weight in zip(tables, weights, strict=True):
        if len(table) and not round(weight * len(table)):
            raise ProspectError(
                f"data.mix: {weight:g} passes over {len(table)} sequences are none an epoch; raise this weight, or "
                "leave the dataset out"
            )
        shards = np.cumsum([0, *table["shard"].rle().struct.field("len")], dtype=np.int64)
        sources.append(Source(first, shards, round(weight * len(table))))
        first += len(table)
    lengths = np.concatenate([table["num_tokens"].to_numpy().astype(np.int64) for table in tables])
    return Order(tuple(sources), lengths, seed, shuffle_window, global_batch_size, bucket_batches)


def evaluation_batches(num_sequences: int, batch_size: int, rank: int = 0, ranks: int = 1) -> list[list[Request]]:
    """Deal every sequence exactly once over all ranks, in order; nothing dropped, nothing repeated."""
    mine = [Request(i, 0, 0) for i in range(rank, num_sequences, ranks)]
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
