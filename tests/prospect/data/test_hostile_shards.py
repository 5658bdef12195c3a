"""Shards behind a URL whose owner wants files of ours: a manifest is data of a stranger."""

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import ProspectError
from pipeline.io.remote import RemoteFolder
from pipeline.shards.manifest import FileRecord
from pipeline.shards.reader import shards_at
from prospect.data.index import read_split
from prospect.data.shard_cache import ShardCache
from tests.helpers.servers import Server


def read(hostile, tmp_path):
    return read_split(f"{hostile.server.url}/embedded", "x", "train", tmp_path, ShardCache(tmp_path / "cache", 10**9))


def escapes(victim: Path) -> list[str]:
    return [str(victim), "../" * 20 + str(victim)[1:]]


@pytest.fixture
def hostile(root, tmp_path):
    """A copy of the shards; `write(change)` changes its manifest. Whoever serves it wants the victim."""
    served, victim = tmp_path / "served", tmp_path / "victim.txt"
    shutil.copytree(root / "embedded", served / "embedded")
    victim.write_text("precious")
    path = next(served.rglob("manifest.json"))
    manifest = json.loads(path.read_text())

    def write(change):
        changed = copy.deepcopy(manifest)
        change(changed)
        path.write_text(json.dumps(changed))

    server = Server(served)
    yield SimpleNamespace(server=server, victim=victim, write=write, folder=f"{server.url}/embedded/x/train")
    server.stop()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("way", [0, 1])
def test_no_name_of_a_manifest_leads_out_of_its_folder(hostile, tmp_path, way):
    """attack.md 1: `shards[0].name` was written over by what the server sent."""
    name = escapes(hostile.victim)[way]
    hostile.write(lambda manifest: manifest["shards"][0].update(name=name))
    with pytest.raises(ProspectError, match=r"manifest\.json: shards\.0\.name: found '(/tmp|\.\./).*should match"):
        read(hostile, tmp_path)
    with pytest.raises(ProspectError, match=r"shards\.0\.name: found"):
        shards_at(hostile.folder)
    with pytest.raises(ProspectError, match="found a path, expected the plain name"):
        RemoteFolder(hostile.folder).open(name).__enter__()


@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize("where", ["index", "shard"])
def test_no_digest_of_a_manifest_leads_out_of_the_cache(hostile, tmp_path, way, where):
    """attack.md 2: the "copy" at that path did not match, and was removed."""
    digest = escapes(hostile.victim)[way]
    hostile.write(
        lambda manifest: (manifest["index"] if where == "index" else manifest["shards"][0]).update(sha256=digest)
    )
    with pytest.raises(ProspectError, match=r"sha256: found '(/tmp|\.\./).*should match"):
        read(hostile, tmp_path)
    cache = ShardCache(tmp_path / "cache", 1)
    with pytest.raises(ProspectError, match="expected 64 hexadecimal digits"):
        cache.drop(digest)
    with (
        pytest.raises(ProspectError, match="expected 64 hexadecimal"),
        cache.open(RemoteFolder("http://x"), "a", FileRecord.model_construct(bytes=1, sha256=digest)),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(num_clips="3"), r"num_clips: found '3'"),
        (lambda m: m.update(num_samples=-1), r"num_samples: found -1"),
        (lambda m: m.update(split="../x"), r"split: found '\.\./x'"),
        (lambda m: m.update(dataset="../x"), r"dataset: found '\.\./x'"),
        (lambda m: m.update(options=[]), "options: found list"),
        (
            lambda m: m["shards"].append(m["shards"][0]),
            r"shards: found '\d+, of \d+ names', expected those of one train",
        ),
        (
            lambda m: m["shards"][0].update(name="val-000000.tar"),
            "shards: found 'val-000000.tar', expected those of one train",
        ),
        (lambda m: m["shards"][0].update(name="train-000000.tar\n"), r"shards\.0\.name: found"),
        (lambda m: m["index"].update(bytes=None), r"index\.bytes: found None"),
    ],
)
def test_values_of_a_manifest_are_checked(hostile, tmp_path, change, message):
    hostile.write(change)
    with pytest.raises(ProspectError, match=rf"manifest\.json: .*{message}"):
        read(hostile, tmp_path)
