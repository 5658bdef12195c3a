"""The annotation author's own files to spans and dialogues (https://github.com/adibMosharrof/ProAssist, custom/).

Two files a split, a list of clips each: `{split}_training.json`, with turns in `conversation`, and `{split}.json`, with
either turns, or `events` at frames. Frames are of several rules there: half a second around a turn's `time`, a window
that ends at it, or gapless ranges from the turn before. A long conversation was split into clips that repeat turns of
the clip before, and whose `initial_dst_state` is the state at their END. So neither frames nor states are read: steps
are where `dst[].start_ts` and `end_ts` say, or the `time` of their DST_UPDATE turns; lines are where their `time`
says; clips of a conversation are joined. States come anew from `prospect project`.

`events` have no `time`, and no lines of the user. Where the frames of their updates lie a fixed number before those of
the steps' times, lines have the time of their frame, so many later; else (gapless ranges) their times cannot be told,
and the lines are left out. A video whose files contradict each other is left out, with the reason.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from pipeline.annotations.dst import parse_updates
from pipeline.annotations.json_files import read_raw_clips
from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.importers.fork_clips import ForkClip, ForkStep, ForkTurn, checked_clip, clips_of
from pipeline.importers.formats import refuse_others, split_of
from pipeline.importers.outputs import Tally, write_dataset
from pipeline.spans.project import frame_at
from pipeline.spans.records import Dialogue, Line, NamedStep, Span, VideoSpans

EXPECTED = "clips with `dst` (start_ts, end_ts) and `conversation` or `events`"
SAME_S = 0.5  # its validators move equal times apart by tenths of a second
ROLES = {"user": "user", "assistant": "assistant", "SPEAK": "assistant", "system": "system"}
CONTEXT = re.compile(r"\n\n(?:Task Knowledge|Dialogue Context):\n.*", re.DOTALL)  # appended to its system prompts


class _Contradiction(ValueError):
    """Why a video is left out."""


def import_fork(
    files: Sequence[Path],
    out: Path,
    *,
    split: str | None = None,
    dataset: str | None = None,
    force: bool = False,
) -> tuple[list[Path], Tally]:
    """Write OUT/{split}_spans.jsonl and _dialogues.jsonl; returns what was written, and a tally.

    Args:
        split: of all files; None: as each file's name says.
        dataset: None: OUT's name.

    Raises:
        InvalidInput: clips that are wrong, all of them; nothing was written.
        ProspectError: a file cannot be read, no video of it can be used, or files are in the way.
    """
    name = dataset or out.resolve().name
    tally, problems = Tally(), list[Problem]()
    spans: dict[str, list[VideoSpans]] = {}
    dialogues: dict[str, list[Dialogue]] = {}
    for file in files:
        refuse_others(file, "prospect-fork", EXPECTED)
        its_split = split_of(file, split)
        its_spans, its_dialogues = spans.setdefault(its_split, []), dialogues.setdefault(its_split, [])
        by_video: dict[str, list[ForkClip]] = defaultdict(list)
        for number, raw in enumerate(part for video in read_raw_clips(file) for part in clips_of(video)):
            if clip := checked_clip(file, number, raw, problems):
                by_video[clip.video_uid].append(clip)
                tally.counts["clips"] += 1
        for video, clips in by_video.items():
            try:
                record = _spans_of(video, name, file.name, clips, tally)
            except _Contradiction as reason:
                tally.leave_out(f"videos left out: {reason}", video)
                continue
            its_spans.append(record)
            its_dialogues += _dialogues(video, name, clips, record, tally)
            tally.counts["videos"] += 1
        tally.counts["files"] += 1
    if problems:
        raise InvalidInput(problems, f"nothing was written: correct {', '.join(file.name for file in files)}")
    if not any(spans.values()):
        raise ProspectError("\n  ".join(["nothing was written: no video can be used:", *tally.lines()]))
    return write_dataset(out, spans, dialogues, force, importer="prospect-fork", inputs=files), tally


def _spans_of(video: str, dataset: str, file: str, clips: Sequence[ForkClip], tally: Tally) -> VideoSpans:
    steps: dict[str, ForkStep] = {}
    for clip in clips:
        for step in clip.dst:
            known = steps.setdefault(step.id, step)
            if (known.name, known.start_ts, known.end_ts) != (step.name, step.start_ts, step.end_ts):
                raise _Contradiction(f"its clips give step {step.id} two names or times")
    told = _told(clips)
    if unknown := next((step for step, _ in told if step not in steps), None):
        raise _Contradiction(f"its turns update step {unknown}, which its dst lacks")
    spans: list[Span] = []
    for id, step in steps.items():
        start_s = _moment(id, "start", step.start_ts, told)
        end_s = _moment(id, "complete", step.end_ts, told)
        if start_s is None and end_s is None:
            continue
        if start_s is None or end_s is None:
            raise _Contradiction(f"step {id} has no {'start' if start_s is None else 'end'}")
        if end_s < start_s:
            raise _Contradiction(f"step {id} ends at {end_s:g} s, before it starts ({start_s:g} s)")
        spans.append(Span(step=id, start_s=start_s, end_s=end_s, source=file, method="fork"))
    _count_states(clips, spans, tally)
    tally.counts["steps"] += len(steps)
    tally.counts["spans"] += len(spans)
    return VideoSpans(
        video=video,
        dataset=dataset,
        steps=tuple(NamedStep(id=step.id, name=" ".join(step.name.split())) for step in steps.values()),
        spans=tuple(spans),
        not_performed=tuple(step for step in steps if step not in {span.step for span in spans}),
        provenance={"file": file},
    )


def _told(clips: Sequence[ForkClip]) -> Mapping[tuple[str, str], list[float | None]]:
    """The times at which the turns of a video's conversations have each transition; None: a turn without one."""
    told: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    for clip in clips:
        for turn in clip.conversation or ():
            if turn.role == "DST_UPDATE" and not isinstance(turn.content, str):
                for update in turn.content:
                    told[update.id, update.transition].append(turn.time)
    return told


