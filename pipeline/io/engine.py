"""Runs independent tasks: in this process or in worker processes of this machine (`ray_engine.py`: on a Ray cluster).

Every engine gives the results in the order of the tasks and takes tasks from an iterator only as it needs them, so
that neither the input nor the results pile up in memory. `work` must be importable by name.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from pipeline.errors import ProspectError

Task = TypeVar("Task")
Result = TypeVar("Result")
TASKS_AHEAD = 2  # for each worker: one at work, one whose result waits for its turn
SECONDS_TO_END = 5  # for a worker to remove what it has half-written
_PIPE_ENDED = (EOFError, OSError)  # OSError: within a message, or while one is sent


class Engine(Protocol):
    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Give `work(task)` for each task, in order. The first error ends it."""


class LocalEngine:
    """This process alone (`workers` 1), or worker processes, each started when a task needs it and kept for the next.

    Each worker has a pipe of its own and one task at a time. concurrent.futures' pool shares one pipe for all results:
    a worker that dies within a result leaves its reader waiting for the rest for ever (seen in 6% of stopped builds).
    """

    def __init__(self, workers: int = 1) -> None:
        self._size = workers
        self._workers: dict[Connection, BaseProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end([*self._workers])

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        tasks = iter(tasks)
        first = list(islice(tasks, 2))
        if self._size <= 1 or len(first) < 2:
            yield from map(work, chain(first, tasks))
            return
        waiting = enumerate(chain(first, tasks))
        idle = list(self._workers)
        at_work: dict[Connection, int] = {}
        answers: dict[int, _Answer] = {}
        following = 0  # the task whose result is given next
        try:
            while True:
                room = min(self._size - len(at_work), TASKS_AHEAD * self._size - len(at_work) - len(answers))
                for number, task in islice(waiting, room):
                    worker = idle.pop() if idle else self._start()
                    at_work[worker] = number
                    with _naming_death():
                        worker.send((work, task))
                if following in answers:
                    yield answers.pop(following).result()
                    following += 1
                elif not at_work:
                    return
                ready = wait(at_work, 0 if following in answers else None) if at_work else []
                for worker in [worker for worker in at_work if worker in ready]:
                    with _naming_death():
                        answers[at_work[worker]] = worker.recv()
                    del at_work[worker]
                    idle.append(worker)
        finally:
            self._end([*at_work])

    def _start(self) -> Connection:
        spawn = multiprocessing.get_context("spawn")  # fork would copy pyarrow's threads in an unknown state
        ours, theirs = spawn.Pipe()
        threads = max(1, (os.cpu_count() or 1) // self._size)
        process = spawn.Process(target=_serve, args=(theirs, threads), daemon=True)
        process.start()
        theirs.close()  # so that ours ends with the process
        self._workers[ours] = process
        return ours

    def _end(self, workers: list[Connection]) -> None:
        processes = [self._workers.pop(worker) for worker in workers if worker in self._workers]
        for process in processes:  # a shard half-written is written again
            process.terminate()
        for process in processes:
            process.join(SECONDS_TO_END)
            process.kill()
            process.join()


def end_with_parent() -> None:
    """End this worker process when the parent does, however that ended; after SIGKILL nobody else would tell it."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _naming_death() -> Iterator[None]:
    try:
        yield
    except _PIPE_ENDED:
        raise ProspectError(
            "a worker process died (killed, or out of memory?); what was finished is kept: run the same command again, "
            "with fewer --workers if memory is short"
        ) from None


@dataclass(frozen=True, slots=True)
class _Answer:
    """What became of a task: a value, or the error of it."""

    value: Any
    error: Exception | None = None

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def _serve(connection: Connection, threads: int) -> None:
    """A worker process. The parent alone answers Ctrl-C; SIGTERM ends it, with no half-written file left.

    `threads`: of torch, where a task imports it, unless the environment says so; workers with all cores each are slow.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(1))
    end_with_parent()
    with suppress(*_PIPE_ENDED):  # the parent has gone
        while True:
            connection.send(_work(*connection.recv()))


def _work(work: Callable[[Task], Result], task: Task) -> _Answer:
    """In a worker process: SIGTERM unwinds the task, then ends the process."""
    ending = False

    def unwind(signum: int, frame: object) -> None:
        nonlocal ending
        ending = True
        sys.unraisablehook = swallowed
        sys.exit(1)

    def swallowed(error: object) -> None:
        """It was raised in a __del__, or in C code that cannot fail: raised again, a moment later."""
        signal.signal(signal.SIGALRM, unwind)
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        return _Answer(work(task))
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))  # tracebacks do not travel
        return _Answer(None, error)
    finally:
        if ending:
            os._exit(1)
        signal.signal(signal.SIGTERM, before)
