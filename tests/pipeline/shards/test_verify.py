"""A whole build passes; whatever is changed in one is found, with its place."""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import ProspectError
from pipeline.io.frame_store import open_frames, search_roots
from pipeline.io.storage import LocalFolder
from pipeline.shards.build import build_split
from pipeline.shards.reader import ShardFile, shards_at
from pipeline.shards.scan import Options
from pipeline.shards.verify import verify_shard, verify_split
from tests.helpers.fakes import raw_clip, write_frames, write_root


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


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b'"kind":"silent"', b'"kind":"silenT"', "sample: found kind: found 'silenT'"),
        (b'"should_update_dst":0', b'"should_update_dst":1', "-0000: sample: found"),
        (b'"indices":[2,3]', b'"indices":[2,9]', "-0000: sample: found"),
        (b'"prompt":"You', b'"prompt":"We!', "-0000: sample: found"),
        (b'"next":"user"', b'"next":"end" ', "sample: found"),
        (b'"dst_state":[["S1","not_started"]', b'"dst_state":[["S1","in_progress"]', "that its clip does not make"),
        (b'"start_frame":2,"end_frame":3,"prompt', b'"start_frame":3,"end_frame":3,"prompt', "sample: found"),
        (b"Hello", b"Hullo", "its turns are not the first of its clip's"),
    ],
)
@pytest.mark.parametrize("alone", [False, True])
def test_a_sample_that_says_something_else(copy, old, new, expected, alone, tmp_path):
    """`alone`: the shard by itself, without manifest and index."""
    done = []

    def change(name, data):
        once = old in data and name.endswith("json") and (not done or done == [name])
        if once:
            done[:] = [name]
        return name, data.replace(old, new) if once else data

    rewrite(tar_of(copy), change)
    assert done
    if alone:
        shard = tar_of(copy).rename(tmp_path / "alone.tar")
        verified = verify_shard(shards_at(str(shard))[0], search_roots(None, copy / "data", "x"))
        found = [str(problem) for problem in verified.problems]
    else:
        found = problems(copy)
    assert any(expected in text for text in found), found


def test_a_lone_shard_that_was_cut_between_two_members(copy, tmp_path):
    data = tar_of(copy).read_bytes()
    with tarfile.open(tar_of(copy)) as tar:
        first = next(m for m in tar if m.name.startswith("v1-") and m.name.endswith("-0000.json"))
    (tmp_path / "cut.tar").write_bytes(data[: first.offset])
    (shard,) = shards_at(str(tmp_path / "cut.tar"))
    found = [str(p) for p in verify_shard(shard, search_roots(None, copy / "data", "x")).problems]
    assert found == ["cut.tar: end: found other bytes, expected two blocks of zeros: the file is cut short or damaged"]


def test_a_shard_in_its_folder_is_checked_against_the_manifest(copy):
    rewrite(tar_of(copy), lambda name, data: (name, data))
    data = bytearray(tar_of(copy).read_bytes())
    data[-1] = 1
    tar_of(copy).write_bytes(data)
    (shard,) = shards_at(str(tar_of(copy)))
    (problem,) = verify_shard(shard, search_roots(None, copy / "data", "x")).problems
    assert str(problem).startswith("train-000000.tar: sha256: found ")


def test_a_clip_that_stands_twice(copy):
    tar_of(copy, 1).write_bytes(tar_of(copy, 0).read_bytes())
    assert any("key: found a second sample of it, expected each key once" in text for text in problems(copy))


@pytest.mark.parametrize(
    "change",
    [
        pl.col("end_frame") + 1,
        pl.col("target").str.to_uppercase(),
        pl.col("data_crc32s").list.eval(pl.element() + 1),
        pl.col("next").str.to_uppercase(),
        pl.col("key").str.replace("v0", "v9"),
    ],
)
def test_an_index_that_disagrees(copy, change):
    path = copy / "shards" / "x" / "train" / "index.parquet"
    index = pl.read_parquet(path)
    index.with_columns(change).write_parquet(path, row_group_size=21)
    found = problems(copy)
    assert found[0].startswith("index.parquet: sha256: found ") and len(found) > 7
    assert f" {change.meta.output_name()}: found " in "".join(found)


def test_an_index_that_cannot_be_used(copy):
    path = copy / "shards" / "x" / "train" / "index.parquet"
    index = pl.read_parquet(path)
    index.head(30).write_parquet(path, row_group_size=21)
    assert "index.parquet: file: found rows: found 30, expected 35" in "".join(problems(copy))
    index.drop("next").write_parquet(path, row_group_size=21)
    assert any("index.parquet: file: found columns: found no next" in text for text in problems(copy))
    path.write_bytes(b"no parquet")
    assert any("index.parquet: file: found rows: found 10 bytes" in text for text in problems(copy))


def test_a_manifest_that_disagrees(copy):
    path = copy / "shards" / "x" / "train" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"num_clips": 999}))
    assert problems(copy) == ["manifest.json: num_clips: found 999, expected 5, the shards'"]
    path.write_text(json.dumps({"format": "prospect.shards/3"}))
    expected = r"manifest\.json: dataset: found nothing, expected this key; build the shards again \(--force\)"
    with pytest.raises(ProspectError, match=expected):
        verify(copy)


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
