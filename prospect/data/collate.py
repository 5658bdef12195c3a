"""Sequences to a batch: frames decoded straight into the batch's memory, everything else padded and stacked.

B batch, T tokens (longest of the batch), F frames of the batch, S pixels a side.
"""

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

from pipeline.errors import ProspectError
from prospect.data.decode import GREY, decode_into
from prospect.data.reader import Item, named
from prospect.data.slots import Lent, Slots
from prospect.layout import IGNORE, Block, TokenSequence, joined
from prospect.losses import label_places

Batch = dict[str, Any]
Frames = torch.Tensor | Lent
PREFETCH = 2  # batches that are asked of each worker ahead
SLOTS = PREFETCH + 2  # of a worker, most that are lent where what arrives is copied at once (pinned)


def collate(
    items: list[Item | ProspectError], pad: int, image_size: int, skip: bool = False, padding_free: bool = False
) -> Batch | ProspectError:
    """Make the batch of `items`, with the errors among them (None for a good item) under "errors".

    With `padding_free` they follow one another in a row, in place of a row each: B is 1, T the sum of their lengths.

    Without `skip` the first error takes the batch's place. With it a broken item becomes a sequence of one token that
    nothing is learned from: every rank still has its micro-batch.
    """
    pixels, decoded = _pixels(items, image_size)
    errors = [item if isinstance(item, ProspectError) else None for item in decoded]
    first = next((error for error in errors if error), None)
    if first and not skip:
        return first
    nothing = Item("", "", "", TokenSequence(), [])
    nothing.sequence.add(Block([pad]))
    good = [nothing if isinstance(item, ProspectError) else item for item in decoded]
    return _stacked(good, pixels, pad, padding_free) | {"errors": errors}


def stack_items(items: list[Item], pad: int, image_size: int) -> Batch:
    """Make the batch of good items; an image that cannot be decoded is raised."""
    pixels, decoded = _pixels(items, image_size)
    for item in decoded:
        if isinstance(item, ProspectError):
            raise item
    return _stacked(items, pixels, pad)


def _pixels(items: Sequence[Item | ProspectError], size: int) -> tuple[Frames, list[Item | ProspectError]]:
    """Frames (F, 3, S, S) of all good items, decoded in place; the items, those with a broken image as its error.

    In a worker they are decoded into the shared memory in which the main process reads them.
    """
    most = sum(len(item.sequence.frames) for item in items if isinstance(item, Item) and item.features is None)
    shape = most, size, size, 3
    slot = _slots.take(prod(shape)) if get_worker_info() and most else None
    pixels: npt.NDArray[np.uint8]
    pixels = np.empty(shape, np.uint8) if slot is None else slot.numpy()[: prod(shape)].reshape(shape)
    end = 0
    decoded: list[Item | ProspectError] = []
    for item in items:
        if isinstance(item, ProspectError) or item.features is not None:
            decoded.append(item)
            continue
        here = pixels[end : end + len(item.sequence.frames)]
        try:
            if item.images is None:
                here[...] = GREY
            else:
                for out, data, frame in zip(here, item.images, item.sequence.frames, strict=True):
                    decode_into(out, data, f"frame {frame}")
        except ProspectError as error:  # its part is used by the next item
            decoded.append(named(error, item.where))
        else:
            decoded.append(item)
            end += len(here)
    if slot is not None:
        return Lent(slot, (end, size, size, 3)), decoded
    return torch.from_numpy(pixels[:end]).permute(0, 3, 1, 2), decoded


def _stacked(items: list[Item], frames: Frames, pad: int, padding_free: bool = False) -> Batch:
    """Right-pad and stack, or join. `at_frame` marks decisions at frames (those after an active block are easier).

    Masks come from lengths, never from ids: the pad token may be a token that is learned.
    """
    sequences = [item.sequence for item in items]
    lengths = [len(sequence) for sequence in sequences]
    packed: Batch = {}
    if padding_free:
        sequences = [joined(sequences)]
        packed = {
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],  # (1, T)
            "sequence_starts": torch.tensor([0, *accumulate(lengths)], dtype=torch.int32),  # (sequences + 1,)
            "longest": max(lengths),
        }
    length = max(map(len, sequences))

    def stack(name: str, fill: int) -> torch.Tensor:
        rows = np.full((len(sequences), length), fill, dtype=np.int64)  # (B, T); torch reads a list 8 times slower
        for row, sequence in zip(rows, sequences, strict=True):
            row[: len(sequence)] = getattr(sequence, name)
        return torch.from_numpy(rows)

    mask = torch.zeros(len(sequences), length, dtype=torch.int64)  # (B, T)
    for row, sequence in zip(mask, sequences, strict=True):
        row[: len(sequence)] = 1
    features = [item.features for item in items if item.features is not None]
    name = "pooled" if any(item.is_pooled for item in items) else "features"
    cached = {name: torch.cat(features)} if features else {}
    target_kind, update_labels = stack("target_kind", 0).to(torch.uint8), stack("update_labels", IGNORE)
    target_places, decision_places = label_places(target_kind, update_labels)
    return {
        **cached,  # (F, K, D) or (F, K, C), and then no frames
        **packed,
        "input_ids": stack("ids", pad),
        "attention_mask": mask,
        "frames": frames,  # (F, 3, S, S) uint8, once it is where it is used
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


_slots = Slots()  # of this worker
