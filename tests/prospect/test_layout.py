"""The layout against hand-worked sequences: text, labels decision by decision, targets, parts."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.annotations.clips import Turn, prompt_text
from pipeline.errors import ProspectError
from pipeline.shards.expand import expand
from prospect.carried import as_learned
from prospect.layout import (
    IGNORE,
    Tokens,
    clip_sequence,
    cut_parts,
    frame_groups,
    jittered,
)
from tests.helpers.clips import ASSEMBLY, clip_in, clips
from tests.helpers.fakes import clip_texts, make_clip, pieces, word_tokenizer
from tests.helpers.layouts import CLIP, decisions, setup, whole

END = ["<end_of_utterance>", "\n"]


def test_the_whole_sequence_reads_as_designed():
    tokenizer, tokens = setup(CLIP, tokens_per_frame=2)
    sequence = whole(tokens, CLIP)
    prompt = "You are a proactive assistant helping with task completion."
    assert pieces(tokenizer, sequence.ids) == [
        "<|im_start|>", "System:", *[f" {word}" for word in prompt.split()],
        "\n", "\n", "Task", " Steps:", "\n", "-", " S1:", " do", " S1", "\n", "-", " S2:", " do", " S2", *END,
        "System:", " be", " kind", *END,
        "<image>", "<image>",
        "<image>", "<image>",
        "User:", " hi", " <image>", *END,
        "<image>", "<image>",
        "DST:", " S1->start", *END,
        "Assistant:", " go", " on", *END,
        "<image>", "<image>",
        "<image>", "<image>",
        "<image>", "<image>",
        "DST:", " S1->complete", ",", " S2->start", *END,
        "<image>", "<image>",
    ]  # fmt: skip
    assert sequence.ids.count(tokens.image) == 2 * 7, "the <image> of the utterance is text"
    assert sequence.frames == [0, 1, 2, 3, 4, 5, 6]


def test_targets_are_texts_and_their_end_not_headers():
    tokenizer, tokens = setup(CLIP)
    sequence = whole(tokens, CLIP)
    words = pieces(tokenizer, sequence.ids)
    assert [(words[i], kind) for i, kind in enumerate(sequence.target_kind) if kind] == [
        (" S1->start", 2), ("<end_of_utterance>", 2),
        (" go", 1), (" on", 1), ("<end_of_utterance>", 1),
        (" S1->complete", 2), (",", 2), (" S2->start", 2), ("<end_of_utterance>", 2),
    ]  # fmt: skip
    assert [words[i] for i, flag in enumerate(sequence.is_start_update) if flag] == [
        " S1->start", "<end_of_utterance>", " S1->complete", ",", " S2->start", "<end_of_utterance>",
    ]  # fmt: skip


def test_decisions_are_sequential():
    tokenizer, tokens = setup(CLIP)
    assert decisions(whole(tokens, CLIP), tokenizer) == [
        ("0", 0, 0),
        ("1", 0, 0),  # in the range of the turns at 2, at which they stand: not yet
        ("2", 1, 0),
        ("S1->start", 0, 1),
        ("on", 0, 0),
        ("3", 0, 0),
        ("4", 0, 0),
        ("5", 1, 0),
        ("S2->start", 0, 0),
        ("6", 0, 0),
    ]


def test_silent_frames_are_marked_for_sampling_and_nothing_else():
    _, tokens = setup(CLIP)
    sequence = whole(tokens, CLIP)
    assert [frame for frame in sequence.silent_frame if frame >= 0] == [0, 1, 3, 4, 6]
    sequence.drop_decisions(lambda frame: frame == 3)
    labelled = [i for i, label in enumerate(sequence.update_labels) if label != IGNORE]
    assert len(labelled) == 10 - 4
    assert sequence.frames == [0, 1, 2, 3, 4, 5, 6], "an unsampled frame stays in the context"


def test_decision_sits_on_the_last_token_of_a_frame():
    _, tokens = setup(CLIP, tokens_per_frame=4)
    sequence = whole(tokens, CLIP)
    images = [i for i, token in enumerate(sequence.ids) if token == tokens.image]
    assert [i for i, flag in enumerate(sequence.at_frame) if flag] == images[3::4]
    assert sequence.update_labels[images[3]] == 0 and sequence.update_labels[images[0]] == IGNORE


def test_frame_wrap_of_the_pretraining():
    tokenizer, tokens = setup(CLIP, tokens_per_frame=1, frame_wrap="smolvlm")
    assert pieces(tokenizer, tokens.frame.ids) == [
        "<fake_token_around_image>", "<global-img>", "<image>", "<fake_token_around_image>",
    ]  # fmt: skip
    sequence = whole(tokens, CLIP)
    at_frame = [i for i, flag in enumerate(sequence.at_frame) if flag]
    assert {sequence.ids[i] for i in at_frame} == {tokens.frame.ids[-1]} and sequence.update_labels[at_frame[0]] == 0


@pytest.mark.parametrize(("margin", "unlabelled"), [(0, []), (1, ["1", "4"]), (2, ["0", "1", "3", "4"])])
def test_the_frames_of_the_margin_before_an_event_have_no_label(margin, unlabelled):
    tokenizer, tokens = setup(CLIP)
    found = decisions(whole(tokens, CLIP, margin), tokenizer)
    assert found == [d for d in decisions(whole(tokens, CLIP), tokenizer) if d[0] not in unlabelled]


def test_an_event_within_the_margin_of_another_keeps_its_label():
    clip = make_clip([Turn("dst_update", "S1->start", 2, 2), Turn("assistant", "go", 3, 3)], frames=(0, 4))
    tokenizer, tokens = setup(clip)
    assert decisions(whole(tokens, clip, 2), tokenizer) == [
        ("2", 1, 0), ("S1->start", 0, 0), ("3", 0, 1), ("go", 0, 0), ("4", 0, 0),
    ]  # fmt: skip


def test_ranges_without_gaps_leave_every_frame_but_the_events_silent():
    turns = [Turn("dst_update", "S1->start", 0, 4), Turn("dst_update", "S1->complete", 4, 9)]
    clip = make_clip(turns, frames=(0, 9))
    _, tokens = setup(clip)
    silent = [frame for frame in whole(tokens, clip).silent_frame if frame >= 0]
    assert silent == [0, 1, 2, 3, 5, 6, 7, 8]


def test_an_earlier_frame_of_a_range_is_labelled_when_a_block_follows_it():
    clip = make_clip([Turn("dst_update", "S1->start", 2, 3), Turn("assistant", "go", 1, 5)], frames=(0, 6))
    tokenizer, tokens = setup(clip)
    assert decisions(whole(tokens, clip), tokenizer) == [
        ("0", 0, 0), ("1", 0, 0), ("2", 0, 0), ("3", 1, 0), ("S1->start", 0, 0), ("4", 0, 0), ("5", 0, 1),
        ("go", 0, 0), ("6", 0, 0),
    ]  # fmt: skip


def test_a_clip_of_real_size_worked_by_hand():
    clip = clip_in(ASSEMBLY)
    tokenizer, tokens = setup(clip)
    sequence = whole(tokens, clip)
    expected = [("193", 0, 0), ("194", 0, 0), ("195", 1, 0), ("S1->start", 0, 1), ("first.", 0, 0)]
    expected += [(str(f), 0, 0) for f in range(196, 214)]
    expected += [("214", 1, 0), ("S1->complete", 1, 0), ("S2->start", 0, 1), ("wheels.", 0, 0)]
    expected += [(str(f), 0, 0) for f in range(215, 226)]
    expected += [("226", 0, 1), ("clicks.", 0, 0)]
    expected += [(str(f), 0, 0) for f in range(227, 262)]
    expected += [("262", 0, 1), ("one.", 0, 0)]
    expected += [(str(f), 0, 0) for f in range(263, 305)]
    expected += [("305", 1, 0), ("S2->complete", 1, 0), ("S3->start", 0, 1), ("in.", 0, 0)]
    expected += [(str(f), 0, 0) for f in range(306, 371)]
    expected += [("371", 1, 0), ("S3->complete", 1, 0), ("S4->start", 0, 1), ("tightly.", 0, 0)]
    expected += [(str(f), 0, 0) for f in range(372, 396)]
    expected += [("396", 1, 0), ("S4->complete", 1, 0), ("S5->start", 0, 1), ("needed.", 0, 0)]
    expected += [(str(f), 0, 0) for f in range(397, 425)]
    expected += [("425", 1, 0), ("S5->complete", 1, 0), ("S6->start", 0, 1), ("rolls!", 0, 0)]
    expected += [(str(f), 0, 0) for f in range(426, 451)]
    expected += [("451", 1, 0), ("S6->complete", 0, 0)]
    assert decisions(sequence, tokenizer) == expected
    assert sequence.frames == list(range(193, 452))

    words = pieces(tokenizer, sequence.ids)
    system = [
        *[f" {word}" for word in ["You", "are", "a", "watchful", "assistant.", "Speak", "up", "in", "time."]],
        *END,
    ]
    start = words.index("<image>") - len(system)
    assert words[start - 1 : start + len(system)] == ["System:", *system]
    user = "I would like to build the toy crane with wheels and a cabin."
    first = words.index("User:")
    assert words[first - 2 : first] == ["<image>", "<image>"], "the user's words come before frame 195"
    assert "".join(words[first : words.index("DST:")]) == f"User: {user}<end_of_utterance>\n<image>"
    assert words[-4:] == ["DST:", " S6->complete", *END]


def test_the_clip_of_real_size_without_gaps_between_its_ranges_is_learned_as_before():
    """As in the annotation author's newer files: each turn begins where the one before ended."""
    clip = clip_in(ASSEMBLY)
    ends = sorted({turn.end_frame for turn in clip.turns if turn.end_frame is not None})
    before = dict(zip(ends, [clip.start_frame, *ends], strict=False))
    turns = [
        turn if turn.end_frame is None else replace(turn, start_frame=before[turn.end_frame]) for turn in clip.turns
    ]
    gapless = replace(clip, turns=tuple(turns))
    tokenizer, tokens = setup(clip)
    assert decisions(whole(tokens, gapless), tokenizer) == decisions(whole(tokens, clip), tokenizer)
    silent = [sample for sample in expand(gapless, 32, 8) if sample.kind == "silent"]
    assert sum(len(sample.frames) for sample in silent) == 259 - 2 * 8 - 6 * 8 - (195 - 193 + 1)


