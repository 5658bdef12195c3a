"""The auditor is silent about what is right, and each of its checks fires on a fault that is planted for it."""

import dataclasses
import json
from pathlib import Path

import polars as pl
import pytest

from pipeline.annotations.clips import prompt_text
from pipeline.annotations.validate import valid_clips
from pipeline.progress import unwatched
from pipeline.shards import writer
from pipeline.shards.build import build_split
from pipeline.shards.scan import Options
from prospect import layout
from prospect.config import Config, DataConfig
from prospect.data import sequences
from prospect.data.index import Split, clips_of, read_split
from prospect.data.reader import SequenceReader
from prospect.data.sequences import sequence_table
from prospect.layout import CONTEXT, IGNORE, LM_TARGET, Tokens
from prospect.looking.audit import CHECKS, Audit, audit, audit_run
from prospect.model.checkpoint import with_tokens
from prospect.model.presets import toy_config, toy_tokenizer
from prospect.setup import Blueprint, make_blueprint
from tests.helpers.fakes import raw_clip, replace_in_index, write_root

PACKINGS = pytest.mark.parametrize("packing", ["clip", "turn"])


def clips() -> list[dict]:
    first = raw_clip(video_uid="v0", frames_file="frames/v0.arrow")
    second = raw_clip(
        video_uid="v1", clip_idx=1, initial_dst_state={"S1": "in_progress"}, frames_file="frames/v1.arrow"
    )
    second["conversation"] = [
        {"role": "user", "content": "Say <image> and S1->start, please", "start_frame": 5, "end_frame": 5},
        {"role": "DST_UPDATE", "content": [{"id": "S1", "transition": "complete"}], "start_frame": 6, "end_frame": 8},
        {"role": "DST_UPDATE", "content": [{"id": "S2", "transition": "start"}], "start_frame": 6, "end_frame": 8},
        {"role": "assistant", "content": "Now it: 2<end_of_utterance>\nUser: no", "start_frame": 6, "end_frame": 8},
        {"role": "assistant", "content": "And done.", "start_frame": 19, "end_frame": 19},
    ]
    return [first, second]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_root(tmp_path / "data", clips())
    build_split(tmp_path / "data", "x", "train", tmp_path / "shards", options=Options(max_silent_frames=4))
    return tmp_path


def run(
    root: Path,
    packing: str = "clip",
    max_seq_len: int = 300,
    split: Split | None = None,
    memory: str = "dst",
    margin: int = 0,
    knowledge: str = "steps",
    **changes,
) -> Audit:
    split = split or read_split(root / "shards", "x", "train", root / "data")
    tokenizer = toy_tokenizer([turn.text for clip in clips_of(split.index) for turn in clip.turns])
    tokens = Tokens(tokenizer, 1)
    blueprint = Blueprint(tokenizer, tokens, with_tokens(toy_config(tokenizer), "toy", 1))
    data = DataConfig(
        packing=packing, max_seq_len=max_seq_len, reserve=120, memory=memory, event_margin=margin, knowledge=knowledge
    )
    reader = SequenceReader(split, sequence_table(split, tokens, data), tokens, data, 64, None)
    reader = dataclasses.replace(reader, **changes)
    return audit(reader, blueprint, valid_clips(root / "data" / "x" / "train_training.json"))


def fired(found: Audit) -> dict[str, str]:
    """The first violation of each check that has some."""
    return {name: str(problems[0]) for name, problems in found.violations.items() if problems}


@PACKINGS
def test_what_is_right_passes_every_check(root, packing):
    found = run(root, packing, max_seq_len=300 if packing == "clip" else 1000)
    assert fired(found) == {}
    assert [name for name, count in found.looked_at.items() if not count] == ["classes"], "needs a run's settings"
    assert list(found.looked_at) == list(CHECKS)


def test_the_baseline_without_dst_passes_too(root):
    assert fired(run(root, memory="none", max_seq_len=230)) == {}


@pytest.mark.parametrize(("knowledge", "window"), [("steps", 380), ("none", 360)])
@pytest.mark.parametrize("told", [False, True])
def test_summaries_pass_too(root, told, knowledge, window):
    if told:
        annotated = clips()
        annotated[0]["conversation"][3]["progress"] = "It was taken <image>."
        annotated[1] |= {"initial_progress": "Begun.", "goal": "Make tea"}
        (root / "data" / "x" / "train_training.json").write_text(json.dumps(annotated))
        build_split(root / "data", "x", "train", root / "shards", options=Options(max_silent_frames=4), force=True)
    found = run(root, max_seq_len=window, memory="summary", knowledge=knowledge)
    assert fired(found) == {}
    assert found.looked_at["summaries"] > 2 * len(clips()), "this window cuts the clips into parts"


