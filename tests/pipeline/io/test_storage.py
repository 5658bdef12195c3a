import errno
import multiprocessing
import threading

import pytest

from pipeline.errors import ProspectError
from pipeline.io.remote import RemoteFolder, open_folder
from pipeline.io.storage import LocalFolder, is_url, write_bytes


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    if request.param == "local":
        return open_folder(tmp_path / "out") / "x"
    request.getfixturevalue("s3")
    return open_folder(f"s3://bucket/{tmp_path.name}") / "x"


def test_files_are_written_listed_read_and_removed(folder):
    assert folder.names() == [] and folder.size("a") is None
    write_bytes(folder, "b", b"two")
    write_bytes(folder, "a", b"one!")
    write_bytes(folder / "below", "c", b"")
    assert folder.names() == ["a", "b", "below"]
    assert (folder.size("a"), folder.read("a")) == (4, b"one!")
    with folder.open("a") as file:
        assert (file.read(3), file.read()) == (b"one", b"!")
    folder.delete("a")
    assert folder.names() == ["b", "below"]
    folder.remove()
    assert folder.names() == [] and (folder / "below").names() == []
    folder.remove()


def test_a_file_that_failed_half_way_has_no_name(folder):
    with pytest.raises(ZeroDivisionError), folder.new_file("a") as path:
        path.write_bytes(b"half")
        1 / 0  # noqa: B018
    assert folder.names() == [] and folder.size("a") is None
    if isinstance(folder, LocalFolder):
        assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize("name", ["../b", "/b", "..", ".", "", "a/b", "a\\b", "a\0"])
def test_names_stay_in_their_folder(folder, name):
    def write(name):
        write_bytes(folder, name, b"x")

    for act in (write, folder.read, folder.size, folder.delete, folder.__truediv__):
        with pytest.raises(ProspectError, match="found a path, expected the plain name of a file or folder"):
            act(name)


def test_a_full_disk_names_the_file(tmp_path):
    message = r"\[Errno 28\] No space left on device: '.*/a\.\d+\.partial'"
    with pytest.raises(OSError, match=message), LocalFolder(tmp_path).new_file("a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_urls_are_told_from_paths(tmp_path):
    assert is_url("s3://bucket/x") and not is_url("shards") and not is_url(tmp_path)
    assert isinstance(open_folder("pipe:cat x"), LocalFolder), "a path with a colon; no shell is ever asked"
    with pytest.raises(ProspectError, match=r"bogus://x: cannot be opened \(Protocol not known: bogus\)"):
        open_folder("bogus://x")


def test_a_missing_bucket_or_file_is_named(s3):
    with pytest.raises(ProspectError, match="s3://nowhere/x/a: no such file, folder or bucket"):
        write_bytes(RemoteFolder("s3://nowhere/x"), "a", b"")
    with (
        pytest.raises(ProspectError, match=r"s3://bucket/none\.tar: no such file"),
        RemoteFolder("s3://bucket").open("none.tar"),
    ):
        pass


def write_and_wait(folder, ready):
    with LocalFolder(folder).new_file("a") as path:
        path.write_bytes(b"half")
        ready.set()
        threading.Event().wait()


def test_what_a_killed_process_left_goes_with_the_next_file_and_what_is_at_work_stays(tmp_path):
    """attack.md 16: kill -9 left NAME.PID.partial for ever, one more each time."""
    context = multiprocessing.get_context("spawn")
    ready = [context.Event(), context.Event()]
    killed, working = (context.Process(target=write_and_wait, args=(tmp_path, event)) for event in ready)
    for process, event in zip((killed, working), ready, strict=True):
        process.start()
        assert event.wait(60)
    killed.kill()
    killed.join()
    (tmp_path / "b.1.partial").write_bytes(b"of another file")
    write_bytes(LocalFolder(tmp_path), "a", b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", f"a.{working.pid}.partial", "b.1.partial"]
    assert (tmp_path / "a").read_bytes() == b"whole"
    working.kill()
    working.join()


def test_no_more_of_a_file_is_read_than_is_expected(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert LocalFolder(tmp_path).read("a", 5) == b"12345"
    with pytest.raises(ProspectError, match=r"/a: found 5 bytes, expected at most 4"):
        LocalFolder(tmp_path).read("a", 4)
