"""The annotation author's files by hand, in each form, and the real one where it is: one video, always the same spans."""

import json
from math import floor

import pytest

from pipeline.errors import ProspectError
from pipeline.importers.fork import import_fork
from pipeline.spans.records import read_dialogues, read_spans
from tests.helpers.places import REAL

STEPS = [
    {"type": "step", "id": "S1", "start_ts": 5.0, "end_ts": 10.5, "name": "Boil water"},
    {"type": "step", "id": "S2", "start_ts": 10.5, "end_ts": 20.0, "name": "Pour it"},
]
SPANS = [("S1", 5, 10.5), ("S2", 10.5, 20)]


def update(time: float, step: str, transition: str) -> dict:
    return {"role": "DST_UPDATE", "time": time, "content": [{"id": step, "transition": transition}]}


def says(role: str, time: float, content: str) -> dict:
    return {"role": role, "time": time, "content": content}


HELLO = [says("user", 1.0, "Hello.")]
SYSTEM = {"role": "system", "content": "Be proactive."}
TALK = [
    update(5.0, "S1", "start"),
    says("user", 5.0, "I want tea."),
    says("assistant", 5.2, "Boil water."),
    update(10.5, "S1", "complete"),
    update(10.5, "S2", "start"),
    says("assistant", 12.0, "Pour it."),
    update(20.0, "S2", "complete"),
    says("assistant", 21.0, "Done."),
]
LINES = [
    ("system", "Be proactive.", None), ("user", "I want tea.", 5), ("assistant", "Boil water.", 5.2),
    ("assistant", "Pour it.", 12), ("assistant", "Done.", 21),
]  # fmt: skip


def around(turns: list[dict]) -> list[dict]:
    """Frames as `{split}_training.json` had them first: half a second around the time, at 2 a second."""
    return [turn | {"start_frame": floor((turn.get("time", 0.5) - 0.5) * 2), "end_frame": floor((turn.get("time", 0) + 0.5) * 2)} for turn in turns]  # fmt: skip


def gapless(turns: list[dict]) -> list[dict]:
    """Frames from the turn before on, up to the time."""
    made, start = [], 0
    for turn in turns:
        end = max(floor(turn.get("time", 0) * 2), start)
        made.append(turn | {"start_frame": start, "end_frame": end})
        start = end
    return made


def windowed(turns: list[dict]) -> list[dict]:
    """Four frames, the last at the time."""
    return [turn | {"start_frame": max(floor(turn.get("time", 0) * 2) - 3, 0), "end_frame": floor(turn.get("time", 0) * 2)} for turn in turns]  # fmt: skip


def clip(turns: list[dict] | None = None, **more) -> dict:
    return {"video_uid": "v", "dst": STEPS, "conversation": turns, "clip_idx": 0, "fps": 2} | more


def events(turns: list[dict]) -> list[dict]:
    """`events` as the sparse form makes them of turns: at their first frames, without users and times."""
    frames: dict[int, dict] = {}
    for turn in turns:
        event = frames.setdefault(
            turn["start_frame"], {"frame_idx": turn["start_frame"], "dst_updates": [], "response": None}
        )
        if turn["role"] == "DST_UPDATE":
            event["dst_updates"] += [f"{item['id']}->{item['transition']}" for item in turn["content"]]
        elif turn["role"] == "assistant":
            event["response"] = " ".join(filter(None, [event["response"], turn["content"]]))
    return [frames[frame] for frame in sorted(frames) if frames[frame]["dst_updates"] or frames[frame]["response"]]


def read(tmp_path, *clips, name: str = "train_training.json"):
    (tmp_path / name).write_text(json.dumps(list(clips)))
    files, tally = import_fork([tmp_path / name], tmp_path / "tea", force=True)
    kinds = {path.name.partition("_")[2]: path for path in files}
    dialogues = read_dialogues(kinds["dialogues.jsonl"]) if "dialogues.jsonl" in kinds else []
    return read_spans(kinds["spans.jsonl"]), dialogues, tally


def told(video):
    return [(span.step, span.start_s, span.end_s) for span in video.spans]


def said(dialogue):
    return [(line.role, line.text, line.start_s) for line in dialogue.lines]


@pytest.mark.parametrize("frames", [around, gapless, windowed])
def test_spans_and_lines_are_where_their_times_are_by_whatever_rule_the_frames_were_made(tmp_path, frames):
    (video,), (dialogue,), tally = read(tmp_path, clip(frames([SYSTEM, *TALK]), quality=3.5, inferred_goal="Tea"))
    assert (video.video, video.dataset, told(video)) == ("v", "tea", SPANS)
    assert [(step.id, step.name) for step in video.steps] == [("S1", "Boil water"), ("S2", "Pour it")]
    assert (dialogue.id, said(dialogue)) == (None, LINES)
    assert dialogue.about == {"importer": "prospect-fork", "quality": 3.5, "task_goal": "Tea"}
    assert not tally.left_out