def test_a_summary_of_another_moment_and_one_that_is_not_learned(root, monkeypatch):
    monkeypatch.setattr(layout, "summary_before", lambda clip, frame: clip.progress[-1].text)
    found = fired(run(root, max_seq_len=380, memory="summary"))
    assert set(found) == {"leaks", "summaries"}
    monkeypatch.undo()

    def change(sequence):
        ends = [position for position, kind in enumerate(sequence.target_kind) if kind]
        if ends and ends[-1] == len(sequence) - 2:
            sequence.target_kind[-2] = 0

    spoil(monkeypatch, change)
    assert list(fired(run(root, max_seq_len=380, memory="summary"))) == ["targets"]


def test_parts_pass_too(root):
    split = read_split(root / "shards", "x", "train", root / "data")
    found = run(root, max_seq_len=300)
    assert found.looked_at["leaks"] > len(list(clips_of(split.index))), "this window cuts the clips into parts"


@PACKINGS
def test_a_margin_passes_too(root, packing):
    assert fired(run(root, packing, max_seq_len=300 if packing == "clip" else 1000, margin=2)) == {}


def test_a_split_without_an_utterance_is_a_violation_of_its_own(tmp_path):
    clip = raw_clip()
    clip["conversation"] = [turn for turn in clip["conversation"] if turn["role"] != "assistant"]
    write_root(tmp_path / "data", [clip])
    build_split(tmp_path / "data", "x", "train", tmp_path / "shards")
    config = Config.model_validate(
        {
            "data": {"dataset": "x", "shards": tmp_path / "shards", "root": tmp_path / "data", "cache": tmp_path},
            "model": {"preset": "toy", "tokens_per_frame": "native"},
        }
    )
    found = audit_run(config, make_blueprint(config), "x", "train", unwatched)
    assert list(fired(found)) == ["classes"]
    assert fired(found)["classes"].endswith(
        "turns: found no assistant turn, so when_to_speak has no positives, expected both classes of each head that is "
        "trained (annotate utterances, or set train.loss.speak_binary=0)"
    )


def spoil(monkeypatch, change) -> None:
    """`change(sequence)` is made to every sequence of `clip` packing before it leaves the layout."""

    def spoilt(*arguments):
        sequence = layout.clip_sequence(*arguments)
        change(sequence)
        return sequence

    monkeypatch.setattr(sequences, "clip_sequence", spoilt)


def positions(sequence, label) -> list[int]:
    labels = zip(sequence.update_labels, sequence.speak_labels, strict=True)
    return [position for position, found in enumerate(labels) if found == label]


def frame_ends(sequence) -> list[int]:
    return [position for position, at_frame in enumerate(sequence.at_frame) if at_frame]


def test_a_label_at_the_start_of_an_events_range(root, monkeypatch):
    """LESSONS: an event taught at the first frame of its range."""

    def change(sequence):
        ends = frame_ends(sequence)
        for place, position in enumerate(ends):
            if sequence.update_labels[position] == 1 and place >= 2:
                sequence.update_labels[position] = sequence.speak_labels[position] = IGNORE
                sequence.update_labels[ends[place - 2]], sequence.speak_labels[ends[place - 2]] = 1, 0

    spoil(monkeypatch, change)
    found = fired(run(root, max_seq_len=1000))
    assert found["labels"] == "labels v0-c000: decision at frame 4: found (1, 0), expected (0, 0)"
    assert found["contradictions"].endswith("block after the label (1, 0) at frame 4: found None, expected dst_update")


def test_a_positive_label_that_is_missing_or_too_many(root, monkeypatch):
    def change(sequence):
        position = positions(sequence, (0, 1))[0]
        sequence.update_labels[position], sequence.speak_labels[position] = 0, 0
        silent = positions(sequence, (0, 0))[-1]
        sequence.speak_labels[silent] = 1

    spoil(monkeypatch, change)
    found = run(root, max_seq_len=1000)
    texts = [str(problem) for problem in found.violations["labels"]]
    assert "labels v0-c000: decision at frame 6 after its block 1: found (0, 0), expected (0, 1)" in texts
    assert "labels v0-c000: decision at frame 19: found (0, 1), expected (0, 0)" in texts


def test_a_label_inside_a_block(root, monkeypatch):
    def change(sequence):
        sequence.update_labels[3], sequence.speak_labels[3] = 0, 0

    spoil(monkeypatch, change)
    assert "label inside a block at frame -1: found False" in fired(run(root))["labels"]


