"""What stands beside the shards: index.parquet (one row a sample) and manifest.json (what was built, from what).

The index holds every text that a plan of sequences needs, so that planning opens no shard; what is the same for all
samples of a clip stands in its first row alone. Rows are in shard order, and a clip's rows follow each other.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field, StrictBool, StrictStr, ValidationError, model_validator

from pipeline.annotations.clips import Clip, clip_header
from pipeline.errors import ProspectError
from pipeline.io.storage import Folder, json_bytes, write_bytes
from pipeline.shards.checks import Count, Mismatch, Record, refusal
from pipeline.shards.sample import Kind, TurnSample, turn_record

FORMAT = "prospect.shards/3"
MANIFEST = "manifest.json"
INDEX = "index.parquet"
MAX_MANIFEST_BYTES = 64 << 20  # of some 400,000 shards

_TURNS = pa.list_(
    pa.struct([("role", pa.string()), ("text", pa.string()), ("start_frame", pa.int64()), ("end_frame", pa.int64())])
)
_CLIP = pa.struct(
    [
        ("dataset", pa.string()),
        ("video_uid", pa.string()),
        ("clip_idx", pa.int64()),
        ("fps", pa.float64()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
        ("frames_file", pa.string()),
        ("step_ids", pa.list_(pa.string())),
        ("step_names", pa.list_(pa.string())),
        ("initial_state", pa.list_(pa.string())),
        ("goal", pa.string()),
        ("progress", pa.list_(pa.struct([("frame", pa.int64()), ("text", pa.string())]))),
    ]
)
SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("member_names", pa.list_(pa.string())),  # KEY.json first, then embedded frames
        ("data_offsets", pa.list_(pa.int64())),  # of the members' bytes in the shard
        ("data_sizes", pa.list_(pa.int64())),
        ("data_crc32s", pa.list_(pa.uint32())),  # checked at every read
        ("key", pa.string()),
        ("clip_id", pa.string()),
        ("sample_idx", pa.int64()),
        ("kind", pa.string()),
        ("should_update_dst", pa.int8()),
        ("when_to_speak", pa.int8()),
        ("num_frames", pa.int64()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
        ("next", pa.string()),
        ("clip", _CLIP),  # a clip's first sample; else null
        ("turns_before", _TURNS),  # user and system turns since the sample before
        ("target", pa.string()),  # text of the target; null when silent
        ("target_start", pa.int64()),  # first frame of its turn's range, which may lie before the sample's
        ("trailing", _TURNS),
    ]
)


Sha256 = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}\z")]  # local copies are named by it
Name = Annotated[StrictStr, Field(pattern=r"^[^/\\\x00]+\z")]  # of a folder: local paths are made of it
SMALLEST_SAMPLE = 1024  # bytes of a tar: a header and a block


class FileRecord(Record):
    """An input file, or (without a name) the index."""

    bytes: Count
    sha256: Sha256


class NamedFile(FileRecord):
    name: StrictStr


class ShardRecord(FileRecord):
    name: Annotated[StrictStr, Field(pattern=r"^(train|val|test)-\d{6,}\.tar\z")]  # a local path is made of it
    samples: Annotated[Count, Field(ge=1)]
    clips: Count


class SkippedClip(Record):
    clip: Count  # place in the annotation file
    fields: list[StrictStr]


class FilterRecord(Record):
    """A filter of the build, and how many clips it left out, whatever the others did."""

    where: StrictStr
    left_out: Count
    without: Count  # of those left out, how many have nothing under its key
    num_with: Count  # of all, how many have something under it


class BuildOptions(Record):
    embed_frames: StrictBool


class Manifest(Record):
    """What was built, from what; its fields are in shards/README.md. Patterns are Rust's, as pydantic takes them."""

    dataset: Name
    split: Literal["train", "val", "test"]
    fingerprint: StrictStr
    options: BuildOptions
    sources: list[NamedFile]
    frames_files: list[NamedFile]
    num_clips: Count
    num_samples: Count
    kinds: dict[Kind, Count]
    ranges: dict[StrictStr, Count]
    num_left_out: Count = 0  # by filters; in shards of before there were none
    filters: tuple[FilterRecord, ...] = ()
    skipped_by_field: dict[StrictStr, Count]
    skipped: list[SkippedClip]
    index: FileRecord
    shards: Annotated[list[ShardRecord], Field(min_length=1)]

    @model_validator(mode="after")
    def _agrees(self) -> "Manifest":
        expected = f"those of one {self.split} split, each once"
        for shard in self.shards:
            if not shard.name.startswith(f"{self.split}-"):
                raise Mismatch("shards", shard.name, expected)
            if shard.samples * SMALLEST_SAMPLE > shard.bytes:  # else memory follows what is only claimed
                raise Mismatch(f"{shard.name} samples", shard.samples, f"what {shard.bytes} bytes can hold")
        if len(self.by_name) != len(self.shards):
            raise Mismatch("shards", f"{len(self.shards)}, of {len(self.by_name)} names", expected)
        if self.num_samples != (count := sum(shard.samples for shard in self.shards)):
            raise Mismatch("num_samples", self.num_samples, f"{count}, the shards'")
        return self

    @cached_property
    def by_name(self) -> dict[str, ShardRecord]:
        return {shard.name: shard for shard in self.shards}


