"""From requests to batches: read a sequence's sample by offset, lay it out, decode the frames it uses, collate.

Runs in the DataLoader's workers. What a request gives depends on it alone (and the seed), never on who asks or when.
B batch, T tokens (longest of the batch), F frames of the batch, S pixels a side.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.engine import end_with_parent
from pipeline.errors import ProspectError
from pipeline.sample import TurnSample
from prospect.config import DataConfig, NegativeRate
from prospect.data.frames import blind_frames, decode_frame
from prospect.data.images import StoredImages
from prospect.data.index import Split
from prospect.data.negatives import is_kept, jitter_of, rate_at
from prospect.data.order import Request
from prospect.layout import IGNORE, Block, Part, Tokens, TokenSequence, clip_sequence, turn_sequence

Batch = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence, ready to be collated."""

    key: str  # of the sample that it was read from
    dataset: str  # folder of shards
    sequence: TokenSequence
    frames: npt.NDArray[np.uint8]  # (F, 3, S, S)


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
    plan: pl.DataFrame
    tokens: Tokens
    data: DataConfig
    image_size: int
    sampling: Sampling | None  # None: every silent frame is learned from (validation)

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, request: Request) -> Item | ProspectError:
        try:
            return self.read(request)
        except ProspectError as error:
            return error

    def read(self, request: Request) -> Item:
        """The sequence of a request.

        Raises:
            ProspectError: its sample or frames are broken; names shard and key.
        """
        planned = self.plan.row(request.sequence, named=True)
        row = planned["row"] + planned["num_rows"] - 1  # a clip's last sample knows all of its turns
        sample = self.split.sample(row)
        try:
            sequence = self.layout(request, planned, sample)
            dataset: str = self.split.manifest["dataset"]
            return Item(sample.key, dataset, sequence, self._frames(sequence, planned, sample))
        except ProspectError as error:
            where = self.split.where(row)
            raise ProspectError(str(error) if where in str(error) else f"{where}: {error}") from None

    def layout(self, request: Request, planned: dict[str, Any], sample: TurnSample) -> TokenSequence:
        clip = sample.clip
        keep = self.sampling.keep(request, clip.id) if self.sampling else (lambda frame: True)
        if self.data.packing == "turn":
            return turn_sequence(self.tokens, sample, planned["following"], keep)
        part = Part(planned["first_frame"], planned["last_frame"], tuple(planned["state"]), planned["num_tokens"])
        jitter = self.sampling.jitter(request, clip.id) if self.sampling and self.sampling.event_jitter else None
        sequence = clip_sequence(self.tokens, clip, part, jitter)
        if len(sequence) != part.num_tokens:
            raise ProspectError(
                f"found {len(sequence)} tokens, planned {part.num_tokens} from the index, which disagrees with its "
                "shard; build the shards again"
            )
        sequence.drop_decisions(keep)
        return sequence

    def _frames(self, sequence: TokenSequence, planned: dict[str, Any], sample: TurnSample) -> npt.NDArray[np.uint8]:
        """Pixels of the sequence's frames, each decoded once: (F, 3, S, S)."""
        if self.data.blind or not sequence.frames:
            return blind_frames(len(sequence.frames), self.image_size)
        rows = planned["row"], planned["row"] + planned["num_rows"]
        images = StoredImages.of(self.split, self.data).read(rows, sample.clip.frames_file, sequence.frames)
        return np.stack(
            [decode_frame(data, self.image_size, f"frame {f}") for f, data in zip(sequence.frames, images, strict=True)]
        )


@dataclass(frozen=True, slots=True)
class Readers(Dataset[Item | ProspectError]):
    """The readers of one or several datasets as one: their sequences, one dataset after the other."""

    readers: tuple[SequenceReader, ...]

    def __len__(self) -> int:
        return sum(map(len, self.readers))

    def __getitem__(self, request: Request) -> Item | ProspectError:
        starts = [0, *accumulate(map(len, self.readers))]
        which = bisect_right(starts, request.sequence) - 1
        return self.readers[which][replace(request, sequence=request.sequence - starts[which])]

    @property
    def image_size(self) -> int:
        return self.readers[0].image_size

    @property
    def data(self) -> DataConfig:
        return self.readers[0].data


