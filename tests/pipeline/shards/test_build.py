"""Shards: bytes, index, manifest; reruns, refusals, and what is left after a failure."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import unicodedata
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
import webdataset

from pipeline.errors import InvalidInput, ProspectError
from pipeline.io.engine import LocalEngine
from pipeline.io.frame_store import open_frames
from pipeline.shards import build as build_module
from pipeline.shards import sample as sample_module
from pipeline.shards import writer as shard_writer
from pipeline.shards.build import build_split
from pipeline.shards.inputs import CACHE
from pipeline.shards.scan import Options
from tests.helpers.fakes import raw_clip, write_frames, write_root
from tests.helpers.places import ROOT

SMALL = Options(max_silent_frames=4, max_shard_samples=20)


def many_clips(count: int = 7) -> list[dict]:
    return [raw_clip(video_uid=f"v{i}", frames_file=f"frames/v{i}.arrow") for i in range(count)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "data", many_clips())


def build(root: Path, out: Path, options: Options = SMALL, **more):
    return build_split(root, "x", "train", out, options=options, **more)


def digests(out: Path) -> dict[str, str]:
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != CACHE)
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_shards_index_and_manifest_agree(root, tmp_path):
    result = build(root, tmp_path / "out", Options(max_silent_frames=4, max_shard_samples=20, embed_frames=True))
    folder = tmp_path / "out" / "x" / "train"
    assert result.folder.path == folder and not result.up_to_date
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["kinds"] == {"dst_update": 14, "assistant": 7, "silent": 28}
    assert manifest["num_samples"] == 49 and manifest["num_clips"] == 7
    assert [s["clips"] for s in manifest["shards"]] == [2, 2, 2, 1]
    assert sorted(p.name for p in folder.iterdir()) == [
        CACHE,
        "index.parquet",
        "manifest.json",
        *(s["name"] for s in manifest["shards"]),
    ]
    index = pl.read_parquet(folder / "index.parquet")
    for shard in manifest["shards"]:
        data = (folder / shard["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
        rows = index.filter(pl.col("shard") == shard["name"])
        assert len(rows) == shard["samples"]
        with tarfile.open(folder / shard["name"]) as tar:
            members = tar.getmembers()
        assert {m.mtime for m in members} == {0} and not any(m.pax_headers for m in members)
        listed = [name for names in rows["member_names"] for name in names]
        assert [m.name for m in members] == listed
        for row in rows.iter_rows(named=True):
            for name, offset, size in zip(row["member_names"], row["data_offsets"], row["data_sizes"], strict=True):
                member = next(m for m in members if m.name == name)
                assert (member.offset_data, member.size) == (offset, size)
            record = json.loads(data[row["data_offsets"][0] :][: row["data_sizes"][0]])
            assert (record["sample_idx"], record["kind"], record["next"]) == (
                row["sample_idx"],
                row["kind"],
                row["next"],
            )
            assert len(row["member_names"]) == 1 + row["num_frames"] == 1 + len(record["frames"]["indices"])


def test_the_stored_images_are_embedded_untouched(root, tmp_path):
    images = write_frames(root / "x" / "frames" / "v0.arrow", 20)
    folder = build(root, tmp_path / "out", Options(embed_frames=True)).folder.path
    with tarfile.open(folder / "train-000000.tar") as tar:
        first = [m for m in tar.getmembers() if m.name.startswith("v0-")][:4]
        names = [m.name.split(".", 1)[1] for m in first]
        data = [tar.extractfile(m).read() for m in first]
    assert names == ["json", "000.jpg", "001.jpg", "json"]
    assert data[1:3] == images[2:4]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its file open
@pytest.mark.parametrize("embed", [False, True])
def test_plain_webdataset_reads_the_shards(root, tmp_path, embed):
    folder = build(root, tmp_path / "out", Options(embed_frames=embed)).folder.path
    samples = list(webdataset.WebDataset(str(folder / "train-000000.tar"), shardshuffle=False))
    index = pl.read_parquet(folder / "index.parquet")
    assert [s["__key__"] for s in samples] == index["key"].to_list()
    for sample, count in zip(samples, index["num_frames"], strict=True):
        record = json.loads(sample["json"])
        images = [name for name in sample if name.endswith(".jpg")]
        assert len(images) == (count if embed else 0) and len(record["frames"]["indices"]) == count


def test_one_and_two_workers_give_the_same_bytes_from_any_folder(root, tmp_path):
    build(root, tmp_path / "one")
    script = (
        "from pathlib import Path\nfrom pipeline.shards.build import build_split\nfrom pipeline.io.engine import LocalEngine\nfrom pipeline.shards.scan import Options\n"
        "if __name__ == '__main__':\n"
        "    build_split(Path('data'), 'x', 'train', Path('two'), options=Options(max_silent_frames=4, max_shard_samples=20), engine=LocalEngine(2))\n"
    )
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, env=environment)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_a_rerun_has_nothing_to_do_and_another_plan_is_refused(root, tmp_path):
    out = tmp_path / "out"
    build(root, out)
    before = digests(out)
    assert build(root, out).up_to_date
    with pytest.raises(ProspectError, match=r"found shards of another input or other options .*--force"):
        build(root, out, Options(max_silent_frames=5))
    (root / "x" / "train_training.json").write_text(json.dumps(many_clips(3)))
    with pytest.raises(ProspectError, match="--force"):
        build(root, out)
    assert digests(out) == before
    assert build(root, out, force=True).manifest.num_clips == 3


def test_another_format_version_is_noticed(root, tmp_path, monkeypatch):
    build(root, tmp_path / "out")
    monkeypatch.setattr(sample_module, "FORMAT", "prospect.turn/9")
    with pytest.raises(ProspectError, match=r"found shards of another input or other options .*--force"):
        build(root, tmp_path / "out")


def test_an_interrupted_build_goes_on_and_ends_in_the_same_bytes(root, tmp_path, monkeypatch):
    build(root, tmp_path / "whole")
    out = tmp_path / "out"
    written = []
    encode = shard_writer.encode

    def dies(sample):
        written.append(sample.key)
        if len(written) == 20:
            raise KeyboardInterrupt
        return encode(sample)

    monkeypatch.setattr(shard_writer, "encode", dies)
    with pytest.raises(KeyboardInterrupt):
        build(root, out)
    folder = out / "x" / "train"
    assert [p.name for p in folder.iterdir()] == ["train-000000.tar"], "nothing half-written is left"
    (folder / "train-000001.tar.99.partial").write_text("of a killed run")
    monkeypatch.setattr(shard_writer, "encode", encode)
    kept = (folder / "train-000000.tar").stat().st_mtime_ns
    with pytest.raises(ProspectError, match="another input or other options"):
        build(root, out, Options(max_silent_frames=5))
    build(root, out)
    assert (folder / "train-000000.tar").stat().st_mtime_ns == kept, "finished shards are kept"
    assert digests(out) == digests(tmp_path / "whole")


def test_every_problem_is_reported_and_nothing_written(root, tmp_path):
    clips = many_clips(4)
    clips[1]["conversation"][4]["content"][0]["id"] = "S9"
    clips[2]["end_frame_idx"] = 30
    clips[3]["video_uid"] = "v0"
    (root / "x" / "train_training.json").write_text(json.dumps(clips))
    with pytest.raises(InvalidInput) as caught:
        build(root, tmp_path / "out")
    found = [(p.clip.split(" (")[0], p.field) for p in caught.value.problems]
    assert found == [("clip 1", "content.id"), ("clip 2", "end_frame_idx"), ("clip 3", "id")]
    assert "3 of 4 clips affected" in caught.value.fix
    assert not (tmp_path / "out").exists()


def test_a_failed_forced_build_keeps_what_was_there(root, tmp_path):
    out = tmp_path / "out"
    build(root, out)
    before = digests(out)
    (root / "x" / "train_training.json").write_text(json.dumps([raw_clip(fps=0)]))
    with pytest.raises(InvalidInput):
        build(root, out, force=True)
    assert digests(out) == before


def test_skip_leaves_clips_out_and_accounts_for_them(root, tmp_path):
    clips = many_clips(3)
    clips[1]["fps"] = -1
    (root / "x" / "train_training.json").write_text(json.dumps(clips))
    folder = build(root, tmp_path / "out", Options(on_invalid="skip")).folder.path
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["num_clips"] == 2 and manifest["skipped_by_field"] == {"fps": 1}
    assert manifest["skipped"] == [
        {"clip": 1, "video_uid": "v1", "clip_idx": 0, "reasons": ["fps: found -1"], "fields": ["fps"]}
    ]


def scored(*metadata: dict | None) -> list[dict]:
    clips = many_clips(len(metadata))
    return [clip | ({"metadata": about} if about else {}) for clip, about in zip(clips, metadata, strict=True)]


FOUR = scored(
    {"quality": 9.5, "user_type": "talk_some"},
    {"quality": 7, "user_type": "no_talk"},
    {"user_type": "talk_more"},
    {"quality": 8, "user_type": "no_talk"},
)


def test_filters_leave_clips_out_and_the_manifest_counts_what_each_did(root, tmp_path):
    clips = [FOUR[0], FOUR[1] | {"fps": -1}, *FOUR[2:]]  # what is left out is not checked
    (root / "x" / "train_training.json").write_text(json.dumps(clips))
    result = build(root, tmp_path / "out", replace(SMALL, where=("quality>=8", "user_type!=no_talk")))
    manifest = json.loads((result.folder.path / "manifest.json").read_text())
    assert (manifest["num_clips"], manifest["num_left_out"], manifest["skipped"]) == (1, 3, [])
    assert manifest["options"]["where"] == ["quality>=8", "user_type!=no_talk"]
    assert manifest["filters"] == [
        {"where": "quality>=8", "left_out": 2, "without": 1, "num_with": 3},
        {"where": "user_type!=no_talk", "left_out": 2, "without": 0, "num_with": 4},
    ]
    assert set(pl.read_parquet(result.folder.path / "index.parquet")["clip_id"]) == {"v0-c000"}
    with pytest.raises(ProspectError, match=r"found shards of another input or other options .*--force"):
        build(root, tmp_path / "out", replace(SMALL, where=("quality>=8",)))


def test_the_clips_that_filters_keep_give_the_bytes_that_they_give_alone(root, tmp_path):
    clips = scored({"quality": 9}, {"quality": 7}, {"quality": 8})
    (root / "x" / "train_training.json").write_text(json.dumps(clips))
    some = build(root, tmp_path / "some", replace(SMALL, where=("quality>=8",)))
    (root / "x" / "train_training.json").write_text(json.dumps([clips[0], clips[2]]))
    alone = build(root, tmp_path / "alone")
    assert some.manifest.shards == alone.manifest.shards and some.manifest.index == alone.manifest.index


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("qualtiy>=8", "user_type=x"), r"--where qualtiy>=8: none of 4 clips of .*train_training.json has such a key; "
         "keys of their metadata: quality, user_type; nothing was written"),
        (("quality>=9", "user_type=no_talk"), r"--where: the filters leave none of 4 clips of .*train_training.json, "
         r"expected at least one; left out: quality>=9 3 \(1 without it\), user_type=no_talk 2; nothing was written"),
        (("quality=9.5",), "--where: the filters leave none of 4 clips .*quality=9.5 3 "
         r"\(1 without it\); 1 others have problems; nothing was written"),
    ],
)  # fmt: skip
def test_a_filter_that_leaves_nothing_or_names_an_unknown_key_is_refused(root, tmp_path, where, message):
    clips = [FOUR[0] | {"fps": -1}, *FOUR[1:]]
    (root / "x" / "train_training.json").write_text(json.dumps(clips))
    with pytest.raises(ProspectError, match=message):
        build(root, tmp_path / "out", Options(on_invalid="skip", where=where))
    assert not (tmp_path / "out").exists()


def test_what_a_filter_cannot_compare_is_a_problem_of_its_clip(root, tmp_path):
    clips = scored({"quality": "9"}, {"quality": True}, {"quality": 9})
    clips[1]["end_frame_idx"] = 30
    (root / "x" / "train_training.json").write_text(json.dumps(clips))
    where = replace(SMALL, where=("quality>=8",))
    with pytest.raises(InvalidInput) as caught:
        build(root, tmp_path / "out", where)
    assert [str(problem).split("): ")[1] for problem in caught.value.problems] == [
        "quality: found '9', expected a number, for --where quality>=8",
        "end_frame_idx: found 30, expected at most 19, the last frame of frames/v1.arrow",
        "quality: found True, expected a number, for --where quality>=8",
    ]
    skipped = build(root, tmp_path / "out", replace(where, on_invalid="skip")).manifest
    assert skipped.skipped_by_field == {"end_frame_idx": 1, "quality": 2} and skipped.num_left_out == 0


def test_a_video_in_two_splits_is_a_problem(root, tmp_path):
    write_root(root, many_clips(1), split="val")
    with pytest.raises(InvalidInput) as caught:
        build(root, tmp_path / "out")
    (problem,) = caught.value.problems
    assert str(problem).endswith("video_uid: found 'v0', also in val_training.json, expected a video in one split only")


@pytest.mark.parametrize(
    ("data_root", "dataset", "split", "message"),
    [
        ("nowhere", "x", "train", "data root .*nowhere: no such folder"),
        ("data", "y", "train", "data/y: no such dataset; .* has these with a train split: x"),
        ("data", "x", "test", r"data/x: no test_training.json \(or .jsonl\); splits found there: train"),
    ],
)
def test_missing_input_says_what_is_there(root, tmp_path, data_root, dataset, split, message):
    with pytest.raises(ProspectError, match=message):
        build_split(tmp_path / data_root, dataset, split, tmp_path / "out")


def test_files_of_unknown_origin_are_not_touched(root, tmp_path):
    folder = tmp_path / "out" / "x" / "train"
    folder.mkdir(parents=True)
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(ProspectError, match="neither a manifest nor an interrupted build"):
        build(root, tmp_path / "out")
    assert [p.name for p in folder.iterdir()] == ["precious.txt"]


def test_the_offline_stage_imports_no_torch():
    script = "import sys, prospect.commands.app, pipeline.shards.build, pipeline.toyworld.make; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def interrupted_after(monkeypatch, shards: int):
    """A build dies when it begins shard number `shards`."""
    write, begun = shard_writer.write_shard, []

    def dies(*arguments, **more):
        begun.append(1)
        if len(begun) > shards:
            raise KeyboardInterrupt
        return write(*arguments, **more)

    monkeypatch.setattr("pipeline.shards.build.write_shard", dies)


def test_a_build_resumed_under_another_plan_writes_its_shards_again(root, tmp_path, monkeypatch):
    """A frames file that was missing comes back: other clips go into the same shard."""
    skip = Options(max_silent_frames=4, max_shard_samples=20, on_invalid="skip")
    missing = root / "x" / "frames" / "v0.arrow"
    data = missing.read_bytes()
    missing.unlink()
    with monkeypatch.context() as patch:
        interrupted_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            build(root, tmp_path / "out", skip)
    missing.write_bytes(data)
    assert build(root, tmp_path / "out", skip).manifest.num_clips == 7
    build(root, tmp_path / "whole", skip)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


@pytest.mark.parametrize(
    "damage", [lambda data: b"no parquet", lambda data: data[:-99], lambda data: data.replace(b"sha256", b"sha512")]
)
def test_rows_that_a_stopped_build_left_damaged_are_written_again(root, tmp_path, monkeypatch, damage):
    out = tmp_path / "out"
    build(root, tmp_path / "whole")
    interrupted_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        build(root, out)
    monkeypatch.undo()
    for path in (out / "x" / ".train.build").glob("*.parquet"):
        path.write_bytes(damage(path.read_bytes()))
    build(root, out)
    assert digests(out) == digests(tmp_path / "whole")


def test_a_resumed_build_embeds_the_frames_that_it_finds_now(root, tmp_path, monkeypatch):
    embed = Options(max_silent_frames=4, max_shard_samples=20, embed_frames=True)
    for name in ("one", "two"):
        for i in range(7):
            write_frames(tmp_path / name / "frames" / f"v{i}.arrow", 20, size=64 if name == "one" else 32)
    with monkeypatch.context() as patch:
        interrupted_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            build(root, tmp_path / "out", embed, frames_root=tmp_path / "one")
    build(root, tmp_path / "out", embed, frames_root=tmp_path / "two")
    build(root, tmp_path / "whole", embed, frames_root=tmp_path / "two")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_frames_file_changed_after_its_shard_was_written_is_noticed(root, tmp_path, monkeypatch):
    embed = Options(max_silent_frames=4, max_shard_samples=20, embed_frames=True)
    write = shard_writer.write_shard
    frames = root / "x" / "frames" / "v0.arrow"

    def change(folder, rows, name, *more):
        info = write(folder, rows, name, *more)
        if name == "train-000003.tar":
            data = bytearray(frames.read_bytes())
            data[len(data) // 2] ^= 1
            frames.write_bytes(data)
        return info

    monkeypatch.setattr("pipeline.shards.build.write_shard", change)
    build(root, tmp_path / "out", embed)
    with pytest.raises(ProspectError, match=r"its shards embed .*v0.arrow, which was changed since"):
        build(root, tmp_path / "out", embed)


def test_files_of_the_user_are_never_removed(root, tmp_path):
    """OUT is the data root, and the split's folder holds frames."""
    folder = root / "x" / "train" / "frames"
    write_frames(folder / "v1.arrow", 20)
    with pytest.raises(ProspectError, match="x/train: found frames but neither a manifest nor an interrupted build"):
        build(root, root)
    build(root, root, force=True)
    assert (folder / "v1.arrow").exists()
    (root / "x" / "train" / "notes.txt").write_text("mine")
    build(root, root, Options(max_silent_frames=5), force=True)
    assert (root / "x" / "train" / "notes.txt").exists() and (folder / "v1.arrow").exists()


