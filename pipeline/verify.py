"""Is a build what its manifest and index say? Every checksum, count, key, offset, label and frame reference.

Nothing is trusted because something else agrees with it: shards are read as plain tars, the index as plain parquet.
Problems are collected, not raised, so that one report names them all.
"""

import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline import manifest as m
from pipeline.errors import Problem, ProspectError
from pipeline.frame_store import find_frames_file, open_frames
from pipeline.plan import Progress
from pipeline.sample import KINDS, TurnSample, rebuild_clip
from pipeline.shard_reader import Member, ShardFile, read_samples
from pipeline.storage import Folder

ROW_FIELDS = ["sample_idx", "kind", "start_frame", "end_frame", "next"]  # as in the sample
MEMBER_FIELDS = ["member_names", "data_offsets", "data_sizes", "data_crc32s"]
LABELS = ["should_update_dst", "when_to_speak"]
COLUMNS = ["shard", "key", "clip_id", "num_frames", *MEMBER_FIELDS, *LABELS, *ROW_FIELDS]


@dataclass(slots=True)
class Verified:
    """What was looked at, and what is wrong with it."""

    shards: int = 0
    samples: int = 0
    frames: int = 0
    problems: list[Problem] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)  # frames files; each is reported once

    def add(self, file: str, key: str, what: str, found: object, expected: object) -> None:
        self.problems.append(Problem(file, key, "", what, str(found), str(expected)))


def verify_split(folder: Folder, roots: Sequence[Path], progress: Progress) -> Verified:
    """Check a finished build; `roots` are searched for frames files where the images are not embedded.

    Raises:
        ProspectError: there is no manifest.
    """
    manifest = m.read_manifest(folder)
    verified, kinds = Verified(), Counter[str]()
    index = _read_index(folder, manifest, verified)
    for number, shard in enumerate(manifest["shards"], 1):
        _check_file(folder, shard, verified)
        file = ShardFile(folder, shard["name"])
        rows = index.read_row_group(number - 1, columns=COLUMNS).to_pylist() if index else None
        samples = _check_samples(file, rows, manifest["options"]["embed_frames"], roots, verified)
        kinds.update(sample.kind for sample in samples)
        clips = len({sample.clip.id for sample in samples})
        for what, found in (("samples", len(samples)), ("clips", clips)):
            if found != shard[what]:
                verified.add(shard["name"], "", what, found, f"{shard[what]}, the manifest's")
        progress("verifying shards", number, len(manifest["shards"]))
    for kind in KINDS:
        if kinds[kind] != manifest["kinds"].get(kind):
            verified.add(m.MANIFEST, "", f"kinds.{kind}", manifest["kinds"].get(kind), f"{kinds[kind]}, the shards'")
    listed = {shard["name"] for shard in manifest["shards"]}
    for name in folder.names():
        if name.endswith(".tar") and name not in listed:
            verified.add(name, "", "file", "a shard", "nothing, as the manifest does not list it")
    return verified


def verify_shard(shard: ShardFile, roots: Sequence[Path]) -> Verified:
    """Check what one shard says by itself: its samples, their clips and frames."""
    verified = Verified()
    samples = next(read_samples(shard))[1]
    _check_samples(shard, None, len(samples) > 1, roots, verified)
    return verified


def _read_index(folder: Folder, manifest: dict[str, Any], verified: Verified) -> pq.ParquetFile | None:
    """The index, a row group a shard; None when it cannot be used."""
    try:
        index = pq.ParquetFile(pa.BufferReader(folder.read(m.INDEX)))
    except (OSError, ProspectError, pa.ArrowInvalid) as error:
        verified.add(m.INDEX, "", "file", str(error).splitlines()[0], "a readable parquet file")
        return None
    for what, found, expected in (
        ("rows", index.metadata.num_rows, manifest["num_samples"]),
        ("row groups", index.num_row_groups, len(manifest["shards"])),
    ):
        if found != expected:
            verified.add(m.INDEX, "", what, found, f"{expected}, as the manifest says")
    return index if index.num_row_groups == len(manifest["shards"]) else None


