"""ProAssist's prepared dialogues (`.jsonl`, https://github.com/pro-assist/ProAssist) to clips that build-shards reads.

A prepared conversation alternates "frames" turns, whose `end` is EXCLUSIVE, with turns that happen at the last of
these frames, `end - 1`. Steps come from `metadata.knowledge` (`knowledge.py`). The `progress` texts
of turns are kept, and a later part of a video begins with the last one before it: `data.memory: summary` learns them.
What ProAssist made of them for windows of its own is dropped: the summary turns at a clip's end, and progress and
knowledge in system turns. No DST_UPDATE turns are invented: such clips train speaking alone.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictInt, StrictStr, ValidationError

from pipeline.annotations.json_files import read_raw_clips, repeated_keys
from pipeline.annotations.records import Name, RawModel, Text, clip_label, report_errors
from pipeline.annotations.report import Report
from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.importers.formats import refuse_others, split_of
from pipeline.importers.knowledge import read_knowledge
from pipeline.io.storage import LocalFolder

EXPECTED = "ProAssist's prepared dialogues, .jsonl files"
PROGRESS = "The time elapsed since the start of the task is "  # begins a summary of the progress made


class PreparedTurn(RawModel):
    role: Text
    content: Text | None = None
    start: Annotated[StrictInt, Field(ge=0)] | None = None  # of a "frames" turn
    end: StrictInt | None = None  # exclusive
    time: float | None = None
    labels: StrictStr | None = None
    progress: StrictStr | None = None


class Metadata(RawModel):
    knowledge: Text = ""
    user_id: Text | None = None
    quality: Annotated[float, Field(strict=True)] | None = None  # ProAssist's score, 0 to 10
    progress: StrictStr | None = None  # the summary that ends the clip, if any
    summary_only: bool = False


class Prepared(RawModel):
    """One line of a prepared file."""

    dataset: Name
    video_uid: Name
    clip_idx: StrictInt = Field(default=0, ge=0)
    frames_file: Name
    fps: float = Field(default=2, gt=0, le=1000)
    conversation: list[PreparedTurn] = Field(min_length=1)
    metadata: Metadata = Metadata()


def import_proassist(
    files: Sequence[Path],
    out: Path,
    split: str | None = None,
    force: bool = False,
    min_score: float | None = None,
) -> dict[str, Counter[str]]:
    """Write OUT/SPLIT_training.jsonl for each split of `files`; returns counts of clips and of what was dropped.

    Args:
        split: of all files; None: named by each file (`..._val_L4096_I1.jsonl`).
        force: write over annotations that are there.
        min_score: leave out dialogues of a lower quality, and those without one; None: none is left out.

    Raises:
        InvalidInput: some lines are no prepared dialogues; nothing was written.
        ProspectError: a file that is not there, or another source's, or whose split is unclear; no dialogue is left;
            annotations in the way.
    """
    by_split: dict[str, list[Path]] = {}
    for file in files:
        refuse_others(file, "proassist", EXPECTED)
        by_split.setdefault(split_of(file, split), []).append(file)
    for name in by_split:
        there = [path for suffix in (".json", ".jsonl") if (path := out / f"{name}_training{suffix}").exists()]
        if there and (not force or there[0].suffix == ".json"):
            raise ProspectError(f"{there[0]}: is there already; pass --force to write over a .jsonl, or another --out")
        for path in there:
            if any(file.exists() and path.samefile(file) for file in files):
                raise ProspectError(f"{path}: is one of the files to be read; pass another --out")
    counts = {name: Counter(clips=0) for name in by_split}
    problems: list[Problem] = []
    is_new = not out.exists()
    try:
        with ExitStack() as targets:  # all files get their names, or none
            for name, paths in by_split.items():
                path = targets.enter_context(LocalFolder(out).new_file(f"{name}_training.jsonl"))
                with path.open("w", encoding="utf-8", errors="backslashreplace") as lines:
                    for clip in _convert(paths, min_score, counts[name], problems):
                        lines.write(json.dumps(clip, ensure_ascii=False) + "\n")
                if not counts[name]["clips"] and not problems:
                    raise _nothing_left(paths[0], min_score, counts[name])
            if problems:
                again = ", ".join(path.name for paths in by_split.values() for path in paths)
                raise InvalidInput(problems, f"nothing was written: correct {again}, then import again")
    except BaseException:
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        raise
    return counts


def _nothing_left(file: Path, min_score: float | None, counts: Counter[str]) -> ProspectError:
    least = ""
    if min_score is not None:
        below, unrated = counts[_too_low(-math.inf, min_score)], counts[_too_low(None, min_score)]
        least = f" of a quality of {min_score:g} or more ({below} below, {unrated} without one)"
    return ProspectError(f"{file}: found no dialogue{least}, expected at least one; nothing was written")


def _too_low(quality: float | None, min_score: float | None) -> str:
    """Why a dialogue is left out for its quality; "" where it is not."""
    if min_score is None or (quality is not None and quality >= min_score):
        return ""
    return "without a quality, left out" if quality is None else f"of a quality below {min_score:g}, left out"


def _convert(
    files: Sequence[Path], min_score: float | None, counts: Counter[str], problems: list[Problem]
) -> Iterator[dict[str, Any]]:
    latest: dict[tuple[str, str | None], str] = {}  # the last progress text of a dialogue's clips so far
    places: dict[str, str] = {}  # clip id -> where it stands
    for file in files:
        for index, raw in enumerate(read_raw_clips(file)):
            if not isinstance(raw, dict):
                problems.append(
                    Problem(file.name, f"dialogue {index}", "", "dialogue", type(raw).__name__, "a JSON object")
                )
                continue
            report = Report(file.name, clip_label(raw, index, "dialogue"))
            for place, key in repeated_keys(raw):
                report.add(f"{place}.{key}" if place else key, "this key twice in one object", "it once")
            try:
                sample = Prepared.model_validate(raw)
            except ValidationError as error:
                report_errors(error, report)
                problems += report.problems
                continue
            if sample.metadata.summary_only:
                counts["summary-only samples dropped"] += 1
                continue
            if why := _too_low(sample.metadata.quality, min_score):
                counts[why] += 1
                continue
            dialogue = sample.video_uid, sample.metadata.user_id
            clip = _clip(sample, raw, latest.get(dialogue), counts, report)
            if clip and clip["id"] in places:
                report.add("clip_idx, user_id", f"id {clip['id']!r}, as {places[clip['id']]}", "each dialogue once")
            if clip:
                places.setdefault(clip["id"], f"{file.name} dialogue {index}")
            problems += report.problems
            for turn in sample.conversation:
                latest[dialogue] = turn.progress or latest.get(dialogue, "")
            if not report.problems:
                counts["clips"] += 1
                yield clip


def _clip(
    sample: Prepared, raw: Mapping[str, Any], progress: str | None, counts: Counter[str], report: Report
) -> dict[str, Any]:
    conversation = _without_summary(sample, counts)
    frames = [turn for turn in conversation if turn.role == "frames"]
    turns = list(_turns(conversation, sample, progress, counts, report))
    if not frames:
        report.add("conversation", "no frames turn", "one at least")
        return {}
    knowledge = read_knowledge(sample.metadata.knowledge)
    counts["without steps in their knowledge"] += not knowledge.steps
    counts["lines of knowledge in no step"] += knowledge.num_left_out
    who = f"-{sample.metadata.user_id}" if sample.metadata.user_id else ""
    counts["progress texts"] += sum(turn.get("progress") is not None for turn in turns)
    clip = {
        "id": f"{sample.video_uid}{who}-c{sample.clip_idx:03d}",
        "dataset": sample.dataset,
        "video_uid": sample.video_uid,
        "clip_idx": sample.clip_idx,
        "fps": sample.fps,
        "frames_file": sample.frames_file,
        "start_frame_idx": frames[0].start,
        "end_frame_idx": (frames[-1].end or 0) - 1,
        "dst": [{"type": "step", "id": f"S{number}", "name": name} for number, name in enumerate(knowledge.steps, 1)],
        "conversation": turns,
        **({"initial_progress": progress} if progress else {}),
        "metadata": {key: value for key, value in raw.get("metadata", {}).items() if key != "progress"},
    }
    return clip | ({"initial_dst_state": {}} if sample.clip_idx else {})


def _without_summary(sample: Prepared, counts: Counter[str]) -> list[PreparedTurn]:
    """Without the summary turns that end a clip: the request, one more frame, and the summary as an assistant turn."""
    turns = sample.conversation
    last = turns[-1]
    if not sample.metadata.progress or (last.role, last.content) != ("assistant", sample.metadata.progress):
        return turns
    counts["summaries dropped"] += 1
    return turns[:-3] if [turn.role for turn in turns[-2:]] == ["frames", "assistant"] else turns[:-1]


def _turns(
    conversation: list[PreparedTurn], sample: Prepared, progress: str | None, counts: Counter[str], report: Report
) -> Iterator[dict[str, Any]]:
    end: int | None = None  # of the frames so far, exclusive
    for index, turn in enumerate(conversation):
        report.at_turn(index, turn.role)
        if turn.role == "frames":
            if turn.start is None or turn.end is None or turn.start >= turn.end:
                report.add("start, end", f"{turn.start}, {turn.end}", "frames from start up to, without, a later end")
            elif end is not None and turn.start != end:
                report.add("start", turn.start, f"{end}, where the frames before end")
            end = turn.end
            continue
        if turn.role not in ("system", "user", "assistant"):
            report.add("role", repr(turn.role), "system, user, assistant or frames")
        if turn.content is None or not turn.content.strip():
            report.add("content", "nothing" if turn.content is None else repr(turn.content), "a text")
            continue
        if end is None and turn.role != "system":
            report.add("role", repr(turn.role), "a frames turn before the first user or assistant turn")
        content = _without_context(turn.content, sample, progress, counts) if turn.role == "system" else turn.content
        if not content:
            continue
        place = {} if end is None else {"start_frame": end - 1, "end_frame": end - 1}
        time = {} if turn.time is None or not place else {"time": turn.time}
        told = {"progress": turn.progress} if turn.progress else {}
        yield {"role": turn.role, "content": content, **place, **time, "labels": turn.labels or "", **told}
    report.turn = ""


def _without_context(text: str, sample: Prepared, progress: str | None, counts: Counter[str]) -> str:
    """A system turn without the task's knowledge (the steps are in the prompt) and the progress made (the state is)."""
    knowledge = f"Task knowledge: {sample.metadata.knowledge}"
    shorter = text.replace(knowledge, "") if sample.metadata.knowledge else text
    if progress:
        shorter = shorter.replace(progress, "")
    shorter = shorter.partition(PROGRESS)[0].strip()
    counts["system turns shortened"] += shorter != text.strip()
    return shorter
