"""build-shards: clips -> turn shards, index.parquet and manifest.json. Read this first.

1. Fingerprint the annotation file and options; a finished build with the same one is left as it is.
2. Pass one (`scan.py`): check every clip, spool the valid ones, cut them into shards. Problems stop here.
3. Pass two (`writer.py`): workers write shards, each under its name only once complete. A rerun keeps those that
   an interrupted run finished.
4. The index from the shards' rows, then the manifest, last.

The same input and options give the same bytes, whatever the engine and the number of workers, and however often it was
interrupted.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.annotations.clips import Clip
from pipeline.annotations.files import annotation_file, other_annotations
from pipeline.annotations.filters import keys_of, told
from pipeline.annotations.json_files import read_raw_clips
from pipeline.errors import InvalidInput, ProspectError
from pipeline.io.engine import Engine, LocalEngine
from pipeline.io.frame_store import FrameFile, find_frames_file, open_frames, search_roots
from pipeline.io.remote import open_folder
from pipeline.io.storage import Folder, sha256_in, write_bytes
from pipeline.progress import Progress, unwatched
from pipeline.shards import manifest as m
from pipeline.shards import sample as s
from pipeline.shards.inputs import FramesSource, Source, SourceHashes
from pipeline.shards.places import (
    clear_stopped,
    folders_there,
    is_shard,
    refuse_other,
    remove_build,
    remove_leftovers,
    sole_builder,
    start_build,
    undo_start,
)
from pipeline.shards.scan import Options, Scan, read_clips, scan_split, skipped_by_field
from pipeline.shards.writer import ShardInfo, read_finished, read_rows, write_shard


@dataclass(frozen=True, slots=True)
class Build:
    """The outcome: where, what the manifest says, and whether anything had to be done."""

    folder: Folder
    manifest: m.Manifest
    up_to_date: bool


@dataclass(frozen=True, slots=True)
class _ShardTask:
    folder: Folder
    work: Folder
    name: str
    clips: bytes  # the shard's range of the spool
    options: Options
    roots: tuple[Path, ...]


def build_split(
    data_root: Path,
    dataset: str,
    split: str,
    out: Path | str,
    *,
    frames_root: Path | None = None,
    options: Options = Options(),  # noqa: B008 (frozen)
    engine: Engine = LocalEngine(),  # noqa: B008 (one worker: nothing is started)
    force: bool = False,
    verify: bool = False,
    progress: Progress = unwatched,
) -> Build:
    """Build OUT/DATASET/SPLIT; `out` is a folder or a URL.

    Args:
        force: build over another build; without it, one is refused.
        verify: read every input file again instead of trusting sizes and modification times.

    Raises:
        InvalidInput: some clips have problems and `options.on_invalid` is "error"; nothing was written.
        ProspectError: the input is missing or unreadable, or OUT has another build (the message says how to go on).
    """
    annotations = annotation_file(data_root, dataset, split)
    folder = open_folder(out) / dataset / split
    hashes = SourceHashes(folder, verify)
    inputs = [annotations]
    if options.on_invalid == "skip":  # the videos of other splits are left out, so the shards depend on those
        inputs += other_annotations(annotations, split)
    sources = [hashes.source(path, path.name) for path in inputs]
    roots = tuple(search_roots(frames_root, data_root, dataset))
    work = open_folder(out) / dataset / f".{split}.build"  # of a build under way; gone once the manifest stands
    job = _Job(annotations, split, folder, work, roots, options, tuple(sources), hashes)
    if not force and folder.has(m.MANIFEST):
        return Build(folder, _checked_manifest(job, verify), up_to_date=True)
    before = folders_there(work)
    with sole_builder(work) as scratch:
        is_new = start_build(folder, work, job.fingerprint, force)
        spool = scratch / "clips.jsonl"
        try:
            scan = scan_split(annotations, split, spool, options, roots, engine, partial(progress, "checking clips"))
            hashes.refuse_changed(inputs)  # since they were hashed
            _stop_on_problems(scan, options)
            _stop_on_filters(scan, annotations)
        except BaseException:
            if is_new:
                undo_start(work, before)
            raise
        if is_new:
            remove_build(folder, split)  # --force; not before the input is known to be good
            write_bytes(work, "fingerprint", job.fingerprint.encode())
        try:
            shards, index = _write_shards(job, scan, spool, engine, partial(progress, "writing shards"))
        except BaseException:
            clear_stopped(folder, work)
            raise
        manifest = _finish(job, scan, shards, index)
        work.remove()
    return Build(folder, manifest, up_to_date=False)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is built, from what, where."""

    annotations: Path
    split: str
    folder: Folder
    work: Folder
    roots: tuple[Path, ...]  # searched for frames files
    options: Options
    sources: tuple[Source, ...]
    hashes: SourceHashes

    @property
    def fingerprint(self) -> str:
        """Of all that the bytes depend on."""
        record = {
            "format": m.FORMAT,
            "sample": s.FORMAT,
            "options": asdict(self.options),
            "sources": [asdict(source) for source in self.sources],
        }
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

    def shard_names(self, scan: Scan) -> list[str]:
        return [f"{self.split}-{number:06d}.tar" for number in range(len(scan.shards))]