def test_clips_of_a_split_conversation_are_joined_and_their_states_not_used(tmp_path):
    end = {"S1": "completed", "S2": "in_progress"}
    first = clip(around([SYSTEM, *TALK[:5]]), initial_dst_state=end)  # the state at its END
    context = {"role": "DST_CONTEXT", "content": f"Previous state: {end}", "time": 10.5}
    second = clip(around([context, *TALK[3:]]), clip_idx=1, metadata={"initial_dst_state": end})
    (video,), (dialogue,), tally = read(tmp_path, first, second)
    assert told(video) == SPANS and said(dialogue) == LINES
    assert tally.counts["clips whose initial_dst_state is not the state before them, not used"] == 2
    again = clip(around([context, *TALK[2:]]), clip_idx=1, metadata={"initial_dst_state": {"S1": "in_progress"}})
    (video,), (dialogue,), tally = read(tmp_path, clip(around([SYSTEM, *TALK[:5]])), again)
    assert told(video) == SPANS and said(dialogue) == LINES
    assert tally.counts["turns that a clip repeats of the one before, joined"] == 1
    assert tally.counts["clips whose initial_dst_state is not the state before them, not used"] == 0


def test_the_intermediate_file_has_a_conversation_a_user_type_and_older_roles(tmp_path):
    silent = [says("SPEAK", 5.2, "Boil water.")]
    types = [{"metadata": {"user_type": f"{kind}_dst_enhanced"}} for kind in ("no_talk", "talk_some", "no_talk")]
    clips = [clip([SYSTEM, *TALK], **types[0]), clip(silent, **types[1]), clip(TALK, **types[2])]
    for made in clips:
        del made["clip_idx"], made["fps"]
    (video,), dialogues, _ = read(tmp_path, *clips, name="val.json")
    assert told(video) == SPANS
    assert [dialogue.id for dialogue in dialogues] == ["no_talk", "talk_some", "no_talk-2"]
    assert said(dialogues[1]) == [("assistant", "Boil water.", 5.2)]
    assert dialogues[1].about["user_type"] == "talk_some"


def test_the_older_file_has_a_record_a_video_a_tree_of_steps_and_types_in_place_of_roles(tmp_path):
    nodes = [{"step_id": step["id"], "name": step["name"], "substeps": [],
              "timestamps": {"start_ts": step["start_ts"], "end_ts": step["end_ts"]}} for step in STEPS]  # fmt: skip
    names = {"assistant": "SPEAK"}
    turns = [
        {"type": names.get(turn["role"], turn["role"]), **{k: v for k, v in turn.items() if k != "role"}}
        for turn in TALK
    ]
    older = {
        "video_uid": "v",
        "dst": {"steps": nodes},
        "conversations": [{"conversation": turns, "user_type": "no_talk"}],
    }
    (video,), (dialogue,), _ = read(tmp_path, older, name="val.json")
    assert told(video) == SPANS and dialogue.id == "no_talk" and said(dialogue) == LINES[1:]


def test_state_and_knowledge_that_were_appended_to_a_system_prompt_are_cut(tmp_path):
    prompt = "Be proactive.\n\nTask Knowledge:\n1. Boil\n\nDialogue Context:\nCurrent step states - S1: complete"
    _, (dialogue,), _ = read(tmp_path, clip([{"role": "system", "content": prompt}, *TALK]))
    assert said(dialogue) == LINES


@pytest.mark.parametrize(("frames", "exact"), [(around, True), (windowed, True), (gapless, False)])
def test_lines_of_events_have_times_where_their_frames_rule_can_be_told(tmp_path, frames, exact):
    sparse = clip(events=events(frames([SYSTEM, *TALK])), start_frame=0, end_frame=42)
    del sparse["conversation"]
    (video,), dialogues, tally = read(tmp_path, sparse, name="train.json")
    assert told(video) == SPANS
    if exact:  # to the frame: 5.2 s is frame 10, which is 5.0 s
        assert said(dialogues[0]) == [
            ("assistant", "Boil water.", 5),
            ("assistant", "Pour it.", 12),
            ("assistant", "Done.", 21),
        ]
    else:
        why = "conversations whose lines have no known times (events of gapless ranges), left out"
        assert not dialogues and tally.left_out[why] == ["v"]


