"""The shard contract: a turn sample, its JSON member, its key, and how a clip is rebuilt from its samples.

The JSON's keys and their order are fixed (shards/README.md documents them); `FORMAT` changes whenever they do.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import orjson

from pipeline.annotations.clips import Clip, Role, Turn, clip_from, clip_header, prompt_text
from pipeline.annotations.dst import State
from pipeline.errors import ProspectError
from pipeline.shards.sample_record import check_sample

FORMAT = "prospect.turn/3"
Kind = Literal["dst_update", "assistant", "silent"]
KINDS: tuple[Kind, ...] = ("dst_update", "assistant", "silent")
Next = Literal["dst_update", "assistant", "user", "system", "silent", "end"]
KEY_PREFIX_LENGTH = 40
MAX_MEMBER_BYTES = 64 << 20  # of a file in a shard


@dataclass(frozen=True, slots=True)
class TurnSample:
    """One sample of a clip: an active turn, or a run of silent frames."""

    clip: Clip
    num_samples: int  # of the clip
    sample_idx: int  # in the clip, from 0
    kind: Kind
    start_frame: int  # inclusive; of an active turn with a long range later than the turn's own
    end_frame: int  # inclusive; an active turn stands here
    dst_state: tuple[State, ...]  # before this turn, one a step
    history: tuple[Turn, ...]  # every earlier turn of the clip
    target: Turn | None  # None when silent
    next: Next  # what follows in the clip
    trailing: tuple[Turn, ...]  # the clip's last sample: the turns after it

    @property
    def key(self) -> str:
        return f"{clip_key(self.clip)}-{self.sample_idx:04d}"

    @property
    def labels(self) -> dict[str, int]:
        return labels_of(self.kind)

    @property
    def frames(self) -> range:
        return range(self.start_frame, self.end_frame + 1)


def labels_of(kind: Kind) -> dict[str, int]:
    return {"should_update_dst": int(kind == "dst_update"), "when_to_speak": int(kind == "assistant")}


def clip_key(clip: Clip) -> str:
    """Give the part of a sample's key that its clip gives: readable, without dots, and unique by a hash."""
    return key_of(clip.dataset, clip.id)


@lru_cache(maxsize=64)  # one clip's samples are written one after the other
def key_of(dataset: str, clip_id: str) -> str:
    """Give `clip_key` from the two names that it depends on."""
    digest = hashlib.sha256(f"{dataset}/{clip_id}".encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', clip_id[:KEY_PREFIX_LENGTH])}-{digest[:8]}"


def encode(sample: TurnSample) -> bytes:
    """Write the sample's JSON member, UTF-8."""
    clip, ids = sample.clip, [step.id for step in sample.clip.steps]
    record = {
        "format": FORMAT,
        "clip": {"id": clip.id, **clip_header(clip), "num_samples": sample.num_samples},
        "sample_idx": sample.sample_idx,
        "kind": sample.kind,
        "start_frame": sample.start_frame,
        "end_frame": sample.end_frame,
        "prompt": prompt_text(clip.steps, clip.state),
        "steps": [[step.id, step.name] for step in clip.steps],
        "initial_state": list(zip(ids, clip.initial_state, strict=True)),
        "dst_state": list(zip(ids, sample.dst_state, strict=True)),
        "history": [turn_record(turn) for turn in sample.history],
        "target": _target_record(sample.target) if sample.target else None,
        "labels": sample.labels,
        "next": sample.next,
        "trailing": [turn_record(turn) for turn in sample.trailing],
        "progress": progress_record(clip) if sample.sample_idx == sample.num_samples - 1 else [],
        "frames": {"file": clip.frames_file, "indices": list(sample.frames)},
    }
    return orjson.dumps(record)


def decode(data: bytes, where: str) -> TurnSample:
    """Invert `encode`, with one difference: the clip of the result holds the turns that the sample knows, its
    history, target and trailing turns, and no progress text (for a clip's last sample: all of them).

    `where` (shard and key) goes into the error.

    Raises:
        ProspectError: not a turn sample of this format.
    """
    try:
        record = orjson.loads(data)
    except ValueError as error:
        raise ProspectError(
            f"{where}: found no JSON ({error}), expected a turn sample ({FORMAT}); build the shards again"
        ) from None
    check_sample(record, FORMAT, where)
    return _from_record(record)


def rebuild_clip(samples: Sequence[TurnSample]) -> Clip:
    """Rebuild the whole clip from all of its samples, in order; checks that they agree.

    Raises:
        ProspectError: a sample is missing, out of order, or of another clip.
    """
    last = samples[-1]
    found = [(sample.clip.id, sample.sample_idx) for sample in samples]
    expected = [(last.clip.id, index) for index in range(last.num_samples)]
    if found != expected:
        raise ProspectError(
            f"clip {last.clip.id!r}: found samples {found}, expected 0..{last.num_samples - 1} of one clip"
        )
    clip = last.clip
    for sample in samples:
        known = sample.history + ((sample.target,) if sample.target else ())
        if clip.turns[: len(known)] != known:
            raise ProspectError(f"{sample.key}: its turns are not the first of its clip's, expected {clip.turns}")
    return clip


def turn_record(turn: Turn) -> dict[str, Any]:
    return {"role": turn.role, "text": turn.text, "start_frame": turn.start_frame, "end_frame": turn.end_frame}


def _target_record(turn: Turn) -> dict[str, Any]:
    """The target's turn; it stands at the sample's end_frame."""
    return {"role": turn.role, "text": turn.text, "start_frame": turn.start_frame}


def progress_record(clip: Clip) -> list[tuple[int, str]]:
    return [(entry.frame, entry.text) for entry in clip.progress]


def turn_from_record(record: dict[str, Any]) -> Turn:
    return Turn(record["role"], record["text"], record["start_frame"], record["end_frame"])


def _from_record(record: dict[str, Any]) -> TurnSample:
    about = record["clip"]
    start_frame, end_frame = record["start_frame"], record["end_frame"]
    history = tuple(map(turn_from_record, record["history"]))
    trailing = tuple(map(turn_from_record, record["trailing"]))
    target = None
    if record["target"]:
        role: Role = record["target"]["role"]
        target = Turn(role, record["target"]["text"], record["target"]["start_frame"], end_frame)
    turns = (*history, *((target,) if target else ()), *trailing)
    clip = clip_from(
        about,
        id=about["id"],
        frames_file=record["frames"]["file"],
        steps=((step_id, name) for step_id, name in record["steps"]),
        initial_state=(state for _, state in record["initial_state"]),
        turns=turns,
        progress=record["progress"],
    )
    return TurnSample(
        clip=clip,
        num_samples=about["num_samples"],
        sample_idx=record["sample_idx"],
        kind=record["kind"],
        start_frame=start_frame,
        end_frame=end_frame,
        dst_state=tuple(state for _, state in record["dst_state"]),
        history=history,
        target=target,
        next=record["next"],
        trailing=trailing,
    )
