"""Checks of clips: every problem of a clip is collected with its place; a clip without problems becomes a `Clip`.

Steps: types and required keys (pydantic), then steps, states replayed turn by turn in file order, frame ranges, and
the frames file. Nothing is raised here for bad input: the caller decides what to do with the problems.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    ValidationError,
    model_validator,
)

from pipeline.annotations.clips import Clip, Role, Step, Turn, in_sequence_order
from pipeline.annotations.dst import MOVES, STATES, STEP_ID, State, Update, apply_updates, as_transition, format_updates
from pipeline.annotations.json_files import read_raw_clips
from pipeline.errors import Problem, ProspectError

ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "dst_update": "dst_update",
}


Index = Annotated[StrictInt, Field(le=2**31 - 1)]


class RawModel(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class RawStep(RawModel):
    id: StrictStr
    name: Annotated[StrictStr, Field(pattern=r"^[^\r\n]*\S[^\r\n]*$")]


class RawUpdate(RawModel):
    id: StrictStr
    transition: StrictStr


class RawTurn(RawModel):
    role: StrictStr
    content: Annotated[
        Annotated[StrictStr, Tag("text")] | Annotated[list[RawUpdate], Tag("updates")],
        Discriminator(lambda value: "updates" if isinstance(value, list) else "text"),
    ]
    start_frame: Index | None = None
    end_frame: Index | None = None
    dst_state: dict[str, StrictStr] | None = None


class Frames(Protocol):
    """What the checks need to know of a frames file (`frame_store.FrameFile`)."""

    def __len__(self) -> int: ...

    def first_bad(self, first: int, last: int, read: bool) -> tuple[int, str] | None: ...


class RawClip(RawModel):
    """A clip as annotated (docs/design.md §2); keys not named here are metadata."""

    video_uid: StrictStr = Field(min_length=1)
    clip_idx: Index = Field(default=0, ge=0)
    id: StrictStr | None = Field(default=None, min_length=1)
    dataset: StrictStr | None = Field(default=None, min_length=1)
    fps: StrictInt | StrictFloat = Field(default=2, gt=0, le=1000)
    frames_file: StrictStr = Field(min_length=1)
    start_frame_idx: Index = Field(ge=0)
    end_frame_idx: Index = Field(ge=0)
    dst: list[RawStep] = []
    initial_dst_state: dict[str, StrictStr] | None = None
    conversation: list[RawTurn]

    @model_validator(mode="before")
    @classmethod
    def _accept_aliases(cls, data: Any) -> Any:
        """Seen in real data: `start_frame`/`end_frame` (exclusive end) on the clip, and no `frames_file`."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "start_frame_idx" not in data and isinstance(data.get("start_frame"), int):
            data["start_frame_idx"] = data["start_frame"]
        if "end_frame_idx" not in data and isinstance(data.get("end_frame"), int):
            data["end_frame_idx"] = data["end_frame"] - 1
        if data.get("frames_file") is None and isinstance(data.get("video_uid"), str):
            data["frames_file"] = f"frames/{data['video_uid']}.arrow"
        return data


def check_clip(
    raw: Mapping[str, Any],
    *,
    index: int,
    file: str,
    dataset: str,
    open_frames: Callable[[str], Frames] | None,
    read_frames: bool = False,
) -> tuple[Clip | None, list[Problem]]:
    """Give the clip, or every problem that it has.

    Args:
        index: the clip's place in the file, from 0.
        file: the annotation file as the user would name it.
        dataset: for clips that do not name theirs (the folder's name).
        open_frames: the Arrow file that a `frames_file` names, or a ProspectError; None: frames are not looked at.
        read_frames: look at every frame's value, as its images are to be embedded.
    """
    where = f"clip {index} (video_uid {raw.get('video_uid')!r}, clip_idx {raw.get('clip_idx', 0)})"
    report = Report(file, where)
    try:
        clip = RawClip.model_validate(raw)
    except ValidationError as error:
        for detail in error.errors():
            report.schema_error(detail["loc"], detail["input"], detail["msg"], raw)
        return None, report.problems

    initial_state = _check_steps(clip, report)
    _check_frames(clip, report, open_frames, read_frames)
    turns = _check_turns(clip, initial_state, report)
    if report.problems:
        return None, report.problems
    return Clip(
        id=clip.id or f"{clip.video_uid}-c{clip.clip_idx:03d}",
        dataset=clip.dataset or dataset,
        video_uid=clip.video_uid,
        clip_idx=clip.clip_idx,
        fps=clip.fps,
        start_frame=clip.start_frame_idx,
        end_frame=clip.end_frame_idx,
        frames_file=clip.frames_file,
        steps=tuple(Step(step.id, step.name) for step in clip.dst),
        initial_state=tuple(initial_state.values()),
        turns=in_sequence_order(turns, clip.start_frame_idx),
    ), []


