"""Tars that are no shards: what a header claims is not believed, and nothing but plain files of our names is read."""

import io
import subprocess
import sys
import tarfile

import pytest

from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder
from pipeline.shards.expand import expand
from pipeline.shards.reader import ShardFile, read_samples
from pipeline.shards.sample import encode
from tests.helpers.fakes import make_clip
from tests.helpers.places import ROOT

SAMPLE = encode(expand(make_clip(frames=(0, 3)), 32, 8)[0])
KEY = "v-c000-12345678-0000"


def written(tmp_path, members, format=tarfile.USTAR_FORMAT) -> ShardFile:
    """A tar of (TarInfo or name, bytes)."""
    with tarfile.open(tmp_path / "x.tar", "w", format=format) as tar:
        for info, data in members:
            info = info if isinstance(info, tarfile.TarInfo) else tarfile.TarInfo(info)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return ShardFile(LocalFolder(tmp_path), "x.tar")


def refused(shard: ShardFile) -> str:
    with pytest.raises(ProspectError) as caught:
        list(read_samples(shard))
    return str(caught.value)


def of_type(kind: bytes, name: str = f"{KEY}.json") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_folders_and_devices_are_refused(tmp_path, kind):
    assert f"x.tar member {KEY}.json: found a link, folder or sparse file" in refused(
        written(tmp_path, [(of_type(kind), b"")])
    )


@pytest.mark.parametrize(
    "name", ["../x.json", "/x.json", "a/b.json", "x.pickle", "x\udcff.json", "x\x1b]0;a\x07.json", "x.json\n"]
)
def test_other_names_than_a_build_gives_are_refused(tmp_path, name):
    told = refused(written(tmp_path, [(name, SAMPLE)]))
    assert "member: found the name '" in told and told.isprintable()


def test_images_without_a_sample_are_refused(tmp_path):
    shard = written(tmp_path, [(f"{KEY}.000.jpg", b"x"), (f"{KEY}.json", SAMPLE)])
    assert f"member {KEY}.000.jpg: found no sample before it" in refused(shard)


def test_headers_that_stand_on_each_other_are_refused(tmp_path):
    """Each pax header is read within the one before: RecursionError."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 0
    (tmp_path / "x.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 3000)
    assert "x.tar: not a shard, or cut short" in refused(ShardFile(LocalFolder(tmp_path), "x.tar"))


MEASURED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder
from pipeline.shards.reader import ShardFile, read_samples
try:
    print(len(list(read_samples(ShardFile(LocalFolder(Path(sys.argv[1])), "x.tar")))), "samples")
except ProspectError as error:
    print(error)
"""


def in_two_gigabytes(tmp_path) -> str:
    """What reading x.tar says, in a process that has no more."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


def test_a_sparse_file_takes_no_memory_for_what_it_claims(tmp_path):
    """attack.md 6: 8 GB of zeros in a tar of 10 KB."""
    with (tmp_path / f"{KEY}.json").open("wb") as file:
        file.truncate(8 << 30)
        file.seek(0)
        file.write(b"{")
    command = ["tar", "--sparse", "--format=gnu", "-cf", "x.tar", f"{KEY}.json"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "x.tar").stat().st_size < 100_000
    assert "found a link, folder or sparse file" in in_two_gigabytes(tmp_path)


def test_a_size_that_is_only_claimed_takes_no_memory(tmp_path):
    info = tarfile.TarInfo(f"{KEY}.json")
    for size, expected in ((7 << 30, f"found a size of {7 << 30} bytes, expected at most"), (60 << 20, "cut short")):
        info.size = size
        (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + SAMPLE)
        assert expected in in_two_gigabytes(tmp_path)


def test_an_end_that_is_only_claimed_takes_no_memory(tmp_path):
    """attack.md 6: end_frame + 10^8 took 3.9 GB, then SIGSEGV."""
    data = SAMPLE.replace(b'"end_frame":3', b'"end_frame":100000003')
    assert data != SAMPLE
    written(tmp_path, [(f"{KEY}.json", data)])
    assert "clip.end_frame: found 100000003, expected 0 or later, by less than 1000000" in in_two_gigabytes(tmp_path)
