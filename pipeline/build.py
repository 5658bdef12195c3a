"""build-shards: clips -> turn shards, index.parquet and manifest.json. Read this first.

1. Fingerprint the annotation file and options; a finished build with the same one is left as it is.
2. Pass one (`plan.py`): check every clip, spool the valid ones, cut them into shards. Problems stop here.
3. Pass two (`shard_writer.py`): workers write shards, each under its name only once complete. A rerun keeps those that
   an interrupted run finished.
4. The index from the shards' rows, then the manifest, last.

The same input and options give the same bytes, whatever the number of workers and however often it was interrupted.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline import manifest as m
from pipeline import sample as s
from pipeline.clips import Clip
from pipeline.engine import run_tasks
from pipeline.errors import InvalidInput, ProspectError
from pipeline.frame_store import FrameFile, find_frames_file, open_frames, search_roots
from pipeline.plan import Options, Plan, Progress, ShardRange, annotation_file, read_spool, scan, skipped_by_field
from pipeline.shard_writer import ShardInfo, read_finished, write_shard


@dataclass(frozen=True, slots=True)
class Build:
    """The outcome: where, what the manifest says, and whether anything had to be done."""

    folder: Path
    manifest: dict[str, Any]
    up_to_date: bool


@dataclass(frozen=True, slots=True)
class _ShardTask:
    folder: Path
    name: str
    spool: Path
    clips: ShardRange
    max_silent_frames: int
    embed_frames: bool
    roots: tuple[Path, ...]

    @property
    def rows_path(self) -> Path:
        return self.spool.parent / f"{self.name}.parquet"


def build_split(
    data_root: Path,
    dataset: str,
    split: str,
    out: Path,
    *,
    frames_root: Path | None = None,
    options: Options = Options(),  # noqa: B008 (frozen)
    workers: int = 1,
    force: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Build:
    """Build OUT/DATASET/SPLIT.

    Raises:
        InvalidInput: some clips have problems and `options.on_invalid` is "error"; nothing was written.
        ProspectError: the input is missing or unreadable, or OUT has another build (the message says how to go on).
    """
    source = annotation_file(data_root, dataset, split)
    folder = out / dataset / split
    sources = [{"name": source.name, "bytes": source.stat().st_size, "sha256": m.sha256_of(source)}]
    fingerprint = _fingerprint(options, sources)
    work = folder.parent / f".{split}.build"  # spool and rows of a build under way; gone once the manifest stands
    if not force and (folder / m.MANIFEST).is_file():
        manifest = m.read_manifest(folder)
        _refuse_other(folder, manifest["fingerprint"], fingerprint)
        return Build(folder, manifest, up_to_date=True)
    roots = search_roots(frames_root, data_root, dataset)
    is_new = _start(folder, work, fingerprint, force)
    spool = work / "clips.jsonl"

    try:
        plan = scan(source, split, spool, options, roots, partial(progress, "checking clips"))
        _stop_on_problems(plan, options)
    except ProspectError:
        if is_new:
            _undo_start(work, out)
        raise
    if is_new and folder.exists():
        shutil.rmtree(folder)  # --force; not before the input is known to be good
    folder.mkdir(exist_ok=True)
    tasks = [
        _ShardTask(
            folder, f"{split}-{n:06d}.tar", spool, clips, options.max_silent_frames, options.embed_frames, (*roots,)
        )
        for n, clips in enumerate(plan.shards)
    ]
    shards: list[ShardInfo] = []
    for shard in run_tasks(_write_or_keep, tasks, workers):
        shards.append(shard)
        progress("writing shards", len(shards), len(tasks))

    kinds = _write_index(folder, tasks)
    manifest = {
        "format": m.FORMAT,
        "sample_format": s.FORMAT,
        "dataset": dataset,
        "split": split,
        "fingerprint": fingerprint,
        "options": asdict(options),
        "sources": sources,
        "num_clips": sum(shard.clips for shard in shards),
        "num_samples": sum(shard.samples for shard in shards),
        "kinds": kinds,
        "skipped_by_field": skipped_by_field(plan.skipped),
        "skipped": plan.skipped,
        "shards": [asdict(shard) for shard in shards],
    }
    m.write_atomically(folder / m.MANIFEST, m.json_bytes(manifest))
    shutil.rmtree(work)
    return Build(folder, manifest, up_to_date=False)


def _fingerprint(options: Options, sources: list[dict[str, Any]]) -> str:
    record = {"format": m.FORMAT, "sample": s.FORMAT, "options": asdict(options), "sources": sources}
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _refuse_other(folder: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ProspectError(
            f"{folder}: found shards of another input or other options (fingerprint {found[:12]}, expected "
            f"{expected[:12]}); pass --force to build them again, or another --out"
        )


def _start(folder: Path, work: Path, fingerprint: str, force: bool) -> bool:
    """Open the work folder, or take up an interrupted build of the same plan. True when it starts from nothing."""
    record = work / "fingerprint"
    if not force and record.is_file():
        _refuse_other(folder, record.read_text(), fingerprint)
        for partial in folder.glob("*.partial"):
            partial.unlink()
        return False
    if not force and folder.exists() and any(folder.iterdir()):
        raise ProspectError(
            f"{folder}: found files but neither a manifest nor an interrupted build; pass --force to remove them, "
            "or another --out"
        )
    if work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True)
    m.write_atomically(record, fingerprint.encode())
    return True


def _undo_start(work: Path, out: Path) -> None:
    """Remove the work folder, and the folders above it up to `out` that are empty then."""
    shutil.rmtree(work)
    for folder in (work.parent, out):
        if not any(folder.iterdir()):
            folder.rmdir()


def _stop_on_problems(plan: Plan, options: Options) -> None:
    if plan.problems and options.on_invalid == "error":
        count = len(plan.skipped)
        raise InvalidInput(
            plan.problems,
            f"{count} of {plan.num_clips} clips affected; correct them, or leave them out with --on-invalid skip",
        )
    if not plan.shards:
        raise ProspectError(f"found no valid clip among {plan.num_clips}, expected at least one; nothing was written")


def _write_or_keep(task: _ShardTask) -> ShardInfo:
    """Runs in a worker process."""
    finished = read_finished(task.folder, task.rows_path)
    if finished:
        return finished
    return write_shard(task.folder, task.rows_path, task.name, _clips(task), task.max_silent_frames)


def _clips(task: _ShardTask) -> Iterator[tuple[Clip, FrameFile | None]]:
    for clip in read_spool(task.spool, task.clips):
        embed = task.embed_frames
        yield clip, open_frames(find_frames_file(clip.frames_file, task.roots)) if embed else None


def _write_index(folder: Path, tasks: list[_ShardTask]) -> dict[str, int]:
    """index.parquet, a row group a shard, from the rows of the shards. Returns the counts by kind."""
    kinds: Counter[str] = Counter({kind: 0 for kind in s.KINDS})
    partial = folder / f"{m.INDEX}.partial"
    with pq.ParquetWriter(partial, m.SCHEMA, compression="zstd") as writer:
        for task in tasks:
            table = pq.read_table(task.rows_path).replace_schema_metadata(None)
            kinds.update(table.column("kind").to_pylist())
            writer.write_table(table, row_group_size=table.num_rows)
    partial.replace(folder / m.INDEX)
    return dict(kinds)
