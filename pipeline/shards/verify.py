"""Is a build what its manifest and index say? Every checksum, count, key, offset, label and frame reference.

Nothing is trusted because something else agrees with it: shards are read as plain tars, the index as plain parquet.
Problems are collected, not raised, so that one report names them all.
"""

import hashlib
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import Problem, ProspectError
from pipeline.io.frame_store import find_frames_file, open_frames
from pipeline.io.images import ERRORS, rgb_pixels
from pipeline.io.storage import Folder, sha256_in
from pipeline.progress import Progress, unwatched
from pipeline.shards import manifest as m
from pipeline.shards.expand import expand
from pipeline.shards.index import parse_index
from pipeline.shards.manifest import covered_turns
from pipeline.shards.reader import Member, ShardFile, read_groups, read_members
from pipeline.shards.sample import KINDS, TurnSample, decode, encode, rebuild_clip


@dataclass(slots=True)
class Verified:
    """What was looked at, and what is wrong with it."""

    shards: int = 0
    samples: int = 0
    frames: int = 0
    problems: list[Problem] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)  # of samples, over all shards
    unreadable: set[str] = field(default_factory=set)  # frames files; each is reported once

    def add(self, file: str, key: str, what: str, found: object, expected: object) -> None:
        self.problems.append(Problem(file, key, "", what, str(found), str(expected)))


def verify_split(folder: Folder, roots: Sequence[Path], progress: Progress, only: str | None = None) -> Verified:
    """Check a finished build; `roots` are searched for frames files where the images are not embedded.

    Args:
        only: the name of one shard, which alone is checked, against manifest and index.

    Raises:
        ProspectError: there is no manifest.
    """
    manifest = m.read_manifest(folder)
    verified, kinds, num_clips = Verified(), Counter[str](), 0
    index = _read_index(folder, manifest, verified)
    end = 0
    for number, shard in enumerate(manifest.shards):
        start, end = end, end + shard.samples
        if only not in (None, shard.name):
            continue
        _check_file(folder, shard, verified)
        rows = index[start:end].to_dicts() if index is not None else None
        file = ShardFile(folder, shard.name, shard.bytes)
        clips = _check_samples(file, rows, manifest.options.embed_frames, roots, verified)
        samples = [sample for clip in clips for sample in clip]
        kinds.update(sample.kind for sample in samples)
        num_clips += len(clips)
        for what, found in (("samples", len(samples)), ("clips", len(clips))):
            if found != getattr(shard, what):
                verified.add(shard.name, "", what, found, f"{getattr(shard, what)}, the manifest's")
        progress("verifying shards", number + 1, len(manifest.shards))
    if only is None:
        _check_manifest(folder, manifest, kinds, num_clips, verified)
    return verified


def verify_shard(shard: ShardFile, roots: Sequence[Path]) -> Verified:
    """Check one shard: against manifest and index where it stands beside them, else what it says by itself."""
    if shard.folder.has(m.MANIFEST) and shard.name in m.read_manifest(shard.folder).by_name:
        return verify_split(shard.folder, roots, unwatched, only=shard.name)
    verified = Verified()
    _check_end(shard, verified)
    _check_samples(shard, None, _has_images(shard), roots, verified)
    return verified


def _check_manifest(
    folder: Folder, manifest: m.Manifest, kinds: Counter[str], num_clips: int, verified: Verified
) -> None:
    """What the manifest adds up, and that no shard is there which it does not list."""
    counted = {"num_clips": num_clips, "num_samples": sum(kinds.values())}
    for what, count in counted.items():
        if getattr(manifest, what) != count:
            verified.add(m.MANIFEST, "", what, getattr(manifest, what), f"{count}, the shards'")
    for kind in KINDS:
        if kinds[kind] != manifest.kinds.get(kind):
            verified.add(m.MANIFEST, "", f"kinds.{kind}", manifest.kinds.get(kind), f"{kinds[kind]}, the shards'")
    for name in folder.names():
        if name.endswith(".tar") and name not in manifest.by_name:
            verified.add(name, "", "file", "a shard", "nothing, as the manifest does not list it")


def _read_index(folder: Folder, manifest: m.Manifest, verified: Verified) -> pl.DataFrame | None:
    """The index, its values unchecked: each row is held against its sample; None when it cannot be used."""
    where = f"{folder}/{m.INDEX}"
    try:
        data = folder.read(m.INDEX, 2 * manifest.index.bytes + 1_000_000)  # another than the built one is looked at too
        digest = hashlib.sha256(data).hexdigest()
        if digest != manifest.index.sha256:
            verified.add(m.INDEX, "", "sha256", digest[:12], manifest.index.sha256[:12])
        return parse_index(data, where, manifest.num_samples)
    except (OSError, ProspectError) as error:
        verified.add(m.INDEX, "", "file", str(error).removeprefix(f"{where}: ").splitlines()[0], "a readable index")
        return None


def _check_file(folder: Folder, shard: m.ShardRecord, verified: Verified) -> None:
    """Size and checksum."""
    size = folder.size(shard.name)
    if size is None:
        verified.add(shard.name, "", "file", "nothing", "the shard that the manifest lists")
        return
    if size != shard.bytes:
        verified.add(shard.name, "", "bytes", size, shard.bytes)
    digest = sha256_in(folder, shard.name, max(size, shard.bytes))
    if digest != shard.sha256:
        verified.add(shard.name, "", "sha256", digest[:12], shard.sha256[:12])


