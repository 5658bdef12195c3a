"""From a spreadsheet of step times to a model: spans, clips with states (work undone and repeated too), shards, a run."""

import json
from pathlib import Path

from prospect.stream.load import load_streamer
from tests.helpers.command import TINY, fail, succeed
from tests.helpers.fakes import write_frames

STEPS = """video,step,start_s,end_s,outcome
{v},Put the cup down,1,3,
{v},Fill it,4,6,
{v},Fill it,7,8,undone
{v},Fill it,9,11,error
"""
LINES = (
    "video,role,text,start_s\n{v},user,What now?,0.6\n{v},assistant,Put the cup down.,1\n{v},assistant,Too late.,99\n"
)


def write_tables(folder: Path, split: str, video: str) -> None:
    (folder / f"{split}_steps.csv").write_text(STEPS.format(v=video))
    (folder / f"{split}_lines.csv").write_text(LINES.format(v=video))
    write_frames(folder / "data" / "cups" / "frames" / f"{video}.arrow", 26)


def test_step_times_become_clips_that_train_a_model_which_may_undo(tmp_path):
    for split in ("train", "val"):
        write_tables(tmp_path, split, f"{split}-v")
        succeed(tmp_path, "import", "table", f"{split}_steps.csv", f"{split}_lines.csv", "--out", "spans")
        places = ("--spans", f"spans/{split}_spans.jsonl", "--dialogues", f"spans/{split}_dialogues.jsonl")
        told = succeed(tmp_path, "project", *places, "--frames-root", "data/cups/frames", "--out", "data/cups")
        assert "1 lines past the video's end, left out" in told and "1 reset" in told
    clip = json.loads((tmp_path / "data/cups/train_training.jsonl").read_text())
    updates = [
        (turn["end_frame"], turn["content"][0]["id"], turn["content"][0]["transition"])
        for turn in clip["conversation"]
        if turn["role"] == "DST_UPDATE"
    ]
    assert updates == [
        (2, "S1", "start"), (6, "S1", "complete"), (8, "S2", "start"), (12, "S2", "complete"), (16, "S2", "reset"),
        (18, "S2", "start"), (22, "S2", "complete"),
    ]  # fmt: skip
    assert "no problems" in succeed(tmp_path, "validate", "--data-root", "data")
    for split in ("train", "val"):
        succeed(tmp_path, "build-shards", "--split", split, "--data-root", "data", "--workers", 1)
    options = [
        f"--set={setting}"
        for setting in (
            "data.dataset=cups", "data.root=data", "data.eval_splits=[val]", "name=cups", "train.global_batch_size=1",
            "train.micro_batch_size=1",
        )
    ]  # fmt: skip
    succeed(tmp_path, "audit", "--config", "toy", *options[:3])
    succeed(tmp_path, "train", *TINY, *options)
    streamer = load_streamer(str(tmp_path / "runs" / "cups"))
    assert streamer.transitions == ("start", "complete", "reset")
    refused = fail(tmp_path, "project", *places, "--out", "data/cups", "--frames-root", "data/cups/frames")
    assert "val_training.jsonl: is there already; pass --force" in refused
    again = ("project", *places, "--out", "data/cups", "--frames-root", "data/cups/frames", "--force")
    succeed(tmp_path, *again)
    mine = tmp_path / "data/cups/val_training.jsonl"
    mine.write_text(mine.read_text() + json.dumps({**clip, "metadata": {}, "video_uid": "mine"}) + "\n")
    assert "found clips that no projection made; move them away" in fail(tmp_path, *again)
    assert "mine" in mine.read_text()


def test_all_that_is_wrong_with_spans_is_told_and_nothing_written(tmp_path):
    record = {
        "format": "prospect.spans/1", "video": "v", "dataset": "d", "duration_s": 10,
        "steps": [{"id": "S1", "name": "stir"}],
        "spans": [
            {"step": "S9", "start_s": 1, "end_s": 2}, {"step": "S1", "start_s": 5, "end_s": 4},
            {"step": "S1", "start_s": 5, "end_s": 40},
        ],
        "not_performed": ["S1"],
    }  # fmt: skip
    (tmp_path / "train_spans.jsonl").write_text(json.dumps(record) + "\n" + json.dumps(record | {"video": "../v"}))
    told = fail(tmp_path, "project", "--spans", "train_spans.jsonl", "--out", "out")
    assert "spans.0.step: found 'S9', expected one of S1" in told
    assert "spans.1.end_s: found 4.0, expected at least its start_s, 5.0" in told
    assert "spans.2.end_s: found 40.0, expected at most the video's duration_s, 10.0" in told
    assert "not_performed.0: found 'S1', expected a step without spans" in told
    assert "video: found '../v'" in told and "nothing was written" not in told and not (tmp_path / "out").exists()


def test_a_videos_spans_are_counted_once_however_many_dialogues_it_has(tmp_path):
    (tmp_path / "train_steps.csv").write_text("video,step,start_s,end_s,duration_s\nv,Stir,1,3,10\n")
    succeed(tmp_path, "import", "table", "train_steps.csv", "--out", "spans")
    line = {"role": "assistant", "text": "Stir.", "start_s": 1}
    dialogues = [
        {"format": "prospect.dialogues/1", "video": "v", "dataset": "spans", "id": name, "lines": [line]}
        for name in ("short", "long")
    ]
    (tmp_path / "train_dialogues.jsonl").write_text("".join(json.dumps(one) + "\n" for one in dialogues))
    places = ("--spans", "spans/train_spans.jsonl", "--dialogues", "train_dialogues.jsonl", "--out", "data/x", "--json")
    counts = json.loads(succeed(tmp_path, "project", *places))["counts"]
    assert (counts["videos"], counts["spans"], counts["clips"], counts["start"], counts["utterances"]) == (
        1,
        1,
        2,
        2,
        2,
    )
