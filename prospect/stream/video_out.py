"""`--video`: the stream as a film, each frame beside a panel of the state, both probabilities and what was said.

Frames keep the shape in which they were filmed; those of a video are drawn from its own pictures, not from the small
squares that the model takes. The file appears under its name only complete.
"""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from pipeline.errors import ProspectError
from pipeline.io.images import rgb_image
from pipeline.io.storage import LocalFolder
from pipeline.video.clock import exact_rate
from prospect.pages.lettering import Lettering, missing_note
from prospect.pages.storyboard import updates_in_words
from prospect.stream.board import event_line, shown_against, steps_shown
from prospect.stream.player import Played
from prospect.stream.sources import SourceFrame
from prospect.stream.streamer import StreamSettings
from prospect.stream.task import Task

HEIGHT, PANEL = 540, 480  # pixels: of the film, and the panel's width
LEAST_WIDTH, MOST_WIDTH = 304, 960  # pixels of the place beside it, as wide as the first frame needs it
SHOWN_S = 6.0  # how long an utterance stays
MOST_STEPS, MOST_EVENTS = 12, 8
STEP_HEIGHT, LINE_HEIGHT, GAP, FOOT = 24, 19, 4, 36  # pixels
BACK, INK, FAINT = (24, 26, 30), (235, 235, 235), (130, 134, 142)
COLOURS = {"not_started": FAINT, "in_progress": (240, 190, 60), "completed": (90, 200, 110)}
ROLES = {
    "assistant": (120, 220, 140), "user": (110, 200, 240), "system": FAINT, "dst_update": (230, 140, 230),
    "summary": (140, 170, 250),
}  # fmt: skip
FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}
CODECS = ("libx264", "mpeg4")  # the second where FFmpeg was built without the first


def check_name(path: Path) -> None:
    """Check that a film can be written under this name.

    Raises:
        ProspectError: no film can be written under this name.
    """
    if path.suffix.lower() not in FORMATS or path.is_dir():
        found = "a folder" if path.is_dir() else f"the suffix {path.suffix!r}"
        raise ProspectError(f"--video {path}: found {found}, expected a file's name in {', '.join(FORMATS)}")


