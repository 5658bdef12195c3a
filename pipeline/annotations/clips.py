"""Clips: the record that every later stage works on.

A `Clip` is what a sequence is laid out from, whether it comes from an annotation file (`validate.py`) or was rebuilt
from turn samples (`sample.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from pipeline.annotations.dst import State, format_state

Role = Literal["system", "user", "assistant", "dst_update"]
ACTIVE_ROLES = ("dst_update", "assistant")
SPLITS = ("train", "val", "test")
MAX_CLIP_FRAMES = 1_000_000  # nine hours at 30 fps; what is done frame by frame stays bounded


@dataclass(frozen=True, slots=True)
class Step:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn. It stands at `end_frame`, the last frame of its range (both ends inclusive)."""

    role: Role
    text: str  # the utterance, or the update text ("S1->start")
    start_frame: int | None  # None: a system turn without a place, i.e. from before the first frame
    end_frame: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """A summary of what was done, in words, as ProAssist's annotations have them; it holds until the next."""

    frame: int  # with whose turns it came; the one before the clip's first: from before the clip
    text: str


@dataclass(frozen=True, slots=True)
class Clip:
    id: str
    dataset: str
    video_uid: str
    clip_idx: int  # 0 for the first part of a video
    fps: int | float  # frames a second
    start_frame: int  # inclusive, an index into the Arrow file
    end_frame: int  # inclusive
    frames_file: str  # as the annotation names it
    steps: tuple[Step, ...]
    initial_state: tuple[State, ...]  # one a step, before the clip's first frame
    turns: tuple[Turn, ...]  # in the order of the sequence (`in_sequence_order`)
    goal: str = ""  # of the task, in words; "": not known
    progress: tuple[Progress, ...] = ()  # in the order of frames; (): not annotated

    @property
    def state(self) -> dict[str, State]:
        """Step id -> state, before the clip."""
        return {step.id: state for step, state in zip(self.steps, self.initial_state, strict=True)}

    @property
    def names(self) -> dict[str, str]:
        """Step id -> name."""
        return {step.id: step.name for step in self.steps}


HEADER = (
    "dataset",
    "video_uid",
    "clip_idx",
    "fps",
    "start_frame",
    "end_frame",
    "goal",
)  # what stands in a clip's records


def clip_header(clip: Clip) -> dict[str, Any]:
    """Give the fields of a clip that are plain values, for the shards' and the index's records."""
    return {name: getattr(clip, name) for name in HEADER}


def clip_from(
    header: Mapping[str, Any],
    *,
    id: str,
    frames_file: str,
    steps: Iterable[tuple[str, str]],
    initial_state: Iterable[State],
    turns: Sequence[Turn],
    progress: Iterable[tuple[int, str]] = (),
) -> Clip:
    """Make a clip from the values of its records; the inverse of `clip_header` and what stands beside it."""
    return Clip(
        **{name: header[name] for name in HEADER},
        id=id,
        frames_file=frames_file,
        steps=tuple(Step(*step) for step in steps),
        initial_state=tuple(initial_state),
        turns=in_sequence_order(turns, header["start_frame"]),
        progress=tuple(Progress(*entry) for entry in progress),
    )


_CLIP = TypeAdapter(Clip)


def encode_clip(clip: Clip) -> bytes:
    """Write a clip whole, as one line of JSON."""
    return _CLIP.dump_json(clip)


def decode_clip(data: bytes | Mapping[str, Any]) -> Clip:
    """Read a clip back: JSON of `encode_clip`, or the same already parsed.

    Raises:
        ValueError: it is no clip.
    """
    return _CLIP.validate_json(data) if isinstance(data, bytes) else _CLIP.validate_python(data)


def prompt_text(steps: Sequence[Step], state: Mapping[str, State], goal: str = "") -> str:
    """Give the prompt of docs/design.md §4: the steps and, where some step is touched, the progress made so far."""
    return task_prompt(steps, format_state((step.id for step in steps), state, touched_only=True), goal)


def task_prompt(steps: Sequence[Step], progress: str, goal: str = "") -> str:
    """Give a prompt that tells of the task what there is of goal, steps and progress, each in a paragraph."""
    text = "You are a proactive assistant helping with task completion."
    if goal:
        text += f"\n\nTask: {goal}"
    if steps:
        text += "\n\nTask Steps:\n" + "\n".join(f"- {step.id}: {step.name}" for step in steps)
    return f"{text}\n\nCurrent Progress: {progress}" if progress else text


def in_sequence_order(turns: Sequence[Turn], start_frame: int) -> tuple[Turn, ...]:
    """Sort by the frame a turn stands at; at one frame user and system turns first, otherwise in file order."""

    def place(turn: Turn) -> tuple[int, bool]:
        frame = start_frame - 1 if turn.end_frame is None else max(turn.end_frame, start_frame - 1)
        return frame, turn.role in ACTIVE_ROLES

    return tuple(sorted(turns, key=place))
