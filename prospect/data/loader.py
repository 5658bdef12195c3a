"""From requests to batches: read a sequence's sample by offset, lay it out, decode the frames it uses, collate.

Runs in the DataLoader's workers. What a request gives depends on it alone (and the seed), never on who asks or when.
B batch, T tokens (longest of the batch), F frames of the batch, S pixels a side.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.errors import ProspectError
from pipeline.frame_store import find_frames_file, open_frames, search_roots
from pipeline.sample import TurnSample
from prospect.config import DataConfig, NegativeRate
from prospect.data.frames import blind_frames, decode_frame
from prospect.data.index import Split
from prospect.data.negatives import is_kept, rate_at
from prospect.data.order import Request
from prospect.layout import IGNORE, Part, Tokens, TokenSequence, clip_sequence, turn_sequence

Batch = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One sequence, ready to be collated."""

    key: str  # of the sample that it was read from
    sequence: TokenSequence
    frames: npt.NDArray[np.uint8]  # (F, 3, S, S)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which silent frames are learned from."""

    rate: NegativeRate
    seed: int
    max_steps: int

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
        planned = self.plan.row(request.sequence, named=True)
        row = planned["row"] + planned["num_rows"] - 1  # a clip's last sample knows all of its turns
        sample = self.split.sample(row)
        sequence = self.layout(request, planned, sample)
        return Item(sample.key, sequence, self._frames(sequence, planned, sample))

    def layout(self, request: Request, planned: dict[str, Any], sample: TurnSample) -> TokenSequence:
        clip = sample.clip
        keep = self.sampling.keep(request, clip.id) if self.sampling else (lambda frame: True)
        if self.data.packing == "turn":
            return turn_sequence(self.tokens, sample, planned["following"], keep)
        part = Part(planned["first_frame"], planned["last_frame"], tuple(planned["state"]), planned["num_tokens"])
        sequence = clip_sequence(self.tokens, clip, part)
        assert len(sequence) == part.num_tokens, f"{sample.key}: {len(sequence)} tokens, planned {part.num_tokens}"
        sequence.drop_decisions(keep)
        return sequence

    def _frames(self, sequence: TokenSequence, planned: dict[str, Any], sample: TurnSample) -> npt.NDArray[np.uint8]:
        """Pixels of the sequence's frames, each decoded once: (F, 3, S, S)."""
        if self.data.blind or not sequence.frames:
            return blind_frames(len(sequence.frames), self.image_size)
        read = self._embedded(planned) if self._has_embedded_frames else self._from_arrow(sample)
        return np.stack([decode_frame(read(f), self.image_size, f"{sample.key} frame {f}") for f in sequence.frames])

    @property
    def _has_embedded_frames(self) -> bool:
        return bool(self.split.manifest["options"]["embed_frames"])

    def _embedded(self, planned: dict[str, Any]) -> Callable[[int], bytes]:
        first, end = planned["row"], planned["row"] + planned["num_rows"]
        ranges = self.split.index[first:end].select("start_frame", "end_frame").rows()
        places = {f: (first + i, f - start) for i, (start, last) in enumerate(ranges) for f in range(start, last + 1)}

        def read(frame: int) -> bytes:
            row, position = places[frame]
            return self.split.members(row, slice(1 + position, 2 + position))[1][0]

        return read

    def _from_arrow(self, sample: TurnSample) -> Callable[[int], bytes]:
        roots = search_roots(self.data.frames_root, self.data.root, self.split.manifest["dataset"])
        return open_frames(find_frames_file(sample.clip.frames_file, roots)).read


def collate(items: list[Item | ProspectError], pad: int) -> Batch | ProspectError:
    """The batch of `items`, or the first error among them."""
    error = next((item for item in items if isinstance(item, ProspectError)), None)
    return error or stack_items([item for item in items if isinstance(item, Item)], pad)


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
    """Raises a worker's error here, without the traceback that DataLoader writes into its message."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, ProspectError):
                raise batch
            yield batch


def make_loader(reader: SequenceReader, batches: MicroBatches, pad: int, num_workers: int) -> Loader:
    return Loader(
        reader,
        batch_sampler=batches,
        collate_fn=partial(collate, pad=pad),
        num_workers=num_workers,
        multiprocessing_context="forkserver" if num_workers else None,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
