"""`prospect project`: a file of spans, and one of dialogues, to the clips of a split, whole or not at all."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.annotations.clips import SPLITS
from pipeline.annotations.validate import check_clip
from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.io.frame_store import names_of_video, open_frames
from pipeline.io.storage import LocalFolder
from pipeline.spans.project import MADE_BY, Layout, clips_of_video, events_of
from pipeline.spans.records import Dialogue, VideoSpans, read_dialogues, read_spans


def project(
    spans: Path,
    out: Path,
    *,
    dialogues: Path | None = None,
    frames_root: Path | None = None,
    fps: float = 2,
    max_clip_s: float | None = None,
    split: str | None = None,
    force: bool = False,
) -> tuple[Path, Counter[str]]:
    """Write OUT/SPLIT_training.jsonl; returns it with counts of what was made, merged and left out.

    Args:
        frames_root: folder of VIDEO.arrow, whose rows say how long a video is. None: its `duration_s` does, and the
            clips name frames/VIDEO.arrow.
        max_clip_s: longer videos are cut into clips, each with the state before it.
        split: None: as the file's name begins, e.g. train_spans.jsonl.

    Raises:
        InvalidInput: mistakes in the files, all of them; nothing was written.
        ProspectError: a file cannot be read, or annotations are in the way.
    """
    split = split or next((name for name in SPLITS if spans.name.startswith(name)), None)
    if split is None:
        raise ProspectError(f"{spans}: its name begins with none of {', '.join(SPLITS)}; pass --split")
    path = out / f"{split}_training.jsonl"
    there = [p for p in (path, path.with_suffix(".json")) if p.exists()]
    if there and (not force or there != [path]):
        raise ProspectError(f"{there[0]}: is there already; pass --force to write over a .jsonl, or another --out")
    if there and not _is_projected(path):
        raise ProspectError(f"{path}: found clips that no projection made; move them away, or pass another --out")
    records = read_spans(spans)
    said: dict[str, list[Dialogue]] = defaultdict(list)
    for dialogue in read_dialogues(dialogues) if dialogues else []:
        said[dialogue.video].append(dialogue)
    counts: Counter[str] = Counter(videos=len(records), dialogues=sum(map(len, said.values())))
    known = {record.video for record in records}
    counts["dialogues of videos without spans, left out"] = sum(len(d) for v, d in said.items() if v not in known)
    problems: list[Problem] = []
    clips: list[dict[str, Any]] = []
    for record in records:
        layout = _layout(record, frames_root, fps, max_clip_s, spans.name, problems)
        of_video: list[Dialogue | None] = [*said[record.video]] or [None]
        if layout is None:
            continue
        events = events_of(record, layout.fps, layout.num_frames, counts)
        for said_in_it in of_video:
            made = list(clips_of_video(record, events, said_in_it, layout, counts))
            problems += _mistakes(made, path.name, out.name, len(clips))
            clips += made
    if problems:
        raise InvalidInput(problems, f"nothing was written: correct {spans}")
    with LocalFolder(out).new_file(path.name) as partial_file, partial_file.open("w", encoding="utf-8") as lines:
        for clip in clips:
            lines.write(json.dumps(clip, ensure_ascii=False) + "\n")
    return path, counts


def _is_projected(path: Path) -> bool:
    """Whether every clip of a file was made by a projection."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return all(json.dumps(MADE_BY)[1:-1] in line for line in lines if line.strip())


def _layout(
    record: VideoSpans,
    frames_root: Path | None,
    fps: float,
    max_clip_s: float | None,
    file: str,
    problems: list[Problem],
) -> Layout | None:
    where = f"video {record.video!r}"
    longest = max(int(max_clip_s * fps), 2) if max_clip_s else None
    if frames_root is None:
        if record.duration_s is None:
            problems.append(Problem(file, where, "", "duration_s", "none", "the video's length, or --frames-root"))
            return None
        return Layout(fps, f"frames/{record.video}.arrow", max(int(record.duration_s * fps), 1), longest)
    path = next((p for name in names_of_video(record.video) if (p := frames_root / f"{name}.arrow").is_file()), None)
    if path is None:
        expected = f"{record.video}.arrow in {frames_root} (prospect extract-frames makes it)"
        problems.append(Problem(file, where, "", "video", "no frames file", expected))
        return None
    return Layout(fps, f"{frames_root.name}/{path.name}", len(open_frames(path)), longest)


def _mistakes(clips: Sequence[dict[str, Any]], file: str, dataset: str, first: int) -> list[Problem]:
    check = partial(check_clip, file=file, dataset=dataset, open_frames=None)
    return [problem for number, clip in enumerate(clips, first) for problem in check(clip, index=number)[1]]
