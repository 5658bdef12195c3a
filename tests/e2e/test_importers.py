"""Data of others, from import to training."""

import json
from pathlib import Path

from pipeline.io.frame_store import FrameFile
from tests.helpers.command import TINY, fail, succeed
from tests.helpers.fakes import raw_clip, write_frames, write_root
from tests.helpers.prepared import prepared, second_part
from tests.helpers.videos import write_video


def test_proassists_dialogues_build_and_train(tmp_path):
    """Speaking alone; the dataset's folder has another name than its clips' `dataset`."""
    dialogues = [prepared(), second_part(), prepared(video_uid="w", frames_file="frames/w.arrow")]
    (tmp_path / "tea_val.jsonl").write_text("".join(json.dumps(dialogue) + "\n" for dialogue in dialogues))
    out = succeed(tmp_path, "import", "proassist", "tea_val.jsonl", "--out", "data/prepared", "--split", "train")
    assert "data/prepared/train_training.jsonl: 3 clips" in out
    for line in (tmp_path / "data" / "prepared" / "train_training.jsonl").read_text().splitlines():
        clip = json.loads(line)
        write_frames(tmp_path / "data" / "prepared" / clip["frames_file"], 30, size=32)
    assert "3 clips, no problems" in succeed(tmp_path, "validate", "--data-root", "data")
    out = succeed(tmp_path, "build-shards", "--split", "train", "--data-root", "data")
    assert "3 clips, 8 samples (0 dst_update, 3 assistant, 5 silent)" in out
    options = [f"--set=data.{s}" for s in ("dataset=prepared", "root=data", "eval_splits=[train]", "max_seq_len=2048")]
    assert "no problems" in succeed(
        tmp_path, "inspect-shard", "shards/prepared/train", "--verify", "--data-root", "data"
    )
    refused = fail(tmp_path, "audit", "--config", "toy", *options)
    assert (
        "found no dst_update turn, so should_update_dst has no positives" in refused and "data.memory=none" in refused
    )
    options.append("--set=data.memory=none")
    assert "audit of prepared, train split" in succeed(tmp_path, "audit", "--config", "toy", *options)
    succeed(
        tmp_path,
        "train",
        *TINY,
        *options,
        "--set",
        "name=p",
        "--set",
        "train.global_batch_size=3",
        "--set",
        "train.micro_batch_size=1",
    )
    metrics = json.loads((tmp_path / "runs" / "p" / "metrics.json").read_text())["train"]
    assert metrics["num_dst_updates"] == 0 and metrics["dst_gen_loss"] is None and metrics["perplexity"] > 1


def test_clips_are_filtered_by_what_is_known_of_them(tmp_path):
    known = ({"quality": 9.2, "user_type": "talk_some"}, {"quality": 7, "user_type": "no_talk"}, {"quality": 8})
    clips = [
        raw_clip(video_uid=f"v{number}", frames_file=f"frames/v{number}.arrow", metadata=metadata)
        for number, metadata in enumerate(known)
    ]
    write_root(tmp_path / "data", clips)
    command = ("build-shards", "--split", "train", "--where", "quality >= 8", "--where", "user_type!=no_talk")
    out = succeed(tmp_path, *command)
    assert "shards/x/train: 2 clips" in out
    assert "  filters left out 1 clip: quality>=8 1, user_type!=no_talk 1\n" in out
    assert "nothing to do, already built" in succeed(tmp_path, *command)
    assert "pass --force" in fail(tmp_path, *command[:-2])
    message = fail(tmp_path, *command[:3], "--where", "quality")
    assert message.startswith("error: --where 'quality': expected KEY OP VALUE with OP one of = != < <= > >=")
    message = fail(tmp_path, *command[:3], "--where", "user=1", "--out", "other")
    assert "--where user=1: none of 3 clips of data/x/train_training.json has such a key" in message
    assert "keys of their metadata: quality, user_type; nothing was written" in message
    assert not (tmp_path / "other").exists()