def _moment(
    step: str, transition: str, time_s: float | None, told: Mapping[tuple[str, str], list[float | None]]
) -> float | None:
    """When a transition is: as `dst` says, or else as the turns do, where these agree."""
    times = [time for time in told.get((step, transition), ()) if time is not None]
    moment = time_s if time_s is not None else min(times, default=None)
    if moment is None and told.get((step, transition)):
        raise _Contradiction(f"{step}->{transition} has frames alone, and dst no time, and their rule is not known")
    for time in times:
        if moment is not None and abs(time - moment) > SAME_S:
            raise _Contradiction(f"{step}->{transition} is at {moment:g} s and at {time:g} s")
    return moment


def _count_states(clips: Sequence[ForkClip], spans: Sequence[Span], tally: Tally) -> None:
    """Count clips that give another state before them than their steps' times do (it is not used)."""
    for clip in clips:
        times = [turn.time for turn in clip.conversation or () if turn.time is not None]
        given = clip.initial_dst_state or clip.metadata.get("initial_dst_state")
        if not times or not isinstance(given, dict):
            continue
        before = {
            span.step: "completed" if span.end_s < min(times) else "in_progress"
            for span in spans
            if span.start_s < min(times)
        }
        if before != {step: state for step, state in given.items() if state != "not_started"}:
            tally.counts["clips whose initial_dst_state is not the state before them, not used"] += 1


def _conversations(clips: Sequence[ForkClip]) -> Iterator[list[ForkClip]]:
    """A video's clips by conversation: each begins with clip_idx 0."""
    part: list[ForkClip] = []
    for clip in clips:
        if part and clip.clip_idx <= part[-1].clip_idx:
            yield part
            part = []
        part.append(clip)
    if part:
        yield part