def test_parts_are_cut_without_looking_ahead_and_carry_the_state():
    tokenizer, tokens = setup(CLIP)
    assert len(tokens.prompt(clip_texts(CLIP)[0]).ids) == 27
    # frame 0: prompt 27 + system 5 = 32 used; each frame 1; at frame 2 user 5 + update 4 + assistant 5 = 14 > reserve
    with pytest.raises(
        ProspectError, match=r"clip 'v-c000' frame 2: its turns take 14 tokens, more than data.reserve 13"
    ):
        cut_parts(tokens, CLIP, 60, 13)
    # used before frames 0..3: 32, 33, 34, 34 + 1 + 14 = 49; with reserve 14, frame 3 needs 49 + 1 + 14 = 64
    parts = cut_parts(tokens, CLIP, 63, 14)
    assert [(p.first_frame, p.last_frame, p.state) for p in parts] == [
        (0, 2, ("not_started", "not_started")),
        (3, 6, ("in_progress", "not_started")),
    ]
    assert [p.num_tokens for p in parts] == [49, 27 + 5 + 4 + 6]
    assert [(p.first_frame, p.last_frame) for p in cut_parts(tokens, CLIP, 64, 14)] == [(0, 3), (4, 6)]
    second = pieces(tokenizer, clip_sequence(tokens, CLIP, parts[1]).ids)
    text = "".join(second)
    assert "Current Progress: S1:in_progress" in text and "be kind" not in text
    with pytest.raises(ProspectError, match="raise it"):
        cut_parts(tokens, CLIP, 40, 14)