def test_howtodivs_sessions_become_spans_and_dialogues(tmp_path):
    name = "NIV DIV/repot/repot_0001_dialogue.txt"
    turns = (
        "[00:00:00, 00:00:05]\nTurn 1\nUser: How?\nExpert: Add rocks.\n\n[00:00:01, 00:00:05]\nTurn 2\nUser: Done.\n"
    )
    (tmp_path / "div" / "NIV DIV" / "repot").mkdir(parents=True)
    (tmp_path / "div" / name).write_text(f"Instructions\n1. Add rocks.\n2. Done\n\nDialogue\n{turns}")
    for split in ("train", "val", "test"):
        (tmp_path / "div" / f"{split}_ids.txt").write_text(
            f"HowToDIV/{name}\nHowToDIV/NIV DIV/{split}.txt\n" * (split == "val")
        )
    out = succeed(tmp_path, "import", "howtodiv", "div", "--out", "data/div")
    assert "1 sessions of the lists that are not there: NIV DIV/val.txt" in out
    assert out.endswith("written: data/div/val_spans.jsonl, data/div/val_dialogues.jsonl\n")
    assert "data/div/val_spans.jsonl: is there already; pass --force" in fail(
        tmp_path, "import", "howtodiv", "div", "--out", "data/div"
    )
    assert "1 sessions read" in succeed(tmp_path, "import", "howtodiv", "div", "--out", "data/div", "--force")
    message = fail(tmp_path, "import", "captaincook4d", "div", "--out", "data/x")
    assert "div: found a dialogue of HowToDIV, expected a folder with complete_step_annotations.json" in message
    assert "use prospect import howtodiv" in message and not (tmp_path / "data" / "x").exists()


def test_captaincook4ds_step_times_become_spans(tmp_path):
    step = {"step_id": 1, "start_time": 1, "end_time": 9, "description": "Boil-Boil water", "has_errors": True}
    recording = {"recording_id": "1_7", "activity_id": 1, "activity_name": "Tea", "steps": [step]}
    graph = {"steps": {"0": "START", "1": "Boil-Boil water", "2": "END"}, "edges": [[0, 1], [1, 2]]}
    for file, value in (
        ("complete_step_annotations.json", {"1_7": recording}),
        ("data_splits/recordings_data_split_combined.json", {"train": [], "val": [], "test": ["1_7"]}),
        ("task_graphs/tea.json", graph),
    ):
        (tmp_path / "cook" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cook" / file).write_text(json.dumps(value))
    (tmp_path / "cook" / "video_information.csv").write_text("recording_id,duration(sec)\n1_7,long\n")
    command = "import", "captaincook4d", "cook", "--out", "data/cook"
    message = fail(tmp_path, *command)
    assert "video_information.csv line 2: row: found '1_7', 'long', expected columns recording_id and" in message
    assert not (tmp_path / "data").exists()
    (tmp_path / "cook" / "video_information.csv").write_text("recording_id,duration(sec)\n1_7,60\n")
    out = succeed(tmp_path, *command)
    assert "1 spans with an error" in out and out.endswith("written: data/cook/test_spans.jsonl\n")
    assert "--splits x: found recordings_data_split_combined in cook" in fail(tmp_path, *command, "--splits", "x")


def test_videos_become_frames_files_and_a_broken_one_is_named(tmp_path):
    write_video(tmp_path / "a.mp4", list(range(0, 3000, 100)))
    (tmp_path / "b.mp4").write_text("no video")
    arguments = ("extract-frames", "a.mp4", "b.mp4", "--out", "frames", "--fps", 1, "--size", 64)
    message = fail(tmp_path, *arguments)
    assert "1 of 2 videos have no frames file:" in message and "b.mp4: cannot be read: Invalid data" in message
    assert [p.name for p in (tmp_path / "frames").iterdir()] == ["a.arrow"]
    (tmp_path / "b.mp4").unlink()
    assert "frames/a.arrow: 3 frames, there already" in succeed(tmp_path, *arguments[:2], *arguments[3:])


def test_a_folder_of_cameras_is_named_turned_and_cropped(tmp_path):
    """As ProAssist does Assembly101; the second camera is cut short, and taken as far as it goes only by an option."""
    for camera in ("one", "two"):
        (tmp_path / "videos" / camera).mkdir(parents=True)
        write_video(tmp_path / "videos" / camera / "HMC.mkv", list(range(0, 20_000, 100)))
    cut = tmp_path / "videos" / "two" / "HMC.mkv"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    arguments = ("extract-frames", "videos", "--out", "frames", "--size", 64, "--turn", 90, "--crop")
    assert "would both become HMC.arrow" in fail(tmp_path, *arguments)
    arguments = (*arguments, "--name", "{parent}__{stem}")
    assert "videos/two/HMC.mkv: is cut short" in fail(tmp_path, *arguments)
    told = succeed(tmp_path, *arguments, "--allow-short")
    assert "frames/one__HMC.arrow: 40 frames, there already" in told and "frames/two__HMC.arrow: " in told
    assert FrameFile(tmp_path / "frames" / "one__HMC.arrow").shape == (48, 48)


def test_an_import_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "x_val.jsonl").write_text('{"video_uid": "v"}\n{"vid')
    message = fail(tmp_path, "import", "proassist", "x_val.jsonl", "--out", "data/x")
    assert "x_val.jsonl line 2 column 2: not valid JSON" in message
    assert not list(Path(tmp_path / "data" / "x").glob("*"))
