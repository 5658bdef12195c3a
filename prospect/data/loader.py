"""The DataLoader of planned batches: its workers, and what becomes of broken samples.

Workers read and decode (`reader.py`, `collate.py`) into memory that they share with this process.
"""

import multiprocessing
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.errors import ProspectError
from pipeline.io.engine import end_with_parent
from prospect.data.collate import PREFETCH, Batch, collate
from prospect.data.order import Request
from prospect.data.reader import Readers, SequenceReader
from prospect.data.shared_frame import share_large_frames

DEAD = re.compile(r"DataLoader worker \(pid|Pin memory thread exited")  # as torch says it


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
        batches = super().__iter__()
        for batch in _naming_death(batches) if self.num_workers else batches:
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


def _naming_death(batches: Iterator[Any]) -> Iterator[Any]:
    """Hand batches on; what torch raises where a worker has gone becomes an error that says what to do."""
    while True:
        try:
            batch = next(batches, None)
        except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
            if not DEAD.match(str(error)) and (isinstance(error, RuntimeError) or "DataLoader worker" in str(error)):
                raise  # an error of ours in a worker; without one of these words the worker's pipe or memory is gone
            raise ProspectError(
                "a data worker died (killed, out of memory, or at a frames file that was cut short meanwhile); run the "
                "same command again (train: with --resume), with fewer data.num_workers if memory is short"
            ) from None
        if batch is None:
            return
        yield batch


def make_loader(
    reader: SequenceReader | Readers,
    batches: MicroBatches,
    pad: int,
    num_workers: int,
    on_skip: Callable[[str], None] = lambda error: None,
    padding_free: bool = False,
) -> Loader:
    """Make the DataLoader of `batches`; `on_skip` is told of each sample that `data.on_error: skip` leaves out;
    `padding_free`: a batch is one row."""
    skip = reader.data.on_error == "skip"
    loader = Loader(
        reader,
        batch_sampler=batches,
        collate_fn=partial(collate, pad=pad, image_size=reader.image_size, skip=skip, padding_free=padding_free),
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


@dataclass(frozen=True, slots=True)
class _Counted(Dataset[torch.Tensor | ProspectError]):
    """A request's counts, or its error."""

    reader: Readers

    def __getitem__(self, request: Request) -> torch.Tensor | ProspectError:
        try:
            return self.reader.counts(request)
        except ProspectError as error:
            return error


def counts_of_steps(reader: Readers, steps: MicroBatches) -> Iterator[torch.Tensor]:
    """Give the counts (6,) of each of `steps`, the requests of an optimizer step each, laid out in a worker of its own:
    the frames of a step need not all be in memory before its first backward.

    Raises:
        ProspectError: a sample is broken.
    """
    loader: DataLoader[Any] = DataLoader(
        _Counted(reader),
        batch_sampler=steps,
        collate_fn=_summed,
        num_workers=1,
        multiprocessing_context=_workers(),
        prefetch_factor=PREFETCH,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),
    )
    for counts in _naming_death(iter(loader)):
        if isinstance(counts, ProspectError):
            raise counts
        yield counts


def _summed(counts: list[torch.Tensor | ProspectError]) -> torch.Tensor | ProspectError:
    broken = next((error for error in counts if isinstance(error, ProspectError)), None)
    return broken or torch.stack([of_one for of_one in counts if isinstance(of_one, torch.Tensor)]).sum(0)


def _workers() -> BaseContext:
    """Workers are forked from a server that has imported what they need: seconds less for each loader."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    share_large_frames()  # a split's index, say
    return context


def _start_worker(number: int) -> None:
    end_with_parent()
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """Errors of a worker's threads; that whoever was sent a batch has gone is none: this process ends as well."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, at)
