"""The row `forced` in one pass gives what the stream gives frame by frame."""

import pytest
import torch

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.evaluation.one_pass import forced_clip
from prospect.evaluation.replay import encoded, stream_clip
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.stream.streamer import Streamer
from tests.helpers.fakes import make_clip
from tests.helpers.models import random_frames
from tests.helpers.streams import NARROW, TURNS, assert_same, streamer

LONG = [*TURNS, Turn("user", "Where are we, and what shall I do now?", 20, 20), Turn("assistant", "Wait.", 22, 22)]
CLIPS = [make_clip(LONG, frames=(0, 30)), make_clip((), frames=(3, 3), clip_id="one frame")]


def features(stream, clip):
    return encoded(stream, random_frames(clip.end_frame - clip.start_frame + 1, seed=len(clip.id)), "forced", 8)


def both_ways(stream):
    passed = {clip.id: forced_clip(stream, clip, features(stream, clip)) for clip in CLIPS}
    streamed = {clip.id: tuple(stream_clip(stream, clip, features(stream, clip), "forced")) for clip in CLIPS}
    return passed, streamed


@pytest.mark.parametrize(
    "settings",
    [
        {},
        NARROW,
        NARROW | {"context": "drop_middle"},
        NARROW | {"context": "drop_all"},
        NARROW | {"memory": "summary", "max_seq_len": 360},
        NARROW | {"memory": "none"},
    ],
    ids=str,
)
def test_one_pass_gives_the_records_of_the_stream(model, tokens, settings):
    stream = streamer(model, tokens, **settings)
    passed, streamed = both_ways(stream)
    assert_same(passed, streamed)
    records = streamed[CLIPS[0].id]
    assert any(record.is_restart for record in records) == bool(settings), "contexts are full in each but the first"
    assert len({record.p_speak for record in records}) > 10 and any(record.actions for record in records)
    assert any(record.summary for record in records) == (settings.get("memory") == "summary")
    assert len({record.seconds for record in passed[CLIPS[0].id]}) == 1


def test_by_tokens_too(by_tokens, tokens):
    assert_same(*both_ways(streamer(by_tokens, tokens, **NARROW)))


def test_the_model_runs_once_a_context(model, tokens, monkeypatch):
    lengths, extend = [], DSTSmolVLM.extend_embeds

    def counted(self, embeds, cache):
        lengths.append(embeds.shape[1])
        return extend(self, embeds, cache)

    monkeypatch.setattr(DSTSmolVLM, "extend_embeds", counted)
    stream = streamer(model, tokens, **NARROW)
    records = forced_clip(stream, CLIPS[0], features(stream, CLIPS[0]))
    assert len(lengths) == 1 + sum(record.is_restart for record in records) > 1
    assert sum(lengths) == sum(record.computed_tokens for record in records)
    assert max(lengths) <= 300


def test_what_is_no_number_names_the_clip(model, tokens, monkeypatch):
    monkeypatch.setattr(DSTSmolVLM, "probabilities", lambda self, hidden: torch.full((len(hidden), 2), torch.nan))
    stream: Streamer = streamer(model, tokens)
    with pytest.raises(ProspectError, match=r"clip '.*' the model's decision: found probabilities nan"):
        forced_clip(stream, CLIPS[0], features(stream, CLIPS[0]))
