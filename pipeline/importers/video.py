"""Videos to frames files: Arrow IPC streams of JPEG images at a constant rate, one file a video.

The rate is kept by timestamps, so variable-frame-rate video comes out even: row k shows what a viewer would see at
k / fps seconds after the first frame, i.e. the last frame shown until then. A file appears only complete; it carries
what it was made from, so a rerun keeps it.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.errors import ProspectError
from pipeline.io.engine import Engine
from pipeline.io.storage import LocalFolder
from pipeline.progress import Progress

Item = TypeVar("Item")
SCHEMA = pa.schema([("frame", pa.binary()), ("index", pa.int64()), ("time", pa.float64())])
BATCH_ROWS = 64
ENDS_BYTES = 1 << 20  # of a video, at either end, that tell it from another of its size
MAX_MISSING_S = 2.0  # of a video's end, before it counts as cut short


@dataclass(frozen=True, slots=True)
class Settings:
    fps: float = 2.0
    size: int = 384  # pixels; frames are squares, as the model takes them
    quality: int = 90  # of the JPEGs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one video."""

    video: Path
    rows: int
    error: str = ""  # why there is no frames file
    kept: bool = False  # it was there from an earlier run


@dataclass(frozen=True, slots=True)
class _Task:
    video: Path
    out: Path
    settings: Settings
    force: bool


def extract_frames(
    videos: Sequence[Path], out: Path, settings: Settings, engine: Engine, progress: Progress, force: bool = False
) -> list[Outcome]:
    """Write OUT/STEM.arrow for each video; a broken one has its error in its outcome, and the others go on.

    Raises:
        ProspectError: two videos would share a file.
    """
    by_stem: dict[str, Path] = {}
    for video in videos:
        if video.stem in by_stem:
            raise ProspectError(f"{by_stem[video.stem]} and {video} would both become {out / video.stem}.arrow")
        by_stem[video.stem] = video
    tasks = [_Task(video, out, settings, force) for video in videos]
    outcomes: list[Outcome] = []
    for outcome in engine.map(_extract, tasks):
        outcomes.append(outcome)
        progress("extracting frames", len(outcomes), len(tasks))
    return outcomes


def at_constant_rate(shown: Iterable[tuple[Fraction, Fraction, Item]], fps: float) -> Iterator[tuple[int, Item]]:
    """Give (row, what is shown then) from (time, duration, what is shown from then on), in order of time, in seconds.

    The last is shown for its duration. Times are exact, so no row is lost to rounding. Frames at 0, 0.4, 0.6 and 1.5 s,
    the last for 0.1 s, at 2 a second: rows 0, 1 and 2 show the first, the second and the third; row 3 the last.
    """
    period, row, rows_shown = 1 / Fraction(fps).limit_denominator(1000), 0, list[Item]()
    start = end = Fraction(0)
    for time, duration, item in shown:
        if not rows_shown:
            start = time
        while rows_shown and start + row * period < time:
            yield row, rows_shown[0]
            row += 1
        rows_shown, end = [item], time + duration
    while rows_shown and (start + row * period < end or row == 0):
        yield row, rows_shown[0]
        row += 1


def _extract(task: _Task) -> Outcome:
    """Runs in a worker."""
    import av

    av.logging.set_level(av.logging.PANIC)
    name = f"{task.video.stem}.arrow"
    made_from = _made_from(task)
    try:
        if not task.force and (task.out / name).exists():
            return Outcome(task.video, _rows_there(task.out / name, made_from), kept=True)
        with LocalFolder(task.out).new_file(name) as path:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA.with_metadata(made_from)) as writer:
                rows = _write(task, writer)
            return Outcome(task.video, rows)
    except (av.FFmpegError, ProspectError, IsADirectoryError) as error:
        return Outcome(task.video, 0, error=str(error))


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
    if metadata != made_from:
        raise ProspectError(f"{path}: was made from another video or with other settings; --force makes it again")
    return rows


def _made_from(task: _Task) -> dict[bytes, bytes]:
    """What a frames file depends on: the video by size and by its ends, and the settings."""
    size = task.video.stat().st_size if task.video.is_file() else 0
    digest = hashlib.blake2b(digest_size=16)
    if size:
        with task.video.open("rb") as file:
            digest.update(file.read(ENDS_BYTES))
            file.seek(max(size - ENDS_BYTES, 0))
            digest.update(file.read())
    about = {"video": task.video.name, "bytes": size, "ends": digest.hexdigest(), **asdict(task.settings)}
    return {f"frames.{key}".encode(): str(value).encode() for key, value in about.items()}


def jpegs_of(video: Path, settings: Settings) -> Iterator[bytes]:
    """Give the rows of a video's frames file, each decoded when it is asked for.

    Raises:
        ProspectError: it has no video, or is cut short (once everything there is was given).
        av.FFmpegError: it cannot be read.
    """
    import av

    jpeg, of_frame = b"", None
    with av.open(str(video)) as container:
        if not container.streams.video:
            raise ProspectError("has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _, frame in at_constant_rate(_shown(container, stream), settings.fps):
            if frame is not of_frame:
                jpeg, of_frame = _jpeg(frame, settings), frame
            yield jpeg


def _write(task: _Task, writer: Any) -> int:
    """Decode the video and write its rows; returns how many."""
    rows, batch = 0, list[dict[str, Any]]()
    for rows, jpeg in enumerate(jpegs_of(task.video, task.settings), 1):
        batch.append({"frame": jpeg, "index": rows - 1, "time": (rows - 1) / task.settings.fps})
        if len(batch) == BATCH_ROWS:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
            batch = []
    if batch:
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=SCHEMA))
    return rows


def _shown(container: Any, stream: Any) -> Iterator[tuple[Fraction, Fraction, Any]]:
    """Time, duration and picture of each frame.

    Raises:
        ProspectError: the video has no frames, or ends well before the end that it states.
    """
    usual = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
    first = end = None
    for frame in container.decode(stream):
        if frame.pts is None:
            raise ProspectError("has frames without timestamps")
        time = frame.pts * frame.time_base
        duration = (frame.duration or 0) * frame.time_base or usual
        first, end = time if first is None else first, time + duration
        yield time, duration, frame
    if first is None or end is None:
        raise ProspectError("has no video frames")
    stated = stream.duration * stream.time_base if stream.duration else Fraction(container.duration or 0, 1_000_000)
    # Matroska states when the last frame ends, others how long the video is; they differ where it does not start at 0.
    if max(end - first, end) < stated - max(MAX_MISSING_S, 0.05 * float(stated)):
        raise ProspectError(
            f"is cut short: it states {float(stated):.1f} s, its frames end at {float(end - first):.1f} s"
        )


def _jpeg(frame: Any, settings: Settings) -> bytes:
    """The frame as a square JPEG, upright (phones store a rotation)."""
    pixels = frame.reformat(settings.size, settings.size, format="rgb24", interpolation="LANCZOS").to_ndarray()
    out = io.BytesIO()
    Image.fromarray(np.rot90(pixels, round(frame.rotation / 90))).save(out, "JPEG", quality=settings.quality)
    return out.getvalue()
