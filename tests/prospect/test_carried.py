"""What is carried from one context to the next, against sequences worked by hand: texts, prompts, parts, targets."""

from dataclasses import replace

import pytest

from pipeline.annotations.clips import Progress, Turn, task_prompt
from pipeline.annotations.dst import state_in_words
from pipeline.errors import ProspectError
from prospect.carried import NOTHING_YET, as_learned, summary_before
from prospect.layout import Tokens, clip_sequence, cut_parts, start_prompt
from tests.helpers.fakes import make_clip, pieces, word_tokenizer
from tests.helpers.layouts import decisions

END = ["<end_of_utterance>", "\n"]
TURNS = [
    Turn("user", "hi", 1, 1),
    Turn("dst_update", "S1->start", 2, 2),
    Turn("assistant", "go on", 2, 2),
    Turn("dst_update", "S1->complete, S2->start", 5, 5),
]
CLIP = make_clip(TURNS, frames=(0, 6), goal="Build it")
WORDS = [state_in_words(CLIP.names, state) for state in (  # in the words of the steps
    {"S1": "in_progress", "S2": "not_started"}, {"S1": "completed", "S2": "in_progress"},
)]  # fmt: skip
BY_RULE = (Progress(-1, ""), Progress(2, WORDS[0]), Progress(5, WORDS[1]))


def tokens_of(*texts, per_frame=1):
    prompt = task_prompt(CLIP.steps, NOTHING_YET, CLIP.goal)
    tokenizer = word_tokenizer([prompt, "Progress:", *WORDS, *(turn.text for turn in CLIP.turns), *texts])
    return tokenizer, Tokens(tokenizer, per_frame)


def test_a_state_in_words_names_what_is_done_and_what_is_under_way():
    names = {"S1": "Take it", "S2": "Put it", "S3": "Turn it", "S4": "Eat it"}
    states = dict(zip(names, ("completed", "in_progress", "completed", "not_started"), strict=True))
    assert state_in_words(names, states) == "Done: Take it; Turn it. Now: Put it."
    assert state_in_words(names, states | {"S2": "not_started"}) == "Done: Take it; Turn it."
    assert state_in_words(names, dict.fromkeys(names, "not_started")) == ""
    assert WORDS == ["Now: do S1.", "Done: do S1. Now: do S2."]


def test_a_clip_is_learned_as_its_memory_and_its_knowledge_say():
    learned = as_learned(replace(CLIP, progress=(Progress(3, "told"),)), "dst")
    assert learned == replace(CLIP, goal=""), "as before there were goals and progress texts"
    none = as_learned(CLIP, "none")
    assert [turn.text for turn in none.turns] == ["hi", "go on"] and none.progress == () and none.steps == CLIP.steps
    summary = as_learned(CLIP, "summary")
    assert (summary.turns, summary.progress) == (none.turns, BY_RULE)
    told = as_learned(CLIP, "summary", "goal")
    assert (told.steps, told.initial_state, told.goal, told.progress) == ((), (), "Build it", BY_RULE)
    assert as_learned(CLIP, "none", "none") == replace(none, steps=(), initial_state=(), goal="")


def test_annotated_progress_outdoes_the_states_and_the_latest_before_a_frame_holds():
    told = (Progress(-1, "Begun."), Progress(2, "One."), Progress(4, "Two."))
    learned = as_learned(replace(CLIP, progress=told), "summary")
    assert learned.progress == told
    texts = [summary_before(learned, frame) for frame in range(1, 7)]
    assert texts == ["Begun.", "Begun.", "One.", "One.", "Two.", "Two."]
    later = make_clip(
        TURNS[3:], frames=(4, 9), initial=("in_progress", "not_started"), progress=(Progress(6, "Three."),)
    )
    assert as_learned(later, "summary").progress == (Progress(3, "Now: do S1."), Progress(6, "Three."))
    assert summary_before(as_learned(CLIP, "summary"), 2) == NOTHING_YET