@settings(max_examples=150, deadline=None)
@given(clips(), st.integers(0, 60))
def test_parts_hold_every_frame_turn_and_decision_once_and_fit(clip, extra):
    tokenizer, tokens = setup(clip)
    reserve = 1 + max(sum(len(tokens.turn(t).ids) for t in (*g.before, *g.after)) for g in frame_groups(clip))
    longest_prompt = 200
    limit = longest_prompt + reserve + extra
    parts = cut_parts(tokens, clip, limit, reserve)
    sequences = [clip_sequence(tokens, clip, part) for part in parts]
    assert [len(s) for s in sequences] == [p.num_tokens for p in parts]
    assert all(len(s) <= limit for s in sequences)
    assert [f for s in sequences for f in s.frames] == list(range(clip.start_frame, clip.end_frame + 1))
    one = whole(tokens, clip)
    assert [d for s in sequences for d in decisions(s, tokenizer)] == decisions(one, tokenizer)
    targets = [i for s in sequences for i, k in zip(s.ids, s.target_kind, strict=True) if k]
    assert targets == [i for i, k in zip(one.ids, one.target_kind, strict=True) if k]


# Events at 2 (update, utterance), 5 and 7; a user line at 8.
MOVABLE = make_clip(
    [
        Turn("dst_update", "S1->start", 1, 2),
        Turn("assistant", "go on", 1, 2),
        Turn("dst_update", "S1->complete", 4, 5),
        Turn("assistant", "well done", 7, 7),
        Turn("user", "hi", 8, 8),
    ],
    frames=(0, 9),
)


def moved(shift: dict[int, int]):
    tokenizer, tokens = setup(MOVABLE)
    (part,) = cut_parts(tokens, MOVABLE, 10**6, 10**3)
    sequence = clip_sequence(tokens, MOVABLE, part, lambda frame: shift.get(frame, 0))
    assert len(sequence) == part.num_tokens and sequence.frames == list(range(10))
    targets = [word for word, kind in zip(pieces(tokenizer, sequence.ids), sequence.target_kind, strict=True) if kind]
    return decisions(sequence, tokenizer), targets, sequence