def _checked_manifest(job: _Job, verify: bool) -> m.Manifest:
    """The manifest of the finished build that is there, if it is this one and nothing of it has changed."""
    manifest = m.read_manifest(job.folder)
    refuse_other(job.folder, manifest.fingerprint, job.fingerprint)
    _refuse_changed_frames(job.folder, manifest, job.hashes, job.roots)
    _refuse_changed_shards(job.folder, manifest, verify)
    job.hashes.save()
    remove_leftovers(job.work)
    return manifest


def _write_shards(
    job: _Job, scan: Scan, spool: Path, engine: Engine, progress: Callable[[int, int], None]
) -> "tuple[list[ShardInfo], _Index]":
    """Pass two: the shards, and the index beside them."""
    names = job.shard_names(scan)
    tasks = (
        _ShardTask(job.folder, job.work, name, lines, job.options, job.roots)
        for name, lines in zip(names, _ranges(spool, scan), strict=True)
    )
    shards: list[ShardInfo] = []
    index = _Index()
    with job.folder.new_file(m.INDEX) as path, pq.ParquetWriter(path, m.SCHEMA, compression="zstd") as writer:
        for shard in engine.map(_write_or_keep, tasks):
            shards.append(shard)
            index.add(writer, job.work, shard.name)  # while the workers are at the shards that follow
            progress(len(shards), len(names))
    return shards, index


def _finish(job: _Job, scan: Scan, shards: "list[ShardInfo]", index: "_Index") -> m.Manifest:
    """Remove shards that are not of this build, and write the manifest: the build is finished then."""
    folder = job.folder
    record = {
        "format": m.FORMAT,
        "sample_format": s.FORMAT,
        "dataset": job.annotations.parent.name,
        "split": job.split,
        "fingerprint": job.fingerprint,
        "options": asdict(job.options),
        "sources": [asdict(source) for source in job.sources],
        "frames_files": [asdict(index.frames[name].source) for name in sorted(index.frames)],
        "num_clips": sum(shard.clips for shard in shards),
        "num_samples": sum(shard.samples for shard in shards),
        "kinds": dict(index.kinds),
        "ranges": dict(scan.ranges),
        "num_left_out": scan.effects.num_left_out,
        "filters": [asdict(effect) for effect in scan.effects.each],
        "skipped_by_field": skipped_by_field(scan.skipped),
        "skipped": scan.skipped,
        "index": {"bytes": folder.size(m.INDEX), "sha256": hashlib.sha256(folder.read(m.INDEX)).hexdigest()},
        "shards": [asdict(shard) for shard in shards],
    }
    for file in index.frames.values():
        job.hashes.remember(Path(file.path), file.source.sha256, file.stamp)
    job.hashes.save()
    for name in set(folder.names()) - set(job.shard_names(scan)):
        if is_shard(name, job.split):
            folder.delete(name)  # of an interrupted build that had more shards
    return m.write_manifest(folder, record)


