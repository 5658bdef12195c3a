"""`--video`: the stream as a film, each frame beside a panel of the state, both probabilities and what was said.

The file appears under its name only complete.
"""

import io
import textwrap
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.storage import LocalFolder
from prospect.stream.board import event_line
from prospect.stream.player import Played
from prospect.stream.sources import Task
from prospect.stream.streamer import StreamSettings

SIDE, PANEL = 480, 480  # pixels: of the frame, and the panel's width
SHOWN_S = 6.0  # how long an utterance stays
BACK, INK, FAINT = (24, 26, 30), (235, 235, 235), (130, 134, 142)
COLOURS = {"not_started": FAINT, "in_progress": (240, 190, 60), "completed": (90, 200, 110)}
ROLES = {"assistant": (120, 220, 140), "user": (110, 200, 240), "system": FAINT, "dst_update": (230, 140, 230)}
CODECS = ("libx264", "mpeg4")


class VideoWriter:
    """Draws and encodes frames; a context manager that leaves a complete file, or after an error none."""

    def __init__(self, path: Path, task: Task, settings: StreamSettings, fps: float) -> None:
        import av

        self._task, self._settings = task, settings
        self._events: list[tuple[float, str, str]] = []
        self._new_file = LocalFolder(path.parent).new_file(path.name)
        self._partial = self._new_file.__enter__()
        suffix = path.suffix.lstrip(".") or "mp4"
        self._container = av.open(str(self._partial), "w", format="matroska" if suffix == "mkv" else suffix)
        codec = next(codec for codec in CODECS if codec in av.codecs_available)
        stream = self._container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = SIDE + PANEL, SIDE, "yuv420p"
        self._stream = stream

    def add(self, played: Played) -> None:
        import av

        frame = av.VideoFrame.from_ndarray(np.asarray(self.draw(played)), format="rgb24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def draw(self, played: Played) -> Image.Image:
        """The picture of a frame, and of what was said until then."""
        spoken = [(turn.role, turn.text) for turn in played.lines]
        spoken += [(action.role, action.text) for action in played.record.actions]
        self._events += [(played.time_s, role, text) for role, text in spoken]
        self._events = [event for event in self._events if played.time_s - event[0] < SHOWN_S][-8:]
        canvas = Image.new("RGB", (SIDE + PANEL, SIDE), BACK)
        with Image.open(io.BytesIO(played.image)) as image:
            canvas.paste(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (0, 0))
        self._draw_panel(ImageDraw.Draw(canvas), played)
        return canvas

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()
        self._new_file.__exit__(kind, error, trace)

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
            draw.text((x + width + 10, y), f"{p:.2f}", INK, small)
            y += 24
        y += 10
        for step in self._task.steps[:10]:
            state = played.state[step.id]
            draw.ellipse(
                (left, y + 4, left + 12, y + 16),
                fill=COLOURS[state] if state != "not_started" else None,
                outline=COLOURS[state],
            )
            draw.text((left + 22, y), _printable(textwrap.shorten(f"{step.id}  {step.name}", 48)), COLOURS[state], font)
            y += 24
        y += 12
        for event in self._events:
            for line in textwrap.wrap(_printable(event_line(*event)), 56):
                if y < SIDE - 36:
                    draw.text((left, y), line, ROLES[event[1]], small)
                    y += 19
            y += 4
        draw.text((left, SIDE - 24), f"{record.context_tokens} tokens, {1000 * played.latency_s:.0f} ms", FAINT, small)


def _printable(text: str) -> str:
    """Pillow's own font has Latin letters alone; others are drawn as boxes, control characters not at all."""
    return "".join(character for character in text if character.isprintable())
