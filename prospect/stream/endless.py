"""Sources without an end of their own: a camera, a URL, a folder that grows. They end by Ctrl-C, or where they stop.

A URL may also be of a whole video; then it ends as that does.
"""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.errors import ProspectError
from pipeline.io.images import ERRORS, open_image
from pipeline.video.settings import Settings
from pipeline.video.source import PROTOCOLS, Place
from prospect.stream.sources import IMAGES, SourceFrame, frames_of, images_in, natural, video_frames

PATIENCE_S = 15.0  # after which a URL or a camera from which nothing comes is given up
POLL_S = 0.1  # between two looks at a folder
SCHEMES = ("http", "https", "rtsp", "rtmp", "tcp", "udp", "rtp")


class SourceLost(ProspectError):
    """What had no end of its own has broken off; what was streamed until then is whole."""


class Ending:
    """Ends the stream of a source without an end at Ctrl-C, or where it is lost, so that what is kept of it is whole.

    A context manager, inside those of the files; `lost` is to be raised after them.
    """

    def __init__(self, is_endless: bool) -> None:
        self.has_frames = False
        self.lost: SourceLost | None = None
        self._is_endless = is_endless

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if not (self._is_endless and self.has_frames and isinstance(error, SourceLost | KeyboardInterrupt)):
            return False
        self.lost = error if isinstance(error, SourceLost) else None
        return True


def is_endless(source: Path | str, follow_s: float | None) -> bool:
    return follow_s is not None or _place(source) is not None


def told_source(source: Path | str) -> str:
    """Give a source as it may be told and stored: a URL without its password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", str(source))


def check_source(source: Path | str, follow_s: float | None = None) -> None:
    """Check that there is such a source, before a model is loaded for it.

    Raises:
        ProspectError: there is none.
    """
    if _place(source) is None:
        if not Path(source).exists():
            raise ProspectError(
                f"{told_source(source)}: no such file or folder, expected a video, an .arrow file, a folder of images, "
                "a camera (/dev/video0, or its number) or a URL"
            )
        if follow_s is not None and not Path(source).is_dir():
            raise ProspectError(f"--follow {follow_s:g}: found a file, {source}, expected a folder of images")
    elif follow_s is not None:
        raise ProspectError(f"--follow {follow_s:g}: found {told_source(source)}, expected a folder of images")


def open_source(
    source: Path | str, fps: float, size: int, first: int, last: int | None, follow_s: float | None = None
) -> Iterator[SourceFrame]:
    """Read frames first..last of any source: as `frames_of`, or of one without an end.

    Args:
        follow_s: wait for new images of a folder, and end where none came for so many seconds.

    Raises:
        SourceLost: a camera, a URL or a folder that grows breaks off; frames before that are given.
        ProspectError: as `frames_of`.
    """
    place = _place(source)
    if place:
        try:
            yield from video_frames(told_source(source), place, Settings(fps, size), first, last, "more of it")
        except ProspectError as error:
            raise SourceLost(str(error)) from None
    elif follow_s is not None:
        yield from _growing(Path(source), follow_s, first, last)
    else:
        yield from frames_of(Path(source), fps, size, first, last)


def _place(source: Path | str) -> Place | None:
    """How PyAV opens a camera or a URL; None of a path.

    Raises:
        ProspectError: a URL of a kind that is not known.
    """
    text = str(source)
    if re.fullmatch(r"/dev/video\d+", text) or (re.fullmatch(r"\d{1,3}", text) and not Path(text).exists()):
        device = text if text.startswith("/") else f"/dev/video{text}"
        return Place(device, format="v4l2", patience_s=PATIENCE_S)
    scheme, found, _ = text.partition("://")
    if not found:
        return None
    if scheme.lower() not in SCHEMES:
        raise ProspectError(
            f"{told_source(text)}: found a URL of {scheme!r}, expected one of {', '.join(SCHEMES)}, or a path"
        )
    options = {"protocol_whitelist": PROTOCOLS}
    if scheme.lower() == "rtsp":
        options["rtsp_transport"] = "tcp"  # by UDP, what is lost on the way is lost in the pictures
    return Place(text, options=options, patience_s=PATIENCE_S)


def _growing(
    folder: Path,
    idle_s: float,
    first: int,
    last: int | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[SourceFrame]:
    """Images in natural order as they come; one that sorts before those given is not looked at.

    An image that does not decode is being written; the ones after it wait for it.
    """
    number, newest = 0, list[tuple[int, int | str]]()
    new: list[Path] = []  # seen, and not given yet
    waiting_since = clock()
    while last is None or number <= last:
        new = new or [path for path in images_in(folder) if natural(path) > newest]
        data = _whole(new[0]) if new else None
        if data:
            path = new.pop(0)
            if number >= first:
                yield SourceFrame(data, f"{path}, frame {number}")
            number, newest, waiting_since = number + 1, natural(path), clock()
        elif clock() - waiting_since < idle_s:
            new = []  # what is being written may be taken away again
            sleep(POLL_S)
        elif new:
            raise SourceLost(f"{new[0]}: is no whole image after {idle_s:g} s, expected {', '.join(IMAGES)} to decode")
        elif number <= first:
            raise ProspectError(f"{folder}: found {number} images within {idle_s:g} s, expected more than {first}")
        else:
            return


def _whole(path: Path) -> bytes | None:
    """An image's bytes; None while it does not decode."""
    try:
        data = path.read_bytes()
        with open_image(data) as image:
            image.load()
    except ERRORS:
        return None
    return data
