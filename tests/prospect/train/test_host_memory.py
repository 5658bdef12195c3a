"""What `plan` tells of the host's memory: by hand, and as a worker's own memory grows."""

import os
from types import SimpleNamespace

import torch

from prospect.config import Config
from prospect.data import collate
from prospect.data.slots import Slots
from prospect.train import host_memory as module
from prospect.train.host_memory import HostMemory, host_memory, too_little_shared


def settings(**sections) -> Config:
    train = {"global_batch_size": 16, "micro_batch_size": 1} | sections.pop("train", {})
    data = {"dataset": "x", "num_workers": 4} | sections.pop("data", {})
    return Config.model_validate({"data": data, "model": {"preset": "toy", "freeze_vision": True}, "train": train})


def test_host_memory_by_hand():
    """gpu.md 6: a window of 900 frames of 384 pixels is .4 GB; a step of 16 was held whole."""
    window = 900 * 3 * 384 * 384
    lazy = host_memory(settings(), window)
    assert lazy == HostMemory(window, 4 * 4 * window, (4 * 2 + 2) * 2**29)
    whole = host_memory(settings(data={"on_error": "skip"}), window)
    assert whole.pinned == (8 + 16) * 2**29, "what a broken sample leaves is not known ahead"
    alone = host_memory(settings(data={"num_workers": 0}), window)
    assert (alone.shared, alone.pinned) == (0, 16 * 2**29)
    cached = host_memory(settings(data={"features": "features"}), 1024)
    assert (cached.shared, cached.pinned) == (8 * 1024, 10 * 1024), "a power of two stays as it is"


def test_a_workers_shared_memory_is_the_planned_one():
    """A GPU's copy is made at once: of the batches asked for and the one that is copied, none is given back later."""
    slots, batch, lent = Slots(), 5000, []
    for _ in range(9):
        if len(lent) == collate.PREFETCH + 1:
            lent.pop(0)[-1] = 0
        lent.append(slots.take(batch))
    held = sum(len(slot) for slot in slots._slots)
    assert 0 < held <= host_memory(settings(data={"num_workers": 1}), batch).shared
    assert all(slot.dtype == torch.uint8 for slot in slots._slots)


def test_a_small_dev_shm_is_told(monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_blocks=16, f_frsize=4096))
    fits, more = HostMemory(1, 65536, 1), HostMemory(1, 65537, 1)
    assert too_little_shared(fits) is None and too_little_shared(fits, ranks=2)
    assert (too_little_shared(more) or "").startswith("the workers' batches take 0.0 GB of /dev/shm, this machine has")
    monkeypatch.setattr(module, "SHM", module.SHM / "none")
    assert too_little_shared(more) is None