def _dialogues(
    video: str, dataset: str, clips: Sequence[ForkClip], record: VideoSpans, tally: Tally
) -> Iterator[Dialogue]:
    parts = list(_conversations(clips))
    seen: Counter[str] = Counter()
    for part in parts:
        kind = str(part[0].metadata.get("user_type", "")).removesuffix("_dst_enhanced")
        name = kind or "conversation"
        seen[name] += 1
        id = None if len(parts) == 1 and not kind else name if seen[name] == 1 else f"{name}-{seen[name]}"
        lines = list(_lines(f"{video} {id or ''}".strip(), part, record, tally))
        if not lines:
            continue
        about = {"user_type": kind, "task_goal": part[0].inferred_goal, "quality": part[0].quality}
        tally.counts["dialogues"] += 1
        tally.counts["lines"] += len(lines)
        yield Dialogue(
            video=video,
            dataset=dataset,
            id=id,
            lines=tuple(sorted(lines, key=lambda line: -1.0 if line.start_s is None else line.start_s)),
            about={key: value for key, value in about.items() if value not in (None, "")},
        )


def _lines(name: str, clips: Sequence[ForkClip], record: VideoSpans, tally: Tally) -> Iterator[Line]:
    """Lines of a conversation's clips, those that a clip repeats once."""
    earlier: set[Line] = set()
    for clip in clips:
        lines = list(
            _of_turns(name, clip.conversation, tally) if clip.conversation else _of_events(name, clip, record, tally)
        )
        for line in lines:
            if line in earlier:
                tally.counts["turns that a clip repeats of the one before, joined"] += 1
            else:
                yield line
        earlier.update(lines)


def _of_turns(name: str, turns: Sequence[ForkTurn], tally: Tally) -> Iterator[Line]:
    for turn in turns:
        if turn.role in ("DST_UPDATE", "DST_CONTEXT"):
            continue
        role = cast(Literal["system", "user", "assistant"] | None, ROLES.get(turn.role))
        text = turn.content if isinstance(turn.content, str) else ""
        if role == "system":
            text = CONTEXT.sub("", text)
        if role is None or not text.strip():
            tally.leave_out("turns of an unknown role, or without a text, left out", f"{name} ({turn.role})")
        elif turn.time is None and role != "system":
            tally.leave_out("turns without a time, left out", f"{name} ({text[:40]})")
        else:
            yield Line(role=role, text=text, start_s=turn.time)


def _of_events(name: str, clip: ForkClip, record: VideoSpans, tally: Tally) -> Iterator[Line]:
    said = [event for event in clip.events or () if event.response and event.response.strip()]
    later = _frames_before(clip, record)
    if said and later is None:
        tally.leave_out("conversations whose lines have no known times (events of gapless ranges), left out", name)
        return
    for event in said:
        yield Line(role="assistant", text=event.response or "", start_s=(event.frame_idx + (later or 0)) / clip.fps)


def _frames_before(clip: ForkClip, record: VideoSpans) -> int | None:
    """How many frames before those of the steps' times the updates in `events` lie, where it is one number."""
    moments = {(span.step, "start"): span.start_s for span in record.spans}
    moments |= {(span.step, "complete"): span.end_s for span in record.spans}
    at: dict[int, set[int]] = defaultdict(set)  # frame -> how many frames before its updates' moments it lies
    for event in clip.events or ():
        for text in event.dst_updates:
            try:
                updates = parse_updates(text)
            except ValueError:
                return None
            for update in updates:
                moment = moments.get((update.step, update.transition))
                if moment is not None:
                    at[event.frame_idx].add(frame_at(moment, clip.fps) - event.frame_idx)
    uncut = {frame: found for frame, found in at.items() if frame > 0}  # a window may be cut at frame 0
    distances = set().union(*uncut.values())
    if len(uncut) < 2 or len(distances) != 1:
        return None
    (distance,) = distances
    return distance if distance >= 0 else None
