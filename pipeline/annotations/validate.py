"""Checks of clips: every problem of a clip is collected with its place; a clip without problems becomes a `Clip`.

Steps: types and keys (`records.py`), the frames file, then steps and turns (`turns.py`), each with what is sound so
far. Nothing is raised here for bad input: the caller decides what to do with the problems.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.annotations.clips import MAX_CLIP_FRAMES, Clip, Step, in_sequence_order
from pipeline.annotations.filters import Filter, judge
from pipeline.annotations.json_files import read_raw_clips, repeated_keys
from pipeline.annotations.records import RawClip, Read, clip_label, read_record
from pipeline.annotations.report import Report
from pipeline.annotations.turns import Span, check_steps, check_turns
from pipeline.errors import Problem, ProspectError

RATE_TOLERANCE = 0.01  # relative, between the clip's fps and the rate that its frames file states

# What is looked at in a frames file: only how many rows it has, and that only where the clip does not say; each value's
# length and the clip's first image; or all its images, as they are to be embedded.
Look = Literal["rows", "first", "each"]


class Frames(Protocol):
    """What the checks need to know of a frames file (`frame_store.FrameFile`)."""

    @property
    def fps(self) -> float | None: ...

    def __len__(self) -> int: ...

    def first_bad(self, first: int, last: int, each: bool) -> tuple[int, str] | None: ...


def check_clip(
    raw: Mapping[str, Any],
    *,
    index: int,
    file: str,
    dataset: str,
    open_frames: Callable[[str], Frames] | None,
    look: Look = "first",
) -> tuple[Clip | None, list[Problem]]:
    """Give the clip, or every problem that it has.

    Args:
        index: the clip's place in the file, from 0.
        file: the annotation file as the user would name it.
        dataset: for clips that do not name theirs (the folder's name).
        open_frames: the Arrow file that a `frames_file` names, or a ProspectError; None: there is none to look at,
            and the clip has to say where it ends.
    """
    report = Report(file, clip_label(raw, index))
    for place, key in repeated_keys(raw):
        report.add(f"{place}.{key}" if place else key, "this key twice in one object", "it once")
    read = read_record(RawClip, raw, report)
    clip = read.record
    span = _check_frames(read, report, open_frames, look)
    steps = check_steps(read, report)
    before = tuple(steps.state.values())
    turns, progress = check_turns(read, steps, span, report)
    if report.problems:
        return None, report.problems
    assert span.first is not None and span.last is not None
    return Clip(
        id=clip.id or f"{clip.video_uid}-c{clip.clip_idx:03d}",
        dataset=clip.dataset or dataset,
        video_uid=clip.video_uid,
        clip_idx=clip.clip_idx,
        fps=clip.fps,
        start_frame=span.first,
        end_frame=span.last,
        frames_file=_frames_file(read),
        steps=tuple(Step(step.id, step.name) for step in steps.steps),
        initial_state=tuple(state for state in before if state is not None),
        turns=in_sequence_order(turns, span.first),
        goal=(clip.goal or "").strip(),
        progress=progress,
    ), []


def valid_clips(
    source: Path, open_frames: Callable[[str], Frames] | None = None, filters: Sequence[Filter] = ()
) -> Iterator[tuple[int, Clip]]:
    """Give place in the annotation file and clip of those that meet the filters and pass the checks (images are not
    looked at)."""
    for index, raw in enumerate(read_raw_clips(source)):
        if isinstance(raw, dict) and judge(raw, filters).is_kept:
            clip, _ = check_clip(
                raw, index=index, file=source.name, dataset=source.parent.name, open_frames=open_frames, look="rows"
            )
            if clip is not None:
                yield index, clip


def _frames_file(clip: Read[RawClip]) -> str:
    """The frames file that a clip names; "" where that is not known, after a mistake."""
    if "frames_file" in clip.unsound or (clip.record.frames_file is None and "video_uid" in clip.unsound):
        return ""
    return clip.record.frames_file or f"frames/{clip.record.video_uid}.arrow"


def _check_frames(clip: Read[RawClip], report: Report, open_frames: Callable[[str], Frames] | None, look: Look) -> Span:
    """Check the clip's frames against their file; gives them as far as they are sound."""
    raw, unsound, file = clip.record, clip.unsound, _frames_file(clip)
    first = None if "start_frame_idx" in unsound else raw.start_frame_idx
    last = None if "end_frame_idx" in unsound else raw.end_frame_idx
    fps = None if "fps" in unsound else raw.fps
    to_last_row = last is None and "end_frame_idx" not in unsound
    if open_frames is None:
        if to_last_row:
            report.add("end_frame_idx", "nothing", "this key")
    elif file and (to_last_row or look != "rows"):
        try:
            frames = open_frames(file)
            stated = frames.fps
        except ProspectError as error:
            report.add("frames_file", repr(file), f"a readable Arrow file of the clip's frames ({error})")
            return Span(None if to_last_row else first, last, fps)
        if not len(frames):
            report.add("frames_file", f"no frames in {file!r}", "a row a frame")
            return Span(None, None, fps)
        last = len(frames) - 1 if to_last_row else last
        if fps is not None and stated is not None and not abs(stated - fps) <= RATE_TOLERANCE * fps:
            found = f"{fps}" if "fps" in raw.model_fields_set else f"{fps}, the default"
            report.add("fps", found, f"{stated:g} frames a second, as {file!r} states")
        if first is not None and last is not None and look != "rows":
            _check_images(file, frames, first, last, look == "each", report)
    if first is not None and last is not None and last - first >= MAX_CLIP_FRAMES:
        report.add("end_frame_idx", last, f"a clip of at most {MAX_CLIP_FRAMES} frames: cut it into several")
    if first is None or last is None or first <= last:
        return Span(first, last, fps)
    if to_last_row:
        report.add("start_frame_idx", first, f"at most {last}, the last frame of {file}")
    else:
        report.add("end_frame_idx", last, f"start_frame_idx {first} or later")
    return Span(None, None, fps)


def _check_images(file: str, frames: Frames, first: int, last: int, each: bool, report: Report) -> None:
    if last >= len(frames):
        report.add("end_frame_idx", last, f"at most {len(frames) - 1}, the last frame of {file}")
    elif first <= last and (bad := frames.first_bad(first, last, each)):
        report.add("frames_file", f"{bad[1]} in frame {bad[0]} of {file!r}", "an image in every frame")