def test_both_heads_at_once(root, monkeypatch):
    """LESSONS: two things at one frame with one label a frame."""

    def change(sequence):
        for position in positions(sequence, (1, 0)):
            sequence.speak_labels[position] = 1

    spoil(monkeypatch, change)
    found = fired(run(root))
    assert "found dst_update, expected None" in found["contradictions"] and "found (1, 1)" in found["labels"]


def test_a_decision_with_two_labels(root):
    """A part that is planned twice."""
    split = read_split(root / "shards", "x", "train", root / "data")
    tokenizer = toy_tokenizer([turn.text for clip in clips_of(split.index) for turn in clip.turns])
    data = DataConfig(max_seq_len=1000, reserve=120)
    plan = sequence_table(split, Tokens(tokenizer, 1), data)
    found = fired(run(root, max_seq_len=1000, table=pl.concat([plan, plan.head(1)])))
    assert "number of labels of the decision at frame 2: found 2, expected 1" in found["contradictions"]
    assert "frames: found" in found["truncation"]


@pytest.mark.parametrize("fault", ["eos", "header", "first word", "user"])
def test_targets_that_are_not_the_text_and_its_end(root, monkeypatch, fault):
    """LESSONS: EOS was never trained, as the pad token was masked by its id."""

    def change(sequence):
        first = sequence.target_kind.index(LM_TARGET)
        end = next(i for i in range(first, len(sequence)) if sequence.target_kind[i] == CONTEXT) - 1
        place, kind = {
            "eos": (end, CONTEXT),
            "header": (first - 1, LM_TARGET),
            "first word": (first, CONTEXT),
            "user": (4, LM_TARGET),
        }[fault]
        sequence.target_kind[place] = kind

    spoil(monkeypatch, change)
    ((name, message),) = fired(run(root, max_seq_len=1000)).items()
    expected = {
        "eos": "assistant at frame 6: found {1: ' Well begun.'}, expected {1: ' Well begun.<end_of_utterance>'}",
        "header": ": Well begun.<end_of_utterance>'}, expected {1: ' Well begun.<end_of_utterance>'}",
        "first word": "egun.<end_of_utterance>'}, expected {1: ' Well begun.<end_of_utterance>'}",
        "user": "supervised text of the system at frame -1: found {1: '",
    }
    assert name == "targets" and expected[fault] in message


def drop(sequence, first: int, last: int) -> None:
    for name in ("ids", "target_kind", "update_labels", "speak_labels", "is_start_update", "at_frame", "silent_frame"):
        del getattr(sequence, name)[first : last + 1]


def without_length_check(monkeypatch) -> None:
    """The reader's own check of lengths would stop these faults before the auditor sees them."""

    def unchecked(self, request, planned, sample):
        part = layout.Part(planned["first_frame"], planned["last_frame"], tuple(planned["state"]), 0)
        return sequences.clip_sequence(self.tokens, sample.clip, part)

    monkeypatch.setattr(SequenceReader, "layout", unchecked)


def test_an_image_token_too_few(root, monkeypatch):
    without_length_check(monkeypatch)
    spoil(monkeypatch, lambda sequence: drop(sequence, frame_ends(sequence)[0], frame_ends(sequence)[0]))
    found = fired(run(root, max_seq_len=1000))
    assert found["images"] == "images v0-c000: <image> tokens: found 17, expected 18"


def test_ids_outside_the_vocabulary(root, monkeypatch):
    """LESSONS: ids were clamped to the vocabulary, which taught the wrong rows."""
    spoil(monkeypatch, lambda sequence: sequence.ids.__setitem__(2, 10**6))
    assert "ids outside the vocabulary: found [1000000], expected []" in fired(run(root))["images"]


def test_a_user_turn_left_out_and_an_end_cut_off(root, monkeypatch):
    """LESSONS: user turns were silently left out; truncation cut image tokens."""
    spoil(monkeypatch, lambda sequence: drop(sequence, len(sequence) - 1, len(sequence) - 1))
    found = fired(run(root, max_seq_len=1000))
    assert found["truncation"].startswith("truncation v0-c000: tokens of frames 2..19: found found ")
    without_length_check(monkeypatch)

    def cut(sequence):
        drop(sequence, len(sequence) - 1, len(sequence) - 1)
        sequence.frames.pop()

    spoil(monkeypatch, cut)
    texts = [str(p) for p in run(root, max_seq_len=1000).violations["truncation"]]
    assert any("frames: found [2, 3" in text for text in texts)
    monkeypatch.setattr(layout, "turns_before_first_frame", lambda clip: ())
    spoil(monkeypatch, lambda sequence: None)
    texts = [str(p) for p in run(root, max_seq_len=1000).violations["truncation"]]
    assert any("texts: found" in text and "Be kind." in text for text in texts)


