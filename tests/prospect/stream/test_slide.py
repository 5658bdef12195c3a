"""`slide`: a fresh prompt, and behind it what was made of the last whole frames, moved."""

import copy
from itertools import pairwise

import pytest
import torch

from pipeline.annotations.clips import Turn, prompt_text
from prospect.evaluation.replay import encoded, stream_clip
from prospect.layout import Part, Tokens, clip_sequence, frame_groups
from prospect.model.assemble import assemble
from prospect.model.checkpoint import load_tokenizer
from prospect.model.moved import CannotMove, MovableCache
from prospect.stream.context import Context
from tests.helpers.fakes import make_clip
from tests.helpers.models import load, random_frames
from tests.helpers.parts import save_text, save_tower
from tests.helpers.streams import TURNS, streamer, with_bias

NARROW = {"max_seq_len": 300, "reserve": 80}
EVERY = [Turn("user", "How far am I?", f, f) for f in range(1, 60, 11)]
LONG = make_clip(sorted([*TURNS, *EVERY], key=lambda turn: turn.end_frame or 0), frames=(0, 59))


def shallow(model, layers=1):
    """What its only layer makes of a token depends on the token and its position alone, not on what stands before."""
    model = copy.deepcopy(model)
    model.model.text_model.layers = model.model.text_model.layers[:layers]
    model.config.text_config.num_hidden_layers = layers
    return model


def run(model, tokens, clip, row="model", **settings):
    stream = streamer(model, tokens, context="slide", **settings)
    frames = random_frames(clip.end_frame - clip.start_frame + 1)
    return list(stream_clip(stream, clip, encoded(stream, frames, row, 8), row))


def texts(tokens, clip, records, room):
    """What stands in the context from each restart to the next: the training part that begins at the first frame kept.

    By the rule alone: the most of the last frames that fit in half of what its own prompt leaves of the room.
    """
    state, states, lengths = clip.state, [], []
    for group in frame_groups(clip):
        states.append(dict(state))
        lengths.append(
            len(tokens.frame.ids) + sum(len(tokens.turn(turn).ids) for turn in (*group.before, *group.after))
        )
        for turn in group.after:
            if turn.role == "dst_update":
                for update in turn.text.split(", "):
                    step, _, transition = update.partition("->")
                    state = state | {step: {"start": "in_progress", "complete": "completed"}[transition]}
    restarts = [record.frame for record in records if record.is_restart]
    for cut, following in pairwise([*restarts, clip.end_frame + 1]):
        first = cut
        while first:
            prompt = len(tokens.prompt(prompt_text(clip.steps, states[first - 1])).ids)
            if sum(lengths[first - 1 : cut]) > (room - prompt) // 2:
                break
            first -= 1
        yield cut, first, Part(first, following - 1, tuple(states[first].values()), 0)


def decisions(record):
    return [*((a.p_update, a.p_speak) for a in record.actions), (record.p_update_last, record.p_speak_last)]


def trained(model, tokens, clip, part, begin):
    """The decisions at the frames from `begin` on, of the pass that trains on the part."""
    sequence = clip_sequence(tokens, clip, part)
    labels = torch.zeros(1, len(sequence), dtype=torch.int64)
    with torch.no_grad():
        output = model(
            input_ids=torch.tensor([sequence.ids]),
            frames=random_frames(clip.end_frame + 1)[part.first_frame : part.last_frame + 1],
            target_kind=torch.zeros(1, len(sequence), dtype=torch.uint8),
            update_labels=labels,
            speak_labels=labels,
        )
    p = output.decision_logits.softmax(-1)[..., 1]
    decided = [i for i in range(len(sequence)) if sequence.update_labels[i] != -100]
    skipped = sum(1 + len(group.after) for group in frame_groups(clip)[part.first_frame : begin])
    return len(sequence), [tuple(p[i].tolist()) for i in decided[skipped:]]


