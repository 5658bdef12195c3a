"""Every clip that the paths hold, once: a row of what cards and filters need, and its record, packed.

A clip is known by its key (dataset and id, as in shards). It comes from where it is found first: annotations, then
shards, then predictions; what else has it (samples of shards, predictions of a run) is found by the key. Files are read
once, at the start; problems, pictures and mistakes of a model are looked for when they are asked for.
"""

import os
import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.annotations.clips import ACTIVE_ROLES, Clip, Turn
from pipeline.annotations.dst import parse_updates
from pipeline.annotations.edits import Draft, draft_of, range_of, role_of, steps_of, transitions_of
from pipeline.annotations.json_files import read_raw_clips
from pipeline.annotations.validate import Look, check_clip
from pipeline.errors import Problem, ProspectError
from pipeline.io.frame_store import FrameFile, find_frames_file, open_frames
from pipeline.progress import Progress, unwatched
from pipeline.shards.sample import clip_key, key_of
from prospect.data.index import Split, clip_starts, clips_of, read_split
from prospect.evaluation.predictions import read_prediction
from prospect.web.browse.numbers import Numbers
from prospect.web.browse.paths import DEFAULT_ROOT, Evaluated, Given
from prospect.web.review.disagreements import Predictions
from prospect.web.review.views import extent, frames_name, text_of, title_of

KINDS = {"update": "dst_update", "assistant": "assistant", "user": "user", "system": "system"}  # of a filter -> role
MAX_FRAME, LEAST_FPS = 2**31 - 1, 0.001  # beyond which a clip's frames, or rate, are taken for a mistake
SCHEMA = {
    "key": pl.String,
    "title": pl.String,
    "of": pl.String,  # DATASET/SPLIT; of predictions alone the evaluation's name
    "dataset": pl.String,  # the folder's name, where its frames may be; a clip may name another
    "file": pl.String,  # where it was found, for sentences
    "fps": pl.Float64,
    "first": pl.Int64,  # frames, both inclusive
    "last": pl.Int64,
    "seconds": pl.Float64,
    "silence": pl.Float64,  # share of frames at which nothing is updated or said
    "num_steps": pl.Int64,
    **{f"num_{kind}": pl.Int64 for kind in KINDS},
    "steps": pl.String,  # "ID name" of each, a line a step, in small letters
    "text": pl.String,  # ids, goal and all that is said, in small letters
    "record": pl.Binary,  # the clip as its file has it, packed
}


@dataclass(frozen=True, slots=True)
class Samples:
    """Where the samples of a clip are."""

    split: Split
    first: int  # rows of the split's index: first, and the one after the last
    end: int


@dataclass(slots=True)
class Library:
    """All clips, and what is known of each."""

    given: Given
    frames_root: Path | None
    table: pl.DataFrame = field(init=False)
    places: dict[str, int] = field(init=False)  # key -> row
    samples: dict[str, Samples] = field(default_factory=dict)
    splits: list[Split] = field(default_factory=list)
    predictions: dict[str, Predictions] = field(default_factory=dict)  # by the name of their evaluation
    numbers: dict[str, Numbers] = field(default_factory=dict)  # by DATASET/SPLIT
    roots: list[Path] = field(init=False)

    def raw(self, key: str) -> Any:
        """Give the record of a clip, as its file has it.

        Raises:
            ProspectError: there is no such clip.
        """
        return pickle.loads(zlib.decompress(self.table.item(self.row(key), "record")))  # packed here, by `_row`

    def row(self, key: str) -> int:
        if key not in self.places:
            raise ProspectError(f"clip {key[:100]!r}: there is none of this key here; look for it among the clips")
        return self.places[key]

    def about(self, key: str) -> dict[str, Any]:
        """Give the row of a clip, without its texts and record."""
        return self.table.row(self.row(key), named=True)

    def keep_first(self, count: int) -> None:
        """Leave out clips but the first so many of each split; its numbers stay those of all."""
        self.table = self.table.group_by("of", maintain_order=True).head(count)
        self.places = {key: place for place, key in enumerate(self.table["key"])}

    def checked(self, key: str, look: Look = "rows") -> tuple[Draft, Clip | None, list[Problem]]:
        """Check a clip as `prospect validate` does."""
        raw, about = self.raw(key), self.about(key)
        if not isinstance(raw, dict):
            problem = Problem(about["file"], about["title"], "", "entry", repr(raw)[:80], "an object")
            return draft_of({}), None, [problem]
        opener = partial(self._open, dataset=about["dataset"])
        clip, problems = check_clip(
            raw, index=0, file=about["file"], dataset=about["dataset"], open_frames=opener, look=look
        )
        return draft_of(_with_frames(raw)), clip, problems

    def frames(self, key: str) -> FrameFile:
        """Open the frames of a clip.

        Raises:
            ProspectError: they are nowhere under the roots.
        """
        raw = self.raw(key)
        return self._open(frames_name(raw if isinstance(raw, dict) else {}), self.about(key)["dataset"])

    def root_of(self, dataset: str) -> Path:
        """Give the data root of a dataset."""
        named = (one.data_root for one in self.given.annotations if one.dataset == dataset)
        return next(named, next(iter(self.given.data_roots)))

    def _open(self, name: str, dataset: str) -> FrameFile:
        roots = [root for above in self.roots for root in (above / dataset, above)]
        path = find_frames_file(name, roots)
        plain = Path(os.path.normpath(path))
        if not any(plain.is_relative_to(root) for root in self.roots):
            raise ProspectError(
                f"frames file {name!r} lies outside the folders given; pass its folder with --frames-root"
            )
        return open_frames(path)


