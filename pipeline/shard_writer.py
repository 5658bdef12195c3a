"""One shard: a USTAR tar of turn samples under its final name only once complete, and its index rows beside it.

The bytes depend on the clips and options alone: mtime 0, no owner, members in order. A shard counts as finished when
its rows file (written after the tar was renamed) stands in the build folder; its metadata has the tar's checksum.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.clips import Clip
from pipeline.errors import ProspectError
from pipeline.expand import expand
from pipeline.frame_store import FrameFile
from pipeline.manifest import SCHEMA, covered_turns, index_row
from pipeline.sample import TurnSample, encode


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """What the manifest says of one shard."""

    name: str
    bytes: int
    sha256: str
    samples: int
    clips: int


def write_shard(
    folder: Path, rows_path: Path, name: str, clips: Iterable[tuple[Clip, FrameFile | None]], max_silent_frames: int
) -> ShardInfo:
    """Write FOLDER/NAME and its index rows; a clip's frames file is given when its frames are to be embedded."""
    partial = folder / f"{name}.partial"
    rows: list[dict[str, Any]] = []
    num_clips = 0
    with partial.open("wb") as file:
        hashing = _HashingFile(file)
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
            for clip, frames in clips:
                num_clips += 1
                covered = 0
                for sample in expand(clip, max_silent_frames):
                    members = [_append(tar, member, data) for member, data in _members(sample, frames)]
                    rows.append(index_row(sample, covered, name, members))
                    covered = covered_turns(sample)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / name)
    info = ShardInfo(name, hashing.size, hashing.hash.hexdigest(), len(rows), num_clips)
    _write_rows(rows_path, rows, info)
    return info


def read_finished(folder: Path, rows_path: Path) -> ShardInfo | None:
    """What is known of a shard that an earlier run finished; None when it has to be written."""
    if not rows_path.is_file():
        return None
    meta = pq.read_schema(rows_path).metadata
    info = ShardInfo(
        meta[b"name"].decode(),
        int(meta[b"bytes"]),
        meta[b"sha256"].decode(),
        int(meta[b"samples"]),
        int(meta[b"clips"]),
    )
    tar = folder / info.name
    return info if tar.is_file() and tar.stat().st_size == info.bytes else None


def _members(sample: TurnSample, frames: FrameFile | None) -> Iterable[tuple[str, bytes]]:
    yield f"{sample.key}.json", encode(sample)
    if frames is not None:
        for position, index in enumerate(sample.frames):
            yield f"{sample.key}.{position:03d}.jpg", frames.read(index)


def _append(tar: tarfile.TarFile, name: str, data: bytes) -> tuple[str, int, int]:
    """Returns the member's name, the offset of its bytes, and its size."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mtime = 0
    header = tar.offset
    try:
        tar.addfile(member, io.BytesIO(data))
    except ValueError as error:
        raise ProspectError(f"{name}: does not fit a USTAR header ({error})") from None
    return name, header + tarfile.BLOCKSIZE, len(data)


def _write_rows(path: Path, rows: list[dict[str, Any]], info: ShardInfo) -> None:
    meta = {field: str(getattr(info, field)) for field in info.__slots__}
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(meta))
    partial = path.with_name(f"{path.name}.partial")
    pq.write_table(table, partial)
    partial.replace(path)


class _HashingFile:
    """The write end that tarfile's stream mode needs; hashes and counts what passes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._file.write(data)
