import hashlib
import json
from pathlib import Path

import polars as pl
import pytest
import webdataset
from PIL import Image

from tests.helpers.clips import ASSEMBLY, clip_in
from tests.helpers.command import fail, run, succeed
from tests.helpers.fakes import raw_clip, write_frames, write_root
from tests.helpers.places import DATA


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if not p.name.startswith(".")}


def test_one_and_two_workers_write_the_same_bytes(toy):
    for workers in (1, 2):
        arguments = ("--out", f"out{workers}", "--workers", workers, "--max-shard-samples", 100)
        assert "12 clips" in succeed(toy, "build-shards", "--split", "train", "--data-root", "data/toy", *arguments)
    one, two = (digests(toy / f"out{n}" / "toyworld" / "train") for n in (1, 2))
    assert one == two and sum(name.endswith(".tar") for name in one) > 2


def test_a_second_build_has_nothing_to_do_and_other_options_are_refused(toy):
    assert "nothing to do" in succeed(toy, "build-shards", "--split", "val", "--data-root", "data/toy")
    before = digests(toy / "shards" / "toyworld" / "val")
    message = fail(toy, "build-shards", "--split", "val", "--data-root", "data/toy", "--max-silent-frames", 3)
    assert "found shards of another input or other options" in message and "--force" in message
    assert digests(toy / "shards" / "toyworld" / "val") == before


def test_make_toy_leaves_what_is_there(toy):
    assert "nothing to do" in succeed(toy, "make-toy")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its file open
