"""Pass one of a build: read and check every clip, and decide which clips go into which shard.

This process reads the file clip by clip, workers check batches of clips. Valid clips are spooled to a JSON-lines file,
so that a shard is a byte range of it: memory does not grow with the input, and pass two needs neither the annotation
file nor the checks. Nothing else is written.
"""

import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

from pipeline.annotations.clips import Clip, decode_clip, encode_clip, prompt_text
from pipeline.annotations.files import annotation_file, other_annotations
from pipeline.annotations.filters import Effects, Filter, Judgement, judge, parse_filter
from pipeline.annotations.json_files import read_raw_clips
from pipeline.annotations.ranges import count_ranges
from pipeline.annotations.records import clip_label
from pipeline.annotations.report import short, shown
from pipeline.annotations.validate import check_clip
from pipeline.errors import Problem
from pipeline.io.engine import Engine
from pipeline.io.frame_store import open_named, search_roots
from pipeline.io.storage import naming
from pipeline.progress import Progress
from pipeline.shards.expand import samples_of
from pipeline.shards.sample import clip_key, key_of

BATCH_CLIPS = 32  # of pass one's unit of work


@dataclass(frozen=True, slots=True)
class Options:
    """What changes the bytes of a build."""

    max_silent_frames: int = 32
    max_event_frames: int = 8
    embed_frames: bool = False
    max_shard_bytes: int = 256 * 1024 * 1024
    max_shard_samples: int = 4096
    on_invalid: str = "error"
    where: tuple[str, ...] = ()  # filters: clips that do not meet them all are left out, unchecked

    @property
    def filters(self) -> list[Filter]:
        return [parse_filter(text) for text in self.where]


@dataclass(frozen=True, slots=True)
class ShardRange:
    """A shard's clips: a byte range of the spool file."""

    start: int
    end: int


@dataclass(slots=True)
class Scan:
    """What pass one saw: problems, and the shards that the valid clips make."""

    effects: Effects  # of the filters
    shards: list[ShardRange] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)  # of --on-invalid skip, for the manifest
    num_clips: int = 0  # read, valid or not, left out by filters or not
    ranges: Counter[str] = field(default_factory=Counter)  # `count_ranges` of the valid clips


