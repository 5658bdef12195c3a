"""Runs independent tasks on a Ray cluster, in the order of the tasks, like `engine.LocalEngine`.

`RayEngine` gives Ray the tasks; `RayWorkers` has processes of its own there, for work that first loads a model.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Self

from pipeline.errors import ProspectError
from pipeline.io.engine import TASKS_AHEAD, Result, Task


class RayEngine:
    """A Ray cluster; without an address one is started here. A task whose worker dies is retried, three times."""

    RETRIES = 3

    def __init__(self, workers: int, address: str | None = None) -> None:
        """`workers`: of a Ray started here; an existing cluster has its own number."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        answers = False
        try:
            if address:
                _knock(address)
                answers = True
                ray.init(address=address, **options)
            else:
                ray.init(address="local", num_cpus=workers, include_dashboard=False, **options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            mode = os.environ.get("RAY_AUTH_MODE")
            token = "" if mode or not answers else "; if this cluster wants a token, set RAY_AUTH_MODE=token"
            raise ProspectError(f"--ray-address {address}: cannot connect to Ray ({error}){token}") from None
        self._ray = ray
        self._workers = workers if address is None else max(1, int(ray.cluster_resources().get("CPU", 1)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ray.shutdown()

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        remote = self._ray.remote(num_cpus=1, max_retries=self.RETRIES)(_work_in)
        yield from _in_order(partial(remote.remote, os.getcwd(), work), self._result, iter(tasks), self._workers)

    def _result(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            error.cause.add_note(str(error))
            raise error.cause from None
        except errors.RayError as error:
            raise ProspectError(
                f"Ray gave up on a task after {self.RETRIES} retries ({type(error).__name__}); what was finished is "
                "kept: run the same command again"
            ) from None


class RayWorkers(RayEngine):
    """Processes on a Ray cluster that stay and keep what they load: one for each free GPU, or CPU where it has no GPU.

    Of Ray's own tasks those with a GPU end their process each time, as the next may be given another GPU. A process
    that dies is started again, and its task is tried again, three times.
    """

    def __init__(self, workers: int, address: str | None = None) -> None:
        super().__init__(workers, address)
        self._gpus = int(self._ray.cluster_resources().get("GPU", 0) >= 1)
        free = self._ray.available_resources() if address else self._ray.cluster_resources()
        self._workers = max(1, int(min(free.get(name, 0) for name in ("CPU", "GPU")[: 1 + self._gpus])))
        self._idle: list[Any] = []

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        tasks = iter(tasks)
        pending: deque[Any] = deque()  # references to results, in the order of the tasks
        at_work: dict[Any, Any] = {}  # reference -> worker
        try:
            while True:
                room = min(self._workers - len(at_work), TASKS_AHEAD * self._workers - len(pending))
                for task in islice(tasks, max(room, 0)):
                    worker = self._idle.pop() if self._idle else self._start()
                    pending.append(worker.run.remote(os.getcwd(), work, task))
                    at_work[pending[-1]] = worker
                if not pending:
                    return
                if pending[0] not in at_work:
                    yield self._result(pending.popleft())
                else:
                    for reference in self._ray.wait(list(at_work))[0]:
                        self._idle.append(at_work.pop(reference))
        finally:
            for worker in at_work.values():
                self._ray.kill(worker)

    def _start(self) -> Any:
        options = {"num_cpus": 1, "num_gpus": self._gpus, "max_restarts": -1, "max_task_retries": self.RETRIES}
        return self._ray.remote(**options)(_Worker).remote()


class _Worker:
    """A process on the cluster."""

    def run(self, folder: str, work: Callable[[Task], Result], task: Task) -> Result:
        return _work_in(folder, work, task)


def _work_in(folder: str, work: Callable[[Task], Result], task: Task) -> Result:
    """Do a task where relative paths mean what they mean to the driver in its `folder`, if the node has such a folder.

    A worker of a cluster begins where `ray start` was called.
    """
    with suppress(OSError):
        os.chdir(folder)
    return work(task)


def _knock(address: str) -> None:
    """Raises OSError where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


def _in_order(
    submit: Callable[[Any], Any], result: Callable[[Any], Any], tasks: Iterator[Any], workers: int
) -> Iterator[Any]:
    pending = deque(map(submit, islice(tasks, TASKS_AHEAD * workers)))
    while pending:
        done = result(pending.popleft())
        pending.extend(map(submit, islice(tasks, 1)))
        yield done
