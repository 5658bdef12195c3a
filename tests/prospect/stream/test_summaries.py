"""A model that carries a summary: written where the context is full, the next prompt's, on the ids of training."""

from dataclasses import replace

import pytest
import torch

from pipeline.annotations.clips import Progress, Step, task_prompt
from prospect.carried import as_learned
from prospect.evaluation.replay import encoded, stream_clip
from prospect.layout import cut_parts, start_prompt
from prospect.stream.live import unheard
from prospect.stream.streamer import StreamSettings
from prospect.stream.task import Task, task_of
from tests.helpers.fakes import make_clip
from tests.helpers.models import random_frames
from tests.helpers.streams import TURNS, one_pass, streamer, with_bias

NARROW = {"max_seq_len": 290, "reserve": 60}
TOLD = (Progress(4, "The first is under way."), Progress(9, "One is done, the user goes on with the second."))


@pytest.fixture
def prompts(tokens, monkeypatch):
    """Texts of the prompts that are begun with."""
    begun = []
    restart = type(tokens).prompt
    monkeypatch.setattr(type(tokens), "prompt", lambda self, text: begun.append(text) or restart(self, text))
    return begun


def run(model, tokens, clip, row="model", **settings):
    stream = streamer(model, tokens, memory="summary", **settings)
    frames = random_frames(clip.end_frame - clip.start_frame + 1)
    return list(stream_clip(stream, clip, encoded(stream, frames, row, 8), row))


@pytest.mark.parametrize("knowledge", ["steps", "goal", "none"])
@pytest.mark.parametrize("progress", [(), TOLD])
def test_forced_streaming_decides_as_the_training_parts_and_meets_their_tokens(
    model, tokens, clip, monkeypatch, progress, knowledge
):
    clip = replace(clip, progress=progress, goal="Build the thing")
    learned = as_learned(clip, "summary", knowledge)
    parts, expected = one_pass(model, tokens, learned, memory="summary", **NARROW)
    assert len(parts) > 1, "the case is about a part's end"
    lengths = []
    extend = type(model).extend_embeds
    monkeypatch.setattr(
        type(model),
        "extend_embeds",
        lambda self, embeds, cache: lengths.append(embeds.shape[1]) or extend(self, embeds, cache),
    )
    records = run(model, tokens, clip, "forced", knowledge=knowledge, **NARROW)
    found = []
    for record in records:
        found += [*((a.p_update, a.p_speak) for a in record.actions), (record.p_update_last, record.p_speak_last)]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert [r.frame for r in records if r.is_restart] == [part.first_frame for part in parts[1:]]
    assert sum(lengths) == sum(part.num_tokens for part in parts), "every token of the parts once, the summaries too"
    restarts = [record for record in records if record.is_restart]
    latest = [[one.text for one in learned.progress if one.frame < record.frame][-1] for record in restarts]
    assert [record.summary for record in restarts] == latest and all(latest)
    assert all(record.summary is None for record in records if not record.is_restart)


def test_the_models_own_summary_is_counted_bounded_and_the_next_prompts(model, tokens, prompts):
    clip = make_clip((), frames=(0, 19))
    start = len(start_prompt(tokens, clip).ids)
    room = start + 12 * 4  # left by the next frame and twice the reserve
    records = run(with_bias(model, -9, -9), tokens, clip, reserve=30, max_seq_len=room + 4 + 60)
    (first, *_) = [record for record in records if record.is_restart]
    assert first.frame == 13 and first.summary and task_prompt(clip.steps, first.summary) in prompts
    following = len(tokens.prompt(task_prompt(clip.steps, first.summary)).ids)
    assert following <= room and first.context_tokens == following + 4
    written = first.computed_tokens - first.context_tokens
    assert len(tokens.summary("").ids) < written <= 30


def test_a_summary_that_leaves_the_next_frame_no_room_is_cut(model, tokens):
    """One frame alone fits beside the prompt: any summary is too long for the next one, to its last word."""
    clip = make_clip((), frames=(0, 5))
    start = len(start_prompt(tokens, clip).ids)
    records = run(with_bias(model, -9, -9), tokens, clip, reserve=30, max_seq_len=start + 4 + 60)
    assert [record.is_restart for record in records] == [False] + [True] * 5
    assert [record.summary for record in records] == [None] + [""] * 5
    assert [record.context_tokens for record in records] == [start + 4] * 6


@pytest.mark.parametrize("context", ["drop_all", "drop_middle"])
def test_no_summary_is_written_where_none_is_carried(model, tokens, clip, context):
    records = run(with_bias(model, -9, -9), tokens, clip, context=context, **NARROW)
    assert any(record.is_restart for record in records)
    assert all(record.summary is None for record in records)


def test_a_stream_that_begins_later_is_told_what_was_done(model, tokens, prompts):
    """By the annotation's text, else by the states, never by both."""
    begun = make_clip((), frames=(4, 5), initial=("completed", "in_progress"))
    run(model, tokens, begun, max_actions=0)
    run(model, tokens, replace(begun, progress=(Progress(3, "All but one."),)), max_actions=0)
    stream = streamer(model, tokens, memory="summary", knowledge="none")
    stream.start(begun.steps, begun.state, fps=2, goal="Build it", progress="Said so.")
    told = ("Done: do S1. Now: do S2.", "All but one.")
    assert prompts == [*(task_prompt(begun.steps, text) for text in told), task_prompt((), "Said so.")]


def test_updates_are_never_written_and_the_windows_rule_is_that_of_training(model, tokens, clip):
    records = run(with_bias(model, 9, -9), tokens, clip, **NARROW)
    assert not any(record.actions for record in records)
    quiet = replace(as_learned(clip, "summary"), turns=(TURNS[0],))
    (first, *_) = cut_parts(tokens, quiet, NARROW["max_seq_len"], NARROW["reserve"], "summary")
    only = run(with_bias(model, -9, -9), tokens, replace(clip, turns=(TURNS[0],)), **NARROW)
    assert next(record.frame for record in only if record.is_restart) == first.last_frame + 1
    assert torch.isfinite(torch.tensor([record.p_speak for record in only])).all()


def test_what_of_a_task_a_model_is_not_told_is_said():
    task = Task((Step("S1", "Boil"),), {"S1": "not_started"}, goal="Make tea")
    assert list(unheard(StreamSettings(), task)) == []
    (steps,) = unheard(StreamSettings(memory="none", knowledge="goal"), task)
    assert steps == "the checkpoint was trained with data.knowledge goal: it is not told the task's steps"
    (goal,) = unheard(StreamSettings(memory="none", knowledge="goal"), Task())
    assert goal.endswith("the task has none: pass --goal")
    assert task_of(None, None, None, None, " Make tea ").goal == "Make tea"