def valid_clips(source: Path) -> Iterator[tuple[int, Clip]]:
    """Give place in the annotation file and clip of those that pass the checks (frames are not looked at)."""
    for index, raw in enumerate(read_raw_clips(source)):
        if isinstance(raw, dict):
            clip, _ = check_clip(raw, index=index, file=source.name, dataset=source.parent.name, open_frames=None)
            if clip is not None:
                yield index, clip


class Report:
    """Collects the problems of one clip; `turn` is where the checks stand."""

    def __init__(self, file: str, clip: str) -> None:
        self.file, self.clip, self.turn = file, clip, ""
        self.problems: list[Problem] = []

    def add(self, field: str, found: object, expected: str) -> None:
        text = found if isinstance(found, str) else repr(found)
        self.problems.append(Problem(self.file, self.clip, self.turn, field, text, expected))

    def schema_error(self, place: tuple[int | str, ...], found: Any, message: str, raw: Mapping[str, Any]) -> None:
        self.turn = ""
        if len(place) > 1 and place[0] == "conversation" and isinstance(place[1], int):
            turn = raw["conversation"][place[1]]
            self.turn = f"turn {place[1]} ({turn.get('role') if isinstance(turn, dict) else type(turn).__name__})"
            place = place[2:]
        field = ".".join(str(part) for part in place if part not in ("text", "updates")) or "turn"
        if message == "Field required":
            self.add(field, "nothing", "this key")
        else:
            self.add(field, _short(found), message[:1].lower() + message[1:])


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _check_steps(clip: RawClip, report: Report) -> dict[str, State]:
    """Step ids and the state before the clip, which is returned (not_started where nothing usable is given)."""
    ids = [step.id for step in clip.dst]
    for position, step_id in enumerate(ids):
        if not STEP_ID.fullmatch(step_id):
            report.add(
                f"dst.{position}.id", repr(step_id), "letters, digits, '_', '.' or '-' (it stands in 'S1->start')"
            )
        if step_id in ids[:position]:
            report.add(f"dst.{position}.id", repr(step_id), "each step id once")
    given = clip.initial_dst_state or {}
    if clip.clip_idx > 0 and clip.dst and clip.initial_dst_state is None:
        report.add(
            "initial_dst_state", "nothing", f"the state of the steps before the clip, as clip_idx is {clip.clip_idx}"
        )
    for step_id in given:
        if step_id not in ids:
            _unknown_step(step_id, ids, "initial_dst_state", report)
    return {i: _known_state(i, given.get(i, "not_started"), "initial_dst_state", report) for i in ids}


def _known_state(step_id: str, value: str, field: str, report: Report) -> State:
    for state in STATES:
        if value == state:
            return state
    report.add(f"{field}.{step_id}", repr(value), " | ".join(STATES))
    return "not_started"


def _unknown_step(step_id: str, ids: Collection[str], field: str, report: Report) -> None:
    expected = f"one of {', '.join(ids)}" if ids else "no step, as the clip's dst lists none"
    report.add(field, f"step {step_id!r}", expected)