def test_the_prompt_tells_of_the_task_what_it_is_to():
    tokenizer, tokens = tokens_of()
    begins = "You are a proactive assistant helping with task completion."
    steps = "\n\nTask Steps:\n- S1: do S1\n- S2: do S2"

    def prompt(clip, *how):
        ids = start_prompt(tokens, as_learned(clip, *how)).ids
        return "".join(pieces(tokenizer, ids)[2:-2]).removeprefix(" ")

    assert prompt(CLIP, "dst") == prompt(CLIP, "none") == prompt(CLIP, "summary", "steps") == begins + steps
    assert prompt(CLIP, "summary", "goal") == prompt(CLIP, "none", "goal") == f"{begins}\n\nTask: Build it"
    assert prompt(CLIP, "none", "none") == begins
    begun = make_clip([], initial=("completed", "in_progress"))
    assert prompt(begun, "dst") == f"{begins}{steps}\n\nCurrent Progress: S1:completed, S2:in_progress"
    assert prompt(begun, "summary", "none") == f"{begins}\n\nCurrent Progress: {WORDS[1]}"
    assert prompt(begun, "none") == begins + steps


def test_parts_end_with_the_summary_and_the_next_begin_with_it():
    """A part ends before a frame when used + 1 + 2 x 8 > 40.

    The first: a prompt of 13, frame 0 (14), a line of 4 and frame 1 (19), frame 2 and an utterance of 5 (25), and
    before frame 3 it is full: 42. The summary takes 6. The second: a prompt of 13 + 7, and frames 3 to 6; before the
    last of these 23 + 17 are just not too many.
    """
    tokenizer, tokens = tokens_of()
    clip = as_learned(CLIP, "summary", "none")
    prompt = len(start_prompt(tokens, clip).ids)
    parts = cut_parts(tokens, clip, 40, 8, "summary")
    assert [(part.first_frame, part.last_frame, part.num_tokens) for part in parts] == [(0, 2, 31), (3, 6, 24)]
    assert [part.state for part in parts] == [(), ()]
    first = clip_sequence(tokens, clip, parts[0], memory="summary")
    assert len(first) == parts[0].num_tokens
    assert pieces(tokenizer, first.ids)[prompt:] == [
        "<image>", "User:", " hi", *END, "<image>", "<image>", "Assistant:", " go", " on", *END,
        "Progress:", " Now:", " do", " S1.", *END,
    ]  # fmt: skip
    words = pieces(tokenizer, first.ids)
    assert [words[i] for i, kind in enumerate(first.target_kind) if kind] == [
        " go", " on", "<end_of_utterance>", " Now:", " do", " S1.", "<end_of_utterance>",
    ]  # fmt: skip
    assert {kind for kind in first.target_kind if kind} == {1}, "learned as utterances are"
    assert decisions(first, tokenizer) == [("0", 0, 0), ("1", 0, 0), ("2", 0, 1), ("on", 0, 0)]
    second = pieces(tokenizer, clip_sequence(tokens, clip, parts[1], memory="summary").ids)
    assert second[prompt - 2 :] == [
        "\n", "\n", "Current", " Progress:", " Now:", " do", " S1.", *END, "<image>", "<image>", "<image>", "<image>",
    ], "what ends with the clip has no summary"  # fmt: skip


def test_twice_the_reserve_is_kept_free_and_a_summary_takes_no_more_than_one():
    _, tokens = tokens_of()
    clip = as_learned(CLIP, "summary")
    free = len(start_prompt(tokens, clip).ids)
    none = cut_parts(tokens, as_learned(CLIP, "none"), free + 20, 8, "none")
    summary = cut_parts(tokens, clip, free + 28, 8, "summary")
    assert none[0].last_frame == summary[0].last_frame
    with pytest.raises(
        ProspectError, match=r"the summary before frame \d takes 9 tokens, more than data.reserve 8; rais"
    ):
        long = replace(clip, progress=(Progress(-1, ""), Progress(1, "a b c d e f")))
        cut_parts(tokens, long, free + 28, 8, "summary")


def test_nothing_is_cut_where_the_clip_fits_and_the_sequence_is_that_without_a_memory():
    _, tokens = tokens_of()
    (part,) = cut_parts(tokens, as_learned(CLIP, "summary"), 10**6, 10**3, "summary")
    summary = clip_sequence(tokens, as_learned(CLIP, "summary"), part, memory="summary")
    assert summary == clip_sequence(tokens, as_learned(CLIP, "none"), part)
