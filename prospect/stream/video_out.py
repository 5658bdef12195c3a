"""`--video`: the stream as a film, each frame beside a panel of the state, both probabilities and what was said.

Frames keep the shape in which they were filmed. The file appears under its name only complete.
"""

import textwrap
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import ProspectError
from pipeline.io.images import rgb_image
from pipeline.io.storage import LocalFolder
from pipeline.video.clock import exact_rate
from prospect.stream.board import event_line, shown_against, steps_shown
from prospect.stream.player import Played
from prospect.stream.sources import SourceFrame
from prospect.stream.streamer import StreamSettings
from prospect.stream.task import Task

SIDE, PANEL = 480, 480  # pixels: of the square that holds the frame, and the panel's width
SHOWN_S = 6.0  # how long an utterance stays
MOST_STEPS, MOST_EVENTS = 10, 8
STEP_HEIGHT, LINE_HEIGHT, GAP, FOOT = 24, 19, 4, 36  # pixels
WRAP = 56  # characters of a line
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

    def add(self, played: Played) -> None:
        import av

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
        canvas = Image.new("RGB", (SIDE + PANEL, SIDE), BACK)
        picture = _fitted(played.image)
        canvas.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
        self._draw_panel(ImageDraw.Draw(canvas), played)
        return canvas

    def __enter__(self) -> "VideoWriter":
        import av

        with ExitStack() as stack:
            partial = stack.enter_context(LocalFolder(self._path.parent).new_file(self._path.name))
            self._container = stack.enter_context(av.open(str(partial), "w", format=FORMATS[self._path.suffix.lower()]))
            codec = next(codec for codec in CODECS if codec in av.codecs_available)
            stream = self._container.add_stream(codec, rate=exact_rate(self._fps))
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = SIDE + PANEL, SIDE, "yuv420p"
            self._stream = stream
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
            for packet in self._stream.encode():
                self._container.mux(packet)

    def _draw_panel(self, draw: ImageDraw.ImageDraw, played: Played) -> None:
        font, small, left, y = ImageFont.load_default(16), ImageFont.load_default(14), SIDE + 16, 12
        record, settings = played.record, self._settings
        for name, p, threshold in (
            ("update", record.p_update, settings.update_threshold),
            ("speak", record.p_speak, settings.speak_threshold),
        ):
            draw.text((left, y), name, FAINT, small)
            x, width = left + 60, PANEL - 150
            draw.rectangle((x, y + 3, x + width, y + 15), outline=FAINT)
            draw.rectangle(
                (x, y + 3, x + int(width * p), y + 15), fill=(220, 80, 80) if p >= threshold else (80, 130, 220)
            )
            draw.line((x + int(width * threshold), y, x + int(width * threshold), y + 18), fill=INK, width=2)
            draw.text((x + width + 10, y), shown_against(p, threshold)[0], INK, small)
            y += 24
        y += 10
        for step in steps_shown(self._task.steps, played.state, MOST_STEPS):
            state = played.state[step.id]
            draw.ellipse(
                (left, y + 4, left + 12, y + 16),
                fill=COLOURS[state] if state != "not_started" else None,
                outline=COLOURS[state],
            )
            draw.text((left + 22, y), _printable(textwrap.shorten(f"{step.id}  {step.name}", 48)), COLOURS[state], font)
            y += STEP_HEIGHT
        y += 12
        for role, lines in self.fitting_events(SIDE - FOOT - y):
            for line in lines:
                draw.text((left, y), line, ROLES[role], small)
                y += LINE_HEIGHT
            y += GAP
        draw.text((left, SIDE - 24), f"{record.context_tokens} tokens, {1000 * played.latency_s:.0f} ms", FAINT, small)

    def fitting_events(self, height: int) -> list[tuple[str, list[str]]]:
        """(role, wrapped lines) of the newest events that fit into `height` pixels; of one too long, its beginning."""
        fitting: list[tuple[str, list[str]]] = []
        for event in reversed(self._events):
            lines = textwrap.wrap(_printable(event_line(*event)), WRAP)
            if len(lines) * LINE_HEIGHT > height:
                if not fitting:
                    fitting.append((event[1], lines[: height // LINE_HEIGHT]))
                break
            fitting.append((event[1], lines))
            height -= len(lines) * LINE_HEIGHT + GAP
        return fitting[::-1]


def _fitted(frame: SourceFrame) -> Image.Image:
    """The picture as it was filmed, as large as a square of SIDE pixels holds it."""
    image = rgb_image(frame.data)
    aspect = frame.aspect or image.width / image.height
    size = (SIDE, max(1, round(SIDE / aspect))) if aspect >= 1 else (max(1, round(SIDE * aspect)), SIDE)
    return image.resize(size, Image.Resampling.LANCZOS)


def _printable(text: str) -> str:
    """Pillow's own font has Latin letters alone; others are drawn as boxes, control characters not at all."""
    return "".join(character for character in text if character.isprintable())
