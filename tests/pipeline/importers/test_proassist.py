"""ProAssist's prepared dialogues to clips, against a hand-made one and the real file."""

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import InvalidInput, ProspectError
from pipeline.importers.proassist import import_proassist
from tests.helpers.places import REAL
from tests.helpers.prepared import KNOWLEDGE, NEXT_PROGRESS, PROGRESS, prepared, second_part


def convert(tmp_path, samples, **more):
    source = tmp_path / "dialog-klg-sum_train_L4096_I1.jsonl"
    source.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    counts = import_proassist([source], tmp_path / "tea", **more)
    (split,) = counts
    lines = (tmp_path / "tea" / f"{split}_training.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], counts


def test_a_dialogue_becomes_a_clip(tmp_path):
    (clip, later), counts = convert(tmp_path, [prepared(), second_part()])
    assert clip == {
        "id": "v-talk_0-c000",
        "dataset": "wtag",
        "video_uid": "v",
        "clip_idx": 0,
        "fps": 2.0,
        "frames_file": "frames/v.arrow",
        "start_frame_idx": 11,
        "end_frame_idx": 15,
        "dst": [
            {"type": "step", "id": "S1", "name": "Boil the water"},
            {"type": "step", "id": "S2", "name": "Pour it: - slowly"},
            {"type": "step", "id": "S3", "name": "Drink"},
        ],
        "conversation": [
            {"role": "system", "content": "Be proactive.", "labels": ""},
            {"role": "user", "content": "I want tea.", "start_frame": 14, "end_frame": 14, "time": 7.8, "labels": ""},
            {"role": "assistant", "content": "Boil water.", "start_frame": 15, "end_frame": 15, "time": 7.9, "labels": "initiative", "progress": PROGRESS},
        ],
        "metadata": {"knowledge": KNOWLEDGE, "user_id": "talk_0", "has_summary": True},
    }  # fmt: skip
    assert (later["id"], later["initial_dst_state"]) == ("v-talk_0-c001", {})
    assert (later["start_frame_idx"], later["end_frame_idx"]) == (14, 19)
    assert later["conversation"][0]["content"] == "Be proactive.", "no progress, no knowledge"
    assert later["conversation"][1]["end_frame"] == 19
    assert later["initial_progress"] == PROGRESS and later["conversation"][1]["progress"] == NEXT_PROGRESS
    assert counts == {
        "train": Counter(
            {
                "clips": 2,
                "progress texts": 2,
                "summaries dropped": 1,
                "system turns shortened": 2,
                "lines of knowledge in no step": 2,
            }
        )
    }


def test_progress_of_a_part_that_was_not_seen_is_dropped_too(tmp_path):
    (clip,), _ = convert(tmp_path, [second_part()])
    assert clip["conversation"][0]["content"] == "Be proactive." and "initial_progress" not in clip


def test_summary_only_samples_are_dropped_and_counted(tmp_path):
    clips, counts = convert(tmp_path, [prepared(), prepared(metadata={"summary_only": True})])
    assert len(clips) == 1 and counts["train"]["summary-only samples dropped"] == 1


def rated(quality: object, clip_idx: int = 0, user: str = "talk_0"):
    metadata = {"knowledge": KNOWLEDGE, "user_id": user, "user_type": user[:-2], "quality": quality}
    return prepared(clip_idx=clip_idx, metadata=metadata)


def test_quality_scores_are_kept_and_dialogues_below_the_least_are_left_out(tmp_path):
    samples = [rated(8.2), rated(7.99, user="some_1"), rated(None, user="none_0"), rated(8, user="more_2")]
    clips, counts = convert(tmp_path, samples, min_score=8)
    assert [(clip["id"], clip["metadata"]["quality"]) for clip in clips] == [
        ("v-talk_0-c000", 8.2),
        ("v-more_2-c000", 8),
    ]
    assert clips[0]["metadata"]["user_type"] == "talk"
    assert counts["train"]["clips"] == 2
    assert counts["train"]["of a quality below 8, left out"] == 1
    assert counts["train"]["without a quality, left out"] == 1
    clips, counts = convert(tmp_path, samples, force=True)
    assert len(clips) == 4 and counts["train"]["without a quality, left out"] == 0
    with pytest.raises(ProspectError, match=r"found no dialogue of a quality of 9 or more \(3 below, 1 without one\)"):
        convert(tmp_path, samples, min_score=9, force=True)
    with pytest.raises(InvalidInput, match=r"metadata\.quality: found 'good', expected input should be a valid number"):
        convert(tmp_path, [rated("good")], force=True)


def test_the_progress_of_a_dialogue_that_was_left_out_is_no_other_dialogues(tmp_path):
    kept = second_part()
    kept["metadata"] |= {"user_id": "talk_1", "quality": 9}
    clips, _ = convert(tmp_path, [rated(3), kept], min_score=8)
    assert [clip["id"] for clip in clips] == ["v-talk_1-c001"]


def test_a_file_of_another_source_is_refused_with_the_importer_for_it(tmp_path):
    (tmp_path / "train.csv").write_text("video,step,start_s,end_s\ncup,Boil,0,1\n")
    with pytest.raises(ProspectError, match=r"train\.csv: found a table of step times.*use prospect import table"):
        import_proassist([tmp_path / "train.csv"], tmp_path / "tea")
    (tmp_path / "train_filtered.json").write_text('[{"video_uid": "v", "conversations": [], "parsed_video_anns": {}}]')
    with pytest.raises(ProspectError, match="use prospect import proassist-generated"):
        import_proassist([tmp_path / "train_filtered.json"], tmp_path / "tea")
    assert not (tmp_path / "tea").exists()


def test_what_of_the_knowledge_is_in_no_step_is_counted(tmp_path):
    knowledge = "Tea\n\nIngredients\n1. Water\n2. Leaves\n\nSteps\n1. Boil\n2. Pour\n\nNote: it is hot. Enjoy!"
    samples = [prepared(metadata={"knowledge": knowledge}), prepared(clip_idx=2, metadata={"knowledge": "Just do it"})]
    (clip, other), counts = convert(tmp_path, samples)
    assert [step["name"] for step in clip["dst"]] == ["Boil", "Pour"] and other["dst"] == []
    assert counts["train"]["lines of knowledge in no step"] == 7
    assert counts["train"]["without steps in their knowledge"] == 1


def test_what_would_be_refused_later_is_refused_here(tmp_path):
    broken = prepared()
    broken["conversation"][2]["content"] = "\ud800"
    with pytest.raises(
        InvalidInput, match=r"conversation\.2\.content: found '\\ud800', expected text that UTF-8 can hold"
    ):
        convert(tmp_path, [broken])
    line = json.dumps(prepared()).replace('"dataset":', '"fps": 4, "dataset":')
    (tmp_path / "a_train.jsonl").write_text(line)
    with pytest.raises(InvalidInput, match="fps: found this key twice in one object, expected it once"):
        import_proassist([tmp_path / "a_train.jsonl"], tmp_path / "out")


def test_a_system_turn_before_the_frames_stays_there(tmp_path):
    """Its time is ProAssist's; a turn of ours with a time stands there."""
    sample = prepared()
    sample["conversation"][0]["time"] = 6.0
    (clip,), _ = convert(tmp_path, [sample])
    assert clip["conversation"][0] == {"role": "system", "content": "Be proactive.", "labels": ""}


def test_a_long_line_takes_no_time(tmp_path):
    """attack.md 14: 200,000 spaces took 40 s."""
    spaces = " " * 200_000
    sample = prepared(metadata={"knowledge": f"1. {spaces}x{spaces}\n{spaces}\nstep {spaces}"})
    sample["conversation"][0]["content"] = f"a{spaces}The time elapsed{spaces}"
    (clip,), _ = convert(tmp_path, [sample])
    assert clip["dst"][0]["name"] == "x"


def test_every_mistake_is_named_and_nothing_written(tmp_path):
    frames = {"role": "frames", "start": 3, "end": 3}
    gap = {"role": "frames", "start": 5, "end": 9}
    samples = [
        prepared(conversation=[{"role": "user", "content": "Hi"}, frames, gap, {"role": "robot", "content": "Oh"}]),
        {"video_uid": "w"},
        prepared(conversation=[{"role": "system", "content": "Hi"}]),
        prepared(clip_idx=5, conversation=[gap, {"role": "assistant"}]),
    ]
    with pytest.raises(InvalidInput) as caught:
        convert(tmp_path, samples)
    where = "dialog-klg-sum_train_L4096_I1.jsonl dialogue 0 (video_uid 'v', clip_idx 0)"
    found = [str(problem) for problem in caught.value.problems]
    assert found[:4] == [
        f"{where} turn 0 (user): role: found 'user', expected a frames turn before the first user or assistant turn",
        f"{where} turn 1 (frames): start, end: found 3, 3, expected frames from start up to, without, a later end",
        f"{where} turn 2 (frames): start: found 5, expected 3, where the frames before end",
        f"{where} turn 3 (robot): role: found 'robot', expected system, user, assistant or frames",
    ]
    assert [line.split("): ", 1)[1] for line in found[4:]] == [
        "dataset: found nothing, expected this key",
        "frames_file: found nothing, expected this key",
        "conversation: found nothing, expected this key",
        "conversation: found no frames turn, expected one at least",
        "content: found nothing, expected a text",
    ]
    assert not (tmp_path / "tea").exists()


def test_several_splits_are_written_together_or_not_at_all(tmp_path):
    (tmp_path / "a_train.jsonl").write_text(json.dumps(prepared()))
    (tmp_path / "b_val.jsonl").write_text("\n" + json.dumps(prepared()) + "\nnull\n" + json.dumps(prepared()))
    files = [tmp_path / "a_train.jsonl", tmp_path / "b_val.jsonl"]
    with pytest.raises(InvalidInput, match="nothing was written") as caught:
        import_proassist(files, tmp_path / "tea")
    assert [str(p).split(": found")[0] for p in caught.value.problems] == [
        "b_val.jsonl dialogue 1: dialogue",
        "b_val.jsonl dialogue 2 (video_uid 'v', clip_idx 0): clip_idx, user_id",
    ]
    assert not (tmp_path / "tea").exists()
    (tmp_path / "b_val.jsonl").write_text("")
    with pytest.raises(ProspectError, match=r"b_val\.jsonl: found no dialogue"):
        import_proassist(files, tmp_path / "tea")
    assert not (tmp_path / "tea").exists()


def test_a_lone_surrogate_in_metadata_is_kept_as_json_escapes_it(tmp_path):
    sample = prepared()
    sample["metadata"]["note"] = "\ud800"
    (clip,), _ = convert(tmp_path, [sample])
    assert clip["metadata"]["note"] == "\ud800"


def test_the_split_is_the_files_or_the_users(tmp_path):
    _, counts = convert(tmp_path, [prepared()], split="test")
    assert list(counts) == ["test"] and (tmp_path / "tea" / "test_training.jsonl").exists()
    (tmp_path / "constrained.jsonl").write_text("")
    with pytest.raises(ProspectError, match="its name says no split"):
        import_proassist([tmp_path / "constrained.jsonl"], tmp_path / "tea")
    with pytest.raises(ProspectError, match=r"gone_val\.jsonl: no such file"):
        import_proassist([tmp_path / "gone_val.jsonl"], tmp_path / "tea")


def test_annotations_in_the_way_are_kept(tmp_path):
    convert(tmp_path, [prepared()])
    with pytest.raises(ProspectError, match=r"train_training\.jsonl: is there already; pass --force"):
        convert(tmp_path, [prepared()])
    convert(tmp_path, [prepared()], force=True)
    (tmp_path / "tea" / "train_training.json").write_text("[]")
    with pytest.raises(ProspectError, match=r"train_training\.json: is there already"):
        convert(tmp_path, [prepared()], force=True)


def test_what_is_read_is_not_written_over(tmp_path):
    """attack.md 5: --force wrote over the command's own input."""
    source = tmp_path / "train_training.jsonl"
    source.write_text(json.dumps(prepared()) + "\n")
    before = source.read_bytes()
    with pytest.raises(ProspectError, match=r"train_training\.jsonl: is one of the files to be read; pass another"):
        import_proassist([source], tmp_path, force=True)
    assert source.read_bytes() == before


if REAL.is_dir():

    def test_the_real_file(tmp_path: Path) -> None:
        source = REAL / "proassist_prepared" / "assembly101_val.jsonl"
        assert import_proassist([source], tmp_path)["val"]["clips"] == 3
        clips = [json.loads(line) for line in (tmp_path / "val_training.jsonl").read_text().splitlines()]
        first = clips[0]
        assert [(c["start_frame_idx"], c["end_frame_idx"]) for c in clips] == [(11, 341), (11, 348), (314, 908)]
        assert [step["name"] for step in first["dst"]][::6] == ["Remove the wheels", "Inspect the chassis"]
        says = [(t["end_frame"], t["content"][:20]) for t in first["conversation"] if t["role"] == "assistant"]
        assert says[:3] == [(15, "Great goal! Let's ge"), (20, "Now, move on to the "), (40, "Good job on the firs")]
        assert len(says) == 20 and says[-1][0] == 341
        assert len({c["id"] for c in clips}) == 3
        turns = [turn for clip in clips for turn in clip["conversation"]]
        assert not any("time elapsed" in turn["content"] for turn in turns)  # a summary is learned, never said
        assert clips[2]["conversation"][2]["progress"].startswith(
            "The time elapsed since the start of the task is 159.3 s"
        )
        assert [round(c["metadata"]["quality"], 2) for c in clips] == [9.03, 8.31, 9.2]
        counts = import_proassist([source], tmp_path, force=True, min_score=9)["val"]
        assert counts["clips"] == 2 and counts["of a quality below 9, left out"] == 1