def open_library(given: Given, frames_root: Path | None = None, progress: Progress = unwatched) -> Library:
    """Read all that the paths hold, each file once.

    Raises:
        ProspectError: a file cannot be read at all; a clip with mistakes is no reason.
    """
    library = Library(given, frames_root)
    roots = [*([frames_root] if frames_root else []), *given.data_roots]
    library.roots = [Path(os.path.normpath(root.absolute())) for root in roots]
    library.predictions = {one.name: Predictions(one.predictions) for one in given.evaluations}
    library.splits = [_open_split(folder) for folder in given.shards]
    rows: dict[str, dict[str, Any]] = {}
    for row in _rows(library, rows, progress):
        rows[row["key"]] = row
        progress("reading clips", len(rows), None)
    if not rows:
        raise ProspectError("found no clip in the paths given, expected at least one")
    library.table = pl.DataFrame(list(rows.values()), schema=SCHEMA, orient="row")
    library.places = {key: place for place, key in enumerate(rows)}
    return library


def raw_of(clip: Clip) -> dict[str, Any]:
    """Write a clip as annotation files have it."""
    return {
        "id": clip.id, "dataset": clip.dataset, "video_uid": clip.video_uid, "clip_idx": clip.clip_idx, "fps": clip.fps,
        "frames_file": clip.frames_file, "start_frame_idx": clip.start_frame, "end_frame_idx": clip.end_frame,
        "goal": clip.goal or None, "dst": [{"id": step.id, "name": step.name} for step in clip.steps],
        "initial_dst_state": clip.state,
        "conversation": [
            {"role": turn.role, "content": _content(turn), "start_frame": turn.start_frame, "end_frame": turn.end_frame}
            for turn in clip.turns
        ],
    }  # fmt: skip


def _content(turn: Turn) -> str | list[dict[str, str]]:
    if turn.role != "dst_update":
        return turn.text
    return [{"id": update.step, "transition": update.transition} for update in parse_updates(turn.text)]


def _rows(library: Library, known: Mapping[str, Any], progress: Progress) -> Iterator[dict[str, Any]]:
    for one in library.given.annotations:
        where, of = f"{one.dataset}/{one.file.name}", f"{one.dataset}/{one.split}"
        for index, raw in enumerate(read_raw_clips(one.file)):
            yield _row(library, raw, one.dataset, of, f"{where} clip {index}", known)
    for split in library.splits:
        of = f"{split.manifest.dataset}/{split.manifest.split}"
        starts = clip_starts(split.index)
        for clip, (first, end) in zip(clips_of(split.index), pairwise(starts), strict=True):
            key = clip_key(clip)
            library.samples.setdefault(key, Samples(split, first, end))
            if key not in known:
                yield _row(library, raw_of(clip), clip.dataset, of, str(split.folder), known)
    for evaluated in library.given.evaluations:
        for path in sorted(evaluated.predictions.glob("*.json")):
            if path.stem not in known:
                clip = read_prediction(path).clip
                yield _row(library, raw_of(clip), clip.dataset, _evaluated(evaluated, clip), str(path), known)