@pytest.mark.parametrize("form", ["stream", "struct"])
def test_a_frame_without_an_image_stops_a_forced_build_before_anything_is_removed(root, tmp_path, form):
    embed = Options(embed_frames=True)
    build(root, tmp_path / "out", embed)
    before = digests(tmp_path / "out")
    values = ["not base64!"] * 20 if form == "stream" else [{"bytes": None}] * 20
    table = pa.table(
        {"frame": pa.array(values, pa.string() if form == "stream" else pa.struct({"bytes": pa.binary()}))}
    )
    with pa.ipc.new_stream(str(root / "x" / "frames" / "v3.arrow"), table.schema) as writer:
        writer.write_table(table)
    open_frames.cache_clear()
    with pytest.raises(InvalidInput, match=r"clip 3 .*frames_file: found .* in frame 2 of 'frames/v3.arrow'"):
        build(root, tmp_path / "out", embed, force=True)
    assert digests(tmp_path / "out") == before


def test_missing_or_changed_shards_are_noticed_by_a_rerun(root, tmp_path):
    folder = build(root, tmp_path / "out").folder.path
    shard = folder / "train-000001.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + b"x")
    assert build(root, tmp_path / "out").up_to_date, "of its size; --verify reads it"
    with pytest.raises(ProspectError, match=r"train-000001.tar: found other bytes, expected the \d+ bytes"):
        build(root, tmp_path / "out", verify=True)
    shard.unlink()
    with pytest.raises(ProspectError, match=r"train-000001.tar: found nothing, expected .* pass --force"):
        build(root, tmp_path / "out")