def _check_frames(clip: RawClip, report: Report, open_frames: Callable[[str], Frames] | None, read: bool) -> None:
    first, last = clip.start_frame_idx, clip.end_frame_idx
    if first > last:
        report.add("end_frame_idx", last, f"start_frame_idx {first} or later")
    if open_frames is None:
        return
    try:
        frames = open_frames(clip.frames_file)
    except ProspectError as error:
        report.add("frames_file", repr(clip.frames_file), f"a readable Arrow file of the clip's frames ({error})")
        return
    if last >= len(frames):
        report.add("end_frame_idx", last, f"at most {len(frames) - 1}, the last frame of {clip.frames_file}")
    elif first <= last and (bad := frames.first_bad(first, last, read)):
        report.add("frames_file", f"{bad[1]} in frame {bad[0]} of {clip.frames_file!r}", "an image in every frame")


def _check_turns(clip: RawClip, initial_state: dict[str, State], report: Report) -> list[Turn]:
    """Replays the states in file order; returns the turns that could be made, in file order."""
    state, turns, latest = initial_state, [], clip.start_frame_idx
    for index, raw in enumerate(clip.conversation):
        report.turn = f"turn {index} ({raw.role})"
        role = ROLES.get(raw.role.lower())
        if role is None:
            report.add("role", repr(raw.role), "system, user, assistant or DST_UPDATE")
            continue
        for step_id, value in (raw.dst_state or {}).items():
            if step_id not in state:
                _unknown_step(step_id, state, "dst_state", report)
            elif value != state[step_id]:
                expected = f"{state[step_id]!r}, the replayed state before this turn"
                report.add(f"dst_state.{step_id}", repr(value), expected)
        if role == "dst_update":
            updates, state = _check_updates(raw, state, report)
            text = format_updates(updates)
        else:
            text = raw.content if isinstance(raw.content, str) else ""
            if not text.strip():
                report.add("content", _short(raw.content), "a text that is not empty")
            _check_text(text, "content", report)
        latest = _check_range(clip, raw, role, latest, report)
        turns.append(Turn(role, text, raw.start_frame, raw.end_frame))
    report.turn = ""
    return turns


def _check_updates(raw: RawTurn, state: dict[str, State], report: Report) -> tuple[list[Update], dict[str, State]]:
    if isinstance(raw.content, str) or not raw.content:
        report.add("content", _short(raw.content), "a list of {id, transition} that is not empty")
        return [], state
    updates: list[Update] = []
    for entry in raw.content:
        if entry.id not in state:
            _unknown_step(entry.id, state, "content.id", report)
            continue
        transition = as_transition(entry.transition)
        if transition is None:
            report.add("content.transition", repr(entry.transition), " | ".join(MOVES))
            continue
        update = Update(entry.id, transition)
        before, after = MOVES[transition]
        try:
            state = apply_updates(state, [update])
        except ValueError:
            report.add(f"content.{entry.id}", f"{update} while {entry.id} is {state[entry.id]}", f"{entry.id} {before}")
            state = {**state, entry.id: after}  # the annotator's word, so that one mistake is reported once
        updates.append(update)
    return updates, state


def _check_range(clip: RawClip, raw: RawTurn, role: Role, latest: int, report: Report) -> int:
    """Checks the turn's frames; returns the latest end_frame seen so far."""
    start, end = raw.start_frame, raw.end_frame
    if start is None or end is None:
        if role != "system" or (start is None) != (end is None):
            report.add("end_frame" if end is None else "start_frame", "nothing", "a frame index")
        return latest
    if start > end:
        report.add("end_frame", end, f"start_frame {start} or later")
        return latest
    inside = clip.start_frame_idx <= start and end <= clip.end_frame_idx
    if not inside:
        if role != "system":
            expected = f"frames inside the clip, {clip.start_frame_idx}..{clip.end_frame_idx}"
            report.add("start_frame, end_frame", f"{start}..{end}", expected)
        return latest
    if end < latest:
        report.add("end_frame", end, f"{latest} or later, as an earlier turn stands there (turns in frame order)")
    return max(latest, end)


def _check_text(text: str, field: str, report: Report) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        report.add(field, f"{text[error.start]!r}", "text that UTF-8 can hold (no lone surrogates)")