@pytest.mark.parametrize(("form", "column", "embed"), [("stream", "frame", []), ("file", "images", ["--embed-frames"])])
def test_a_clip_of_real_size(tmp_path, form, column, embed):
    uid = clip_in(ASSEMBLY).video_uid
    write_frames(tmp_path / "frames" / f"{uid}.arrow", 452, form=form, column=column, size=384)
    arguments = ("--data-root", DATA, "--dataset", "assembly", "--frames-root", tmp_path)
    out = succeed(tmp_path, "build-shards", "--split", "train", *arguments, *embed)
    assert "1 clip, 31 samples (12 dst_update, 8 assistant, 11 silent) in 1 shard" in out
    shard = tmp_path / "shards" / "assembly" / "train"
    index = pl.read_parquet(shard / "index.parquet")
    events = index.filter(pl.col("kind") != "silent").select("end_frame", "target")
    assert [(frame, target[:18]) for frame, target in events.rows()] == [
        (195, "S1->start"), (195, "Fine, the crane it"),
        (214, "S1->complete"), (214, "S2->start"), (214, "Good, now screw th"),
        (226, "The first wheel go"), (262, "That is one axle d"),
        (305, "S2->complete"), (305, "S3->start"), (305, "All wheels turn fr"),
        (371, "S3->complete"), (371, "S4->start"), (371, "The arm moves well"),
        (396, "S4->complete"), (396, "S5->start"), (396, "The body sits. Cli"),
        (425, "S5->complete"), (425, "S6->start"), (425, "Almost there. Let "),
        (451, "S6->complete"),
    ]  # fmt: skip
    assert len(uid) >= 90, "real ids do not fit a tar header by themselves"
    samples = list(webdataset.WebDataset(str(shard / "train-000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == index["key"].to_list()
    assert [sum(name.endswith(".jpg") for name in sample) for sample in samples] == [
        frames if embed else 0 for frames in index["num_frames"]
    ]
    table = succeed(tmp_path, "inspect-shard", shard / "train-000000.tar")
    assert "212..214" in table and "Good, now screw the chassis together" in table and uid in table
    out = succeed(
        tmp_path, "inspect-shard", shard, "--key", "-0004", "--frames", "sheet.png", "--frames-root", tmp_path
    )
    assert '"text": "S2->start"' in out and "3 frames drawn into sheet.png" in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] >= 3 * 160
    tar = shard / "train-000000.tar"
    before = tar.read_bytes()
    error = fail(tmp_path, "inspect-shard", shard, "--key", "-0004", "--frames", tar, "--frames-root", tmp_path)
    assert f"--frames {tar}: is there already, and no PNG" in error and tar.read_bytes() == before


def test_inspect_shard_says_what_is_no_shard(toy):
    shards = toy / "shards" / "toyworld" / "val"
    (toy / "text.tar").write_text("not a tar")
    assert "text.tar: not a shard" in fail(toy, "inspect-shard", "text.tar")
    assert "nowhere.tar: no such file" in fail(toy, "inspect-shard", "nowhere.tar")
    assert "a folder without manifest.json" in fail(toy, "inspect-shard", toy / "data")
    assert "names no sample" in fail(toy, "inspect-shard", shards, "--key", "zzz")
    assert "names 8 samples" in fail(toy, "inspect-shard", shards, "--key", "-0000")
    data = (shards / "val-000000.tar").read_bytes()
    (toy / "short.tar").write_bytes(data[: len(data) // 2 + 700])
    assert "short.tar: not a shard, or cut short" in fail(toy, "inspect-shard", "short.tar")


def test_bad_input_is_named_and_nothing_written(tmp_path):
    root = write_root(tmp_path / "data", [raw_clip()])
    annotations = root / "x" / "train_training.json"

    def build(*more: str) -> str:
        message = fail(tmp_path, "build-shards", "--split", "train", "--data-root", root, *more)
        assert not (tmp_path / "shards").exists()
        return message

    assert "no such folder" in fail(tmp_path, "build-shards", "--split", "train", "--data-root", "nowhere")
    assert "DATASET: found no annotations, expected val_training.json" in fail(
        tmp_path, "build-shards", "--split", "val", "--data-root", root
    )
    assert "no such dataset" in build("--dataset", "y")
    annotations.write_text('[{"video_uid": }]')
    assert "train_training.json line 1 column 16: not valid JSON" in build()

    clip = raw_clip()
    clip["conversation"][4]["content"] = [{"id": "S9", "transition": "start"}, {"id": "S1", "transition": "start"}]
    annotations.write_text(json.dumps([clip]))
    message = build()
    where = "train_training.json clip 0 (video_uid 'v1', clip_idx 0) turn 4 (DST_UPDATE): "
    assert where + "content.id: found step 'S9', expected one of S1, S2" in message
    assert where + "content.S1: found S1->start while S1 is in_progress, expected S1 not_started" in message
    assert (
        "1 of 1 clips affected; correct them, or leave them out with --on-invalid skip: prospect build-shards"
        in message
    )
    assert message.endswith(f"--split train --data-root {root} --on-invalid skip\n")

    annotations.write_text(json.dumps([raw_clip(end_frame_idx=20)]))
    assert "end_frame_idx: found 20, expected at most 19, the last frame of" in build()
    annotations.write_text(json.dumps([raw_clip()]))
    frames = root / "x" / "frames" / "v1.arrow"
    frames.write_bytes(b"nonsense")
    assert "v1.arrow: cannot be read as Arrow" in build()
    frames.unlink()
    assert "frames file 'data/x/frames/v1.arrow' not found" in build()


def test_skip_builds_the_rest(tmp_path):
    clips = [raw_clip(video_uid=f"v{i}", frames_file=f"v{i}.arrow") for i in range(3)]
    root = write_root(tmp_path / "data", clips)
    (root / "x" / "frames" / "v1.arrow").unlink()
    out = succeed(
        tmp_path,
        "build-shards",
        "--split",
        "train",
        "--data-root",
        root,
        "--frames-root",
        root / "x" / "frames",
        "--on-invalid",
        "skip",
    )
    assert "2 clips" in out and "left out 1 clip with problems (frames_file 1)" in out


def test_an_unwritable_output_is_one_line(toy):
    (toy / "file").write_text("")
    message = fail(toy, "build-shards", "--split", "val", "--data-root", "data/toy", "--out", "file/below")
    assert message.startswith("error: ") and message.count("\n") == 1


def test_validate_for_programs(tmp_path):
    root = write_root(tmp_path / "data", [raw_clip(), raw_clip(video_uid="v2", frames_file="frames/v2.arrow", fps=0)])
    done = run(tmp_path, "validate", "--data-root", root, "--json")
    record = json.loads(done.stdout)
    assert done.returncode == 1 and (record["clips"], record["clips_with_problems"]) == (2, 1)
    assert record["problems"][0]["field"] == "fps" and record["problems"][0]["found"] == "0"


def test_an_empty_folder_has_no_data_and_nothing_is_made_there(tmp_path):
    for command in (("validate",), ("build-shards", "--split", "train")):
        assert "data root data: no such folder; pass --data-root" in fail(tmp_path, *command)
    assert "found no finished shards" in fail(tmp_path, "train", "--config", "toy")
    for command in (("train",), ("plan",), ("audit",), ("cache-features",)):
        done = run(tmp_path, *command)
        assert done.returncode == 2 and "Missing option '--config'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unknown_options_are_usage_errors(tmp_path):
    done = run(tmp_path, "build-shards", "--split", "holdout")
    assert done.returncode == 2 and "'train', 'val', 'test'" in done.stderr


def test_validate_reports_every_split_and_writes_nothing(tmp_path):
    root = write_root(tmp_path / "data", [raw_clip()])
    assert "1 clip, no problems" in succeed(tmp_path, "validate", "--data-root", root)
    write_root(root, [raw_clip(fps=0), raw_clip(video_uid="v2", frames_file="frames/v2.arrow")], split="val")
    write_root(root, [raw_clip(end_frame_idx=1)], split="test", dataset="y")
    message = fail(tmp_path, "validate", "--data-root", root)
    assert (
        "train_training.json clip 0 (video_uid 'v1', clip_idx 0): video_uid: found 'v1', also in val_training.json"
        in message
    )
    assert "val_training.json clip 0 (video_uid 'v1', clip_idx 0): fps: found 0" in message
    assert (
        "test_training.json clip 0 (video_uid 'v1', clip_idx 0): end_frame_idx: found 1, expected start_frame_idx 2 or later"
        in message
    )
    assert "3 of 4 clips affected; correct them, or leave them out: prospect build-shards --data-root" in message
    assert "4 clips affected" not in fail(tmp_path, "validate", "--data-root", root, "--split", "val")
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    assert "found no annotations" in fail(tmp_path, "validate", "--data-root", tmp_path / "data" / "x")
