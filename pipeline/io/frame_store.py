"""Frames in Arrow files: memory-mapped, one frame read without touching the others.

Both IPC formats are read (*stream*, which HF `datasets` writes, and *file*). The column is the first of `frame`,
`frames`, `image`, `images`; a value is base64 text (ProAssist), raw JPEG/PNG bytes, or a struct with `bytes`.
"""

import base64
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ProspectError

BASE64 = "^[A-Za-z0-9+/]*={0,2}$"
COLUMNS = ("frame", "frames", "image", "images")
SHAPE = (b"frames.height", b"frames.width")  # keys of the schema's metadata (docs/data-formats.md)
MAX_OPEN_FILES = 64  # memory-mapped files kept open per process


class FrameFile:
    """One Arrow file of frames; `read(i)` gives the stored JPEG or PNG bytes of frame i."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            source = pa.memory_map(str(path))
            is_file_format = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pa.ipc.open_file(source) if is_file_format else pa.ipc.open_stream(source)
            table = reader.read_all()  # maps the buffers, copies nothing
        except FileNotFoundError:
            raise ProspectError(f"{path}: no such frames file, expected an Arrow IPC file") from None
        except (OSError, pa.ArrowInvalid) as error:
            first_line = str(error).splitlines()[0]
            raise ProspectError(
                f"{path}: cannot be read as Arrow ({first_line}), expected an Arrow IPC stream or file with one row a "
                f"frame; write it again"
            ) from None
        self._column, self._is_text = _images(path, table)
        self.shape = _shape(table.schema.metadata or {})  # height, width of the video as shown; None: not told

    def __len__(self) -> int:
        return len(self._column)

    def read(self, index: int) -> bytes:
        """Give the stored image bytes of frame `index`, untouched."""
        if not 0 <= index < len(self):
            raise ProspectError(f"{self.path}: found frame index {index}, expected 0..{len(self) - 1}")
        value = self._column[index].as_py()
        if not value:
            raise ProspectError(f"{self.path} frame {index}: found an empty value, expected image bytes")
        if not self._is_text:
            return bytes(value)
        try:
            return base64.b64decode(value, validate=True)
        except ValueError as error:
            raise ProspectError(f"{self.path} frame {index}: not valid base64 ({error})") from None

    def first_bad(self, first: int, last: int, read: bool) -> tuple[int, str] | None:
        """Find the first of the frames first..last (inclusive) that holds nothing, and what it holds.

        `read`: look at the values too, not at their lengths alone, and report base64 text that is none.
        """
        values = self._column.slice(first, last - first + 1)
        good = pc.fill_null(pc.greater(pc.binary_length(values), 0), False)
        if self._is_text and read:
            good = pc.and_(good, pc.fill_null(pc.match_substring_regex(values, BASE64), False))
        place = pc.index(good, False).as_py()
        if place < 0:
            return None
        value = values[place].as_py()
        return first + place, "an empty value" if not value else "text that is not base64"

    def stored_bytes(self, first: int, last: int) -> int:
        """Count the bytes of the images of frames first..last (inclusive), within three a frame for base64."""
        total = pc.sum(pc.binary_length(self._column.slice(first, last - first + 1))).as_py() or 0
        return total * 3 // 4 if self._is_text else total


def _images(path: Path, table: pa.Table) -> tuple[pa.ChunkedArray, bool]:
    """The column of images as binary values, and whether they are base64 text."""
    name = next((c for c in COLUMNS if c in table.column_names), None)
    if name is None or table.column_names.count(name) > 1:
        raise ProspectError(
            f"{path}: found columns {', '.join(table.column_names) or 'none'}, expected one of {', '.join(COLUMNS)}"
        )
    column = table.column(name)
    try:
        column.validate(full=not _is_text(column.type))  # full: also that every offset lies in the file
        if _is_text(column.type):
            column = column.cast(pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary())
            column.validate(full=True)
            return column, True
        if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            column = pc.struct_field(column, "bytes")
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise ProspectError(f"{path}: its column {name!r} is damaged ({reason}); write the file again") from None
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise ProspectError(
            f"{path}: column {name!r} is {table.column(name).type}, expected base64 text, bytes, or a struct with "
            "'bytes' of bytes"
        )
    return column, False


def _shape(metadata: dict[bytes, bytes]) -> tuple[int, int] | None:
    sides = [metadata.get(key, b"") for key in SHAPE]
    return (int(sides[0]), int(sides[1])) if all(re.fullmatch(rb"[1-9]\d{0,6}", side) for side in sides) else None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


@lru_cache(maxsize=MAX_OPEN_FILES)
def open_frames(path: Path) -> FrameFile:
    """Give `FrameFile(path)`, from a bounded cache of open files in this process."""
    return FrameFile(path)


def find_frames_file(frames_file: str, roots: Sequence[Path]) -> Path:
    """Find the Arrow file that an annotation names: under the first root that has its longest matching suffix.

    Raises:
        ProspectError: it is under none of them; the message lists the places tried.
    """
    parts = PurePosixPath(frames_file).parts
    if Path(frames_file).is_absolute():
        if _is_file(Path(frames_file)):
            return Path(frames_file)
        parts = parts[1:]
    for root in roots:
        for first in range(len(parts)):
            candidate = root.joinpath(*parts[first:])
            if _is_file(candidate):
                return candidate
    tried = ", ".join(str(root) for root in roots)
    raise ProspectError(
        f"frames file {frames_file!r} not found: tried it, and every shorter suffix of it, under {tried}; pass "
        "--frames-root (data.frames_root in train) with the folder that holds it"
    )


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
