"""Streams side by side give what each gives alone."""

import copy
from functools import partial

import pytest
import torch

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.evaluation.replay import clip_steps, encoded, stream_clip
from prospect.model.constrain import UpdateConstraint
from prospect.model.side_by_side import Slots, together
from prospect.model.steps import Append
from prospect.model.vision import SmolVLMWithFrames
from prospect.model.writing import write_update
from tests.helpers.fakes import make_clip
from tests.helpers.models import random_frames
from tests.helpers.streams import NARROW, TURNS, assert_same, streamer, with_bias
from tests.helpers.waits import HostWaits

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
CLIPS = [
    make_clip(TURNS, frames=(0, 19)),
    make_clip(TURNS[1:6], frames=(0, 9), clip_id="short"),
    make_clip((), frames=(3, 3), clip_id="one frame"),
    make_clip([Turn("user", "Where are we, and what shall I do now?", 7, 7)], frames=(5, 30), clip_id="long"),
    make_clip(TURNS[:2], frames=(0, 12), clip_id="begun", initial=("completed", "in_progress")),
]  # fmt: skip


def features(stream, clip, row):
    frames = random_frames(clip.end_frame - clip.start_frame + 1, seed=len(clip.id))
    return encoded(stream, frames, row, 8)


def apart(stream, clips, row="model"):
    return {clip.id: tuple(stream_clip(stream, clip, features(stream, clip, row), row)) for clip in clips}


def beside(stream, clips, count, row="model"):
    def job(clip, slot):
        steps = clip_steps(stream.beside(slot.emptied, slot.clock), clip, features(stream, clip, row), row)
        return clip.id, (yield from steps)

    return dict(together(stream.model, [partial(job, clip) for clip in clips], count))


@pytest.fixture(scope="module")
def lively(model):
    """Fires at some frames, as its heads' thresholds are near what they mostly say (see the test of variety)."""
    model = copy.deepcopy(model)
    torch.manual_seed(3)
    for head in (model.should_update_dst, model.when_to_speak):
        torch.nn.init.normal_(head.weight, std=0.4)
        torch.nn.init.zeros_(head.bias)
    return model


@pytest.mark.parametrize(
    ("count", "row", "settings"),
    [
        (2, "model", {}),
        (16, "model", {"context": "drop_middle"}),
        (2, "model", {"context": "slide"}),
        (16, "forced", {"context": "slide"}),
        (3, "text_only", {"context": "slide"}),
        (3, "model", {"memory": "summary", "no_repeat": 2, "max_seq_len": 360}),
        (3, "forced", {"context": "drop_all"}),
        (4, "text_only", {}),
    ],
)  # fmt: skip
def test_clips_side_by_side_are_streamed_as_alone(lively, tokens, count, row, settings):
    stream = streamer(lively, tokens, **NARROW | settings)
    assert_same(beside(stream, CLIPS, count, row), apart(stream, CLIPS, row))


def test_the_clips_above_act_restart_and_end_at_different_frames(lively, tokens):
    """Else the parity would prove little."""
    records = apart(streamer(lively, tokens, **NARROW), CLIPS)
    acting = {clip: [r.frame for r in found if r.actions] for clip, found in records.items()}
    restarts = {clip: [r.frame for r in found if r.is_restart] for clip, found in records.items()}
    roles = {action.role for found in records.values() for r in found for action in r.actions}
    assert roles == {"dst_update", "assistant"}
    assert len({tuple(frames) for frames in acting.values()}) > 3, acting
    assert any(0 < len(acting[clip]) < len(records[clip]) for clip in records), "some frames are silent"
    assert len({tuple(frames) for frames in restarts.values() if frames}) > 1, restarts


def test_by_tokens_too(by_tokens, tokens):
    stream = streamer(by_tokens, tokens, **NARROW)
    assert_same(beside(stream, CLIPS[:3], 3), apart(stream, CLIPS[:3]))


def test_silent_streams_of_one_length_take_the_forwards_of_one(model, tokens, monkeypatch):
    counts = []
    forward = Slots._forward
    monkeypatch.setattr(Slots, "_forward", lambda slots, wishes: counts.append(len(wishes)) or forward(slots, wishes))
    clips = [make_clip((), frames=(0, 9), clip_id=str(i)) for i in range(4)]
    beside(streamer(with_bias(model, -9, -9), tokens), clips, 4)
    assert counts == [4] * 11  # the prompts, then a frame each