class VideoWriter:
    """Draws and encodes frames; a context manager that leaves a complete file, or after an error none."""

    def __init__(self, path: Path, task: Task, settings: StreamSettings, fps: float) -> None:
        """
        Raises:
            ProspectError: as `check_name`.
        """
        check_name(path)
        self._path, self._task, self._settings, self._fps = path, task, settings, fps
        self._events: list[tuple[float, str, str]] = []
        self._large, self._small = Lettering(16), Lettering(14)
        self._width = 0  # of the place for frames: known with the first one
        self._stream: Any = None

    @property
    def note(self) -> str:
        """Which letters were drawn as boxes, as no font here has them, and what to install; "": none."""
        return missing_note(self._large.missing | self._small.missing)

    def add(self, played: Played) -> None:
        import av

        if self._stream is None:
            self._add_stream(self._width or _width_for(played.image))
        frame = av.VideoFrame.from_ndarray(np.asarray(self.draw(played)), format="rgb24")
        for _ in range(played.dropped + 1):  # of those that were dropped nothing is left to show
            for packet in self._stream.encode(frame):
                self._container.mux(packet)

    def draw(self, played: Played) -> Image.Image:
        """Draw the picture of a frame, and of what was said until then."""
        spoken: list[tuple[str, str]] = [("summary", played.record.summary)] if played.record.summary else []
        spoken += [(turn.role, turn.text) for turn in played.lines]
        spoken += [(action.role, action.text) for action in played.record.actions]
        self._events += [(played.time_s, role, text) for role, text in spoken]
        self._events = [event for event in self._events if played.time_s - event[0] < SHOWN_S][-MOST_EVENTS:]
        self._width = self._width or _width_for(played.image)
        canvas = Image.new("RGB", (self._width + PANEL, HEIGHT), BACK)
        picture = _fitted(played.image, self._width)
        canvas.paste(picture, ((self._width - picture.width) // 2, (HEIGHT - picture.height) // 2))
        self._draw_panel(ImageDraw.Draw(canvas), played)
        return canvas

    def __enter__(self) -> "VideoWriter":
        import av

        with ExitStack() as stack:
            partial = stack.enter_context(LocalFolder(self._path.parent).new_file(self._path.name))
            self._container = stack.enter_context(av.open(str(partial), "w", format=FORMATS[self._path.suffix.lower()]))
            stack.push(self._finish)
            self._closing = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.__exit__(kind, error, trace)

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            if self._stream is None:  # no frame came
                self._add_stream(LEAST_WIDTH)
            for packet in self._stream.encode():
                self._container.mux(packet)

    def _add_stream(self, width: int) -> None:
        """Add the stream of pictures, once the width of the place for frames is known."""
        import av

        self._width = width
        codec = next(codec for codec in CODECS if codec in av.codecs_available)
        stream = self._container.add_stream(codec, rate=exact_rate(self._fps))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width + PANEL, HEIGHT, "yuv420p"
        self._stream = stream

    def _draw_panel(self, draw: ImageDraw.ImageDraw, played: Played) -> None:
        large, small, left, y = self._large, self._small, self._width + 16, 12
        record, settings = played.record, self._settings
        for name, p, threshold in (
            ("update", record.p_update, settings.update_threshold),
            ("speak", record.p_speak, settings.speak_threshold),
        ):
            small.draw(draw, (left, y), name, FAINT)
            x, width = left + 60, PANEL - 150
            draw.rectangle((x, y + 3, x + width, y + 15), outline=FAINT)
            draw.rectangle(
                (x, y + 3, x + int(width * p), y + 15), fill=(220, 80, 80) if p >= threshold else (80, 130, 220)
            )
            draw.line((x + int(width * threshold), y, x + int(width * threshold), y + 18), fill=INK, width=2)
            small.draw(draw, (x + width + 10, y), shown_against(p, threshold)[0], INK)
            y += 24
        y += 10
        for step in steps_shown(self._task.steps, played.state, MOST_STEPS):
            state = played.state[step.id]
            draw.ellipse(
                (left, y + 4, left + 12, y + 16),
                fill=COLOURS[state] if state != "not_started" else None,
                outline=COLOURS[state],
            )
            (line,) = large.wrap(f"{step.id} {step.name}", PANEL - 54, most=1)
            large.draw(draw, (left + 22, y), line, COLOURS[state])
            y += STEP_HEIGHT
        y += 12
        for role, lines in self.fitting_events(HEIGHT - FOOT - y):
            for line in lines:
                small.draw(draw, (left, y), line, ROLES[role])
                y += LINE_HEIGHT
            y += GAP
        foot = f"{record.context_tokens} tokens, {1000 * played.latency_s:.0f} ms"
        small.draw(draw, (left, HEIGHT - 24), foot, FAINT)

    def fitting_events(self, height: int) -> list[tuple[str, list[str]]]:
        """(role, wrapped lines) of the newest events that fit into `height` pixels; of one too long, its beginning."""
        fitting: list[tuple[str, list[str]]] = []
        names = {step.id: step.name for step in self._task.steps}
        for time_s, role, text in reversed(self._events):
            told = updates_in_words(text, names) if role == "dst_update" else text
            lines = self._small.wrap(event_line(time_s, role, told), PANEL - 32)
            if len(lines) * LINE_HEIGHT > height:
                if not fitting:
                    fitting.append((role, lines[: height // LINE_HEIGHT]))
                break
            fitting.append((role, lines))
            height -= len(lines) * LINE_HEIGHT + GAP
        return fitting[::-1]


def _width_for(frame: SourceFrame) -> int:
    """How wide the place is in which a frame of this shape is HEIGHT high; even, as encoders want it."""
    image = rgb_image(frame.data)
    aspect = frame.aspect or image.width / image.height
    return min(max(round(HEIGHT * aspect / 2) * 2, LEAST_WIDTH), MOST_WIDTH)


def _fitted(frame: SourceFrame, width: int) -> Image.Image:
    """The picture as it was filmed, as large as its place holds it."""
    image = rgb_image(frame.data)
    aspect = frame.aspect or image.width / image.height
    height = min(HEIGHT, max(1, round(width / aspect)))
    size = (min(width, max(1, round(height * aspect))), height)
    if frame.pixels:
        return Image.fromarray(frame.pixels(*size))
    return image.resize(size, Image.Resampling.LANCZOS)