@pytest.mark.parametrize("decide", ["model", "by_tokens"])
def test_of_one_layer_it_is_the_training_pass_of_the_part_that_begins_at_the_first_frame_kept(request, decide, tokens):
    model = shallow(request.getfixturevalue(decide))
    records = run(model, tokens, LONG, "forced", **NARROW)
    found = list(texts(tokens, LONG, records, NARROW["max_seq_len"] - NARROW["reserve"] - 4))
    assert len(found) > 4 and sum(first < cut for cut, first, _ in found) > 3
    assert len({part.state for _, _, part in found}) > 1
    for cut, _, part in found:
        length, expected = trained(model, tokens, LONG, part, cut)
        streamed = [p for record in records[cut : part.last_frame + 1] for p in decisions(record)]
        assert len(streamed) == len(expected)
        for one, other in zip(streamed, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
        assert records[part.last_frame].context_tokens == length


def test_deeper_what_was_kept_still_knows_what_stood_before(model, tokens):
    """The same text, and other decisions: values are as they were."""
    records = run(model, tokens, LONG, "forced", **NARROW)
    cut, _, part = next(texts(tokens, LONG, records, NARROW["max_seq_len"] - NARROW["reserve"] - 4))
    length, expected = trained(model, tokens, LONG, part, cut)
    assert records[part.last_frame].context_tokens == length
    assert decisions(records[cut])[0] != pytest.approx(expected[0], abs=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen3", "smollm3"])
def test_of_other_families_too(tmp_path, family):
    text, tower = save_text(tmp_path / "text", family, num_hidden_layers=1), save_tower(tmp_path / "tower")
    assemble(str(text), str(tower), None, tmp_path / "whole", seed=0)
    model = load(tmp_path / "whole", tokens_per_frame=4)
    tokens = Tokens(load_tokenizer(tmp_path / "whole"), 4)
    settings = {"max_seq_len": 300, "reserve": 80}
    records = run(model, tokens, LONG, "forced", **settings)
    found = list(texts(tokens, LONG, records, 300 - 80 - 4))
    assert len(found) > 2
    for cut, _, part in found:
        _, expected = trained(model, tokens, LONG, part, cut)
        streamed = [p for record in records[cut : part.last_frame + 1] for p in decisions(record)]
        for one, other in zip(streamed, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-4)


def test_over_a_long_stream_window_cache_and_what_is_computed_stay_bounded(model, tokens, monkeypatch):
    """At a restart the prompt, the frame and what stands at it go through the model, whatever is kept."""
    computed, ends = [], []
    update = MovableCache.update

    def watched(cache, keys, values, layer, *rest):
        given = update(cache, keys, values, layer, *rest)
        ends.append(given[0].shape[2])
        return given

    monkeypatch.setattr(MovableCache, "update", watched)
    held = []
    restart = Context.restart

    def spied(context, *given):
        yield from restart(context, *given)
        held.append((context.used, len(context._begun)))
        computed.append(context.computed_tokens)

    monkeypatch.setattr(Context, "restart", spied)
    clip = make_clip([Turn("user", "Are we there yet?", f, f) for f in range(0, 400, 7)], frames=(0, 399))
    records = run(with_bias(model, -9, -9), tokens, clip, **NARROW)
    prompt = len(tokens.prompt(prompt_text(clip.steps, clip.state)).ids)
    room = NARROW["max_seq_len"] - NARROW["reserve"] - 4
    restarts = [record for record in records if record.is_restart]
    assert len(restarts) > 10 and set(computed) == {prompt}
    assert max(ends) <= NARROW["max_seq_len"] and max(r.context_tokens for r in records) <= NARROW["max_seq_len"]
    lines = {f: len(tokens.turn(Turn("user", "Are we there yet?", f, f)).ids) for f in range(0, 400, 7)}
    assert [r.computed_tokens for r in restarts] == [prompt + 4 + lines.get(r.frame, 0) for r in restarts]
    assert all(prompt < used <= prompt + (room - prompt) // 2 for used, _ in held)
    assert max(frames for _, frames in held) <= room // 4


@pytest.mark.parametrize("memory", ["none", "summary"])
def test_without_a_state_the_prompt_is_that_of_the_beginning(model, tokens, monkeypatch, memory):
    prompts = []
    encode = type(tokens).prompt
    monkeypatch.setattr(type(tokens), "prompt", lambda self, text: prompts.append(text) or encode(self, text))
    begun = make_clip((), frames=(0, 69), initial=("completed", "in_progress"))
    settings = {"max_seq_len": 300, "reserve": 40}
    records = run(with_bias(model, -9, -9), tokens, begun, memory=memory, **settings)
    assert any(record.is_restart for record in records) and len(set(prompts)) == 1
    assert ("Done: do S1." in prompts[0]) is (memory == "summary")
    assert all(record.summary is None for record in records)


def test_text_alone_decides_at_the_last_token_that_is_kept(model, tokens):
    """A restart at a frame without tokens: nothing goes through the model behind what is kept."""
    turns = [Turn("user", "Where are we, and what shall I do now?", f, f) for f in range(0, 40, 2)]
    records = run(with_bias(model, -9, -9), tokens, make_clip(turns, frames=(0, 39)), "text_only", **NARROW)
    restarts = [record for record in records if record.is_restart]
    assert len(restarts) > 2 and all(record.frame % 2 for record in restarts)
    for record in restarts:
        before = records[record.frame - 1]
        assert (record.p_update, record.p_speak) == (before.p_update_last, before.p_speak_last)


def test_a_model_whose_keys_cannot_be_moved_is_refused_before_streaming(tmp_path, tokens):
    text, tower = save_text(tmp_path / "text", "qwen2-slides"), save_tower(tmp_path / "tower")
    assemble(str(text), str(tower), None, tmp_path / "whole", seed=0)
    model = load(tmp_path / "whole", tokens_per_frame=4)
    with pytest.raises(CannotMove, match="sliding windows"):
        streamer(model, tokens, context="slide")
    streamer(model, tokens)
