"""An annotated clip through a streamer, frame by frame, as if it were live.

The `row` says what the model is given: everything (`model`), grey frames (`blind`), no frames (`text_only`), the
reference's updates or summaries in place of its own (`oracle_state`: what is left to it is when and what to speak), or
all of the reference's blocks (`forced`: the heads' probabilities in the right context, for calibration and parity with
training).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pipeline.annotations.clips import Clip, Turn
from pipeline.errors import ProspectError
from prospect.carried import as_learned, summary_before
from prospect.layout import frame_groups, turns_before_first_frame
from prospect.model.early import EarlyVision
from prospect.model.steps import Steps, alone
from prospect.stream.records import FrameRecord
from prospect.stream.streamer import ROLES, ActiveRole, Streamer

Row = Literal["model", "blind", "text_only", "oracle_state", "forced"]


def stream_clip(
    streamer: Streamer, clip: Clip, features: Iterable[Tensor], row: Row = "model"
) -> Iterator[FrameRecord]:
    """Give the record of each frame of `clip`, in order.

    A model meets the clip as it learned it: without DST no update is forced.

    Args:
        features: (K, D) of each frame (of grey ones where `row` is "blind").

    Raises:
        ProspectError: the turns of a frame take more than the reserve, or the window is too small; names the clip.
    """
    alone(streamer.model, _started(streamer, clip))
    for given in _given(streamer, clip, features, row):
        with naming(clip):
            record = streamer.step(*given)
        yield record


def clip_steps(
    streamer: Streamer, clip: Clip, features: Iterable[Tensor], row: Row = "model"
) -> Steps[tuple[FrameRecord, ...]]:
    """`stream_clip` as steps, which give all records at the end."""
    records = []
    yield from _started(streamer, clip)
    for given in _given(streamer, clip, features, row):
        with naming(clip):
            records.append((yield from streamer.stepping(*given)))
    return tuple(records)


class Given(NamedTuple):
    """What a streamer is given at a frame."""

    frame: int
    features: Tensor
    lines: Sequence[Turn]
    forced: Sequence[Turn]
    free: Sequence[ActiveRole]
    summary: str


def _started(streamer: Streamer, clip: Clip) -> Steps[None]:
    seen = as_learned(clip, streamer.settings.memory, streamer.settings.knowledge)
    before = seen.progress[0].text if seen.progress else ""
    turns = turns_before_first_frame(clip)
    yield from streamer.starting(clip.steps, clip.state, turns, fps=clip.fps, goal=clip.goal, progress=before)


def _given(streamer: Streamer, clip: Clip, features: Iterable[Tensor], row: Row) -> Iterator[Given]:
    seen = as_learned(clip, streamer.settings.memory, streamer.settings.knowledge)
    forced_roles: Sequence[ActiveRole] = {"oracle_state": ("dst_update",), "forced": ROLES}.get(row, ())
    free = [role for role in ROLES if role not in forced_roles]
    for group, of_frame in zip(frame_groups(seen), features, strict=True):
        forced = [turn for turn in group.after if turn.role in forced_roles]
        summary = summary_before(seen, group.frame) if seen.progress and forced_roles else ""
        yield Given(group.frame, of_frame, group.before, forced, free, summary)


@contextmanager
def naming(clip: Clip) -> Iterator[None]:
    """Let an error name the clip."""
    try:
        yield
    except ProspectError as error:
        raise ProspectError(f"clip {clip.id!r} {error}") from None


def encoded(streamer: Streamer, frames: Iterable[Tensor], row: Row, chunk: int) -> Iterator[Tensor]:
    """Give features (K, D) of each of `frames` (uint8 (3, S, S)), `chunk` of them in one forward of the tower.

    While a chunk is used, the next is read, and on a GPU encoded.
    """
    model = streamer.model
    if row == "text_only":
        empty = torch.empty(0, model.config.text_config.hidden_size, device=model.device)
        yield from (empty for _ in frames)
        return
    vision, remaining = EarlyVision(model), iter(frames)

    def begin() -> Callable[[], Tensor] | None:
        read = list(islice(remaining, chunk))
        return vision.begin(torch.stack(read)) if read else None

    coming = _reader().submit(begin)
    while take := coming.result():
        coming = _reader().submit(begin)
        yield from take().unbind(0)


@cache
def _reader() -> ThreadPoolExecutor:
    """One thread, however many streams: files are read by one at a time."""
    return ThreadPoolExecutor(1)
