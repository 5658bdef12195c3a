"""Pass one of a build: read and check every clip, and decide which clips go into which shard.

Valid clips are spooled to a JSON-lines file, so that a shard is a byte range of it: memory does not grow with the
input, and the workers of pass two need neither the annotation file nor the checks. Nothing else is written.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.clips import SPLITS, Clip, prompt_text, read_raw_clips
from pipeline.errors import Problem, ProspectError
from pipeline.expand import expand
from pipeline.frame_store import find_frames_file, open_frames, search_roots
from pipeline.sample import clip_key
from pipeline.validate import check_clip

Progress = Callable[[str, int, int | None], None]  # stage, done, total (None: unknown)
_CLIP = TypeAdapter(Clip)


@dataclass(frozen=True, slots=True)
class Options:
    """What changes the bytes of a build."""

    max_silent_frames: int = 32
    embed_frames: bool = False
    max_shard_bytes: int = 256 * 1024 * 1024
    max_shard_samples: int = 4096
    on_invalid: str = "error"


@dataclass(frozen=True, slots=True)
class ShardRange:
    """A shard's clips: a byte range of the spool file."""

    start: int
    end: int


@dataclass(slots=True)
class Plan:
    shards: list[ShardRange] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)  # of --on-invalid skip, for the manifest
    num_clips: int = 0  # read, valid or not


def annotation_file(data_root: Path, dataset: str, split: str) -> Path:
    """DATA_ROOT/DATASET/SPLIT_training.json or .jsonl.

    Raises:
        ProspectError: the data root, the dataset or the split is not there; the message names what is.
    """
    if not data_root.is_dir():
        raise ProspectError(f"data root {data_root}: no such folder; pass --data-root with the folder of your datasets")
    folder = data_root / dataset
    if not folder.is_dir():
        there = ", ".join(datasets(data_root, split)) or "none"
        raise ProspectError(f"{folder}: no such dataset; {data_root} has these with a {split} split: {there}")
    found = _split_file(folder, split)
    if found is None:
        there = ", ".join(s for s in SPLITS if _split_file(folder, s)) or "none"
        raise ProspectError(f"{folder}: no {split}_training.json (or .jsonl); splits found there: {there}")
    return found


def datasets(data_root: Path, split: str) -> list[str]:
    """The datasets under `data_root` that have this split, sorted."""
    return sorted(f.name for f in data_root.iterdir() if f.is_dir() and _split_file(f, split))


def annotated(data_root: Path, dataset: str | None, split: str | None) -> list[tuple[str, str]]:
    """Dataset and split of every annotation file, or those of one dataset or split.

    Raises:
        ProspectError: there is none.
    """
    if dataset and split:
        return [(dataset, split)]
    splits = (split,) if split else SPLITS
    if not data_root.is_dir():
        raise ProspectError(f"data root {data_root}: no such folder; pass --data-root with the folder of your datasets")
    found = [(name, s) for s in splits for name in datasets(data_root, s) if dataset in (None, name)]
    if not found:
        where = data_root / dataset if dataset else data_root / "DATASET"
        raise ProspectError(
            f"{where}: found no annotations, expected {' or '.join(f'{s}_training.json' for s in splits)}"
        )
    return found


def _split_file(folder: Path, split: str) -> Path | None:
    paths = (folder / f"{split}_training{suffix}" for suffix in (".json", ".jsonl"))
    return next((path for path in paths if path.is_file()), None)


