"""What a rank's loader takes of the host's memory: batches that its workers make ahead, in /dev/shm, and copies of them
that the GPU reads (pinned), which the allocator rounds up to powers of two."""

import os
from dataclasses import dataclass
from pathlib import Path

from prospect.config import Config, accumulation_steps
from prospect.data.collate import PREFETCH, SLOTS

SHM = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Bytes of one rank."""

    batch: int  # of the largest micro-batch
    shared: int  # in /dev/shm: what workers decode into, or features on their way
    pinned: int  # copies for the GPU: those ahead, and those of the step under way


def host_memory(config: Config, batch: int) -> HostMemory:
    """Predict what the loader takes for micro-batches of `batch` bytes.

    A worker decodes into a slot of its own for each batch that may be asked of it, and one more. As many batches as are
    asked for ahead may lie pinned, beside that which is computed and that which is loaded after it; a step that is
    counted from its batches holds them all.
    """
    workers, steps = config.data.num_workers, accumulation_steps(config.train)
    ahead = workers * PREFETCH
    slots = ahead if config.data.features else workers * SLOTS
    is_lazy = bool(workers) and config.data.on_error == "error"  # `ProspectTrainer.get_train_dataloader`
    under_way = min(2, steps) if is_lazy else steps
    rounded = 1 << max(batch - 1, 0).bit_length()
    return HostMemory(batch, slots * batch, (ahead + under_way) * rounded)


def too_little_shared(memory: HostMemory, ranks: int = 1) -> str | None:
    """Say that /dev/shm of this machine is too small for `ranks` ranks; a worker that fills it is killed."""
    if not SHM.is_dir():
        return None
    stat = os.statvfs(SHM)
    there = stat.f_blocks * stat.f_frsize
    if memory.shared * ranks <= there:
        return None
    return (
        f"the workers' batches take {memory.shared * ranks / 1e9:.1f} GB of /dev/shm, this machine has "
        f"{there / 1e9:.1f}: lower data.num_workers or train.micro_batch_size, or give it more (docker run --shm-size)"
    )
