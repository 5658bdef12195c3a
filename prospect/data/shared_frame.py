"""Large data frames go to worker processes as a file that all of them map, not as a copy for each.

The file has no name, so nothing is left of it, whatever ends this process; its pages can be dropped where memory is
short, and read again.
"""

import os
import tempfile
import weakref
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.ipc

LARGE = 1 << 24  # bytes: what is smaller is sent
_files: dict[int, int] = {}  # id of a frame -> descriptor of its file


def share_large_frames() -> None:
    """Teach it to multiprocessing's own pickler, as torch does for tensors."""
    ForkingPickler.register(pl.DataFrame, _reduce)


def _reduce(frame: pl.DataFrame) -> Any:
    if frame.estimated_size() < LARGE:
        return frame.__reduce_ex__(4)
    try:
        return _mapped, (DupFd(_file_of(frame)),)
    except (OSError, pl.exceptions.PolarsError):  # no room for a file
        return frame.__reduce_ex__(4)


def _file_of(frame: pl.DataFrame) -> int:
    """Write a frame once, for all workers; the file is there as long as the frame is."""
    key = id(frame)
    if key not in _files:
        with tempfile.TemporaryFile() as file:
            frame.write_ipc(file)
            file.flush()
            _files[key] = os.dup(file.fileno())
        weakref.finalize(frame, _close, key)
    return _files[key]


def _close(key: int) -> None:
    os.close(_files.pop(key))


def _mapped(descriptor: Any) -> pl.DataFrame:
    number = descriptor.detach()
    try:
        with pa.memory_map(f"/proc/self/fd/{number}") as file:
            frame = pl.from_arrow(pa.ipc.open_file(file).read_all(), rechunk=False)  # polars' own reader copies
    finally:
        os.close(number)
    assert isinstance(frame, pl.DataFrame)
    return frame