def test_a_forced_build_goes_on_too(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    build(root, out, Options(max_silent_frames=5))
    with monkeypatch.context() as patch:
        interrupted_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            build(root, out, force=True)
    kept = out / "x" / "train" / "train-000001.tar"
    written = kept.stat().st_mtime_ns
    build(root, out, force=True)
    assert kept.stat().st_mtime_ns == written
    build(root, tmp_path / "whole")
    assert digests(out) == digests(tmp_path / "whole")


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 3}', ""])
def test_a_damaged_memory_of_sources_only_costs_time(root, tmp_path, text):
    folder = build(root, tmp_path / "out").folder.path
    (folder / CACHE).write_text(text)
    assert build(root, tmp_path / "out").up_to_date


def test_what_a_killed_forced_build_left_is_removed(root, tmp_path):
    build(root, tmp_path / "out")
    work = tmp_path / "out" / "x" / ".train.build"
    work.mkdir()
    (work / "clips.jsonl").write_text("")
    (work / "lock").write_text("")
    assert build(root, tmp_path / "out").up_to_date and not work.exists()


def test_identities_are_compared_whatever_else_is_wrong(root, tmp_path):
    clips = many_clips(3)
    clips[1] |= {"video_uid": "v0", "fps": 0}
    clips[2] |= {"video_uid": "v0", "end_frame_idx": 99}
    (root / "x" / "train_training.json").write_text(json.dumps([*clips, None, 3]))
    (root / "x" / "val_training.json").write_text(json.dumps([{"video_uid": "v0"}, {"video_uid": ["a"]}, 7]))
    with pytest.raises(InvalidInput) as caught:
        build(root, tmp_path / "out")
    found = [(p.clip.split(" (")[0], p.field) for p in caught.value.problems]
    assert found == [
        ("clip 0", "video_uid"),
        *[("clip 1", field) for field in ("fps", "id", "video_uid")],
        *[("clip 2", field) for field in ("end_frame_idx", "id", "video_uid")],
        ("clip 3", "clip"),
        ("clip 4", "clip"),
    ]


