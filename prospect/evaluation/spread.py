"""Streams clips in the worker processes of an engine, here or on a Ray cluster.

Each loads the checkpoint once and opens the shards itself; a task is a few clips. What was streamed comes back, and the
process that evaluates writes the prediction files: a record a frame is little beside the frames, so no folder has to be
shared for results, and whatever has streamed, one process alone decides what is missing and writes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from pipeline.annotations.clips import Clip
from pipeline.errors import ProspectError
from pipeline.io.engine import Engine
from prospect.evaluation.predict import (
    EvaluatedClip,
    Places,
    Streamed,
    open_clips,
    stream_record,
    streaming,
)
from prospect.evaluation.replay import Row
from prospect.model.hub import checkpoint_folder, checkpoint_name
from prospect.stream.load import Overrides, load_streamer
from prospect.stream.records import FrameRecord
from prospect.stream.streamer import Streamer

ROUNDS = 2  # clips of a task for each that are streamed side by side: one that ends early gives its place to another


@dataclass(frozen=True, slots=True)
class Origin:
    """What a worker process loads: model and clips, under the names that they have here."""

    checkpoint: str  # a folder
    overrides: Overrides
    places: Places
    video_ids: tuple[str, ...] | None
    limit: int | None


@dataclass(frozen=True, slots=True)
class _Share:
    """A task: some clips to stream."""

    origin: Origin
    record: dict[str, Any]  # of `stream_record`, as the first worker gave it
    row: Row
    streams: int
    clips: dict[str, Clip]  # by file name


@dataclass(frozen=True, slots=True)
class _Known:
    """What the evaluation has to know of a checkpoint that it does not load."""

    record: dict[str, Any]
    extra: dict[str, Any]  # what it remembers
    warnings: tuple[str, ...]


class Spread:
    """Streams on an engine; what predictions depend on (`record`) is told by a worker, whose device it is."""

    def __init__(self, engine: Engine, origin: Origin, streams: int) -> None:
        """
        Raises:
            ProspectError: as `load_streamer`.
        """
        self._engine, self._origin, self._streams = engine, origin, streams
        known, _ = engine.map(_look, [origin, origin])  # one alone, LocalEngine would run in this process
        self.record, self.extra = known.record, known.extra
        for text in known.warnings:
            warnings.warn(text, stacklevel=2)

    def stream(self, clips: Sequence[EvaluatedClip], row: Row) -> Streamed:
        """Stream clips, in the order of the tasks.

        Raises:
            ProspectError: as `streaming`; a worker has other weights, precision, code or clips; or one died.
        """
        by_name = {one.file_name: one for one in clips}
        names = list(by_name)
        size = ROUNDS * self._streams if self._streams > 1 else 1
        shares = (
            _Share(
                self._origin, self.record, row, self._streams,
                {name: by_name[name].clip for name in names[first : first + size]},
            )
            for first in range(0, len(names), size)
        )  # fmt: skip
        for streamed in self._engine.map(_stream, shares):
            for name, frames in streamed:
                yield by_name[name], frames


def _look(origin: Origin) -> _Known:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        streamer, record = _loaded(origin)
    texts = tuple(str(one.message) for one in caught if one.category is UserWarning)
    return _Known(record, dict(streamer.model.prospect_settings.extra), texts)


def _stream(share: _Share) -> list[tuple[str, tuple[FrameRecord, ...]]]:
    streamer, record = _loaded(share.origin)
    if record != share.record:
        other = [f"{name}: {record[name]!r} there, {value!r} elsewhere" for name, value in share.record.items()
                 if record[name] != value]  # fmt: skip
        raise ProspectError(
            f"{share.origin.checkpoint}: would be streamed otherwise by one of the workers ({'; '.join(other)}); "
            "expected the same weights, version and kind of device on every node"
        )
    there = _clips(share.origin)
    for name, clip in share.clips.items():
        if name not in there or there[name].clip != clip:
            raise ProspectError(
                f"clip {clip.id!r}: is not the same in the shards that one of the workers reads; expected the same "
                "shards on every node"
            )
    mine = [there[name] for name in share.clips]
    return [(one.file_name, frames) for one, frames in streaming(streamer, share.streams)(mine, share.row)]


_kept: dict[Origin, tuple[Streamer, dict[str, Any]]] = {}  # of this process: one


def _loaded(origin: Origin) -> tuple[Streamer, dict[str, Any]]:
    """The streamer of this process, and what predictions depend on."""
    if origin not in _kept:
        _kept.clear()  # first: there may be memory for one model
        _kept[origin] = _load(origin)
    return _kept[origin]


def _load(origin: Origin) -> tuple[Streamer, dict[str, Any]]:
    folder = origin.checkpoint
    if not Path(folder).is_dir():  # of the hub's cache, which is another here
        folder = checkpoint_folder(checkpoint_name(folder))
    torch.manual_seed(0)  # heads that a checkpoint lacks are drawn: the same in every process
    streamer = load_streamer(folder, origin.overrides)
    return streamer, stream_record(folder, streamer)


@lru_cache(1)
def _clips(origin: Origin) -> dict[str, EvaluatedClip]:
    clips = open_clips(origin.places, origin.video_ids, origin.limit)
    return {one.file_name: one for one in clips}
