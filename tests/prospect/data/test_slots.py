"""A worker's shared memory: lent, read in place, given back when nothing looks at it any more."""

import gc
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from prospect.data import slots as module
from prospect.data.slots import HELD, Lent, Slots


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch):
    monkeypatch.setattr(module, "_held", {})


def arrived(slots: Slots, value: int, frames: int = 2) -> torch.Tensor:
    """A batch of `frames` of 4 x 4 pixels, all of `value`, as it is received."""
    slot = slots.take(frames * 48)
    slot[: frames * 48] = value
    return ForkingPickler.loads(ForkingPickler.dumps(Lent(slot, (frames, 4, 4, 3))))


def test_frames_arrive_in_the_order_of_a_model():
    slot = Slots().take(96)
    slot[:96] = torch.arange(96)
    frames = ForkingPickler.loads(ForkingPickler.dumps(Lent(slot, (2, 4, 4, 3))))
    assert frames.shape == (2, 3, 4, 4) and frames.dtype == torch.uint8
    assert torch.equal(frames, torch.arange(96, dtype=torch.uint8).view(2, 4, 4, 3).permute(0, 3, 1, 2))


def test_a_slot_is_used_again_when_the_last_part_of_a_batch_is_gone():
    slots = Slots()
    batch = arrived(slots, 1)
    part = batch[1, 0]
    del batch
    gc.collect()
    other = arrived(slots, 2)
    assert part.unique().tolist() == [1] and other.unique().tolist() == [2] and len(slots._slots) == 2
    del part
    third = arrived(slots, 3)
    assert len(slots._slots) == 2 and other.unique().tolist() == [2] and third.unique().tolist() == [3]


def test_what_is_read_is_the_workers_own_memory():
    slots = Slots()
    batch = arrived(slots, 1)
    slots._slots[0][0] = 9
    assert batch[0, 0, 0, 0] == 9


def test_of_batches_that_are_kept_no_more_than_held_stay_in_a_workers_memory():
    slots = Slots()
    kept = [arrived(slots, value) for value in range(9)]
    assert [batch.unique().tolist() for batch in kept] == [[value] for value in range(9)]
    assert len(slots._slots) == HELD + 1
    kept.clear()
    assert not any(slot[-1] for slot in slots._slots) and module._held.popitem()[1] == set()


def test_a_slot_that_is_too_small_is_replaced():
    slots = Slots()
    arrived(slots, 1, frames=1)
    large = arrived(slots, 2, frames=5)
    assert large.unique().tolist() == [2] and [len(slot) for slot in slots._slots] == [241]
    del large
    small = arrived(slots, 3, frames=1)
    assert small.shape == (1, 3, 4, 4) and [len(slot) for slot in slots._slots] == [241]
