"""Where a stream's frames come from.

Frames are JPEG or PNG bytes, as frames files hold them: a video is read by the importer that makes frames files, so
that the model meets the pixels that it was trained on.
"""

import queue
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import ProspectError
from pipeline.importers.video import Settings, jpegs_of
from pipeline.io.frame_store import open_frames

Item = TypeVar("Item")
IMAGES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class SourceFrame:
    data: bytes  # JPEG or PNG
    where: str  # file (and frame), for messages
    aspect: float | None = None  # width / height as filmed, where `data` was made square; None: that of `data`


def frames_of(source: Path, fps: float, size: int, first: int, last: int | None) -> Iterator[SourceFrame]:
    """Read frames first..last (inclusive; the source's end, if before) of a video, an .arrow file or a folder.

    Args:
        fps: at which a video is sampled; other sources have the frames that they have.
        size: pixels a side that a video's frames are made to.

    Raises:
        ProspectError: no such source, nothing in it, or it breaks off; frames before that are given.
    """
    if source.is_dir():
        paths = sorted((p for p in source.iterdir() if p.suffix.lower() in IMAGES), key=_natural)
        if not paths:
            raise ProspectError(f"{source}: found no images, expected files of {', '.join(IMAGES)}")
        _check_reaches(source, len(paths), first)
        numbers = range(len(paths))[first : None if last is None else last + 1]
        yield from (SourceFrame(paths[number].read_bytes(), f"{paths[number]}, frame {number}") for number in numbers)
    elif not source.is_file():
        raise ProspectError(f"{source}: no such file or folder, expected a video, an .arrow file or a folder of images")
    elif source.suffix == ".arrow":
        frames = open_frames(source)
        _check_reaches(source, len(frames), first)
        numbers = range(len(frames))[first : None if last is None else last + 1]
        yield from (SourceFrame(frames.read(number), f"{source} frame {number}") for number in numbers)
    else:
        yield from _of_video(source, Settings(fps, size), first, last)


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


def _of_video(source: Path, settings: Settings, first: int, last: int | None) -> Iterator[SourceFrame]:
    import av

    av.logging.set_level(av.logging.PANIC)
    count = 0
    try:
        aspect = _aspect(source)
        for number, jpeg in enumerate(jpegs_of(source, settings)):
            if last is not None and number > last:
                return
            count = number + 1
            if number >= first:
                yield SourceFrame(jpeg, f"{source} frame {number}", aspect)
    except (av.FFmpegError, ProspectError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else error
        place = f"after frame {count - 1}" if count else "at its beginning"
        raise ProspectError(f"{source}: breaks off {place} ({reason}), expected a whole video") from None
    _check_reaches(source, count, first)


def _aspect(video: Path) -> float | None:
    """Width / height of a video as it is shown: upright, of square pixels."""
    import av

    with av.open(str(video)) as container:
        stream = next(iter(container.streams.video), None)
        frame = next(container.decode(stream), None) if stream else None
        if stream is None or frame is None:
            return None
        aspect = float(frame.width * (stream.sample_aspect_ratio or 1) / frame.height)
        return 1 / aspect if frame.rotation % 180 else aspect


def _check_reaches(source: Path, count: int, first: int) -> None:
    if count <= first:
        raise ProspectError(f"{source}: found {count} frames, expected more than {first}")


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """frame2 before frame10."""
    pieces = re.split(r"(\d+)", path.name)
    return [(0, int(piece)) if piece.isdigit() else (1, piece) for piece in pieces]
