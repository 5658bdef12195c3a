"""From a request to a sequence: its sample is read by offset and laid out, its images (or cached features) fetched.

What a request gives depends on it alone (and the seed), never on who asks or when. F frames, K tokens a frame, D wide.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch.utils.data import Dataset

from pipeline.errors import ProspectError
from pipeline.shards.sample import TurnSample
from prospect.config import DataConfig, NegativeRate
from prospect.data.features import FeatureStore
from prospect.data.images import StoredImages
from prospect.data.index import Split
from prospect.data.negatives import is_kept, jitter_of, rate_at
from prospect.data.order import Request
from prospect.data.sequences import part_of, part_sequence
from prospect.layout import Tokens, TokenSequence
from prospect.losses import count_targets
from prospect.turn_layout import turn_sequence


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence, ready to be collated."""

    key: str  # of the sample that it was read from
    dataset: str  # folder of shards
    where: str  # shard and key, for errors
    sequence: TokenSequence
    images: list[bytes] | None  # JPEG or PNG of each frame, decoded when the batch is put together; None: grey frames
    features: torch.Tensor | None = None  # (F, K, D), cached: nothing is decoded
    is_pooled: bool = False  # the features are pooled tokens (F, K, C), which the connector projects


@dataclass(frozen=True, slots=True)
class Sampling:
    """What is drawn anew in each epoch: which silent frames are learned from, and how far events are moved."""

    rate: NegativeRate
    seed: int
    max_steps: int
    event_jitter: int = 0  # most frames that an event is moved by

    def jitter(self, request: Request, clip_id: str) -> Callable[[int], int]:
        return lambda frame: jitter_of(self.seed, request.epoch, clip_id, frame, self.event_jitter)

    def keep(self, request: Request, clip_id: str) -> Callable[[int], bool]:
        rate = rate_at(self.rate, request.step, self.max_steps)
        return lambda frame: is_kept(self.seed, request.epoch, clip_id, frame, rate)


@dataclass(frozen=True, slots=True)
class SequenceReader(Dataset[Item | ProspectError]):
    """Map-style dataset whose index is a `Request`; an error is returned, so that it leaves a worker as it is."""

    split: Split
    table: pl.DataFrame  # of `sequences.sequence_table`
    tokens: Tokens
    data: DataConfig
    image_size: int
    sampling: Sampling | None  # None: every silent frame is learned from (validation)
    features: FeatureStore | None = None  # in place of images

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, request: Request) -> Item | ProspectError:
        try:
            return self.read(request)
        except ProspectError as error:
            return error

    def read(self, request: Request) -> Item:
        """Read the sequence of a request.

        Raises:
            ProspectError: its sample or frames are broken; names shard and key.
        """
        planned, row, sample = self._sample(request)
        try:
            sequence = self.layout(request, planned, sample)
            dataset: str = self.split.manifest.dataset
            where = self.split.where(row)
            if self.features and sequence.frames:
                images = self._images(sequence.frames[:1], planned, sample)
                assert images  # the settings refuse blind features
                features = self.features.read(dataset, sample.clip.frames_file, sequence.frames, images[0])
                is_pooled = self.features.stage == "pooled"
                return Item(sample.key, dataset, where, sequence, [], self._as_tensor(features), is_pooled)
            return Item(sample.key, dataset, where, sequence, self._images(sequence.frames, planned, sample))
        except ProspectError as error:
            raise named(error, self.split.where(row)) from None

    def counts(self, request: Request) -> torch.Tensor:
        """Count what is learned from a sequence, by `losses.TERMS` (6,), without its images.

        Raises:
            ProspectError: its sample is broken; names shard and key.
        """
        planned, row, sample = self._sample(request)
        try:
            sequence = self.layout(request, planned, sample)
        except ProspectError as error:
            raise named(error, self.split.where(row)) from None
        labels = sequence.target_kind, sequence.update_labels, sequence.speak_labels
        return count_targets(*(torch.tensor(of_tokens) for of_tokens in labels))

    def _sample(self, request: Request) -> tuple[dict[str, Any], int, TurnSample]:
        """A request's row of the table, and the sample that it is laid out from, with its row of the index."""
        planned = self.table.row(request.sequence, named=True)
        row = planned["row"] + planned["num_rows"] - 1  # a clip's last sample knows all of its turns
        return planned, row, self.split.sample(row)

    def layout(self, request: Request, planned: dict[str, Any], sample: TurnSample) -> TokenSequence:
        clip = sample.clip
        keep = self.sampling.keep(request, clip.id) if self.sampling else (lambda frame: True)
        if self.data.packing == "turn":
            margin = self.data.event_margin
            return turn_sequence(self.tokens, sample, planned["following"], keep, planned["next_event"], margin)
        part = part_of(planned)
        jitter = self.sampling.jitter(request, clip.id) if self.sampling and self.sampling.event_jitter else None
        sequence = part_sequence(clip, part, self.tokens, self.data, jitter)
        if len(sequence) != part.num_tokens:
            raise ProspectError(
                f"found {len(sequence)} tokens, planned {part.num_tokens} from the index, which disagrees with its "
                "shard; build the shards again"
            )
        sequence.drop_decisions(keep)
        return sequence

    def _as_tensor(self, features: npt.NDArray[np.uint8]) -> torch.Tensor:
        assert self.features
        dtype: torch.dtype = getattr(torch, self.features.dtype)
        return torch.from_numpy(features).view(dtype).view(len(features), self.features.tokens, self.features.width)

    def _images(self, frames: list[int], planned: dict[str, Any], sample: TurnSample) -> list[bytes] | None:
        """The stored image of each of a sequence's frames, each once."""
        if self.data.blind:
            return None
        rows = planned["row"], planned["row"] + planned["num_rows"]
        return list(StoredImages.of(self.split, self.data).read(rows, sample.clip.frames_file, frames))


@dataclass(frozen=True, slots=True)
class Readers(Dataset[Item | ProspectError]):
    """The readers of one or several datasets as one: their sequences, one dataset after the other."""

    readers: tuple[SequenceReader, ...]

    def __len__(self) -> int:
        return sum(map(len, self.readers))

    def __getitem__(self, request: Request) -> Item | ProspectError:
        reader, request = self._place(request)
        return reader[request]

    def counts(self, request: Request) -> torch.Tensor:
        """Count what is learned from a sequence, as `SequenceReader.counts`."""
        reader, request = self._place(request)
        return reader.counts(request)

    def _place(self, request: Request) -> tuple[SequenceReader, Request]:
        starts = [0, *accumulate(map(len, self.readers))]
        which = bisect_right(starts, request.sequence) - 1
        return self.readers[which], replace(request, sequence=request.sequence - starts[which])

    @property
    def image_size(self) -> int:
        return self.readers[0].image_size

    @property
    def data(self) -> DataConfig:
        return self.readers[0].data


def named(error: ProspectError, where: str) -> ProspectError:
    """Put shard and key before the error."""
    return ProspectError(str(error) if where in str(error) else f"{where}: {error}")