def test_a_frame_of_many_streams_waits_for_the_gpu_once(model, monkeypatch):
    """For the probabilities of all, which decide what each does next."""
    monkeypatch.setattr(SmolVLMWithFrames, "_check", lambda *args: None)  # asserted on a GPU in its own time
    slots, copied = Slots(model, 4), []
    decisions = type(model).decisions
    monkeypatch.setattr(type(model), "decisions", lambda self, hidden: copied.append(1) or decisions(self, hidden))
    with torch.no_grad():
        features = model.encode_frames(random_frames(4))  # (4, K, D)
    with HostWaits() as waits:
        answers = slots.append({n: Append(slots.slots[n], [4] * 4, features[n]) for n in range(4)})
    assert waits.found == []
    assert len({seen.decide() for seen in answers.values()}) == 4 and len(copied) == 1


@pytest.mark.parametrize("device", DEVICES)
def test_slots_hold_what_is_given_back_and_grow(model, monkeypatch, device):
    """Slots used again by another stream, rows that are left out, and tokens taken back, against caches of their own."""
    monkeypatch.setattr("prospect.model.side_by_side.GROWTH", 16)
    model = copy.deepcopy(model).to(device)
    slots, caches = Slots(model, 3), [model.new_cache() for _ in range(3)]
    draw = torch.Generator().manual_seed(0)
    for turn in range(12):
        some = [n for n in range(3) if (turn + n) % 3 or turn == 0]
        wanted = {n: torch.randint(7, 263, (1 + (turn * 5 + n * 7) % 13,), generator=draw).tolist() for n in some}
        answers = slots.append({n: Append(slots.slots[n], ids) for n, ids in wanted.items()})
        for n, ids in wanted.items():
            hidden = model.extend(torch.tensor([ids], device=device), None, caches[n])[0, -1]
            torch.testing.assert_close(answers[n].hidden, hidden, rtol=1e-5, atol=1e-5)
            assert slots.slots[n].get_seq_length() == caches[n].get_seq_length()
        if turn % 4 == 1:
            for cache in (slots.slots[some[0]], caches[some[0]]):
                cache.crop(-1)
        if turn == 6:
            slots.slots[1].emptied()
            caches[1] = model.new_cache()


def test_an_error_of_one_clip_names_it(model, tokens):
    stream = streamer(model, tokens, reserve=40, max_seq_len=200)
    talkative = make_clip([Turn("user", "Hello there " * 30, 4, 4)], frames=(0, 9), clip_id="talkative")
    with pytest.raises(ProspectError, match=r"^clip 'talkative' frame 4: its user and system lines take \d+ tokens"):
        beside(stream, [CLIPS[1], talkative], 2)
    lost = copy.deepcopy(model)
    torch.nn.init.constant_(lost.when_to_speak.bias, float("nan"))
    with pytest.raises(ProspectError, match=r"^clip 'short' the model's decision: found probabilities .* nan"):
        beside(streamer(lost, tokens), [CLIPS[1], CLIPS[0]], 2)


class Counting:
    """A cache and model in one that count the forwards, and take the first of what may come."""

    def __init__(self, steps):
        self.lengths = []
        answer = None
        try:
            while True:
                wish = steps.send(answer)
                self.lengths.append(len(wish.ids))
                answer = self
        except StopIteration as end:
            self.value = end.value

    @property
    def logits(self):
        return torch.zeros(400)


def test_a_token_without_a_choice_goes_through_the_model_with_the_next(tokens):
    """One forward a choice, and one for the end: S1->complete, or S12, or S2, each of many tokens."""
    state = dict.fromkeys(("S1", "S2", "S12"), "not_started")
    rules = UpdateConstraint(tokens.encode, tokens.end_of_utterance, list(state), state)
    counted = Counting(write_update(None, tokens, rules))
    ids = counted.value.ids
    header = tokens.header("dst_update")
    body = ids[len(header) : ids.index(tokens.end_of_utterance) + 1]
    choices = sum(len(rules.allowed(body[:i])) > 1 for i in range(len(body)))
    assert 0 < choices < len(body)
    assert len(counted.lengths) == choices + 1 and sum(counted.lengths) == len(ids)


def test_an_update_without_any_choice_takes_one_forward_a_question(tokens):
    """One step in progress: it can be completed alone, so that the whole block goes through at once."""
    rules = UpdateConstraint(tokens.encode, tokens.end_of_utterance, ["S1"], {"S1": "in_progress"})
    counted = Counting(write_update(None, tokens, rules))
    assert counted.value.text == "S1->complete" and counted.lengths == [len(counted.value.ids)]