def test_surrogates_in_a_skipped_clip_do_not_stop_the_manifest(root, tmp_path):
    lines = [json.dumps(clip) for clip in (*many_clips(2), raw_clip(video_uid="v\ud800"))]
    (root / "x" / "train_training.json").unlink()
    (root / "x" / "train_training.jsonl").write_text("\n".join(lines))
    build(root, tmp_path / "out", Options(on_invalid="skip"))
    manifest = json.loads((tmp_path / "out" / "x" / "train" / "manifest.json").read_text())
    assert manifest["skipped"][0]["video_uid"] == "v\ud800"


def test_ambiguous_names_are_refused(root, tmp_path):
    with pytest.raises(ProspectError, match="--dataset x/: expected the name of a folder"):
        build_split(root, "x/", "train", tmp_path / "out")
    (root / "x" / "train_training.jsonl").write_text("{}")
    with pytest.raises(ProspectError, match=r"found train_training.json and train_training.jsonl, expected one"):
        build(root, tmp_path / "out")


@pytest.mark.parametrize("place", [".", "link"])
def test_problems_are_told_whatever_out_is(root, tmp_path, place, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    monkeypatch.chdir(tmp_path / "empty")
    (root / "x" / "train_training.json").write_text(json.dumps([raw_clip(fps=0)]))
    with pytest.raises(InvalidInput, match="fps: found 0"):
        build(root, Path(place) if place == "." else tmp_path / place)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_clip_whose_samples_outgrow_a_shard_is_named_before_anything_is_written(root, tmp_path):
    """attack.md 6: each sample repeats the turns before it: 8,000 turns (0.9 MB) became a shard of 3 GB."""
    clips = many_clips(2)
    say = {"role": "assistant", "content": "x" * 1000, "start_frame": 4, "end_frame": 4}
    clips[1] |= {"conversation": [say] * 60, "dst": []}
    (root / "x" / "train_training.json").write_text(json.dumps(clips))
    options = Options(max_silent_frames=4, max_shard_bytes=1 << 20)  # 1000 * 60 * 61 / 2 bytes of text
    with pytest.raises(InvalidInput) as caught:
        build(root, tmp_path / "out", options)
    (problem,) = caught.value.problems
    assert str(problem) == (
        "train_training.json clip 1 (video_uid 'v1', clip_idx 0): conversation: found 60 turns: its samples, each of "
        "which repeats the turns before it, take more than 1 MB, expected a clip of at most --max-shard-mb 1; divide it"
    )
    assert not (tmp_path / "out").exists()
    manifest = build(root, tmp_path / "out", replace(options, on_invalid="skip")).manifest
    assert manifest.num_clips == 1 and manifest.skipped_by_field == {"conversation": 1}
    assert build(root, tmp_path / "two", replace(options, max_shard_bytes=4 << 20)).manifest.num_clips == 2


def test_images_do_not_count_where_a_clip_is_too_long_for_a_shard(root, tmp_path):
    options = Options(embed_frames=True, max_shard_bytes=40_000)
    shards = build(root, tmp_path / "out", options).manifest.shards
    assert len(shards) == 7 and all(shard.bytes > 40_000 for shard in shards), "a clip is never divided"


@pytest.mark.parametrize("name", ["train_training.json", "val_training.json"])
def test_annotations_changed_while_a_build_reads_them_are_noticed(root, tmp_path, monkeypatch, name):
    """attack.md 10: the manifest had the old digest beside new text, and "nothing to do" ever after."""
    write_root(root, [raw_clip(video_uid="w", frames_file="frames/w.arrow")], split="val")
    path = root / "x" / name
    scan = build_module.scan_split

    def change_and_scan(*arguments):
        path.write_text(path.read_text().replace("Well begun.", "Well done.."))
        return scan(*arguments)

    monkeypatch.setattr(build_module, "scan_split", change_and_scan)
    options = replace(SMALL, on_invalid="skip")
    with pytest.raises(ProspectError, match=rf"{name}: was changed while it was read; run the same command again"):
        build(root, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert build(root, tmp_path / "out", options).manifest.num_clips == 7


def test_frames_changed_while_their_shard_is_written_are_noticed(root, tmp_path, monkeypatch):
    written = shard_writer.index_row

    def change_and_write(*arguments):
        os.utime(root / "x" / "frames" / "v0.arrow", ns=(0, 0))
        return written(*arguments)

    monkeypatch.setattr(shard_writer, "index_row", change_and_write)
    with pytest.raises(ProspectError, match=r"v0\.arrow: was changed while it was read"):
        build(root, tmp_path / "out", replace(SMALL, embed_frames=True))
    assert not list((tmp_path / "out" / "x" / "train").glob("*.tar"))


def test_out_may_be_a_file_url(root, tmp_path):
    """attack.md 16: it could be read, and not be built."""
    built = build(root, f"file://{tmp_path}/out")
    assert built.folder.path == tmp_path / "out" / "x" / "train"
    assert build(root, tmp_path / "out").up_to_date


@pytest.mark.parametrize("dataset", ["..", ".", "", "x/..", "/"])
def test_a_dataset_is_a_folder_of_the_data_root(root, tmp_path, dataset):
    (root / "train_training.json").write_text("[]")
    with pytest.raises(ProspectError, match="expected the name of a folder in"):
        build_split(root, dataset, "train", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_one_video_in_both_unicode_forms_is_one_video(tmp_path, suffix):
    """attack.md 10: as NFC in train and as NFD in val it was no leak."""
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    root = write_root(tmp_path / "data", [raw_clip(video_uid=composed, frames_file=f"frames/{composed}.arrow")])
    other = json.dumps(raw_clip(video_uid=decomposed))
    (root / "x" / f"val_training.{suffix}").write_text(f"[{other}]" if suffix == "json" else other)
    with pytest.raises(InvalidInput, match=rf"also in val_training\.{suffix}, expected a video in one split only"):
        build(root, tmp_path / "out")
    (root / "x" / f"val_training.{suffix}").unlink()
    both = [raw_clip(video_uid=name, frames_file=f"frames/{composed}.arrow") for name in (composed, decomposed)]
    (root / "x" / "train_training.json").write_text(json.dumps(both))
    with pytest.raises(InvalidInput, match=r"id: found id .*, as clip 0, expected a clip identity of its own"):
        build(root, tmp_path / "out")


def test_a_dataset_named_in_the_other_unicode_form_is_told_apart(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))
    root = write_root(tmp_path / "data", [raw_clip(frames_file="frames/v1.arrow")], dataset=decomposed)
    with pytest.raises(ProspectError, match=r"one whose name looks the same in another Unicode form, cafe\\u0301"):
        build_split(root, composed, "train", tmp_path / "out")


def test_frames_that_are_no_images_are_refused_before_they_are_embedded(root, tmp_path):
    """attack.md 10; without --embed-frames each clip's first image is decoded (data.md 17)."""
    path = root / "x" / "frames" / "v1.arrow"
    images = write_frames(path, 20)
    for place, options in ((5, Options(embed_frames=True)), (2, SMALL)):
        table = pa.table({"frame": [*images[:place], b"no image", *images[place + 1 :]]})
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table)
        open_frames.cache_clear()
        with pytest.raises(InvalidInput) as caught:
            build(root, tmp_path / "out", options)
        (problem,) = caught.value.problems
        assert problem.clip.startswith("clip 1 ") and f"in frame {place} of 'frames/v1.arrow'" in problem.found


def test_what_can_be_wrong_with_one_clip_is_skipped_and_the_others_are_built(root, tmp_path):
    """attack.md 6 and 15: a lying Arrow length, a list as video_uid, surrogates in dataset, a key twice."""
    frames = root / "x" / "frames"
    table = pa.table({"frame": [bytes(5000)] * 20})
    with pa.ipc.new_stream(
        str(frames / "v1.arrow"), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as w:
        w.write_table(table)
    data = (frames / "v1.arrow").read_bytes()
    claim = (20 * 5000).to_bytes(8, "little") + b"\x28\xb5\x2f\xfd"
    (frames / "v1.arrow").write_bytes(data.replace(claim, (1 << 60).to_bytes(8, "little") + claim[8:]))
    clips = many_clips(8)
    clips[2] |= {"video_uid": ["v2"], "id": "two"}
    clips[3] |= {"dataset": "\ud800"}
    clips[4]["conversation"][1]["role"] = "\udfff"
    clips[7] |= {"clip_idx": 10**30, "frames_file": "frames/v6.arrow"}
    lines = [json.dumps(clip) for clip in clips]
    lines[5] = lines[5].replace('"video_uid"', '"video_uid": "other", "video_uid"')
    (root / "x" / "train_training.json").unlink()
    (root / "x" / "train_training.jsonl").write_text("\n".join(lines))
    result = build(root, tmp_path / "out", Options(on_invalid="skip"))
    manifest = json.loads((result.folder.path / "manifest.json").read_text())
    assert manifest["num_clips"] == 2
    assert [(entry["clip"], entry["fields"]) for entry in manifest["skipped"]] == [
        (1, ["frames_file"]),
        (2, ["video_uid"]),
        (3, ["dataset"]),
        (4, ["role"]),
        (5, ["video_uid"]),
        (7, ["clip_idx"]),
    ]
    assert json.dumps(manifest["skipped"]).isascii()


class Killed(LocalEngine):
    """Its worker is killed within its second shard, before it can remove what it has half-written."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def map(self, work, tasks):
        for number, result in enumerate(super().map(work, tasks)):
            if isinstance(result, shard_writer.ShardInfo) and number:
                (self.folder / "train-000002.tar.999999.partial").write_bytes(b"half")
                raise ProspectError("a worker process died")
            yield result


def test_a_build_that_stops_leaves_nothing_of_a_worker_that_was_killed(root, tmp_path):
    """A full disk left a .partial now and then: its worker was killed on a stalled machine."""
    folder = tmp_path / "out" / "x" / "train"
    with pytest.raises(ProspectError, match="a worker process died"):
        build(root, tmp_path / "out", engine=Killed(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["train-000000.tar", "train-000001.tar"]
    build(root, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(build(root, tmp_path / "whole").folder.path.parents[1])
