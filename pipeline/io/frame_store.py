"""Frames in Arrow files: memory-mapped, one frame read without touching the others.

Both IPC formats are read (*stream*, which HF `datasets` writes, and *file*). The column is the first of `frame`,
`frames`, `image`, `images`; a value is raw JPEG/PNG bytes, a struct with `bytes` (HF `Image`), or base64 text
(ProAssist), plain, with line breaks (MIME), URL-safe, or as a data URI. Arrow's view types (polars writes them) are
read like the others. Values of a compressed file are held in memory, of one file at a time.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from pipeline.errors import ProspectError
from pipeline.io.arrow_file import ArrowFile
from pipeline.io.frame_values import column_name, from_base64, image_values, is_text, lengths_of
from pipeline.io.images import ERRORS, check_header, rgb_pixels

SHAPE = (b"frames.height", b"frames.width")  # keys of the schema's metadata (docs/data-formats.md)
TIME, FPS = "time", b"frames.fps"  # the column of seconds and the rate that `prospect extract-frames` writes
RATES = (0.05, 1000)  # frames a second; times that say another rate are no seconds
MAX_OPEN_FILES = 64  # memory-mapped files kept open per process
EMPTY = "an empty value"


class FrameFile:
    """One Arrow file of frames; `read(i)` gives the stored JPEG or PNG bytes of frame i."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ProspectError: no Arrow file of frames, or one that is damaged or too large to be held; names it.
        """
        self.path = path
        self._file = ArrowFile(path)
        self.shape = _shape(self._file.schema.metadata or {})  # height, width of the video as shown; None: not told
        column = image_values(self._file)
        self._mapped = None if self._file.is_compressed else column
        self._length = len(column)
        self._is_text = is_text(self._file.schema.field(column_name(self._file)).type)

    def __len__(self) -> int:
        return self._length

    @property
    def fps(self) -> float | None:
        """The rate that the file states: in its schema's metadata (`frames.fps`), or by even times in its column
        `time`, in seconds. None: it states none."""
        stated = (self._file.schema.metadata or {}).get(FPS)
        if stated is not None:
            try:
                return float(Fraction(stated.decode()))
            except (ValueError, ZeroDivisionError):
                raise ProspectError(f"{self.path}: found frames.fps {stated!r}, expected a number") from None
        kinds = [field.type for field in self._file.schema if field.name == TIME]
        if len(kinds) != 1 or not pa.types.is_floating(kinds[0]) or len(self) < 2:
            return None
        with np.errstate(all="ignore"):  # whatever it holds
            gaps = np.diff(self._file.read([TIME])[TIME].to_numpy())
            fps = 1 / gaps.mean()
            is_even = np.abs(gaps * fps - 1).max() < 0.5
        return float(fps) if is_even and RATES[0] <= fps <= RATES[1] else None

    def read(self, index: int) -> bytes:
        """Give the stored image bytes of frame `index`, untouched."""
        if not 0 <= index < len(self):
            raise ProspectError(f"{self.path}: found frame index {index}, expected 0..{len(self) - 1}")
        value = self._column[index].as_py()
        if not value:
            raise ProspectError(f"{self.path} frame {index}: found {EMPTY}, expected image bytes")
        if not self._is_text:
            return bytes(value)
        try:
            return from_base64(value)
        except ValueError as error:
            raise ProspectError(f"{self.path} frame {index}: not valid base64 ({error})") from None

    def first_bad(self, first: int, last: int, each: bool) -> tuple[int, str] | None:
        """Find the first of the frames first..last (inclusive) that holds no image, and what it holds.

        Every value is looked at for its length, and the first frame's image is decoded whole.

        Args:
            each: open the images of all these frames (by their headers), as they are to be embedded.
        """
        empty = np.flatnonzero(lengths_of(self._column.slice(first, last - first + 1)) == 0)
        end = first + int(empty[0]) if empty.size else last + 1
        for index in range(first, end if each else min(first + 1, end)):
            try:
                data = self.read(index)
                if index == first:
                    rgb_pixels(data)
                else:
                    check_header(data)
            except ProspectError as error:
                return index, str(error).removeprefix(f"{self.path} frame {index}: ")
            except ERRORS as error:
                return index, f"no image that can be decoded ({error})"
        return (end, EMPTY) if empty.size else None

    def stored_bytes(self, first: int, last: int) -> int:
        """Count the bytes of the images of frames first..last (inclusive), within three a frame for base64."""
        total = int(lengths_of(self._column.slice(first, last - first + 1)).sum())
        return total * 3 // 4 if self._is_text else total

    @property
    def _column(self) -> pa.ChunkedArray:
        """The values, as binary or binary_view.

        Raises:
            ProspectError: the file was cut short since it was opened.
        """
        self._file.check_whole()
        return _decompressed(self) if self._mapped is None else self._mapped


def _shape(metadata: dict[bytes, bytes]) -> tuple[int, int] | None:
    sides = [metadata.get(key, b"") for key in SHAPE]
    return (int(sides[0]), int(sides[1])) if all(re.fullmatch(rb"[1-9]\d{0,6}", side) for side in sides) else None


@lru_cache(maxsize=1)
def _decompressed(frames: FrameFile) -> pa.ChunkedArray:
    return image_values(frames._file)


@lru_cache(maxsize=MAX_OPEN_FILES)
def open_frames(path: Path) -> FrameFile:
    """Give `FrameFile(path)`, from a bounded cache of open files in this process."""
    return FrameFile(path)


def open_named(frames_file: str, roots: Sequence[Path]) -> FrameFile:
    """Find the Arrow file that an annotation names, and open it."""
    return open_frames(find_frames_file(frames_file, roots))


def find_frames_file(frames_file: str, roots: Sequence[Path]) -> Path:
    """Find the Arrow file that an annotation names: under the first root that has its longest matching suffix.

    A name of the other Unicode form is the same name: macOS gives out `é` as e and an accent (NFD), most annotations
    as one letter (NFC). Where that is nowhere, other names that its video may have are tried (`names_of_video`).

    Raises:
        ProspectError: it is under none of them; the message lists the places tried.
    """
    asked = PurePosixPath(frames_file)
    others = (str(asked.with_name(name + asked.suffix)) for name in names_of_video(asked.stem)[1:])
    for name in (frames_file, *others):
        if path := _find(name, roots):
            return path
    tried = ", ".join(str(root) for root in roots)
    raise ProspectError(
        f"frames file {frames_file!r} not found: tried it, and every shorter suffix of it, under {tried}; pass "
        "--frames-root (data.frames_root in train) with the folder that holds it"
    )


def names_of_video(video: str) -> list[str]:
    """List the names that a video's frames file may have, its own first.

    ProAssist puts the task before the names of Assembly101's videos, which begin with nusar-.
    """
    name = re.sub("^(?:dis)?assembly_", "", video)
    known = (name, f"assembly_{name}", f"disassembly_{name}") if name.startswith("nusar-") else ()
    return list(dict.fromkeys((video, *known)))


def _find(frames_file: str, roots: Sequence[Path]) -> Path | None:
    parts = PurePosixPath(frames_file).parts
    if Path(frames_file).is_absolute():
        for name in _forms(frames_file):
            if _is_file(Path(name)):
                return Path(name)
        parts = parts[1:]
    for root in roots:
        for first in range(len(parts)):
            for name in _forms("/".join(parts[first:])):
                if _is_file(root / name):
                    return root / name
    return None


def _forms(name: str) -> Iterable[str]:
    """The name as it is, composed, and decomposed."""
    return dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # e.g. a name that is too long
        return False


def search_roots(frames_root: Path | None, data_root: Path | None, dataset: str) -> list[Path]:
    """List the folders searched for frames files, in order (docs/design.md §3)."""
    roots = [frames_root] if frames_root else []
    if data_root:
        roots += [data_root / dataset, data_root]
    return [root.absolute() for root in (*roots, Path())]
