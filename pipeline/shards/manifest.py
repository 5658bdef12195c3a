"""What stands beside the shards: index.parquet (one row a sample) and manifest.json (what was built, from what).

The index holds every text that a plan of sequences needs, so that planning opens no shard; what is the same for all
samples of a clip stands in its first row alone. Rows are in shard order, and a clip's rows follow each other.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, Field, StrictInt, StrictStr, ValidationError, model_validator

from pipeline.annotations.clips import Clip, clip_header
from pipeline.errors import ProspectError
from pipeline.io.storage import Folder
from pipeline.shards.sample import TurnSample, turn_record

FORMAT = "prospect.shards/2"
MANIFEST = "manifest.json"
INDEX = "index.parquet"

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


# Patterns are Rust's, as pydantic takes them
Count = Annotated[StrictInt, Field(ge=0)]
Sha256 = Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}\z")]  # local copies are named by it
Name = Annotated[StrictStr, Field(pattern=r"^[^/\\\x00]+\z")]  # of a folder: local paths are made of it


class _File(BaseModel):
    """An input file, or (without a name) the index."""

    bytes: Count
    sha256: Sha256


class _Shard(_File):
    name: Annotated[StrictStr, Field(pattern=r"^(train|val|test)-\d{6,}\.tar\z")]  # a local path is made of it
    samples: Count
    clips: Count


class _Manifest(BaseModel):
    """What is checked when a manifest is read: it may come from anywhere. Other keys are left alone."""

    dataset: Name
    split: Literal["train", "val", "test"]
    fingerprint: StrictStr
    options: dict[str, Any]
    sources: list[_File]
    frames_files: list[_File]
    num_clips: Count
    num_samples: Count
    kinds: dict[str, Count]
    skipped_by_field: dict[str, Count]
    skipped: list[dict[str, Any]]
    index: _File
    shards: list[_Shard]

    @model_validator(mode="after")
    def _agrees(self) -> "_Manifest":
        names = [shard.name for shard in self.shards]
        if len(set(names)) != len(names) or any(not name.startswith(f"{self.split}-") for name in names):
            raise ValueError(f"shards are not those of one {self.split} split")
        if not isinstance(self.options.get("embed_frames"), bool):
            raise ValueError("options.embed_frames is not true or false")
        return self


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
    }


def covered_turns(sample: TurnSample) -> int:
    """Count how many of the clip's turns the rows up to and including this sample's cover."""
    return len(sample.history) + (sample.target is not None)


def read_manifest(folder: Folder) -> dict[str, Any]:
    """Read the manifest of a split folder.

    Raises:
        ProspectError: there is none (the build did not finish), or it is of another format.
    """
    if folder.size(MANIFEST) is None:
        raise ProspectError(f"{folder}: found no {MANIFEST}, expected the shards of a finished build")
    try:
        manifest: dict[str, Any] = json.loads(folder.read(MANIFEST))
    except (ValueError, OSError) as error:
        raise ProspectError(
            f"{folder}/{MANIFEST}: cannot be read ({error}); build the shards again with --force"
        ) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise ProspectError(
            f"{folder}/{MANIFEST}: found format {str(found)[:80]!r}, expected {FORMAT!r}; build the shards again: "
            "prospect build-shards --force"
        )
    try:
        _Manifest.model_validate(manifest)
    except ValidationError as error:
        detail = error.errors()[0]
        where, said = ".".join(map(str, detail["loc"])), detail["msg"]
        found = "nothing" if detail["type"] == "missing" else repr(detail["input"])[:80]
        raise ProspectError(
            f"{folder}/{MANIFEST}: {where}: found {found} ({said[:1].lower()}{said[1:]}); build the shards again with "
            "--force"
        ) from None
    return manifest