def _check_end(shard: ShardFile, verified: Verified) -> None:
    """A tar ends in two blocks of zeros; one that was cut between two members is read without complaint."""
    end = b""
    with shard.folder.open(shard.name) as file:
        while data := file.read(1 << 20):
            end = (end + data)[-2 * tarfile.BLOCKSIZE :]
    if end.strip(b"\0") or len(end) < 2 * tarfile.BLOCKSIZE:
        verified.add(shard.name, "", "end", "other bytes", "two blocks of zeros: the file is cut short or damaged")


def _has_images(shard: ShardFile) -> bool:
    """Whether a shard that no manifest describes was built with --embed-frames: some image is in it."""
    with suppress(ProspectError):
        return any(not member.name.endswith(".json") for member in read_members(shard))
    return False


def _check_samples(
    shard: ShardFile, rows: list[dict[str, Any]] | None, embedded: bool, roots: Sequence[Path], verified: Verified
) -> list[list[TurnSample]]:
    """Check each sample, its row and its frames, and the clips that they make; returns those that could be read."""
    verified.shards += 1
    clips: list[list[TurnSample]] = []
    made: list[dict[str, Any]] = []  # the index rows that the samples make
    covered = count = 0
    for sample, members in _readable(shard, verified):
        if not clips or sample.clip.id != clips[-1][0].clip.id:
            clips.append([])
            covered = 0
        clips[-1].append(sample)
        written = [m.WrittenMember(e.name, e.offset, len(e.data), zlib.crc32(e.data)) for e in members]
        made.append(m.index_row(sample, covered, shard.name, written))
        covered, count = covered_turns(sample), count + 1
        _check_member(shard.name, sample, members[0], verified)
        _check_frames(shard.name, sample, members[1:], embedded, roots, verified)
    first = 0
    for clip in clips:
        _check_clip(shard.name, clip, verified)
        if made[first]["clip"]:  # whose progress texts its last sample alone has
            made[first]["clip"]["progress"] = m.progress_records(clip[-1].clip)
        first += len(clip)
    for row, expected in zip(rows or (), made, strict=False):
        for name, value in expected.items():
            if row[name] != value:
                verified.add(m.INDEX, row["key"], name, row[name], f"{value}, as in {shard.name}")
    if rows is not None and count != len(rows):
        verified.add(shard.name, "", "samples", count, f"{len(rows)}, the index's rows")
    verified.samples += count
    return clips


def _readable(shard: ShardFile, verified: Verified) -> Iterator[tuple[TurnSample, list[Member]]]:
    """Each sample that can be read; the others are problems."""
    try:
        for members in read_groups(shard):
            where = members[0].name
            try:
                yield decode(members[0].data, where), members
            except ProspectError as error:
                verified.add(shard.name, where, "sample", str(error).removeprefix(f"{where}: "), "a readable sample")
    except ProspectError as error:
        verified.add(shard.name, "", "tar", str(error).removeprefix(f"{shard}").lstrip(": "), "readable turn samples")


def _check_member(file: str, sample: TurnSample, member: Member, verified: Verified) -> None:
    """The sample's JSON is what its own fields make: labels, prompt and frame indices follow from the others."""
    if member.name != f"{sample.key}.json":
        verified.add(file, sample.key, "member", member.name, f"{sample.key}.json")
    if sample.key in verified.keys:
        verified.add(file, sample.key, "key", "a second sample of it", "each key once")
    verified.keys.add(sample.key)
    try:
        made = encode(sample)
    except (ValueError, TypeError) as error:
        verified.add(file, sample.key, "sample", error, "a turn sample")
        return
    if made != member.data:
        place = next((i for i, (a, b) in enumerate(zip(member.data, made, strict=False)) if a != b), 0)
        found, expected = (
            data[max(place - 30, 0) : place + 30].decode(errors="replace") for data in (member.data, made)
        )
        verified.add(file, sample.key, "sample", f"...{found}...", f"...{expected}...")


def _check_frames(
    file: str, sample: TurnSample, images: list[Member], embedded: bool, roots: Sequence[Path], verified: Verified
) -> None:
    verified.frames += len(sample.frames)
    if embedded:
        names = [f"{sample.key}.{position:03d}.jpg" for position in range(len(sample.frames))]
        if [image.name for image in images] != names:
            verified.add(file, sample.key, "images", f"{len(images)} members", f"{len(names)}: one a frame")
        for member in images:
            try:
                rgb_pixels(member.data)
            except ERRORS as error:
                verified.add(file, sample.key, member.name, error, "an image that can be decoded")
        return
    name = sample.clip.frames_file
    if name in verified.unreadable:
        return
    try:
        rows = len(open_frames(find_frames_file(name, roots)))
    except ProspectError as error:
        verified.unreadable.add(name)
        verified.add(file, sample.key, "frames.file", repr(name), f"a readable frames file ({error})")
        return
    if sample.end_frame >= rows:
        verified.add(file, sample.key, "frames.indices", sample.end_frame, f"at most {rows - 1}, its file's last row")


def _check_clip(file: str, samples: list[TurnSample], verified: Verified) -> None:
    """The samples make a clip, and that clip makes these samples."""
    try:
        clip = rebuild_clip(samples)
        longest = [
            max((len(sample.frames) for sample in samples if (sample.kind == "silent") == silent), default=1)
            for silent in (True, False)
        ]
        again = expand(clip, *longest)
    except ValueError as error:
        verified.add(file, samples[0].clip.id, "clip", str(error), "all samples of a clip, one after the other")
        return
    for found, expected in zip_longest(samples, again):
        if found is None or expected is None or encode(found) != encode(expected):
            about = [s and f"{s.kind} {s.start_frame}..{s.end_frame} before {s.next}" for s in (found, expected)]
            key = (found or expected).key
            verified.add(file, key, "sample", f"{about[0]} that its clip does not make", f"{about[1]}, its clip's")
            return
