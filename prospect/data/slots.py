"""A loader worker's shared memory, used again and again: fresh pages cost as much as decoding.

A batch's frames are decoded into a slot, and read there by the process that trains: nothing is copied. A slot's last
byte says whether it is lent; whoever received it gives it back when the last tensor on it is gone. Of a consumer that
keeps more batches of a worker than HELD the next are copied, so a worker's memory stays bounded.

F frames, S pixels a side.
"""

import itertools
import os
import weakref
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

HELD = 2  # of a worker's batches: the one that is computed with, and the next
_numbers = itertools.count()
_held: dict[int, set[int]] = {}  # by worker, what was received and not given back yet


class Slots:
    """Of one worker; there are as many as were lent at the same time."""

    def __init__(self) -> None:
        self._slots: list[Tensor] = []  # uint8 each, the last byte: 1 while it is lent

    def take(self, size_bytes: int) -> Tensor:
        """Lend a slot that holds more than `size_bytes` of uint8."""
        free = [slot for slot in self._slots if not slot[-1]]
        slot = next((slot for slot in free if len(slot) > size_bytes), None)
        if slot is None:
            if free:  # too small: one is replaced
                self._slots = [other for other in self._slots if other is not free[0]]
            slot = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(size_bytes + 1))
            self._slots.append(slot)
        slot[-1] = 1
        return slot


@dataclass(frozen=True, slots=True)
class Lent:
    """Frames in a slot, on their way to another process; what is unpickled there is a tensor uint8 (F, 3, S, S)."""

    slot: Tensor
    shape: tuple[int, int, int, int]  # (F, S, S, 3)

    def __reduce__(self) -> Any:
        return _received, (self.slot, self.shape, os.getpid())


def _received(slot: Tensor, shape: tuple[int, int, int, int], worker: int) -> Tensor:
    whole: npt.NDArray[np.uint8] = slot.numpy()
    pixels = whole[: prod(shape)].reshape(shape)  # a view, which torch keeps for as long as any tensor on it
    held = _held.setdefault(worker, set())
    if len(held) < HELD:
        number = next(_numbers)
        held.add(number)
        weakref.finalize(pixels, _give_back, whole, held, number).atexit = False
    else:
        pixels = pixels.copy()  # numpy asks for huge pages
        whole[-1] = 0
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _give_back(slot: npt.NDArray[np.uint8], held: set[int], number: int) -> None:
    slot[-1] = 0
    held.discard(number)
