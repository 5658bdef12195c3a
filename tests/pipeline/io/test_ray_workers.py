"""`RayWorkers`: processes that stay on a Ray with two GPUs, which it only believes to have; else as `test_engine.py`."""

import os
from functools import partial
from pathlib import Path

import pytest
import ray

from pipeline.errors import ProspectError
from pipeline.io.ray_engine import RayWorkers
from tests.helpers.tasks import dies, dies_once, odd_fails
from tests.helpers.waiting import wait_for

LOADED = []


@pytest.fixture(scope="module")
def workers():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "init", partial(ray.init, num_gpus=2))
        with RayWorkers(3) as engine:
            yield engine


def place(marks: Path) -> tuple[int, str, str, int]:
    """Its process, GPU, folder, and how many tasks it has had; once two processes have left their mark."""
    LOADED.append(1)
    (marks / str(os.getpid())).touch()
    wait_for(lambda: len(list(marks.iterdir())) == 2)
    return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], os.getcwd(), len(LOADED)


def test_each_worker_has_a_gpu_and_stays(workers, tmp_path):
    """There are two, as many as GPUs, for tasks of two calls of `map`."""
    places = [*workers.map(place, [tmp_path] * 6), *workers.map(place, [tmp_path] * 3)]
    assert {gpu for _, gpu, _, _ in places} == {"0", "1"} and {folder for _, _, folder, _ in places} == {os.getcwd()}
    assert len({(process, gpu) for process, gpu, _, _ in places}) == 2
    for gpu in ("0", "1"):
        counts = [count for _, its, _, count in places if its == gpu]
        assert sorted(counts) == list(range(1, len(counts) + 1))


def test_results_come_in_order_and_tasks_are_taken_as_needed(workers):
    taken = []
    results = workers.map(odd_fails, (taken.append(n) or n for n in range(0, 80, 2)))
    assert next(results) == 0
    assert len(taken) <= 5, "tasks do not pile up"
    assert list(results) == list(range(2, 80, 2))


def test_an_error_of_the_work_arrives_in_its_turn_and_the_workers_go_on(workers):
    results = workers.map(odd_fails, [0, 2, 3, 4, 6, 8])
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(ProspectError) as caught:
        next(results)
    assert str(caught.value) == "3 is odd"
    assert list(workers.map(odd_fails, [])) == []
    assert list(workers.map(odd_fails, [4, 8])) == [4, 8]


def test_a_task_whose_worker_dies_is_tried_again(workers, tmp_path):
    pids = list(workers.map(dies_once, [tmp_path / "a", tmp_path / "b"]))
    assert 0 not in pids and os.getpid() not in pids


def test_it_is_given_up_in_the_end(workers, monkeypatch):
    monkeypatch.setattr(RayWorkers, "RETRIES", 1)
    workers._idle.clear()  # those there are would try three times
    with pytest.raises(ProspectError, match="Ray gave up on a task after 1 retries"):
        list(workers.map(dies, [1]))
