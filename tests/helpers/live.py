"""A live page without a trained model, and a toy clip as the camera's film.

Real in it: the page, the server, the session and its thread, the feed, the streamer with its context, tokens and
tracked state, and a model of the toy's size with random weights. `Seeing` stands in for what such a model would have
learned: which frame of the clip it looks at. It writes the clip's events once it has seen them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from pipeline.annotations.clips import ACTIVE_ROLES, Clip
from pipeline.annotations.validate import valid_clips
from pipeline.io.frame_store import open_frames
from pipeline.io.images import rgb_pixels
from pipeline.toyworld.make import make_toy
from prospect.data.decode import decode_frame
from prospect.layout import Tokens
from prospect.stream.streamer import Streamer, StreamSettings
from prospect.stream.task import Task
from prospect.web.live.hub import Hub
from prospect.web.live.routes import make_live
from prospect.web.live.session import About, Session
from tests.helpers.models import TOKENIZER
from tests.helpers.web import served


class Seeing(Streamer):
    """Knows one clip, by its frames."""

    def know(self, clip: Clip, jpegs: Sequence[bytes]) -> "Seeing":
        size = self.model.config.vision_config.image_size
        pixels = np.stack([decode_frame(jpeg, size, "clip") for jpeg in jpegs])
        with torch.no_grad():
            self._known = self.model.encode_frames(torch.from_numpy(pixels)).flatten(1)
        self._events = [turn for turn in clip.turns if turn.role in ACTIVE_ROLES]
        self._first = clip.start_frame
        return self

    def start(self, *task: Any, **more: Any) -> None:
        super().start(*task, **more)
        self._left, self._seen = list(self._events), -1

    def step(self, frame: int, features: Any, lines: Any = (), forced: Any = (), free: Any = ()) -> Any:
        nearest = int((self._known - features.flatten()).norm(dim=1).argmin())
        self._seen = max(self._seen, nearest)
        due, room = [], self.settings.reserve - sum(map(self.length, lines))
        while self._left and self._left[0].end_frame - self._first <= self._seen and len(due) < 4:
            room -= self.length(self._left[0])
            if room < 0:
                break
            due.append(self._left.pop(0))
        return super().step(frame, features, lines, due, ())


def toy_clip(folder: Path) -> tuple[Clip, list[bytes]]:
    """A clip of the toy world, and its frames."""
    make_toy(folder, clips=1)
    root = folder / "toyworld"
    ((_, clip),) = valid_clips(root / "train_training.json", open_frames=lambda name: open_frames(root / name))
    frames = open_frames(root / clip.frames_file)
    return clip, [frames.read(number) for number in range(clip.start_frame, clip.end_frame + 1)]


def film(path: Path, jpegs: Sequence[bytes], fps: int, wide: int = 256, high: int = 192) -> Path:
    """A film of the frames; .y4m is what Chromium's camera plays, over and over."""
    form, codec, pixels = (
        ("yuv4mpegpipe", "rawvideo", "yuv420p") if path.suffix == ".y4m" else (None, "mpeg4", "yuv420p")
    )
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = wide, high, pixels
        for jpeg in jpegs:
            picture = av.VideoFrame.from_ndarray(rgb_pixels(jpeg), format="rgb24").reformat(wide, high)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def live_session(
    streamer: Streamer, out: Path, fps: float = 8, checkpoint: str = "runs/toy"
) -> tuple[Session, list[str]]:
    """A session, and what its terminal is told."""
    told: list[str] = []
    return Session(streamer, About(checkpoint, fps, (fps,), out), told.append), told


def plain(model: Any, **settings: Any) -> Streamer:
    return Streamer(model, TOKENIZER, Tokens(TOKENIZER, 1), StreamSettings(**settings))


@contextmanager
def live(session: Session, task: Task = Task()) -> Iterator[str]:  # noqa: B008 (frozen)
    """Serve its page; gives the address."""
    hub = Hub(session)
    try:
        with served(partial(make_live, hub, task)) as url:
            yield url
    finally:
        hub.close()