def scan(
    source: Path, split: str, spool: Path, options: Options, roots: list[Path], on_clip: Callable[[int, None], None]
) -> Plan:
    """Check all clips of `source`, spool the valid ones, and cut them into shards. Roots are searched for frames."""
    plan, keys, dataset = Plan(), dict[str, str](), source.parent.name
    elsewhere = _videos_of_other_splits(source.parent, split)
    samples = size = 0
    with spool.open("wb") as file:
        start = 0
        for index, raw in enumerate(read_raw_clips(source)):
            clip, problems = check_clip(
                raw, index=index, file=source.name, dataset=dataset, num_frames=partial(_num_frames, roots=roots)
            )
            where = f"clip {index} (video_uid {raw.get('video_uid')!r}, clip_idx {raw.get('clip_idx', 0)})"
            if clip is not None:
                problems = _check_identity(clip, source.name, where, keys, elsewhere)
            plan.num_clips += 1
            on_clip(plan.num_clips, None)
            if clip is None or problems:
                plan.problems += problems
                plan.skipped.append(
                    {
                        "clip": index,
                        "video_uid": raw.get("video_uid"),
                        "clip_idx": raw.get("clip_idx", 0),
                        "reasons": [f"{p.turn + ': ' if p.turn else ''}{p.field}: found {p.found}" for p in problems],
                        "fields": sorted({problem.field.split(".")[0] for problem in problems}),
                    }
                )
                continue
            num_samples, num_bytes = _weigh(clip, options, roots)
            full = samples + num_samples > options.max_shard_samples or size + num_bytes > options.max_shard_bytes
            if full and samples:
                plan.shards.append(ShardRange(start, file.tell()))
                start, samples, size = file.tell(), 0, 0
            samples, size = samples + num_samples, size + num_bytes
            file.write(_CLIP.dump_json(clip) + b"\n")
        if samples:
            plan.shards.append(ShardRange(start, file.tell()))
    return plan


def check_splits(
    data_root: Path, datasets_and_splits: Iterable[tuple[str, str]], frames_root: Path | None, progress: Progress
) -> Plan:
    """The checks of a build alone, over several splits; the plan has problems and counts, and no shards."""
    total = Plan()
    for dataset, split in datasets_and_splits:
        source = annotation_file(data_root, dataset, split)
        roots = search_roots(frames_root, data_root, dataset)
        stage = f"checking {dataset} {split}"
        with tempfile.TemporaryDirectory() as folder:
            plan = scan(source, split, Path(folder) / "clips.jsonl", Options(), roots, partial(progress, stage))
        total.problems += plan.problems
        total.skipped += plan.skipped
        total.num_clips += plan.num_clips
    return total


def read_spool(spool: Path, shard: ShardRange) -> Iterator[Clip]:
    with spool.open("rb") as file:
        file.seek(shard.start)
        while file.tell() < shard.end:
            yield _CLIP.validate_json(file.readline())


def skipped_by_field(skipped: list[dict[str, Any]]) -> dict[str, int]:
    """How many of the clips left out had a problem in each field."""
    return dict(sorted(Counter(name for entry in skipped for name in entry["fields"]).items()))


def _num_frames(frames_file: str, roots: list[Path]) -> int:
    return len(open_frames(find_frames_file(frames_file, roots)))


def _videos_of_other_splits(folder: Path, split: str) -> dict[str, str]:
    """video_uid -> the annotation file of another split that has it."""
    found: dict[str, str] = {}
    for other in SPLITS:
        path = _split_file(folder, other)
        if other != split and path:
            found |= {raw["video_uid"]: path.name for raw in read_raw_clips(path) if "video_uid" in raw}
    return found


def _check_identity(
    clip: Clip, file: str, where: str, keys: dict[str, str], elsewhere: dict[str, str]
) -> list[Problem]:
    """A clip's key is new, and its video stands in no other split. Records the key."""
    problems, key = [], clip_key(clip)
    if key in keys:
        problems.append(Problem(file, where, "", "id", f"id {clip.id!r}, as {keys[key]}", "a clip identity of its own"))
    keys.setdefault(key, where)
    if clip.video_uid in elsewhere:
        found = f"{clip.video_uid!r}, also in {elsewhere[clip.video_uid]}"
        problems.append(Problem(file, where, "", "video_uid", found, "a video in one split only"))
    return problems


def _weigh(clip: Clip, options: Options, roots: list[Path]) -> tuple[int, int]:
    """Samples and, estimated, bytes of the clip in a shard."""
    samples = expand(clip, options.max_silent_frames)
    fixed = 1500 + 2 * len(prompt_text(clip.steps, clip.state)) + len(clip.frames_file) + 40 * len(clip.steps)
    lengths = [len(turn.text.encode()) + 70 for turn in clip.turns]
    size = sum(fixed + 7 * len(sample.frames) + sum(lengths[: len(sample.history) + 1]) for sample in samples)
    if options.embed_frames:
        frames = open_frames(find_frames_file(clip.frames_file, roots))
        size += sum(frames.stored_bytes(sample.start_frame, sample.end_frame) for sample in samples)
        size += sum(1024 * len(sample.frames) for sample in samples)  # tar headers and padding
    return len(samples), size