def scan_split(
    source: Path,
    split: str,
    spool: Path,
    options: Options,
    roots: Sequence[Path],
    engine: Engine,
    on_clip: Callable[[int, None], None],
) -> Scan:
    """Check all clips of `source`, spool the valid ones, and cut them into shards. Roots are searched for frames."""
    scan, keys = Scan(Effects(options.filters)), dict[str, int]()
    elsewhere = _videos_of_other_splits(source, split)
    samples = size = 0
    with naming(spool), spool.open("wb") as file:
        start = 0
        for checked in chain.from_iterable(engine.map(_check_batch, _batches(source, options, tuple(roots)))):
            index = scan.num_clips
            scan.num_clips += 1
            on_clip(scan.num_clips, None)
            if checked.judgement:
                scan.effects.add(checked.judgement)
                if not checked.judgement.is_kept:
                    continue
            problems = [*checked.problems, *_check_identity(checked, index, source.name, keys, elsewhere)]
            if problems:
                scan.problems += problems
                scan.skipped.append(_skipped(checked, index, problems))
                continue
            full = (
                samples + checked.num_samples > options.max_shard_samples
                or size + checked.num_bytes > options.max_shard_bytes
            )
            if full and samples:
                scan.shards.append(ShardRange(start, file.tell()))
                start, samples, size = file.tell(), 0, 0
            samples, size = samples + checked.num_samples, size + checked.num_bytes
            scan.ranges.update(checked.ranges)
            file.write(checked.line)
        if samples:
            scan.shards.append(ShardRange(start, file.tell()))
    return scan


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some clips as they stand in the file; the unit of work of pass one."""

    file: str
    dataset: str
    first: int  # place of the first clip in the file
    raws: list[Any]
    options: Options
    roots: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Checked:
    """A clip that filters leave out, or one with its problems, or with its line of the spool and its weight in a
    shard."""

    video_uid: Any  # as found
    clip_idx: Any
    problems: list[Problem]
    id: str = ""
    key: str = ""
    identity: str = ""  # dataset and id, in one Unicode form
    line: bytes = b""
    num_samples: int = 0
    num_bytes: int = 0
    ranges: Counter[str] = field(default_factory=Counter)
    judgement: Judgement | None = None  # of the filters; None: it is no object


def _batches(source: Path, options: Options, roots: tuple[Path, ...]) -> Iterator[_Batch]:
    first, clips = 0, read_raw_clips(source)
    while raws := list(islice(clips, BATCH_CLIPS)):
        yield _Batch(source.name, source.parent.name, first, raws, options, roots)
        first += len(raws)


def _check_batch(batch: _Batch) -> list[_Checked]:
    """Runs in a worker."""
    filters = batch.options.filters
    return [_check(raw, index, batch, filters) for index, raw in enumerate(batch.raws, batch.first)]


def _check(raw: Any, index: int, batch: _Batch, filters: Sequence[Filter]) -> _Checked:
    if not isinstance(raw, dict):
        problem = Problem(batch.file, f"clip {index}", "", "clip", type(raw).__name__, "a JSON object")
        return _Checked(None, None, [problem])
    video, part = raw.get("video_uid"), raw.get("clip_idx", 0)
    judgement = judge(raw, filters)
    if not judgement.is_kept:
        return _Checked(video, part, [], judgement=judgement)
    clip, problems = check_clip(
        raw,
        index=index,
        file=batch.file,
        dataset=batch.dataset,
        open_frames=partial(open_named, roots=batch.roots),
        look="each" if batch.options.embed_frames else "first",
    )
    problems += [Problem(batch.file, clip_label(raw, index), "", *mistake) for mistake in judgement.mistakes]
    if clip is None or problems:
        return _Checked(video, part, problems, *_identity_of(raw, batch.dataset), judgement=judgement)
    weight = _weigh(clip, batch.options, batch.roots)
    names = clip.id, clip_key(clip), _same_name(f"{clip.dataset}/{clip.id}")
    if weight is None:
        return _Checked(video, part, [_too_long(clip, index, batch)], *names, judgement=judgement)
    line = encode_clip(clip) + b"\n"
    return _Checked(video, part, [], *names, line, *weight, count_ranges(clip), judgement)


def _identity_of(raw: dict[str, Any], dataset: str) -> tuple[str, str, str]:
    """Id, key and identity of a clip with problems, as far as it says; two clips of one id are a problem whatever else
    is."""
    video, part = raw.get("video_uid"), raw.get("clip_idx", 0)
    named = raw.get("id") or (f"{video}-c{part:03d}" if isinstance(video, str) and isinstance(part, int) else None)
    of = raw.get("dataset") or dataset
    if not isinstance(named, str) or not isinstance(of, str):
        return "", "", ""
    of, named = (name.encode(errors="replace").decode() for name in (of, named))
    return named, key_of(of, named), _same_name(f"{of}/{named}")


def _skipped(checked: _Checked, index: int, problems: list[Problem]) -> dict[str, Any]:
    """What the manifest says of a clip that was left out."""
    return {
        "clip": index,
        "video_uid": _told(checked.video_uid),
        "clip_idx": _told(checked.clip_idx),
        "reasons": [f"{p.turn + ': ' if p.turn else ''}{p.field}: found {p.found}" for p in problems],
        "fields": sorted({problem.field.split(".")[0] for problem in problems}),
    }


def _told(value: Any) -> Any:
    """A value as found, where any JSON holds it; else its beginning as text."""
    if value is None or (isinstance(value, int) and abs(value) < 2**53):
        return value
    return value[:400] if isinstance(value, str) else short(value)


def check_splits(
    data_root: Path,
    datasets_and_splits: Iterable[tuple[str, str]],
    frames_root: Path | None,
    engine: Engine,
    progress: Progress,
) -> Scan:
    """Run the checks of a build alone, over several splits; the scan has problems and counts, and no shards."""
    total = Scan(Effects(()))
    for dataset, split in datasets_and_splits:
        source = annotation_file(data_root, dataset, split)
        roots = search_roots(frames_root, data_root, dataset)
        stage = f"checking {dataset} {split}"
        with tempfile.TemporaryDirectory() as folder:
            spool = Path(folder) / "clips.jsonl"
            scan = scan_split(source, split, spool, Options(), roots, engine, partial(progress, stage))
        total.problems += scan.problems
        total.skipped += scan.skipped
        total.num_clips += scan.num_clips
        total.ranges.update(scan.ranges)
    return total


def read_clips(lines: bytes) -> Iterator[Clip]:
    """Read the clips of a range of the spool."""
    for line in lines.splitlines():
        yield decode_clip(line)


def skipped_by_field(skipped: list[dict[str, Any]]) -> dict[str, int]:
    """Count how many of the clips left out had a problem in each field."""
    return dict(sorted(Counter(name for entry in skipped for name in entry["fields"]).items()))


def _videos_of_other_splits(source: Path, split: str) -> dict[str, str]:
    """video_uid -> the annotation file of another split that has it."""
    elsewhere: dict[str, str] = {}
    for path in other_annotations(source, split):
        videos = (raw.get("video_uid") for raw in read_raw_clips(path) if isinstance(raw, dict))
        elsewhere |= {_same_name(video): path.name for video in videos if isinstance(video, str)}
    return elsewhere


def _same_name(name: str) -> str:
    """One form for a name that Unicode can write in two: `é` is one letter, or e and an accent."""
    return unicodedata.normalize("NFC", name)


def _check_identity(
    checked: _Checked, index: int, file: str, keys: dict[str, int], elsewhere: dict[str, str]
) -> list[Problem]:
    """A clip's key and identity are new, and its video stands in no other split. Records the key."""
    problems: list[Problem] = []
    if not checked.key:
        return problems
    where = clip_label({"video_uid": checked.video_uid, "clip_idx": checked.clip_idx}, index)
    earlier = keys.get(checked.key, keys.get(checked.identity))
    if earlier is not None:
        found = f"id {checked.id!r}, as clip {earlier}"
        problems.append(Problem(file, where, "", "id", shown(found), "a clip identity of its own"))
    keys.setdefault(checked.key, index)
    keys.setdefault(checked.identity, index)
    if isinstance(checked.video_uid, str) and (other := elsewhere.get(_same_name(checked.video_uid))):
        found = f"{checked.video_uid!r}, also in {other}"
        problems.append(Problem(file, where, "", "video_uid", shown(found), "a video in one split only"))
    return problems


