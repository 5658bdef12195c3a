"""One shard: a USTAR tar of turn samples under its final name only once complete, and its index rows.

The bytes depend on the clips and options alone: mtime 0, no owner, members in order. A shard counts as finished when
its rows file (written after the tar has its name) stands in the build's work folder; its metadata has the tar's size
and checksum, and the frames files that went into it.
"""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.annotations.clips import Clip
from pipeline.errors import ProspectError
from pipeline.io.frame_store import FrameFile
from pipeline.io.storage import Folder
from pipeline.shards.expand import samples_of
from pipeline.shards.inputs import FramesSource
from pipeline.shards.manifest import SCHEMA, WrittenMember, covered_turns, index_row
from pipeline.shards.sample import MAX_MEMBER_BYTES, TurnSample, encode


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """What the manifest says of one shard."""

    name: str
    bytes: int
    sha256: str
    samples: int
    clips: int


def write_shard(
    folder: Folder,
    rows: Folder,
    name: str,
    clips: Iterable[tuple[Clip, FrameFile | None]],
    max_silent_frames: int,
    max_event_frames: int,
    digest: str = "",
) -> ShardInfo:
    """Write FOLDER/NAME and, into the folder `rows`, its index rows.

    Args:
        clips: each with its frames file where its frames are to be embedded.
        digest: of what the shard is made from; remembered for `read_finished`.
    """
    table: list[dict[str, Any]] = []
    frames_files: dict[str, FramesSource] = {}
    num_clips = 0
    with folder.new_file(name) as path, path.open("wb") as file:
        hashing = _HashingFile(file)
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.USTAR_FORMAT) as tar:  # type: ignore[call-overload]
            for clip, frames in clips:
                num_clips += 1
                covered = 0
                if frames and clip.frames_file not in frames_files:
                    frames_files[clip.frames_file] = FramesSource.of(frames.path, clip.frames_file)
                for sample in samples_of(clip, max_silent_frames, max_event_frames):
                    members = [_append(tar, member, data) for member, data in _members(sample, frames)]
                    table.append(index_row(sample, covered, name, members))
                    covered = covered_turns(sample)
        for embedded in frames_files.values():
            if not embedded.is_unchanged:
                raise ProspectError(f"{embedded.path}: was changed while it was read; run the same command again")
    info = ShardInfo(name, hashing.size, hashing.hash.hexdigest(), len(table), num_clips)
    frames_records = [f.as_record() for f in frames_files.values()]
    meta = {"shard": json.dumps(asdict(info)), "frames": json.dumps(frames_records), "plan": digest}
    with rows.new_file(rows_name(name)) as path:
        pq.write_table(pa.Table.from_pylist(table, schema=SCHEMA.with_metadata(meta)), path)
    return info


def rows_name(shard: str) -> str:
    return f"{shard}.parquet"


def read_rows(rows: Folder, shard: str) -> tuple[pa.Table, list[FramesSource]]:
    """Read a finished shard's index rows, and the frames files that it embeds."""
    table = _read_table(rows, shard)
    frames = json.loads(table.schema.metadata[b"frames"])
    return table.replace_schema_metadata(None), [FramesSource.from_record(record) for record in frames]


def read_finished(
    folder: Folder, rows: Folder, shard: str, digest: str, find: Callable[[str], Path]
) -> ShardInfo | None:
    """Read what is known of a shard that an earlier run finished; None when it has to be written (again).

    Args:
        digest: of what the shard is to be made from now.
        find: where the frames file of a name is now; one that moved or changed since means writing again.
    """
    if rows.size(rows_name(shard)) is None:
        return None
    try:
        table = _read_table(rows, shard)
        meta = table.schema.metadata or {}
        info = ShardInfo(**json.loads(meta[b"shard"]))
        frames = [FramesSource.from_record(record) for record in json.loads(meta[b"frames"])]
        is_same = meta[b"plan"] == digest.encode() and table.schema.equals(SCHEMA) and len(table) == info.samples
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None  # damaged: not finished
    is_same = is_same and folder.size(shard) == info.bytes
    return info if is_same and all(f.is_unchanged and find(f.source.name) == Path(f.path) for f in frames) else None


def _read_table(rows: Folder, shard: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(rows.read(rows_name(shard))))


def _members(sample: TurnSample, frames: FrameFile | None) -> Iterable[tuple[str, bytes]]:
    yield f"{sample.key}.json", encode(sample)
    if frames is not None:
        for position, index in enumerate(sample.frames):
            yield f"{sample.key}.{position:03d}.jpg", frames.read(index)


def _append(tar: tarfile.TarFile, name: str, data: bytes) -> WrittenMember:
    if len(data) > MAX_MEMBER_BYTES:
        raise ProspectError(f"{name}: found {len(data)} bytes, expected at most {MAX_MEMBER_BYTES}; divide the clip")
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mtime = 0
    header = tar.offset
    try:
        tar.addfile(member, io.BytesIO(data))
    except ValueError as error:
        raise ProspectError(f"{name}: does not fit a USTAR header ({error})") from None
    return WrittenMember(name, header + tarfile.BLOCKSIZE, len(data), zlib.crc32(data))


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
