"""Frames in Arrow files: memory-mapped, one frame read without touching the others.

Both IPC formats are read (*stream*, which HF `datasets` writes, and *file*). The column is the first of `frame`,
`frames`, `image`, `images`; a value is base64 text (ProAssist), raw JPEG/PNG bytes, or a struct with `bytes`.
"""

import base64
import binascii
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ProspectError

COLUMNS = ("frame", "frames", "image", "images")
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
        name = next((c for c in COLUMNS if c in table.column_names), None)
        if name is None:
            raise ProspectError(
                f"{path}: found columns {', '.join(table.column_names) or 'none'}, expected one of {', '.join(COLUMNS)}"
            )
        self._column = table.column(name)
        self._is_text = pa.types.is_string(self._column.type) or pa.types.is_large_string(self._column.type)
        is_bytes = pa.types.is_binary(self._column.type) or pa.types.is_large_binary(self._column.type)
        is_struct = pa.types.is_struct(self._column.type) and self._column.type.get_field_index("bytes") >= 0
        if not (self._is_text or is_bytes or is_struct):
            raise ProspectError(
                f"{path}: column {name!r} is {self._column.type}, expected base64 text, bytes, or a struct with 'bytes'"
            )

    def __len__(self) -> int:
        return len(self._column)

    def read(self, index: int) -> bytes:
        """The stored image bytes of frame `index`, untouched."""
        if not 0 <= index < len(self):
            raise ProspectError(f"{self.path}: found frame index {index}, expected 0..{len(self) - 1}")
        value = self._column[index].as_py()
        if isinstance(value, dict):
            value = value["bytes"]
        if self._is_text and value is not None:
            try:
                value = base64.b64decode(value, validate=True)
            except binascii.Error as error:
                raise ProspectError(f"{self.path} frame {index}: not valid base64 ({error})") from None
        if not value:
            raise ProspectError(f"{self.path} frame {index}: found an empty value, expected image bytes")
        return bytes(value)

    def stored_bytes(self, first: int, last: int) -> int:
        """Bytes of the images of frames first..last (inclusive), within three a frame for base64."""
        values = self._column.slice(first, last - first + 1)
        if pa.types.is_struct(values.type):
            values = pc.struct_field(values, "bytes")
        total = pc.sum(pc.binary_length(values)).as_py() or 0
        return total * 3 // 4 if self._is_text else total


@lru_cache(maxsize=MAX_OPEN_FILES)
def open_frames(path: Path) -> FrameFile:
    """`FrameFile(path)`, from a bounded cache of open files in this process."""
    return FrameFile(path)


def find_frames_file(frames_file: str, roots: Sequence[Path]) -> Path:
    """Where the Arrow file that an annotation names lies: under the first root that has its longest matching suffix.

    Raises:
        ProspectError: it is under none of them; the message lists the places tried.
    """
    parts = PurePosixPath(frames_file).parts
    if Path(frames_file).is_absolute():
        if Path(frames_file).is_file():
            return Path(frames_file)
        parts = parts[1:]
    for root in roots:
        for first in range(len(parts)):
            candidate = root.joinpath(*parts[first:])
            if candidate.is_file():
                return candidate
    tried = ", ".join(str(root) for root in roots)
    raise ProspectError(
        f"frames file {frames_file!r} not found: tried it, and every shorter suffix of it, under {tried}; pass "
        "--frames-root (data.frames_root in train) with the folder that holds it"
    )


def search_roots(frames_root: Path | None, data_root: Path | None, dataset: str) -> list[Path]:
    """The folders searched for frames files, in order (DESIGN §3)."""
    roots = [frames_root] if frames_root else []
    if data_root:
        roots += [data_root / dataset, data_root]
    return [root.absolute() for root in (*roots, Path())]
