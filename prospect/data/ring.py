"""Shared memory of a data worker, used again and again."""

import torch


class Ring:
    """A worker's shared memory, used again and again: fresh pages cost as much as decoding.

    The main process copies what it gets at once (`Loader`), before it asks for the batch that would write over it: of a
    worker's batches at most PREFETCH + 1 are asked for and not taken over yet.
    """

    def __init__(self, slots: int) -> None:
        self._slots = [torch.empty(0, dtype=torch.uint8)] * slots
        self._next = 0

    def next(self, size_bytes: int) -> torch.Tensor:
        """`size_bytes` of uint8, of the slot that was used longest ago."""
        slot, self._next = self._next, (self._next + 1) % len(self._slots)
        if len(self._slots[slot]) < size_bytes:
            shared = torch.UntypedStorage._new_shared(size_bytes)
            self._slots[slot] = torch.empty(0, dtype=torch.uint8).set_(shared)
        return self._slots[slot][:size_bytes]