def _evaluated(one: Evaluated, clip: Clip) -> str:
    return f"{clip.dataset}/{one.folder.name}" if one.run else f"{clip.dataset}/{one.name}"


def _row(library: Library, raw: Any, dataset: str, of: str, file: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """What cards and filters need of a clip, also of one with mistakes."""
    draft = draft_of(_with_frames(raw) if isinstance(raw, dict) else {})
    ranges = [range_of(draft, number) for number in range(len(draft.items))]
    first, last = extent(draft, ranges, _frames_if_needed(library, draft, dataset))
    first, last = (first, last) if first <= MAX_FRAME else (0, 0)
    fps = draft.raw.get("fps", 2)
    fps = float(fps) if isinstance(fps, int | float) and LEAST_FPS <= fps <= 1000 else 2.0
    roles = [role_of(item.value) for item in draft.items]
    named = draft.raw.get("dataset")
    named = _sound(named if isinstance(named, str) and named else dataset)
    own = _sound(_id_of(draft.raw) or title_of("clips", raw))
    said = [text_of(item.value) or " ".join(f"{s}->{t}" for s, t in transitions_of(item.value)) for item in draft.items]
    events = {place[1] for role, place in zip(roles, ranges, strict=True) if place and role in ACTIVE_ROLES}
    library.numbers.setdefault(of, Numbers()).add(draft, ranges, first, last, fps)
    return {
        "key": _unique(key_of(named, own), known),
        "title": own,
        "of": of,
        "dataset": _sound(dataset),
        "file": file,
        "fps": fps,
        "first": first,
        "last": last,
        "seconds": (last - first + 1) / fps,
        "silence": 1 - len([frame for frame in events if first <= frame <= last]) / (last - first + 1),
        "num_steps": len(steps_of(draft)),
        **{f"num_{kind}": roles.count(role) for kind, role in KINDS.items()},
        "steps": _sound("\n".join(f"{step} {name}" for step, name in steps_of(draft))).lower(),
        "text": _sound("\n".join([own, str(draft.raw.get("goal") or ""), *said])).lower(),
        "record": zlib.compress(pickle.dumps(raw), 1),
    }


def _id_of(raw: Mapping[str, Any]) -> str:
    """The id that a clip has, or is given; "" where it names neither itself nor its video."""
    own, video, part = raw.get("id"), raw.get("video_uid"), raw.get("clip_idx", 0)
    if isinstance(own, str) and own:
        return own
    return f"{video}-c{part if type(part) is int else 0:03d}" if isinstance(video, str) and video else ""


def _with_frames(raw: dict[str, Any]) -> dict[str, Any]:
    """The names of a clip's frames that real data has too (docs/data-formats.md)."""
    if raw.get("start_frame_idx") is None and type(raw.get("start_frame")) is int:
        raw = raw | {"start_frame_idx": raw["start_frame"]}
    if raw.get("end_frame_idx") is None and type(raw.get("end_frame")) is int:
        raw = raw | {"end_frame_idx": raw["end_frame"] - 1}
    return raw


def _frames_if_needed(library: Library, draft: Draft, dataset: str) -> FrameFile | None:
    """The frames of a clip that does not say where it ends, if they are there."""
    if type(draft.raw.get("end_frame_idx")) is int:
        return None
    try:
        return library._open(frames_name(draft.raw), dataset)
    except ProspectError:
        return None


def _unique(key: str, known: Iterable[str]) -> str:
    """A clip whose dataset and id another has gets a number; `validate` tells of it."""
    number, unique = 2, key
    while unique in known:
        unique, number = f"{key}-{number}", number + 1
    return unique


def _sound(text: str) -> str:
    """The same text without lone surrogates, which no table holds."""
    return text.encode(errors="replace").decode()


def _open_split(folder: Path) -> Split:
    place = folder.absolute()
    return read_split(place.parent.parent, place.parent.name, place.name, DEFAULT_ROOT)