def _weigh(clip: Clip, options: Options, roots: Sequence[Path]) -> tuple[int, int] | None:
    """Samples and, estimated, bytes of the clip in a shard; None where the text alone is more than a shard's.

    Each sample repeats the turns before it, so text grows with their square: that is seen before any of it is made.
    """
    fixed = 1500 + 2 * len(prompt_text(clip.steps, clip.state)) + len(clip.frames_file) + 40 * len(clip.steps)
    fixed += len(clip.goal.encode())
    upto = list(accumulate((len(turn.text.encode()) + 70 for turn in clip.turns), initial=0))  # bytes of so many turns
    frames = open_named(clip.frames_file, roots) if options.embed_frames else None
    count = images = 0
    text = sum(len(progress.text.encode()) + 20 for progress in clip.progress)  # in the last sample alone
    for sample in samples_of(clip, options.max_silent_frames, options.max_event_frames):
        count += 1
        text += fixed + 7 * len(sample.frames) + upto[min(len(sample.history) + 1, len(clip.turns))]
        if text > options.max_shard_bytes:
            return None
        if frames is not None:  # tar headers and padding too
            images += frames.stored_bytes(sample.start_frame, sample.end_frame) + 1024 * len(sample.frames)
    return count, text + images


def _too_long(clip: Clip, index: int, batch: _Batch) -> Problem:
    where = clip_label({"video_uid": clip.video_uid, "clip_idx": clip.clip_idx}, index)
    limit = batch.options.max_shard_bytes >> 20
    found = (
        f"{len(clip.turns)} turns: its samples, each of which repeats the turns before it, take more than {limit} MB"
    )
    return Problem(batch.file, where, "", "conversation", found, f"a clip of at most --max-shard-mb {limit}; divide it")
