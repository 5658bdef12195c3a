"""ProAssist's generated dialogues by hand, and the real ones where they are: dialogues, steps, blocks, spans."""

import json

import pytest

from pipeline.errors import ProspectError
from pipeline.importers.proassist_generated import import_proassist_generated
from pipeline.spans.records import read_dialogues, read_spans
from tests.helpers.places import REAL

KNOWLEDGE = "Build a car\n\n1. Attach the cabin to the interior.\n2. Attach wheels to the chassis.\n"
SEEN = """[10.0s-20.5s] attach cabin to interior (mistake: wrong order)
[20.5s-22.0s] detach cabin from interior (correction of "attach cabin to interior")
[22.0s-30.0s] attach wheels to chassis
[30.0s-31.0s] attach cabin to interior
"""


def turn(role: str, time: float, content: str) -> dict:
    return {"role": role, "time": time, "content": content, "labels": ""}


TALK = [turn("user", 9.5, "Help me."), turn("assistant", 9.5, "Attach the cabin."), turn("assistant", 22, "Wheels!")]


def record(**more) -> dict:
    talk = {
        "conversation": TALK,
        "user_type": "talk_some",
        "auto_quality_eval": {"final_score": 7.5, "no_resp_penalty": 0},
    }
    return {
        "video_uid": "v",
        "inferred_goal": "Build a car",
        "inferred_knowledge": KNOWLEDGE,
        "video_labels": {},
        "conversations": [talk],
        "parsed_video_anns": {"dataset": "cars", "duration": 40.0, "all_step_descriptions": SEEN},
    } | more


def seen(text: str, **more) -> dict:
    return record(parsed_video_anns={"all_step_descriptions": text} | more)


def read(tmp_path, *records):
    (tmp_path / "train_filtered.json").write_text(json.dumps(list(records)))
    files, tally = import_proassist_generated([tmp_path / "train_filtered.json"], tmp_path / "cars", force=True)
    kinds = {path.name: path for path in files}
    spans = read_spans(kinds["train_spans.jsonl"]) if "train_spans.jsonl" in kinds else []
    return spans, read_dialogues(kinds["train_dialogues.jsonl"]), tally


def test_a_conversation_is_a_dialogue_of_its_user_type_with_its_scores(tmp_path):
    quiet = {"conversation": TALK[:1], "user_type": "no_talk"}
    again = {"conversation": [turn("user", 3, "b"), turn("user", 1, "a"), turn("user", 2, " ")], "user_type": "no_talk"}
    _, dialogues, tally = read(tmp_path, record(conversations=[*record()["conversations"], quiet, again]))
    assert [dialogue.id for dialogue in dialogues] == ["talk_some", "no_talk", "no_talk-2"]
    first = dialogues[0]
    assert (first.video, first.dataset) == ("v", "cars")
    assert [(line.role, line.text, line.start_s) for line in first.lines] == [
        ("user", "Help me.", 9.5), ("assistant", "Attach the cabin.", 9.5), ("assistant", "Wheels!", 22),
    ]  # fmt: skip
    assert first.about == {
        "importer": "proassist-generated", "user_type": "talk_some", "task_goal": "Build a car",
        "quality": 7.5, "auto_quality_eval": {"final_score": 7.5, "no_resp_penalty": 0},
    }  # fmt: skip
    assert [line.text for line in dialogues[2].lines] == ["a", "b"]
    assert dict(tally.left_out) == {
        "dialogues with empty lines, which were left out": ["v no_talk-2 (1)"],
        "dialogues whose lines were put in the order of their times": ["v no_talk-2"],
    }


def test_blocks_that_name_every_step_are_spans(tmp_path):
    (video,), _, tally = read(tmp_path, record())
    assert [(step.id, step.name) for step in video.steps] == [
        ("S1", "Attach the cabin to the interior."), ("S2", "Attach wheels to the chassis."),
    ]  # fmt: skip
    assert [(span.step, span.start_s, span.end_s, span.outcome) for span in video.spans] == [
        ("S1", 10, 20.5, "error"), ("S1", 20.5, 22, "undone"), ("S2", 22, 30, "done"), ("S1", 30, 31, "done"),
    ]  # fmt: skip
    assert video.spans[0].flags == ("mistake: wrong order",)
    assert video.duration_s == 40 and video.provenance["blocks"][2] == {
        "start_s": 22.0, "end_s": 30.0, "text": "attach wheels to chassis",
    }  # fmt: skip
    assert tally.counts["videos whose blocks name their steps: spans"] == 1


@pytest.mark.parametrize(
    "text",
    [
        SEEN + "[31.0s-32.0s] inspect car\n",  # a block that names none: what was done in it is not known
        "[10.0s-20.5s] attach cabin to interior\n",  # a step that no block names
        "[22.0s-30.0s] attach wheels to chassis\n[31.0s-32.0s] detach cabin from interior\n",  # undone alone
        "",
    ],
)
def test_blocks_that_do_not_are_kept_for_annotation_and_there_are_no_spans(tmp_path, text):
    (video,), (dialogue,), _ = read(tmp_path, seen(text))
    assert not video.spans and not video.not_performed and len(video.steps) == 2 and dialogue.video == "v"
    assert len(video.provenance["blocks"]) == len(text.splitlines())