def collate(items: list[Item | ProspectError], pad: int, image_size: int, skip: bool = False) -> Batch | ProspectError:
    """The batch of `items`, with the errors among them (None for a good item) under "errors".

    Without `skip` the first error takes the batch's place. With it a broken item becomes a sequence of one token that
    nothing is learned from: every rank still has its micro-batch.
    """
    errors = [item if isinstance(item, ProspectError) else None for item in items]
    first = next((error for error in errors if error), None)
    if first and not skip:
        return first
    nothing = Item("", "", TokenSequence(), blind_frames(0, image_size))
    nothing.sequence.add(Block([pad]))
    good = [nothing if isinstance(item, ProspectError) else item for item in items]
    return stack_items(good, pad) | {"errors": errors}


def stack_items(items: list[Item], pad: int) -> Batch:
    """Right-pad and stack. `at_frame` marks decisions at frame blocks (those after an active block are easier).

    Masks come from lengths, never from ids: the pad token may be a token that is learned.
    """
    length = max(len(item.sequence) for item in items)

    def stack(name: str, fill: int) -> torch.Tensor:
        rows = torch.full((len(items), length), fill, dtype=torch.int64)  # (B, T)
        for row, item in zip(rows, items, strict=True):
            row[: len(item.sequence)] = torch.tensor(getattr(item.sequence, name))
        return rows

    mask = torch.zeros(len(items), length, dtype=torch.int64)  # (B, T)
    for row, item in zip(mask, items, strict=True):
        row[: len(item.sequence)] = 1
    return {
        "input_ids": stack("ids", pad),
        "attention_mask": mask,
        "frames": torch.from_numpy(np.concatenate([item.frames for item in items])),  # (F, 3, S, S) uint8
        "target_kind": stack("target_kind", 0).to(torch.uint8),
        "update_labels": stack("update_labels", IGNORE),
        "speak_labels": stack("speak_labels", IGNORE),
        "at_frame": stack("at_frame", 0).bool(),
        "is_start_update": stack("is_start_update", 0).bool(),
        "keys": [item.key for item in items],
        "datasets": [item.dataset for item in items],
    }


@dataclass(frozen=True, slots=True)
class MicroBatches(Sampler[list[Request]]):
    """A batch sampler over a function, called anew for each iteration: the position is read when iteration starts."""

    requests: Callable[[], Iterator[list[Request]]]
    count: int

    def __iter__(self) -> Iterator[list[Request]]:
        return self.requests()

    def __len__(self) -> int:
        return self.count


class Loader(DataLoader[Any]):
    """Hands on what the workers made of broken samples: raised here, without the traceback that DataLoader writes into
    an error's message, or, where they are skipped, told to `on_skip` and counted."""

    on_skip: Callable[[str], None]
    max_consecutive_errors: int

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        in_a_row = 0
        for batch in super().__iter__():
            if isinstance(batch, ProspectError):
                raise batch
            for error in batch.pop("errors"):
                in_a_row = in_a_row + 1 if error else 0
                if error:
                    self.on_skip(str(error))
                if in_a_row >= self.max_consecutive_errors:
                    raise ProspectError(
                        f"{error}; broken sample number {in_a_row} in a row (data.max_consecutive_errors): is a folder "
                        "or a disk gone?"
                    )
            yield batch


def make_loader(
    reader: SequenceReader | Readers,
    batches: MicroBatches,
    pad: int,
    num_workers: int,
    on_skip: Callable[[str], None] = lambda error: None,
) -> Loader:
    """The DataLoader of `batches`; `on_skip` is told of each broken sample that `data.on_error: skip` leaves out."""
    skip = reader.data.on_error == "skip"
    loader = Loader(
        reader,
        batch_sampler=batches,
        collate_fn=partial(collate, pad=pad, image_size=reader.image_size, skip=skip),
        num_workers=num_workers,
        multiprocessing_context="forkserver" if num_workers else None,
        persistent_workers=num_workers > 0,
        worker_init_fn=_start_worker if num_workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    loader.on_skip, loader.max_consecutive_errors = on_skip, reader.data.max_consecutive_errors
    return loader


def _start_worker(number: int) -> None:
    end_with_parent()
