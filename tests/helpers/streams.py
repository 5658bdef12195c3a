"""A streamer whose heads say what a test wants, and what it played."""

import copy
import queue
import threading
from dataclasses import replace

import pytest
import torch

from pipeline.annotations.clips import Step, Turn
from prospect.layout import clip_sequence, cut_parts
from prospect.stream.lines import Lines
from prospect.stream.player import play
from prospect.stream.sources import SourceFrame
from prospect.stream.streamer import Streamer, StreamSettings
from prospect.stream.task import Task
from tests.helpers.fakes import jpeg
from tests.helpers.models import TOKENIZER, random_frames

TURNS = (
    Turn("system", "Be kind.", None, None),
    Turn("user", "Hello there", 0, 1),
    Turn("dst_update", "S1->start", 2, 4),
    Turn("assistant", "Take it.", 2, 4),
    Turn("dst_update", "S1->complete", 8, 9),
    Turn("dst_update", "S2->start", 8, 9),
    Turn("assistant", "Well done, go on.", 8, 9),
    Turn("user", "How far am I?", 12, 12),
    Turn("assistant", "One of two.", 12, 12),
    Turn("dst_update", "S2->complete", 15, 17),
)

NARROW = {"max_seq_len": 300, "reserve": 80, "max_new_tokens": 5}  # windows that overflow

TASK = Task((Step("S1", "do S1"), Step("S2", "schön 做")), {"S1": "not_started", "S2": "not_started"})


def streamer(model, tokens, **settings):
    return Streamer(model, TOKENIZER, tokens, StreamSettings(**settings))


def assert_same(found, expected):
    """Records of each clip, by id: the same, but for rounding of probabilities."""
    assert found.keys() == expected.keys()
    for clip, records in expected.items():
        for one, other in zip(found[clip], records, strict=True):
            for name in ("p_update", "p_speak", "p_update_last", "p_speak_last"):
                assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-5), (clip, other.frame)
            for mine, theirs in zip(one.actions, other.actions, strict=True):
                assert (mine.p_update, mine.p_speak) == pytest.approx((theirs.p_update, theirs.p_speak), abs=1e-5)
                assert (mine.role, mine.text) == (theirs.role, theirs.text)
            told = {"p_update": 0, "p_speak": 0, "p_update_last": 0, "p_speak_last": 0, "actions": (), "seconds": 0}
            assert replace(one, **told) == replace(other, **told)


def one_pass(model, tokens, clip, max_seq_len, reserve, memory="dst"):
    """Probabilities of both heads at every decision of every training part, in order: (frame or block, p, p)."""
    frames, found = random_frames(clip.end_frame - clip.start_frame + 1), []
    parts = cut_parts(tokens, clip, max_seq_len, reserve, memory)
    for part in parts:
        sequence = clip_sequence(tokens, clip, part, memory=memory)
        labels = torch.zeros(1, len(sequence), dtype=torch.int64)  # every position is read
        with torch.no_grad():
            output = model(
                input_ids=torch.tensor([sequence.ids]),
                frames=frames[part.first_frame - clip.start_frame : part.last_frame - clip.start_frame + 1],
                target_kind=torch.zeros(1, len(sequence), dtype=torch.uint8),
                update_labels=labels,
                speak_labels=labels,
            )
        p = output.decision_logits.softmax(-1)[..., 1]
        at_frames = [i for i, here in enumerate(sequence.at_frame) if here]
        after_blocks = [
            i for i in range(len(sequence)) if sequence.update_labels[i] != -100 and not sequence.at_frame[i]
        ]
        found += [tuple(p[i].tolist()) for i in sorted(at_frames + after_blocks)]
    return parts, found


def with_bias(model, update, speak):
    """The heads say the same everywhere."""
    model = copy.deepcopy(model)
    for head, bias in ((model.should_update_dst, update), (model.when_to_speak, speak)):
        torch.nn.init.zeros_(head.weight)
        head.bias.data = torch.tensor([0.0, bias])
    return model


class Clock:
    """Each reading takes `tick` seconds; a sleep takes what it is told."""

    def __init__(self, tick: float = 0.1) -> None:
        self.now, self.slept, self.tick = 0.0, [], tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Fed:
    """An endless source: `put` returns once its reader has taken all of it, and asks for more."""

    def __init__(self):
        self._items, self._taken = queue.SimpleQueue(), threading.Semaphore(0)

    def put(self, *items):
        for item in items:
            self._items.put(item)
        for _ in items:
            assert self._taken.acquire(timeout=60)

    def end(self, error=None):
        self._items.put(error or StopIteration())

    def __iter__(self):
        while True:
            item = self._items.get()
            if isinstance(item, StopIteration):
                return
            if isinstance(item, Exception):
                raise item
            yield item
            self._taken.release()  # its reader is back: the item is in the slot

    def first(self, stream, item):
        """Give the first item of `stream`, with which it begins to read this source."""
        self._items.put(item)
        given = next(stream)
        assert self._taken.acquire(timeout=60)
        return given


def played(model, tokens, count=4, task=TASK, lines=None, realtime=False, clock=None, **settings):
    stream = streamer(model, tokens, **settings)
    clock = clock or Clock()
    lines = lines or Lines(task.turns, [], 2, task.first_frame)
    return list(play(stream, source_frames(count), task, lines, 2, realtime=realtime, clock=clock, sleep=clock.sleep))


def source_frames(count):
    return [SourceFrame(jpeg(i), f"frame {i}") for i in range(count)]