def test_without_times_in_dst_those_of_the_updates_are_taken_and_a_step_without_either_was_not_performed(tmp_path):
    bare = [{"id": step["id"], "name": step["name"]} for step in STEPS]
    (video,), _, _ = read(tmp_path, clip(TALK, dst=[*bare, {"id": "S3", "name": "Drink"}]))
    assert told(video) == SPANS and video.not_performed == ("S3",)


def without_times(turns: list[dict]) -> list[dict]:
    return [{key: value for key, value in turn.items() if key != "time"} for turn in turns]


@pytest.mark.parametrize(
    ("clips", "reason"),
    [
        ([clip([update(7.0, "S1", "start")])], "S1->start is at 5 s and at 7 s"),
        ([clip(HELLO, dst=[STEPS[0] | {"end_ts": 4.0}])], "step S1 ends at 4 s, before it starts (5 s)"),
        ([clip(HELLO, dst=[STEPS[0] | {"end_ts": None}])], "step S1 has no end"),
        ([clip(TALK, dst=STEPS[:1])], "its turns update step S2, which its dst lacks"),
        ([clip(around(without_times(TALK[:4])), dst=[{"id": "S1", "name": "x"}])], "S1->start has frames alone, and dst no time, and their rule is not known"),
        ([clip(TALK), clip(TALK, dst=[STEPS[0] | {"end_ts": 11.0}])], "its clips give step S1 two names or times"),
    ],
)  # fmt: skip
def test_a_video_whose_files_contradict_each_other_is_left_out_with_the_reason(tmp_path, clips, reason):
    _, _, tally = read(tmp_path, *clips, clip(TALK, video_uid="good"))
    assert tally.left_out[f"videos left out: {reason}"] == ["v"]
    with pytest.raises(ProspectError) as caught:
        read(tmp_path, *clips)
    assert "no video can be used" in str(caught.value) and f"1 videos left out: {reason}: v" in str(caught.value)


def test_turns_that_cannot_be_used_are_named(tmp_path):
    _, (dialogue,), tally = read(
        tmp_path, clip([*TALK, says("robot", 22, "Beep"), {"role": "user", "content": "When?"}])
    )
    assert said(dialogue) == LINES[1:]
    assert dict(tally.left_out) == {
        "turns of an unknown role, or without a text, left out": ["v (robot)"],
        "turns without a time, left out": ["v (When?)"],
    }


def test_every_mistake_is_named_and_nothing_written(tmp_path):
    bad = [
        clip(TALK, dst={"nodes": []}),
        clip(TALK, dst=[]),
        {"video_uid": "w", "dst": STEPS},
        clip([update(1, "S1", "pause")]),
        7,
        clip(TALK, quality="\ud800"),
    ]
    with pytest.raises(ProspectError) as caught:
        read(tmp_path, *bad)
    message = str(caught.value)
    assert "clip 0 (video_uid 'v'): dst: found {'nodes': []}, expected" in message
    assert "clip 1 (video_uid 'v'): dst: found [], expected" in message
    assert "clip 2 (video_uid 'w'): conversation, events: found neither, expected turns, or events at frames" in message
    assert "clip 3 (video_uid 'v'): conversation.0.content.list[ForkUpdate].0.transition: found 'pause'" in message
    assert "clip 4: clip: found int, expected a JSON object" in message
    assert "clip 5: clip: found half a surrogate pair" in message
    assert not (tmp_path / "tea").exists()


def test_generated_dialogues_are_refused_with_the_importer_for_them(tmp_path):
    (tmp_path / "train.json").write_text('[{"video_uid": "v", "conversations": []}]')
    with pytest.raises(
        ProspectError, match=r"found ProAssist's generated dialogues.*use prospect import proassist-generated"
    ):
        import_fork([tmp_path / "train.json"], tmp_path / "out")


@pytest.mark.skipif(not (REAL / "assembly101").is_dir(), reason="the real annotation is not here")
def test_the_real_clip_has_its_six_steps(tmp_path):
    files, tally = import_fork([REAL / "assembly101" / "train_training.json"], tmp_path / "o")
    (video,), (dialogue,) = read_spans(files[0]), read_dialogues(files[1])
    assert told(video) == [
        ("S1", 97.2, 106.8), ("S2", 106.8, 152.1), ("S3", 152.1, 185.0),
        ("S4", 185.0, 197.9), ("S5", 197.9, 212.3), ("S6", 212.3, 225.2),
    ]  # fmt: skip
    assert len(dialogue.lines) == 10 and dialogue.about["quality"] == 3.5 and not tally.left_out