def _refuse_changed_frames(folder: Folder, manifest: m.Manifest, hashes: SourceHashes, roots: Sequence[Path]) -> None:
    """Frames files that were embedded and are still there are what they were."""
    for file in manifest.frames_files:
        try:
            path = find_frames_file(file.name, roots)
        except ProspectError:
            continue  # moved away since; the shards have its images
        if hashes.source(path, file.name) != Source(file.name, file.bytes, file.sha256):
            raise ProspectError(
                f"{folder}: its shards embed {path}, which was changed since; pass --force to build them again, or "
                "another --out"
            )


def _refuse_changed_shards(folder: Folder, manifest: m.Manifest, verify: bool) -> None:
    """The shards and the index are there, and of their size; with `verify` every byte is as written."""
    for name, record in [(m.INDEX, manifest.index), *manifest.by_name.items()]:
        size = folder.size(name)
        if size == record.bytes and verify and sha256_in(folder, name, record.bytes) != record.sha256:
            size = -1
        if size != record.bytes:
            what = {None: "nothing", -1: "other bytes"}.get(size, f"{size} bytes")
            raise ProspectError(
                f"{folder}/{name}: found {what}, expected the {record.bytes} bytes that were built; pass --force to "
                "build them again"
            )


def _stop_on_problems(scan: Scan, options: Options) -> None:
    if scan.problems and options.on_invalid == "error":
        count = len(scan.skipped)
        raise InvalidInput(
            scan.problems,
            f"nothing was written: {count} of {scan.num_clips} clips affected; correct them, or leave them out with "
            "--on-invalid skip",
        )
    if not scan.shards and not scan.effects.num_left_out:
        raise ProspectError(f"found no valid clip among {scan.num_clips}, expected at least one; nothing was written")


def _stop_on_filters(scan: Scan, annotations: Path) -> None:
    effects = scan.effects
    if unknown := effects.unknown():
        there = keys_of(read_raw_clips(annotations)) or "none"
        raise ProspectError(
            f"--where {', '.join(unknown)}: none of {effects.num_clips} clips of {annotations} has such a key; keys of "
            f"their metadata: {there}; nothing was written"
        )
    if not scan.shards:
        invalid = f"; {len(scan.skipped)} others have problems" if scan.skipped else ""
        raise ProspectError(
            f"--where: the filters leave none of {scan.num_clips} clips of {annotations}, expected at least one; left "
            f"out: {told(effects.each)}{invalid}; nothing was written"
        )


def _ranges(spool: Path, scan: Scan) -> Iterator[bytes]:
    with spool.open("rb") as file:
        for shard in scan.shards:
            file.seek(shard.start)
            yield file.read(shard.end - shard.start)


def _write_or_keep(task: _ShardTask) -> ShardInfo:
    """Runs in a worker."""
    digest = hashlib.sha256(task.clips).hexdigest()
    find = partial(find_frames_file, roots=task.roots)
    finished = read_finished(task.folder, task.work, task.name, digest, find)
    cuts = task.options.max_silent_frames, task.options.max_event_frames
    return finished or write_shard(task.folder, task.work, task.name, _clips(task), *cuts, digest)


def _clips(task: _ShardTask) -> Iterator[tuple[Clip, FrameFile | None]]:
    for clip in read_clips(task.clips):
        embed = task.options.embed_frames
        yield clip, open_frames(find_frames_file(clip.frames_file, task.roots)) if embed else None


@dataclass(slots=True)
class _Index:
    """index.parquet, a row group a shard, from the rows of the shards; and what they add up to."""

    kinds: Counter[str] = field(default_factory=lambda: Counter({kind: 0 for kind in s.KINDS}))
    frames: dict[str, FramesSource] = field(default_factory=dict)  # embedded frames files by name

    def add(self, writer: pq.ParquetWriter, work: Folder, name: str) -> None:
        """Append a finished shard's rows.

        Raises:
            ProspectError: a frames file was changed between two shards that embed it.
        """
        table, embedded = read_rows(work, name)
        self.kinds.update(table.column("kind").to_pylist())
        writer.write_table(table, row_group_size=table.num_rows)
        for file in embedded:
            if self.frames.setdefault(file.source.name, file).source != file.source:
                raise ProspectError(f"{file.path}: was changed during the build; run the same command again")