def _check_file(folder: Folder, shard: dict[str, Any], verified: Verified) -> None:
    """Size and checksum, read once from beginning to end."""
    digest, size = hashlib.sha256(), 0
    try:
        with folder.open(shard["name"]) as file:
            while data := file.read(1 << 20):
                digest.update(data)
                size += len(data)
    except (FileNotFoundError, ProspectError):
        verified.add(shard["name"], "", "file", "nothing", "the shard that the manifest lists")
        return
    if size != shard["bytes"]:
        verified.add(shard["name"], "", "bytes", size, shard["bytes"])
    if digest.hexdigest() != shard["sha256"]:
        verified.add(shard["name"], "", "sha256", digest.hexdigest()[:12], shard["sha256"][:12])


def _check_samples(
    shard: ShardFile, rows: list[dict[str, Any]] | None, embedded: bool, roots: Sequence[Path], verified: Verified
) -> list[TurnSample]:
    """Check each sample against its row, its frames, and the clips that they make; returns those that could be read."""
    verified.shards += 1
    samples: list[TurnSample] = []
    clip: list[TurnSample] = []
    for sample, members in _readable(shard, verified):
        row = rows[len(samples)] if rows is not None and len(samples) < len(rows) else None
        samples.append(sample)
        verified.samples += 1
        verified.frames += len(sample.frames)
        if row is not None:
            _check_row(shard.name, sample, members, row, verified)
        _check_frames(shard.name, sample, members, embedded, roots, verified)
        if clip and sample.clip.id != clip[0].clip.id:
            _check_clip(shard.name, clip, verified)
            clip = []
        clip.append(sample)
    if clip:
        _check_clip(shard.name, clip, verified)
    if rows is not None and len(samples) != len(rows):
        verified.add(shard.name, "", "samples", len(samples), f"{len(rows)}, the index's rows")
    return samples


def _readable(shard: ShardFile, verified: Verified) -> Iterator[tuple[TurnSample, list[Member]]]:
    try:
        yield from read_samples(shard)
    except ProspectError as error:
        verified.add(shard.name, "", "tar", str(error).removeprefix(f"{shard}").lstrip(": "), "readable turn samples")


def _check_row(file: str, sample: TurnSample, members: list[Member], row: dict[str, Any], verified: Verified) -> None:
    found = {
        "shard": file,
        "key": sample.key,
        "clip_id": sample.clip.id,
        "num_frames": len(sample.frames),
        **sample.labels,
        **{name: getattr(sample, name) for name in ROW_FIELDS},
        "member_names": [member.name for member in members],
        "data_offsets": [member.offset for member in members],
        "data_sizes": [len(member.data) for member in members],
        "data_crc32s": [zlib.crc32(member.data) for member in members],
    }
    for name, value in found.items():
        if row[name] != value:
            verified.add(m.INDEX, row["key"], name, row[name], f"{value}, as in {file}")


def _check_frames(
    file: str, sample: TurnSample, members: list[Member], embedded: bool, roots: Sequence[Path], verified: Verified
) -> None:
    if members[0].name != f"{sample.key}.json":
        verified.add(file, sample.key, "member", members[0].name, f"{sample.key}.json")
    if embedded:
        names = [f"{sample.key}.{position:03d}.jpg" for position in range(len(sample.frames))]
        if [member.name for member in members[1:]] != names:
            verified.add(file, sample.key, "images", f"{len(members) - 1} members", f"{len(names)}: one a frame")
        for member in members[1:]:
            try:
                with Image.open(io.BytesIO(member.data)) as image:
                    image.load()
            except (OSError, ValueError) as error:
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
    try:
        rebuild_clip(samples)
    except ProspectError as error:
        verified.add(file, samples[0].clip.id, "clip", str(error), "all samples of a clip, one after the other")
