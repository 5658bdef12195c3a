"""A folder that one process writes to at a time."""

import os
import signal

import pytest

from pipeline.errors import ProspectError
from pipeline.io.lock import lock_beside, sole_owner
from tests.helpers.waiting import wait_for


def owner(folder):
    return sole_owner(lock_beside(folder), folder, "another train", "pass --set name=...")


def test_a_second_owner_is_refused_and_told_what_to_do(tmp_path):
    run = tmp_path / "runs" / "a"
    with owner(run):
        with pytest.raises(ProspectError) as told, owner(run):
            pass
        assert str(told.value) == f"{run}: another train is writing here; wait for it, or pass --set name=..."
        with owner(tmp_path / "runs" / "b"):
            pass
    with owner(run):
        pass


def test_the_lock_outlives_its_folder_and_is_the_same_through_a_link(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    with owner(tmp_path / "a"):
        with pytest.raises(ProspectError), owner(tmp_path / "link"):
            pass
        (tmp_path / "a").rename(tmp_path / "moved")
        with pytest.raises(ProspectError), owner(tmp_path / "a"):
            pass


def test_what_goes_wrong_inside_is_not_taken_for_a_lock(tmp_path):
    with pytest.raises(TimeoutError, match="mine"), owner(tmp_path / "a"):
        raise TimeoutError("mine")


def test_a_killed_owner_whose_child_lives_on_holds_nothing(tmp_path):
    """Data workers outlive a killed train by seconds; --resume comes at once."""
    child = os.fork()
    if child == 0:
        with owner(tmp_path / "a"):
            worker = os.fork()
            if worker == 0:
                signal.pause()
            (tmp_path / "worker.new").write_text(str(worker))
            (tmp_path / "worker.new").rename(tmp_path / "worker")
            signal.pause()
    wait_for((tmp_path / "worker").exists)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        with owner(tmp_path / "a"):
            pass
    finally:
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)
