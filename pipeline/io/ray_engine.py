"""Runs independent tasks on a Ray cluster, in the order of the tasks, like `engine.LocalEngine`."""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
        try:
            if address:
                _knock(address)
                ray.init(address=address, **options)
            else:
                ray.init(address="local", num_cpus=workers, include_dashboard=False, **options)
        except (OSError, RuntimeError, ValueError) as error:
            raise ProspectError(f"--ray-address {address}: cannot connect to Ray ({error})") from None
        self._ray = ray
        self._workers = workers if address is None else max(1, int(ray.cluster_resources().get("CPU", 1)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ray.shutdown()

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        remote = self._ray.remote(num_cpus=1, max_retries=self.RETRIES)(work)
        yield from _in_order(remote.remote, self._result, iter(tasks), self._workers)

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