def test_blocks_of_two_steps_of_one_name_are_not_spans(tmp_path):
    twice = {"inferred_knowledge": "1. Clean the knife.\n2. Clean a knife"}
    (video,), _, _ = read(tmp_path, seen("[1.0s-2.0s] clean knife") | twice)
    assert len(video.steps) == 2 and not video.spans


def test_moments_are_blocks_utterances_are_not_and_lines_that_cannot_be_read_are_named(tmp_path):
    text = """- [16.2s] start
 - [110.7s] screw chassis
- [35.1s] assistant: "And now"
[9.0s-8.0s] backwards
[1.0s-99999999.0s] for ever
no time
"""
    (video,), _, tally = read(tmp_path, seen(text))
    assert video.provenance["blocks"] == [
        {"start_s": 16.2, "end_s": 16.2, "text": "start"}, {"start_s": 110.7, "end_s": 110.7, "text": "screw chassis"},
    ]  # fmt: skip
    assert tally.counts["utterances among the described blocks, left out"] == 1
    assert dict(tally.left_out) == {
        "described blocks that end before they begin, or too late, left out": ["v line 4", "v line 5"],
        "described lines without a time, left out": ["v line 6 (no time)"],
    }


@pytest.mark.parametrize(
    ("more", "length"),
    [
        ({"duration": 40.0}, 40),
        ({}, None),
        ({"duration": 40.0, "video_start_time": 9.0}, None),  # of the annotated part
        ({"duration": 30.5}, None),  # the last block ends later
    ],
)
def test_the_length_is_known_where_it_is_the_whole_videos(tmp_path, more, length):
    (video,), _, _ = read(tmp_path, seen(SEEN, **more))
    assert video.duration_s == length


def test_a_video_without_numbered_steps_has_its_dialogue_alone(tmp_path):
    spans, (dialogue,), tally = read(tmp_path, record(inferred_knowledge="Just do it"))
    assert not spans and dialogue.id == "talk_some"
    assert tally.left_out["videos whose knowledge has no steps, dialogue alone"] == ["v"]


def test_spans_of_an_import_before_do_not_stay_beside_the_dialogues_of_this(tmp_path):
    read(tmp_path, record())
    read(tmp_path, record(inferred_knowledge="Just do it"))
    assert [path.name for path in (tmp_path / "cars").iterdir()] == ["train_dialogues.jsonl"]


def test_every_mistake_is_named_and_nothing_written(tmp_path):
    bad = {"conversation": [turn("robot", -1, "x")], "user_type": ""}
    with pytest.raises(ProspectError) as caught:
        read(tmp_path, record(conversations=[bad]), {"video_uid": "w", "conversations": []}, 7, {"x": "\ud800"})
    lines = str(caught.value).splitlines()
    where = "  train_filtered.json record 0 (video_uid 'v'): conversations.0"
    assert lines[0] == "6 problems in the input:"
    assert lines[1].startswith(f"{where}.conversation.0.role: found 'robot', expected ")
    assert lines[2].startswith(f"{where}.conversation.0.time: found -1, expected ")
    assert lines[3].startswith(f"{where}.user_type: found '', expected ")
    assert lines[4].startswith(
        "  train_filtered.json record 1 (video_uid 'w'): parsed_video_anns: found nothing, expected "
    )
    assert lines[5] == "  train_filtered.json record 2: record: found int, expected a JSON object"
    assert lines[6].startswith("  train_filtered.json record 3: record: found half a surrogate pair")
    assert not (tmp_path / "cars").exists()


def test_prepared_dialogues_are_refused_with_the_importer_for_them(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"conversation": [{"role": "frames", "start": 0}]}')
    with pytest.raises(ProspectError, match=r"found ProAssist's prepared dialogues.*; use prospect import proassist$"):
        import_proassist_generated([tmp_path / "train.jsonl"], tmp_path / "out")


@pytest.mark.skipif(not (REAL / "proassist_generated").is_dir(), reason="the real dialogues are not here")
@pytest.mark.parametrize(
    ("name", "steps", "blocks", "lines"),
    [("assembly101", 8, 22, 32), ("wtag", 12, 14, 25), ("epickitchens", 9, 329, 49)],
)
def test_the_real_dialogues_are_read_whole(tmp_path, name, steps, blocks, lines):
    files, tally = import_proassist_generated(
        [REAL / "proassist_generated" / f"{name}_train_filtered.json"], tmp_path / "o"
    )
    assert (tally.counts["steps"], tally.counts["blocks"], tally.counts["lines"]) == (steps, blocks, lines)
    assert not tally.left_out and len(read_spans(files[0])) == len(read_dialogues(files[1])) == 1
