import errno

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
    with pytest.raises(ProspectError, match="s3://nowhere/x: no such file, folder or bucket"):
        write_bytes(RemoteFolder("s3://nowhere/x"), "a", b"")
    with (
        pytest.raises(ProspectError, match=r"s3://bucket/none\.tar: no such file"),
        RemoteFolder("s3://bucket").open("none.tar"),
    ):
        pass
