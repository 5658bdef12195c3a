"""Engines: order, laziness, errors, dead workers. `work` functions stand at a module's level, as workers import them."""

import os
import signal
import subprocess
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pipeline.errors import ProspectError
from pipeline.io.engine import LocalEngine
from pipeline.io.ray_engine import RayEngine
from tests.helpers.places import ROOT
from tests.helpers.tasks import dies, dies_once, odd_fails
from tests.helpers.waiting import wait_for


def square(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0)
    return number * number


def dies_within_its_result(number: int) -> bytes:
    """It is killed when half of its result is sent."""
    whole = Connection._send

    def half(connection: Connection, part: bytes) -> None:
        header = len(part) == 4  # that of a large message is sent alone
        whole(connection, part if header else part[: len(part) // 2])
        if not header:
            os.kill(os.getpid(), signal.SIGKILL)

    Connection._send = half
    return bytes(1 << 20)


@pytest.fixture(scope="module")
def ray_engine():
    with RayEngine(2) as engine:
        yield engine


def engines(ray_engine):
    return [LocalEngine(1), LocalEngine(2), ray_engine]


def test_results_come_in_order_and_tasks_are_taken_as_needed(ray_engine):
    for engine in engines(ray_engine):
        taken = []
        tasks = (taken.append(n) or n for n in range(40))
        results = engine.map(square, tasks)
        assert next(results) == 0
        assert len(taken) <= 6, "tasks do not pile up"
        assert list(results) == [n * n for n in range(1, 40)]


def test_an_error_of_the_work_arrives_as_it_is(ray_engine):
    for engine in engines(ray_engine):
        results = engine.map(odd_fails, [0, 2, 3, 4])
        assert [next(results), next(results)] == [0, 2]
        with pytest.raises(ProspectError) as caught:
            next(results)
        assert str(caught.value) == "3 is odd"
        assert any("in odd_fails" in line for line in traceback.format_exception(caught.value)), "where it was raised"


def test_ray_retries_a_task_whose_worker_died(ray_engine, tmp_path):
    pids = list(ray_engine.map(dies_once, [tmp_path / "a", tmp_path / "b"]))
    assert 0 not in pids and os.getpid() not in pids
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()


def test_ray_gives_up_in_the_end(ray_engine, monkeypatch):
    monkeypatch.setattr(RayEngine, "RETRIES", 1)
    with pytest.raises(ProspectError, match="Ray gave up on a task after 1 retries"):
        list(ray_engine.map(dies, [1]))


def test_no_ray_at_an_address_is_a_clear_error():
    script = "from pipeline.io.ray_engine import RayEngine\nRayEngine(1, '127.0.0.1:1')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "ProspectError: --ray-address 127.0.0.1:1: cannot connect to Ray" in done.stderr


def test_a_dead_local_worker_is_a_clear_error():
    with (
        pytest.raises(ProspectError, match=r"a worker process died .* run the same command again"),
        LocalEngine(2) as e,
    ):
        list(e.map(dies, range(4)))


def test_a_worker_that_dies_within_its_result_is_a_clear_error():
    with pytest.raises(ProspectError, match="a worker process died"), LocalEngine(2) as e:
        list(e.map(dies_within_its_result, range(2)))


def test_an_engine_ends_whatever_its_workers_are_sending():
    with pytest.raises(ProspectError, match="the disk"), LocalEngine(2) as e:
        for _ in e.map(bytes, [0, 1 << 24, 1 << 24, 1 << 24]):
            raise ProspectError("the disk")


def test_a_map_left_early_leaves_nothing_to_the_next():
    with LocalEngine(2) as e:
        assert next(e.map(square, range(9))) == 0
        assert list(e.map(square, range(9))) == [n * n for n in range(9)]
        assert list(e.map(square, range(3))) == [0, 1, 4]


def test_workers_end_with_a_killed_parent(tmp_path):
    script = (
        "import os, time\nfrom pathlib import Path\nfrom pipeline.io.engine import LocalEngine\n"
        "def work(folder):\n    (Path(folder) / str(os.getpid())).touch()\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n    list(LocalEngine(2).map(work, [os.environ['MARKS']] * 2))\n"
    )
    (tmp_path / "script.py").write_text(script)
    marks = tmp_path / "marks"
    marks.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MARKS": str(marks)}
    parent = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=environment)
    wait_for(lambda: len(list(marks.iterdir())) == 2)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(is_running(int(mark.name)) for mark in marks.iterdir()))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
