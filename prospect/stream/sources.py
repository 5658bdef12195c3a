"""Where a stream's frames come from: a video, an .arrow file, a folder of images (`endless.py`: what has no end).

Frames are JPEG or PNG bytes, as frames files hold them: a video is read by the code that makes frames files
(`pipeline/video/`), so that the model meets the pixels that it was trained on.
"""

import queue
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import ProspectError
from pipeline.io.frame_store import open_frames
from pipeline.io.images import Pixels
from pipeline.video.picture import pixels_of
from pipeline.video.rows import rows_of
from pipeline.video.settings import Settings
from pipeline.video.source import Place, file_place

Item = TypeVar("Item")
IMAGES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class SourceFrame:
    data: bytes  # JPEG or PNG
    where: str  # file (and frame), for messages
    aspect: float | None = None  # width / height as filmed, where `data` was made square; None: that of `data`
    # of a video: its own picture, at a width and a height
    pixels: Callable[[int, int], Pixels] | None = field(default=None, compare=False)


def frames_of(source: Path, fps: float, size: int, first: int, last: int | None) -> Iterator[SourceFrame]:
    """Read frames first..last (inclusive; the source's end, if before) of a video, an .arrow file or a folder.

    Args:
        fps: at which a video is sampled; other sources have the frames that they have.
        size: pixels a side that a video's frames are made to.

    Raises:
        ProspectError: no such source, nothing in it, or it breaks off; frames before that are given.
    """
    if source.is_dir():
        paths = images_in(source)
        if not paths:
            raise ProspectError(f"{source}: found no images, expected files of {', '.join(IMAGES)}")
        _check_reaches(source, len(paths), first)
        numbers = range(len(paths))[first : None if last is None else last + 1]
        yield from (SourceFrame(paths[number].read_bytes(), f"{paths[number]}, frame {number}") for number in numbers)
    elif source.suffix == ".arrow" and source.is_file():
        frames = open_frames(source)
        _check_reaches(source, len(frames), first)
        numbers = range(len(frames))[first : None if last is None else last + 1]
        aspect = frames.shape[1] / frames.shape[0] if frames.shape else None
        yield from (SourceFrame(frames.read(number), f"{source} frame {number}", aspect) for number in numbers)
    else:
        try:
            place = file_place(source)
        except ProspectError:
            raise ProspectError(
                f"{source}: no such file or folder, expected a video, an .arrow file or a folder of images"
            ) from None
        yield from video_frames(str(source), place, Settings(fps, size), first, last)


def video_frames(
    source: str, place: Place, settings: Settings, first: int, last: int | None, end: str = "a whole video"
) -> Iterator[SourceFrame]:
    """Read frames first..last of what PyAV opens.

    Args:
        end: what was expected, for the message where it breaks off.

    Raises:
        ProspectError: it cannot be opened, or breaks off; frames before that are given.
    """
    count = 0
    try:
        with rows_of([place], settings) as rows:
            aspect = rows.shape[1] / rows.shape[0]
            for number, (jpeg, picture) in enumerate(rows.pictures):
                if last is not None and number > last:
                    return
                count = number + 1
                if number >= first:
                    pixels = partial(pixels_of, picture, settings)
                    yield SourceFrame(jpeg, f"{source} frame {number}", aspect, pixels)
    except ProspectError as error:
        where = f"after frame {count - 1}" if count else "at its beginning"
        raise ProspectError(f"{source}: breaks off {where} ({error}), expected {end}") from None
    _check_reaches(source, count, first)


def images_in(folder: Path) -> list[Path]:
    """List the images of a folder in natural order: frame2 before frame10."""
    return sorted((path for path in folder.iterdir() if path.suffix.lower() in IMAGES), key=natural)


def ahead(make: Callable[[], Iterator[Item]], depth: int = 4) -> Iterator[Item]:
    """Run an iterator in a thread of its own, at most `depth` ahead; its errors come in order."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in make():
                if not put("item", item):
                    return
            put("end", None)
        except Exception as error:  # raised again where the frame is asked for
            put("error", error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()


def _check_reaches(source: Path | str, count: int, first: int) -> None:
    if count <= first:
        raise ProspectError(f"{source}: found {count} frames, expected more than {first}")


def natural(path: Path) -> list[tuple[int, int | str]]:
    """frame2 before frame10."""
    pieces = re.split(r"(\d+)", path.name)
    return [(0, int(piece)) if piece.isdigit() else (1, piece) for piece in pieces]
