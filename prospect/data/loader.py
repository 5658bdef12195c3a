"""From requests to batches: read a sequence's sample by offset, lay it out, decode the frames it uses, collate.

Runs in the DataLoader's workers, where frames are decoded straight into the batch's shared memory. What a request gives
depends on it alone (and the seed), never on who asks or when.
B batch, T tokens (longest of the batch), F frames of the batch, S pixels a side.
"""

import multiprocessing
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from pipeline.engine import end_with_parent
from pipeline.errors import ProspectError
from pipeline.sample import TurnSample
from prospect.config import DataConfig, NegativeRate
from prospect.data.features import FeatureStore
from prospect.data.frames import GREY, decode_into
from prospect.data.images import StoredImages
from prospect.data.index import Split
from prospect.data.negatives import is_kept, jitter_of, rate_at
from prospect.data.order import Request
from prospect.data.ring import Ring
from prospect.layout import IGNORE, Block, Part, Tokens, TokenSequence, as_learned, clip_sequence, turn_sequence
from prospect.losses import label_places

Batch = dict[str, Any]
PREFETCH = 2  # batches that are asked of each worker ahead


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence, ready to be collated."""

    key: str  # of the sample that it was read from
    dataset: str  # folder of shards
    where: str  # shard and key, for errors
    sequence: TokenSequence
    images: list[bytes] | None  # JPEG or PNG of each frame, decoded when the batch is put together; None: grey frames
    features: torch.Tensor | None = None  # (F, K, D), cached: nothing is decoded


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
    features: FeatureStore | None = None  # in place of images

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
            where = self.split.where(row)
            if self.features:
                images = self._images(sequence.frames[:1], planned, sample)
                assert images  # the settings refuse blind features
                features = self.features.read(dataset, sample.clip.frames_file, sequence.frames, images[0])
                return Item(sample.key, dataset, where, sequence, [], self._as_tensor(features))
            return Item(sample.key, dataset, where, sequence, self._images(sequence.frames, planned, sample))
        except ProspectError as error:
            raise _named(error, self.split.where(row)) from None

    def layout(self, request: Request, planned: dict[str, Any], sample: TurnSample) -> TokenSequence:
        clip = sample.clip
        keep = self.sampling.keep(request, clip.id) if self.sampling else (lambda frame: True)
        if self.data.packing == "turn":
            return turn_sequence(self.tokens, sample, planned["following"], keep)
        part = Part(planned["first_frame"], planned["last_frame"], tuple(planned["state"]), planned["num_tokens"])
        jitter = self.sampling.jitter(request, clip.id) if self.sampling and self.sampling.event_jitter else None
        sequence = clip_sequence(self.tokens, as_learned(clip, self.data.dst), part, jitter)
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
    pixels, found = _pixels(items, image_size)
    errors = [item if isinstance(item, ProspectError) else None for item in found]
    first = next((error for error in errors if error), None)
    if first and not skip:
        return first
    nothing = Item("", "", "", TokenSequence(), [])
    nothing.sequence.add(Block([pad]))
    good = [nothing if isinstance(item, ProspectError) else item for item in found]
    return _stacked(good, pixels, pad) | {"errors": errors}


def stack_items(items: list[Item], pad: int, image_size: int) -> Batch:
    """The batch of good items; an image that cannot be decoded is raised."""
    pixels, found = _pixels(items, image_size)
    for item in found:
        if isinstance(item, ProspectError):
            raise item
    return _stacked(items, pixels, pad)


def _pixels(items: Sequence[Item | ProspectError], size: int) -> tuple[torch.Tensor, list[Item | ProspectError]]:
    """Frames (F, 3, S, S) of all good items, decoded in place; the items, those with a broken image as its error.

    In a worker they are decoded into shared memory: nothing of them is copied before it is in the main process.
    """
    most = sum(len(item.sequence.frames) for item in items if isinstance(item, Item) and item.features is None)
    if get_worker_info():
        frames = _shared_ring.next(most * size * size * 3).view(most, size, size, 3)
    else:
        frames = torch.from_numpy(np.empty((most, size, size, 3), dtype=np.uint8))  # numpy asks for huge pages
    pixels, end = frames.numpy(), 0  # (F, S, S, 3)
    found: list[Item | ProspectError] = []
    for item in items:
        if isinstance(item, ProspectError) or item.features is not None:
            found.append(item)
            continue
        here = pixels[end : end + len(item.sequence.frames)]
        try:
            if item.images is None:
                here[...] = GREY
            else:
                for out, data, frame in zip(here, item.images, item.sequence.frames, strict=True):
                    decode_into(out, data, f"frame {frame}")
        except ProspectError as error:  # its part is used by the next item
            found.append(_named(error, item.where))
        else:
            found.append(item)
            end += len(here)
    return frames[:end].permute(0, 3, 1, 2), found


def _stacked(items: list[Item], frames: torch.Tensor, pad: int) -> Batch:
    """Right-pad and stack. `at_frame` marks decisions at frame blocks (those after an active block are easier).

    Masks come from lengths, never from ids: the pad token may be a token that is learned.
    """
    length = max(len(item.sequence) for item in items)

    def stack(name: str, fill: int) -> torch.Tensor:
        rows = np.full((len(items), length), fill, dtype=np.int64)  # (B, T); torch reads a list eight times slower
        for row, item in zip(rows, items, strict=True):
            row[: len(item.sequence)] = getattr(item.sequence, name)
        return torch.from_numpy(rows)

    mask = torch.zeros(len(items), length, dtype=torch.int64)  # (B, T)
    for row, item in zip(mask, items, strict=True):
        row[: len(item.sequence)] = 1
    features = [item.features for item in items if item.features is not None]
    target_kind, update_labels = stack("target_kind", 0).to(torch.uint8), stack("update_labels", IGNORE)
    target_places, decision_places = label_places(target_kind, update_labels)
    return {
        **({"features": torch.cat(features)} if features else {}),  # (F, K, D), and then no frames
        "input_ids": stack("ids", pad),
        "attention_mask": mask,
        "frames": frames,  # (F, 3, S, S) uint8
        "target_kind": target_kind,
        "update_labels": update_labels,
        "speak_labels": stack("speak_labels", IGNORE),
        "target_places": target_places,  # (M,) in the flattened batch: a GPU need not be asked
        "decision_places": decision_places,  # (N,)
        "at_frame": stack("at_frame", 0).bool(),
        "is_start_update": stack("is_start_update", 0).bool(),
        "keys": [item.key for item in items],
        "datasets": [item.dataset for item in items],
    }


_shared_ring = Ring(PREFETCH + 2)


def _named(error: ProspectError, where: str) -> ProspectError:
    """The error with shard and key before it."""
    return ProspectError(str(error) if where in str(error) else f"{where}: {error}")


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
            if self.num_workers and not batch["frames"].is_pinned():  # a worker writes over it, see Ring
                batch["frames"] = torch.from_numpy(batch["frames"].numpy().copy("K"))  # numpy asks for huge pages
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
        multiprocessing_context=_workers() if num_workers else None,
        persistent_workers=num_workers > 0,
        prefetch_factor=PREFETCH if num_workers else None,
        worker_init_fn=_start_worker if num_workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else each iteration draws from the global state: a resumed run's dropout differs
    )
    loader.on_skip, loader.max_consecutive_errors = on_skip, reader.data.max_consecutive_errors
    return loader


def _workers() -> BaseContext:
    """Workers are forked from a server that has imported what they need: seconds less for each loader."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start_worker(number: int) -> None:
    end_with_parent()
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """Errors of a worker's threads; that whoever was sent a batch has gone is none: this process ends as well."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, at)
