"""Videos to frames files: Arrow IPC streams of JPEG images at a constant rate, one file a video.

Row k shows what a viewer would see at k / fps seconds (`pipeline/video/`). A file appears only complete; it carries
what it was made from, so a rerun keeps it, and the shape in which the video is shown.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import ProspectError
from pipeline.importers.video_names import Source
from pipeline.io.engine import Engine
from pipeline.io.frame_store import SHAPE
from pipeline.io.storage import LocalFolder
from pipeline.progress import Progress
from pipeline.video.clock import exact_rate
from pipeline.video.rows import Rows, rows_of
from pipeline.video.settings import Settings
from pipeline.video.source import file_place

SCHEMA = pa.schema([("frame", pa.binary()), ("index", pa.int64()), ("time", pa.float64())])
BATCH_ROWS = 64
ENDS_BYTES = 1 << 20  # of a video, at either end, that tell it from another of its size
CLOCK = 2  # changes where the same video and settings give other rows than before


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one frames file."""

    source: Source
    rows: int
    error: str = ""  # why there is no frames file
    kept: bool = False  # it was there from an earlier run
    note: str = ""  # what is odd about the video


@dataclass(frozen=True, slots=True)
class _Task:
    source: Source
    out: Path
    settings: Settings
    force: bool


def extract_frames(
    sources: Sequence[Source], out: Path, settings: Settings, engine: Engine, progress: Progress, force: bool = False
) -> list[Outcome]:
    """Write OUT/NAME.arrow for each source; a broken one has its error in its outcome, and the others go on."""
    LocalFolder(out).remove_abandoned()
    tasks = [_Task(source, out, settings, force) for source in sources]
    outcomes: list[Outcome] = []
    for outcome in engine.map(_extract, tasks):
        outcomes.append(outcome)
        progress("extracting frames", len(outcomes), len(tasks))
    return outcomes


def _extract(task: _Task) -> Outcome:
    """Runs in a worker."""
    name = f"{task.source.name}.arrow"
    try:
        places = [file_place(video) for video in task.source.videos]
        made_from = _made_from(task)
        if not task.force and (task.out / name).exists():
            return Outcome(task.source, _rows_there(task.out / name, made_from), kept=True)
        with LocalFolder(task.out).new_file(name) as path:
            with rows_of(places, task.settings) as rows:
                shape = dict(zip(SHAPE, (str(side).encode() for side in rows.shape), strict=True))
                schema = SCHEMA.with_metadata(made_from | shape)
                with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                    count = _write(rows, task.settings, writer)
            return Outcome(task.source, count, note=rows.gaps.text())
    except (ProspectError, IsADirectoryError, PermissionError) as error:
        return Outcome(task.source, 0, error=str(error))


def _rows_there(path: Path, made_from: dict[bytes, bytes]) -> int:
    """Rows of a frames file of an earlier run.

    Raises:
        ProspectError: it is none, or was made from something else.
    """
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
            metadata, rows = reader.schema.metadata or {}, sum(batch.num_rows for batch in reader)
    except (OSError, pa.ArrowInvalid):
        raise ProspectError(f"{path}: is there, but is no frames file of ours; remove it, or pass --force") from None
    if {key: value for key, value in metadata.items() if key not in SHAPE} != made_from:
        raise ProspectError(
            f"{path}: was made from another video, with other settings or by an earlier version; --force makes it again"
        )
    return rows


def _made_from(task: _Task) -> dict[bytes, bytes]:
    """What a frames file depends on: the videos by size and by their ends, and the settings."""
    size, digest = 0, hashlib.blake2b(digest_size=16)
    for video in task.source.videos:
        bytes_here = video.stat().st_size
        with video.open("rb") as file:
            digest.update(file.read(ENDS_BYTES))
            file.seek(max(bytes_here - ENDS_BYTES, 0))
            digest.update(file.read())
        size += bytes_here
    settings = task.settings
    about = {
        "video": " + ".join(video.name for video in task.source.videos), "bytes": size, "ends": digest.hexdigest(),
        "fps": settings.fps, "size": settings.size, "quality": settings.quality, "turn": settings.turn,
        "crop": settings.crop, "clock": CLOCK,
    }  # fmt: skip
    return {f"frames.{key}".encode(): str(value).encode(errors="backslashreplace") for key, value in about.items()}


def _write(rows: Rows, settings: Settings, writer: Any) -> int:
    """Decode the video and write its rows; returns how many."""
    rate, count, batch = exact_rate(settings.fps), 0, list[dict[str, Any]]()
    for count, jpeg in enumerate(rows.jpegs, 1):
        batch.append({"frame": jpeg, "index": count - 1, "time": float((count - 1) / rate)})
        if len(batch) == BATCH_ROWS:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
            batch = []
    if batch:
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    return count