UNMOVED = [
    ("0", 0, 0), ("1", 0, 0), ("2", 1, 0), ("S1->start", 0, 1), ("on", 0, 0), ("3", 0, 0), ("4", 0, 0), ("5", 1, 0),
    ("S1->complete", 0, 0), ("6", 0, 0), ("7", 0, 1), ("done", 0, 0), ("8", 0, 0), ("9", 0, 0),
]  # fmt: skip


def test_without_a_shift_nothing_is_moved():
    assert moved({})[0] == UNMOVED


def test_a_late_event_is_announced_and_learned_where_it_stands():
    found, targets, sequence = moved({2: 1})
    assert found[:6] == [("0", 0, 0), ("1", 0, 0), ("3", 1, 0), ("S1->start", 0, 1), ("on", 0, 0), ("4", 0, 0)]
    assert found[6:] == UNMOVED[7:] and " S1->start" in targets, "2 has no label"
    assert 3 not in sequence.silent_frame, "no longer a silent frame, hence not sampled"


def test_an_early_event_is_context_and_silence_is_due_at_its_own_frame():
    found, targets, sequence = moved({5: -1})
    assert found[:6] == UNMOVED[:6]
    assert found[6:8] == [("S1->complete", 0, 0), ("5", 0, 0)], "4 has no label; at 5 it was said already"
    assert found[8:] == UNMOVED[9:]
    assert " S1->complete" not in targets and " S1->start" in targets
    assert 5 not in sequence.silent_frame, "always learned, whatever the negative rate"


def test_nothing_is_moved_over_a_user_turn_or_onto_another_event_or_out():
    assert moved({7: 1})[0] == UNMOVED, "the user speaks before frame 8"
    alone = make_clip([Turn("dst_update", "S1->start", 0, 0), Turn("dst_update", "S1->complete", 1, 1)], frames=(0, 1))
    for shift in (-1, 1):
        assert jittered(frame_groups(alone), lambda frame, by=shift: by) == frame_groups(alone)
    late, early = moved({2: 1, 5: -1})[0], moved({5: 1, 7: -1})[0]
    assert ("3", 1, 0) in late and ("S1->complete", 0, 0) in late and ("5", 0, 0) in late
    assert ("6", 1, 0) in early and ("7", 0, 1) in early, "the second finds the place taken"


@given(clips(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_jitter_keeps_every_token_but_their_order(clip, seed):
    _, tokens = setup(clip)
    for part in cut_parts(tokens, clip, 10**6, 10**3):
        plain = clip_sequence(tokens, clip, part)
        other = clip_sequence(tokens, clip, part, lambda frame: (seed >> frame % 32) % 3 - 1)
        assert sorted(plain.ids) == sorted(other.ids) and plain.frames == other.frames
        positive = sum(label == 1 for label in other.update_labels)
        assert positive <= sum(label == 1 for label in plain.update_labels)


def test_without_dst_only_speech_is_left_and_no_progress_in_the_prompt():
    turns = [
        Turn("dst_update", "S1->start", 1, 2),
        Turn("assistant", "Take it.", 1, 2),
        Turn("dst_update", "S1->complete", 4, 4),
    ]
    clip = as_learned(make_clip(turns, frames=(0, 5), initial=("not_started", "completed")), "none")
    assert [turn.text for turn in clip.turns] == ["Take it."]
    assert "Current Progress" not in prompt_text(clip.steps, clip.state)
    groups = frame_groups(clip)
    assert [group.is_silent for group in groups] == [True, True, False, True, True, True]
    assert [[turn.role for turn in group.after] for group in groups] == [[], [], ["assistant"], [], [], []]


def test_decisions_by_tokens_are_between_the_headers_first_tokens_and_silence():
    tokenizer, tokens = setup(CLIP)
    assert pieces(tokenizer, tokens.decision_tokens(True)) == ["DST:", "Assistant:", "<|im_end|>"]
    assert pieces(tokenizer, tokens.decision_tokens(False)) == ["Assistant:", "<|im_end|>"]


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        (("DST:", "Assistant:"), r"begins DST: and Assistant: with the same token \(0\), expected two that differ"),
        (("<|im_end|>",), r"tokenizer: found no special token '<\|im_end\|>', expected SmolVLM's; use its tokenizer"),
    ],
)
def test_a_tokenizer_that_cannot_decide_is_refused(lacks, message):
    record = json.loads(word_tokenizer(clip_texts(CLIP)).backend_tokenizer.to_str())
    for token in lacks:
        del record["model"]["vocab"][token]
    record["added_tokens"] = [token for token in record["added_tokens"] if token["content"] not in lacks]
    text = json.dumps(record)
    tokens = Tokens(SimpleNamespace(backend_tokenizer=SimpleNamespace(to_str=lambda: text)), 1)
    with pytest.raises(ProspectError, match=message):
        tokens.decision_tokens(True)