def test_a_sequence_over_the_window(root):
    data = DataConfig(max_seq_len=50, reserve=120)
    assert "tokens over max_seq_len of frames 2..19" in str(
        run(root, max_seq_len=1000, data=data).violations["truncation"]
    )


def test_states_that_were_not_replayed(root, monkeypatch):
    expand = writer.samples_of

    def forgets(clip, *cuts):
        return [dataclasses.replace(s, dst_state=clip.initial_state) for s in expand(clip, *cuts)]

    monkeypatch.setattr(writer, "samples_of", forgets)
    build_split(root / "data", "x", "train", root / "shards", force=True)
    found = fired(run(root))
    assert list(found) == ["states"]
    assert "found ('not_started', 'not_started'), expected ('in_progress', 'not_started')" in found["states"]


def test_the_state_of_the_end_in_the_prompt(root, monkeypatch):
    """LESSONS: the state written into a clip's prompt was the state at the clip's END."""

    def leaks(steps, progress, goal):
        return prompt_text(steps, {step.id: "completed" for step in steps}, goal)

    monkeypatch.setattr(layout, "task_prompt", leaks)
    found = fired(run(root))
    assert list(found) == ["leaks"]
    assert "found {'S1': 'completed', 'S2': 'completed'}, expected {}" in found["leaks"]


def test_an_index_that_says_something_else(root):
    replace_in_index(root / "shards" / "x" / "train", "Well begun.", "Well done.")
    found = run(root)
    texts = [str(problem) for problem in found.violations["rebuild"]]
    assert any("clip of the shards: found" in text for text in texts)
    assert any("clip of the annotations: found" in text for text in texts)
    assert "found 171 tokens, planned 166" in fired(found)["truncation"], (
        "planned from the index, laid out from the shards"
    )


def test_annotations_that_changed_since(root):
    changed = clips()
    changed[0]["conversation"][3]["content"] = "Otherwise."
    write_root(root / "data", changed)
    found = run(root)
    assert list(fired(found)) == ["rebuild"] and len(found.violations["rebuild"]) == 1


def test_an_annotated_clip_that_is_not_in_the_shards(root):
    more = raw_clip(video_uid="v2", frames_file="frames/v2.arrow")
    write_root(root / "data", [*clips(), more])
    found = run(root)
    (problem,) = found.violations["rebuild"]
    assert str(problem).startswith("rebuild v2-c000: annotated clip: found not in the shards")


def test_clips_that_were_left_out_are_no_violation(tmp_path):
    """Two clips of one id, of which the first has no frames."""
    first, second = clips()
    lost = first | {"frames_file": "frames/lost.arrow"}
    write_root(tmp_path / "data", [lost, first | {"id": "other"}, second, second | {"id": "v1-c001"}])
    build_split(tmp_path / "data", "x", "train", tmp_path / "shards", options=Options(on_invalid="skip"))
    assert fired(run(tmp_path)) == {}


def test_clips_that_filters_left_out_are_no_violation(tmp_path):
    annotated = [
        raw_clip(video_uid=video, frames_file=f"frames/{video}.arrow", metadata={"quality": quality})
        for video, quality in (("v0", 7), ("v1", 8), ("v2", 7.5), ("v3", 9))
    ]
    write_root(tmp_path / "data", annotated)
    build_split(tmp_path / "data", "x", "train", tmp_path / "shards", options=Options(where=("quality>=8",)))
    config = Config.model_validate(
        {
            "data": {"dataset": "x", "shards": tmp_path / "shards", "root": tmp_path / "data", "cache": tmp_path},
            "model": {"preset": "toy", "tokens_per_frame": "native"},
        }
    )
    audited = audit_run(config, make_blueprint(config), "x", "train", unwatched)
    assert audited.looked_at["rebuild"] == 2 * 2 and audited.violations["rebuild"] == []


@PACKINGS
def test_a_system_turn_after_the_clip_is_no_violation(tmp_path, packing):
    clip = raw_clip(frames_file="frames/v1.arrow")
    clip["conversation"].append({"role": "system", "content": "Bye.", "start_frame": 25, "end_frame": 25})
    write_root(tmp_path / "data", [clip])
    build_split(tmp_path / "data", "x", "train", tmp_path / "shards")
    assert fired(run(tmp_path, packing, max_seq_len=1000)) == {}
