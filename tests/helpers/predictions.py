"""Streamed clips written down by hand."""

from dataclasses import replace

import numpy as np

from pipeline.annotations.clips import Turn
from pipeline.annotations.dst import Update, parse_updates
from prospect.evaluation.events import SpeechEvent, UpdateEvent
from prospect.evaluation.predictions import ClipPrediction
from prospect.stream.records import Action, FrameRecord
from tests.helpers.fakes import make_clip


def prediction(actions=(), reference=(), *, frames=(0, 9), steps=2, dataset="toy", fps=2, clip_id="v-c000"):
    """A clip and what was predicted for it.

    actions: (frame, text): an update text is an update, any other an utterance. reference: the same, or (start_frame,
    end_frame, text). At 2 fps the window of dataset "toy" is 5 frames to each side.
    """
    turns = [Turn(_role(t[-1]), t[-1], t[0], t[-2]) for t in reference]
    clip = make_clip(turns, frames=frames, steps=steps, clip_id=clip_id)
    clip = replace(clip, dataset=dataset, fps=fps)
    records = tuple(
        record(f, [Action(_role(text), text, 0.9, 0.9) for frame, text in actions if frame == f])
        for f in range(frames[0], frames[1] + 1)
    )
    return ClipPrediction(clip, records, {})


def record(frame, actions=(), first=(0.1, 0.1), last=(0.1, 0.1)):
    return FrameRecord(frame, *first, tuple(actions), *last, 0, 0, False, 0.0)


def update(frame, text):
    step, transition = text.split("->")
    return UpdateEvent(frame, Update(step, transition))


def speech(frame, text="Go on."):
    return SpeechEvent(frame, text)


def letters(texts):
    """A text's embedding counts its letters a to d: "a" and "ab" have cosine 1 / sqrt(2), "a" and "b" 0."""
    letters.asked.append(list(texts))
    return np.array([[text.count(letter) for letter in "abcd"] for text in texts], dtype=np.float32)


letters.asked = []


def _role(text):
    try:
        parse_updates(text)
    except ValueError:
        return "assistant"
    return "dst_update"
