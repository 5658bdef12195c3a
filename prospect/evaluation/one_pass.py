"""An annotated clip with all of the reference's blocks written, in one pass of the model over each context.

A stream that writes the reference's blocks does the same whatever the model says, so the model may be asked at the end,
for all frames of a context at once: what it says at a place does not depend on what follows. The records are those of
the stream frame by frame, but for rounding, and seconds, of which each frame has an equal share.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from pipeline.annotations.clips import Clip
from prospect.evaluation.replay import clip_steps, naming
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.steps import Append, Ends, Layers, OwnForward, Seen, alone
from prospect.stream.records import FrameRecord
from prospect.stream.streamer import Streamer


class _Later(Seen):
    """What the model will say. Until then its number stands for both probabilities."""

    def decide(self) -> tuple[float, float]:
        return float(self.row), float(self.row)


class _Noted(OwnForward):
    """A `StreamCache` that only notes what is appended: one context of a stream."""

    def __init__(self, model: DSTSmolVLM, numbers: Iterator[int]) -> None:
        self._model, self._numbers = model, numbers
        self._ids: list[int] = []
        self._features: list[Tensor] = []
        self._ends: list[int] = []

    def get_seq_length(self) -> int:
        return len(self._ids)

    def crop(self, max_length: int, /) -> None:
        raise NotImplementedError("nothing is taken back where nothing is written")

    def tail(self, count: int) -> Layers:
        raise NotImplementedError("there are no keys; a context that slides is streamed")

    def join(self, layers: Layers) -> None:
        raise NotImplementedError("there are no keys; a context that slides is streamed")

    def append(self, wish: Append) -> Seen:
        self._ids += wish.ids
        self._ends.append(len(self._ids) - 1)
        if wish.features is not None:
            self._features.append(wish.features)
        return _Later(Ends(self._model, torch.empty(0)), next(self._numbers))

    @torch.no_grad()
    def seen(self) -> list[Seen]:
        """Run the model over all of it; gives what it says where each `append` ended."""
        model = self._model
        embeds = model.embed_block(self._ids, torch.cat(self._features) if self._features else None)
        hidden = model.extend_embeds(embeds, model.new_cache())[0, self._ends]  # (N, D)
        ends = Ends(model, hidden)
        return [Seen(ends, row) for row in range(len(self._ends))]


def forced_clip(streamer: Streamer, clip: Clip, features: Iterable[Tensor]) -> tuple[FrameRecord, ...]:
    """Give the records of `replay.stream_clip` with the row `forced`, in any context but one that slides.

    Raises:
        ProspectError: as `stream_clip`, or the model says no numbers.
    """
    contexts: list[_Noted] = []
    numbers = count()

    def begun() -> _Noted:
        contexts.append(_Noted(streamer.model, numbers))
        return contexts[-1]

    began = time.perf_counter()
    records = alone(streamer.model, clip_steps(streamer.beside(begun, time.perf_counter), clip, features, "forced"))
    with naming(clip):
        said = [seen.decide() for context in contexts for seen in context.seen()]
    share = (time.perf_counter() - began) / len(records)
    return tuple(_told(record, said, share) for record in records)


def _told(record: FrameRecord, said: list[tuple[float, float]], seconds: float) -> FrameRecord:
    """The record with what was said in place of numbers."""
    first, last = said[int(record.p_update)], said[int(record.p_update_last)]
    decided = [said[int(action.p_update)] for action in record.actions]
    return replace(
        record,
        p_update=first[0],
        p_speak=first[1],
        actions=tuple(replace(a, p_update=p[0], p_speak=p[1]) for a, p in zip(record.actions, decided, strict=True)),
        p_update_last=last[0],
        p_speak_last=last[1],
        seconds=seconds,
    )
