"""Vision ahead of the text: the next frames are begun while the ones before are used, and waited for before use."""

import copy
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from pipeline.errors import ProspectError
from prospect.evaluation.replay import encoded
from prospect.model.early import EarlyVision
from prospect.stream.lines import Lines
from prospect.stream.player import Steered, play
from prospect.stream.sources import SourceFrame
from tests.helpers.fakes import jpeg
from tests.helpers.models import random_frames
from tests.helpers.streams import TASK, source_frames, streamer
from tests.helpers.waiting import wait_for


@pytest.fixture
def begun(monkeypatch):
    """How many frames each `begin` had, in order."""
    found, begin = [], EarlyVision.begin

    def counted(vision, frames):
        found.append(len(frames))
        return begin(vision, frames)

    monkeypatch.setattr(EarlyVision, "begin", counted)
    return found


def test_the_next_chunk_is_begun_while_one_is_used(model, tokens, begun):
    frames = random_frames(7)
    features = encoded(streamer(model, tokens), frames, "model", 3)
    first = next(features)
    wait_for(lambda: begun == [3, 3])
    later = [next(features), next(features)]
    assert begun == [3, 3], "one chunk ahead, whatever there is"
    fourth = next(features)
    wait_for(lambda: begun == [3, 3, 1])
    found = torch.stack([first, *later, fourth, *features])
    with torch.no_grad():
        expected = torch.cat([model.encode_frames(chunk) for chunk in frames.split(3)])
    assert torch.equal(found, expected)


def test_a_frame_that_cannot_be_read_ends_the_clip_where_it_stands(model, tokens):
    def frames():
        yield from random_frames(4)
        raise ProspectError("frame 4: is broken")

    features = encoded(streamer(model, tokens), frames(), "model", 2)
    assert len([next(features) for _ in range(4)]) == 4
    with pytest.raises(ProspectError, match="frame 4: is broken"):
        next(features)


def test_a_stream_begins_the_frames_that_follow_while_it_is_at_one(model, tokens, begun):
    at_first = []

    def steer():
        if not at_first:
            wait_for(lambda: len(begun) >= 3)
            at_first.append(len(begun))
        return Steered()

    found = list(play(streamer(model, tokens), source_frames(4), TASK, Lines([], [], 2, 0), 2, steer=steer))
    assert at_first[0] >= 3 and begun == [1, 1, 1, 1] and [one.record.frame for one in found] == [0, 1, 2, 3]


def test_a_stream_that_drops_late_frames_begins_none_that_it_leaves_out(model, tokens, begun):
    numbers = count()

    def frames():
        for _ in range(50):
            yield SourceFrame(jpeg(next(numbers)), "frame")

    found = list(play(streamer(model, tokens), frames(), TASK, Lines([], [], 2, 0), 2, drop_late=True))
    assert begun == [1] * len(found)


class LateSide:
    """A CUDA stream, as far as a CPU can have one: what is queued on it runs when somebody waits for its event."""

    def __init__(self, device):
        self.queued, self.told = [], []

    def wait_stream(self, other):
        self.told.append("waits for the weights")

    def record_event(self):
        return SimpleNamespace(run=lambda: [work() for work in self.queued])


def test_features_of_a_late_side_are_waited_for_and_kept(model, monkeypatch):
    """The values are not there until the using stream waits for the event; then the memory is marked as in use."""
    told = []

    class Using:
        def wait_event(self, event):
            told.append("waits")
            event.run()

    @contextmanager
    def on(side):
        told.append("on the side")
        yield

    class Late(torch.Tensor):
        """Features whose memory is written late."""

        def record_stream(self, stream):
            told.append("kept")

    monkeypatch.setattr(torch.cuda, "Stream", LateSide)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Using())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: told.append("pinned") or tensor)
    vision = EarlyVision(SimpleNamespace(device=SimpleNamespace(type="cuda")))
    assert vision._side.told == ["waits for the weights"]
    vision._model = model  # on the CPU
    encode = model.encode_frames

    def late(frames):
        values = encode(frames)
        features = torch.zeros_like(values).as_subclass(Late)
        vision._side.queued.append(lambda: features.copy_(values))
        return features

    frames = random_frames(2)
    monkeypatch.setattr(model, "encode_frames", late, raising=False)
    take = vision.begin(frames)
    assert told == ["on the side", "pinned"]
    features = take()
    assert told[2:] == ["waits", "kept"]
    with torch.no_grad():
        assert torch.equal(features.as_subclass(torch.Tensor), encode(frames))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_features_and_never_waits(model):
    model = copy.deepcopy(model).cuda()
    frames = random_frames(5)
    with torch.no_grad():
        expected = model.encode_frames(frames.cuda())
    vision = EarlyVision(model)
    vision.begin(frames)()  # kernels are chosen, memory is pinned
    torch.cuda.set_sync_debug_mode("error")
    try:
        taken = [take() for take in [vision.begin(frames) for _ in range(3)]]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(one, expected) for one in taken)