class WrittenMember(NamedTuple):
    """A file in a shard: where its bytes are, and their checksum."""

    name: str
    offset: int
    size: int
    crc32: int


def index_row(sample: TurnSample, since: int, shard: str, members: Sequence[WrittenMember]) -> dict[str, Any]:
    """Give the sample's row; `since` is how many turns the rows before it cover."""
    clip = sample.clip
    return {
        "shard": shard,
        "member_names": [member.name for member in members],
        "data_offsets": [member.offset for member in members],
        "data_sizes": [member.size for member in members],
        "data_crc32s": [member.crc32 for member in members],
        "key": sample.key,
        "clip_id": clip.id,
        "sample_idx": sample.sample_idx,
        "kind": sample.kind,
        **sample.labels,
        "num_frames": len(sample.frames),
        "start_frame": sample.start_frame,
        "end_frame": sample.end_frame,
        "next": sample.next,
        "clip": _clip_record(clip) if sample.sample_idx == 0 else None,
        "turns_before": [turn_record(turn) for turn in sample.history[since:]],
        "target": sample.target.text if sample.target else None,
        "target_start": sample.target.start_frame if sample.target else None,
        "trailing": [turn_record(turn) for turn in sample.trailing],
    }


def _clip_record(clip: Clip) -> dict[str, Any]:
    return {
        **clip_header(clip),
        "frames_file": clip.frames_file,
        "step_ids": [step.id for step in clip.steps],
        "step_names": [step.name for step in clip.steps],
        "initial_state": list(clip.initial_state),
        "progress": progress_records(clip),
    }


def progress_records(clip: Clip) -> list[dict[str, Any]]:
    return [asdict(entry) for entry in clip.progress]


def covered_turns(sample: TurnSample) -> int:
    """Count how many of the clip's turns the rows up to and including this sample's cover."""
    return len(sample.history) + (sample.target is not None)


def read_manifest(folder: Folder) -> Manifest:
    """Read the manifest of a split folder.

    Raises:
        ProspectError: there is none (the build did not finish), or it is of another format, or no manifest.
    """
    if not folder.has(MANIFEST):
        raise ProspectError(f"{folder}: found no {MANIFEST}, expected the shards of a finished build")
    where = f"{folder}/{MANIFEST}"
    try:
        record = json.loads(folder.read(MANIFEST, MAX_MANIFEST_BYTES))
    except (ValueError, OSError, RecursionError) as error:
        if isinstance(error, ProspectError):
            raise
        raise ProspectError(f"{where}: cannot be read ({error}); build the shards again with --force") from None
    return checked_manifest(record, where)


def write_manifest(folder: Folder, record: dict[str, Any]) -> Manifest:
    """Write a manifest, which makes its build a finished one; checked as it will be when it is read.

    Raises:
        ProspectError: it would be too large (of the clips that are left out).
    """
    manifest, data = checked_manifest(record, f"{folder}/{MANIFEST}"), json_bytes(record)
    if len(data) > MAX_MANIFEST_BYTES:
        raise ProspectError(
            f"{folder}/{MANIFEST}: found {len(data)} bytes, with {len(manifest.skipped)} clips left out, expected at "
            f"most {MAX_MANIFEST_BYTES}; correct the annotations"
        )
    write_bytes(folder, MANIFEST, data)
    return manifest


def checked_manifest(record: Any, where: str) -> Manifest:
    """Make the record of a manifest's JSON; `where` goes into the error.

    Raises:
        ProspectError: another format, or no manifest.
    """
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ProspectError(
            f"{where}: found format {found!a:.80}, expected {FORMAT!r}; build the shards again: prospect build-shards "
            "--force"
        )
    try:
        return Manifest.model_validate(record)
    except ValidationError as error:
        raise refusal(where, error) from None
