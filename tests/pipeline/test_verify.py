"""A whole build passes; whatever is changed in one is found, with its place."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import polars as pl
import pytest

from pipeline.build import build_split
from pipeline.errors import ProspectError
from pipeline.frame_store import open_frames, search_roots
from pipeline.plan import Options
from pipeline.shard_reader import ShardFile, shards_at
from pipeline.storage import LocalFolder
from pipeline.verify import verify_shard, verify_split
from tests.fakes import raw_clip, write_frames, write_root


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "embedded"])
def built(request, tmp_path_factory) -> Path:
    """data/x with five clips, and shards/x/train: two shards."""
    folder = tmp_path_factory.mktemp("verify")
    clips = [raw_clip(video_uid=f"v{i}", frames_file=f"frames/v{i}.arrow") for i in range(5)]
    write_root(folder / "data", clips)
    options = Options(max_silent_frames=4, max_shard_samples=21, embed_frames=request.param)
    build_split(folder / "data", "x", "train", folder / "shards", options=options)
    return folder


@pytest.fixture
def copy(built, tmp_path) -> Path:
    shutil.copytree(built, tmp_path / "copy")
    open_frames.cache_clear()
    return tmp_path / "copy"


def verify(root: Path):
    folder = LocalFolder(root / "shards" / "x" / "train")
    return verify_split(folder, search_roots(None, root / "data", "x"), lambda *args: None)


def problems(root: Path) -> list[str]:
    return [str(problem) for problem in verify(root).problems]


def tar_of(root: Path, number: int = 0) -> Path:
    return root / "shards" / "x" / "train" / f"train-{number:06d}.tar"


def rewrite(path: Path, change) -> None:
    """The tar with `change(name, data)` made to each member (None: left out), and the manifest's checksum mended."""
    with tarfile.open(path) as tar:
        members = [(info, tar.extractfile(info).read()) for info in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for info, data in members:
            name, data = change(info.name, data) or (None, b"")
            if name:
                info.name, info.size = name, len(data)
                tar.addfile(info, __import__("io").BytesIO(data))
    manifest_path = path.parent / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    shard = next(s for s in manifest["shards"] if s["name"] == path.name)
    shard |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest_path.write_text(json.dumps(manifest))


def test_a_whole_build_has_no_problems(built):
    verified = verify(built)
    assert verified.problems == []
    assert (verified.shards, verified.samples, verified.frames) == (2, 35, 105), "frames of two turns count twice"


def test_one_shard_by_itself(built, tmp_path):
    (shard,) = shards_at(str(tar_of(built)))
    verified = verify_shard(shard, search_roots(None, built / "data", "x"))
    assert verified.problems == [] and verified.samples == 21


def test_a_flipped_byte(copy):
    data = bytearray(tar_of(copy).read_bytes())
    data[data.index(b"Well begun.")] ^= 1
    tar_of(copy).write_bytes(data)
    found = problems(copy)
    assert len(found) >= 1 and found[0].startswith("train-000000.tar: sha256: found ")


def test_a_shard_cut_short_gone_or_too_many(copy):
    data = tar_of(copy).read_bytes()
    tar_of(copy).write_bytes(data[: len(data) // 2 + 100])
    found = problems(copy)
    assert any(f"train-000000.tar: bytes: found {len(data) // 2 + 100}, expected {len(data)}" in text for text in found)
    assert any("train-000000.tar: tar: found" in text and "cut short" in text for text in found)
    tar_of(copy).unlink()
    assert "train-000000.tar: file: found nothing, expected the shard that the manifest lists" in problems(copy)
    tar_of(copy).write_bytes(data)
    tar_of(copy, 7).write_bytes(data)
    (text,) = problems(copy)
    assert text == "train-000007.tar: file: found a shard, expected nothing, as the manifest does not list it"


def test_a_sample_that_is_missing(copy):
    gone = []

    def change(name, data):
        key = name.split(".")[0]
        gone.extend([key] if not gone and key.endswith("-0003") else [])
        return None if key in gone else (name, data)

    rewrite(tar_of(copy), change)
    found = problems(copy)
    assert any("train-000000.tar: samples: found 20, expected 21, the index's rows" in text for text in found)
    assert any(": clip: found " in text and "expected all samples of a clip" in text for text in found)
    assert any("kinds." in text for text in found) and any(": key: found " in text for text in found)


def test_a_sample_that_says_something_else(copy):
    def change(name, data):
        return name, data.replace(b'"kind":"silent"', b'"kind":"silenT"') if name.endswith("-0000.json") else data

    rewrite(tar_of(copy), change)
    found = problems(copy)
    assert any(
        text.startswith("index.parquet v0-c000") and "kind: found silent, expected silenT" in text for text in found
    )


def test_an_index_that_disagrees(copy):
    path = copy / "shards" / "x" / "train" / "index.parquet"
    index = pl.read_parquet(path)
    index.with_columns(pl.col("end_frame") + 1).write_parquet(path, row_group_size=21)
    found = problems(copy)
    assert len(found) == 35 and "end_frame: found 4, expected 3, as in train-000000.tar" in found[0]
    index.head(30).write_parquet(path, row_group_size=21)
    assert "index.parquet: rows: found 30, expected 35, as the manifest says" in problems(copy)
    path.write_bytes(b"no parquet")
    assert any("index.parquet: file: found Parquet" in text for text in problems(copy))


def test_frames_that_are_not_there(copy):
    manifest = json.loads((copy / "shards" / "x" / "train" / "manifest.json").read_text())
    frames = copy / "data" / "x" / "frames"
    (frames / "v1.arrow").unlink()
    write_frames(frames / "v2.arrow", 15)
    found = problems(copy)
    if manifest["options"]["embed_frames"]:
        assert found == [], "the shards have their images"
        return
    assert len(found) == 3, "a file that is gone is reported once"
    assert "frames.file: found 'frames/v1.arrow', expected a readable frames file (frames file" in found[0]
    assert "frames.indices: found 19, expected at most 14, its file's last row" in found[2]


@pytest.mark.parametrize("built", [True], indirect=True, ids=["embedded"])
def test_images_that_are_broken(copy):
    rewrite(tar_of(copy), lambda name, data: (name, data[:80]) if name.endswith("-0001.001.jpg") else (name, data))
    found = problems(copy)
    assert any("0001.001.jpg: found" in text and "expected an image that can be decoded" in text for text in found)
    rewrite(tar_of(copy), lambda name, data: None if name.endswith("-0001.001.jpg") else (name, data))
    assert any("images: found" in text and ": one a frame" in text for text in problems(copy))


def test_no_manifest_is_an_error(tmp_path):
    with pytest.raises(ProspectError, match=r"found no manifest\.json"):
        verify_split(LocalFolder(tmp_path), [], lambda *args: None)
    with pytest.raises(ProspectError, match="no such file"):
        verify_shard(ShardFile(LocalFolder(tmp_path), "x.tar"), [])
