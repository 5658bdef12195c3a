"""Remote shards for real: an HTTP server that fails on demand, and S3 (moto), on localhost."""

import hashlib
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from pipeline.errors import ProspectError
from pipeline.io import remote as remote_module
from pipeline.io import storage
from pipeline.io.remote import RemoteFolder
from pipeline.shards.manifest import FileRecord, Manifest
from prospect.config import DataConfig
from prospect.data.index import read_split
from prospect.data.loader import MicroBatches, make_loader
from prospect.data.order import Request
from prospect.data.reader import SequenceReader
from prospect.data.sequences import sequence_table
from prospect.data.shard_cache import ShardCache
from prospect.layout import Tokens
from tests.helpers.servers import Server, make_certificate


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The pauses between tries, in place of sleeping."""
    found: list[float] = []
    monkeypatch.setattr(remote_module, "sleep", found.append)
    return found


@pytest.fixture
def server(root):
    server = Server(root)
    yield server
    server.stop()


def remote(server, tmp_path, shards="embedded", gb=1.0):
    data = DataConfig(
        dataset="x", shards=f"{server.url}/{shards}", root=tmp_path, cache=tmp_path / "cache", cache_gb=gb
    )
    return data, read_split(data.shards, "x", "train", data.root, ShardCache.of(data))


def everything(split) -> list[list[bytes]]:
    """All members of all samples."""
    counts = split.index["data_sizes"].list.len()
    return [split.members(row, range(count)) for row, count in enumerate(counts)]


@pytest.fixture
def local(root):
    return read_split(root / "embedded", "x", "train", root / "data")


def copies(tmp_path) -> list[Path]:
    return sorted(p for p in (tmp_path / "cache" / "shards").iterdir() if not p.name.startswith("."))


def test_shards_behind_http_give_the_bytes_of_local_ones_and_are_fetched_once(server, tmp_path, local):
    _, split = remote(server, tmp_path)
    assert split.index.equals(local.index)
    assert everything(split) == everything(local)
    everything(split)
    names = [shard.name for shard in split.manifest.shards]
    assert len(names) > 1 and [server.requests[name] for name in names] == [1] * len(names)
    _, again = remote(server, tmp_path)
    assert everything(again) == everything(local) and server.requests[names[0]] == 1
    assert server.requests["index.parquet"] == 1


READ_ALL = """
import hashlib, sys
from pathlib import Path
from prospect.data.index import read_split
from prospect.data.shard_cache import ShardCache
split = read_split(sys.argv[1], "x", "train", Path(), ShardCache(Path(sys.argv[2]), 10**9))
print(hashlib.sha256(b"".join(split.members(row, [0])[0] for row in range(len(split.index)))).hexdigest())
"""


def test_shards_behind_https_are_read_where_the_certificate_is_trusted(root, tmp_path, local):
    certificate = make_certificate(tmp_path / "server.pem")
    server = Server(root, certificate)
    command = [sys.executable, "-c", READ_ALL, f"{server.url}/embedded", str(tmp_path / "cache")]
    trusting = os.environ | {"SSL_CERT_FILE": str(certificate)}
    done = subprocess.run(command, env=trusting, capture_output=True, text=True)
    expected = b"".join(local.members(row, [0])[0] for row in range(len(local.index)))
    assert done.stdout.strip() == hashlib.sha256(expected).hexdigest(), done.stderr
    distrusting = subprocess.run(command, capture_output=True, text=True)
    server.stop()
    assert "CERTIFICATE_VERIFY_FAILED" in distrusting.stderr and not distrusting.stdout


def test_shards_on_s3_give_the_bytes_of_local_ones(s3, root, tmp_path, local):
    fsspec.filesystem("s3").put(str(root / "embedded"), f"bucket/{tmp_path.name}", recursive=True)
    data = DataConfig(dataset="x", shards=f"s3://bucket/{tmp_path.name}", root=tmp_path, cache=tmp_path / "cache")
    split = read_split(data.shards, "x", "train", data.root, ShardCache.of(data))
    assert everything(split) == everything(local)


def test_the_loader_reads_remote_shards_in_its_workers(server, tmp_path, root, tokenizer):
    data, split = remote(server, tmp_path)
    tokens = Tokens(tokenizer, 1)
    reader = SequenceReader(split, sequence_table(split, tokens, data), tokens, data, 32, None)
    batches = make_loader(reader, MicroBatches(lambda: iter([[Request(i, 0, 0)] for i in range(3)]), 3), 0, 2)
    assert [batch["keys"][0][:2] for batch in batches] == ["v0", "v1", "v2"]


def test_failures_that_pass_are_tried_again_later_and_later(server, tmp_path, local, waits):
    names = [shard.name for shard in local.manifest.shards]
    server.faults[names[0]] = [500, 503, "cut"]
    server.faults["manifest.json"] = [429]
    server.faults["index.parquet"] = ["cut"]
    _, split = remote(server, tmp_path)
    assert everything(split) == everything(local)
    assert server.requests[names[0]] == 4 and len(waits) == 5
    assert 0.25 <= waits[-3] <= 0.5 <= waits[-2] <= 1 <= waits[-1] <= 2, "of the shard: longer and longer"


def test_failures_that_last_are_named_with_the_number_of_tries(server, tmp_path, local, waits):
    name = local.manifest.shards[0].name
    _, split = remote(server, tmp_path)
    server.faults[name] = [500] * 9
    with pytest.raises(
        ProspectError, match=rf"http://127.*/{name}: ClientResponseError: 500.*\(tried up to 5 times in 40 s\)"
    ):
        split.members(0, [0])
    assert server.requests[name] == 5 and len(waits) == 4
    assert [p.name for p in copies(tmp_path)] == [split.manifest.index.sha256], "no half-written copy"


def test_what_is_not_there_is_named_at_once(server, tmp_path, waits):
    with pytest.raises(ProspectError, match=r"http://127.*/nowhere/x/train: found no finished shards"):
        remote(server, tmp_path, "nowhere")
    _, split = remote(server, tmp_path)
    name = split.manifest.shards[0].name
    server.faults[name] = [404]
    with pytest.raises(ProspectError, match=rf"{name}: no such file"):
        split.members(0, [0])
    assert waits == [] and server.requests[name] == 1


def test_another_file_than_the_manifest_lists_is_refused(server, tmp_path):
    _, split = remote(server, tmp_path)
    shard = split.manifest.shards[0]
    record = split.manifest.model_dump()
    record["shards"][0]["sha256"] = "0" * 64
    other = replace(split, manifest=Manifest.model_validate(record))
    with pytest.raises(ProspectError, match=rf"{shard.name}: found sha256 \w+, expected 0000.* \(3 tries\): it is not"):
        other.members(0, [0])
    assert server.requests[shard.name] == 3 and "0" * 64 not in [p.name for p in copies(tmp_path)]


def test_a_copy_that_was_damaged_on_disk_is_fetched_again(server, tmp_path, local):
    _, split = remote(server, tmp_path)
    expected = everything(split)
    shard = split.manifest.shards[0]
    copy = tmp_path / "cache" / "shards" / shard.sha256
    copy.write_bytes(b"x" * 100)
    assert everything(split) == expected and server.requests[shard.name] == 2


def test_a_copy_of_the_index_that_was_damaged_on_disk_is_fetched_again(server, tmp_path, local):
    _, split = remote(server, tmp_path)
    copy = tmp_path / "cache" / "shards" / split.manifest.index.sha256
    copy.write_bytes(copy.read_bytes()[:200])
    _, again = remote(server, tmp_path)
    assert again.index.equals(local.index) and server.requests["index.parquet"] == 2


def test_a_file_read_from_its_beginning_is_tried_again(files, waits):
    server, hashes = files
    server.faults["a"] = [500, "cut"]
    assert storage.sha256_in(RemoteFolder(server.url), "a") == hashes["a"]
    assert server.requests["a"] == 3 and len(waits) == 2


@pytest.fixture
def files(tmp_path):
    """Four files of 100 bytes on a server."""
    folder = tmp_path / "served"
    folder.mkdir()
    hashes = {}
    for name in "abcd":
        (folder / name).write_bytes(name.encode() * 100)
        hashes[name] = hashlib.sha256(name.encode() * 100).hexdigest()
    server = Server(folder)
    yield server, hashes
    server.stop()


def a_file(sha256: str) -> FileRecord:
    """What a manifest says of one of them."""
    return FileRecord(bytes=100, sha256=sha256)


def read(cache, server, hashes, name) -> bytes:
    with cache.open(RemoteFolder(server.url), name, a_file(hashes[name])) as file:
        return file.read()


def test_the_least_recently_used_copies_go_first(files, tmp_path):
    server, hashes = files
    cache = ShardCache(tmp_path / "cache", 250)
    for name in "aba":  # a was used after b
        assert read(cache, server, hashes, name) == name.encode() * 100
        time.sleep(0.01)
    read(cache, server, hashes, "c")
    assert {p.name for p in copies(tmp_path)} == {hashes["a"], hashes["c"]}
    with cache.open(RemoteFolder(server.url), "a", a_file(hashes["a"])) as file:
        read(cache, server, hashes, "b"), read(cache, server, hashes, "d")
        assert file.read() == b"a" * 100, "an open file outlives its eviction"
    assert hashes["a"] not in {p.name for p in copies(tmp_path)}
    assert read(cache, server, hashes, "a") == b"a" * 100 and server.requests["a"] == 2


def test_one_file_over_the_limit_is_kept_and_told(files, tmp_path):
    server, hashes = files
    cache = ShardCache(tmp_path / "cache", 50)
    for name in "ab":
        with pytest.warns(UserWarning, match=r"one file is more than data.cache_gb"):
            assert read(cache, server, hashes, name) == name.encode() * 100
    assert [p.name for p in copies(tmp_path)] == [hashes["b"]]


def test_a_copy_evicted_as_soon_as_it_is_there_is_still_read(files, tmp_path, monkeypatch):
    server, hashes = files
    monkeypatch.setattr(ShardCache, "_evict", lambda self, keep: keep.unlink())  # what another process may do
    for _ in range(2):
        assert read(ShardCache(tmp_path / "cache", 50), server, hashes, "a") == b"a" * 100
    assert server.requests["a"] == 2 and copies(tmp_path) == []


def _ask(folder: Path, url: str, hashes: dict[str, str], start: float) -> None:
    time.sleep(max(0.0, start - time.time()))
    with ShardCache(folder, 10**9).open(RemoteFolder(url), "a", a_file(hashes["a"])) as file:
        assert file.read() == b"a" * 100


@pytest.mark.slow
def test_processes_that_ask_at_once_fetch_a_file_once(files, tmp_path):
    server, hashes = files
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "cache", server.url, hashes, time.time() + 4)
    processes = [context.Process(target=_ask, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0] and server.requests["a"] == 1


def test_what_a_killed_process_left_does_no_harm(files, tmp_path):
    server, hashes = files
    folder = tmp_path / "cache" / "shards"
    folder.mkdir(parents=True)
    left_over = folder / f"{hashes['a']}.99999.partial"
    left_over.write_bytes(b"half")
    (folder / f".{hashes['a']}.lock").touch()
    assert read(ShardCache(tmp_path / "cache", 10**9), server, hashes, "a") == b"a" * 100
    assert not left_over.exists()


@pytest.mark.parametrize(
    "url",
    [
        "pipe://touch {}",
        "pipe:touch {}",
        "reference://{}",
        "simplecache::http://127.0.0.1:9/{}",
        "zip://*::pipe:touch {}",
    ],
)
def test_urls_that_run_or_interpret_something_are_not_opened(url, tmp_path):
    mark = tmp_path / "mark"
    place = url.format(mark)
    with pytest.raises(ProspectError, match=r"not opened|cannot be opened|no finished shards"):
        read_split(place if "://" in place else Path(place), "x", "train", tmp_path, ShardCache(tmp_path, 1))
    assert not mark.exists() and not os.path.exists(tmp_path / "shards")
