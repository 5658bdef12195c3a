"""What a streamed clip leaves behind: one record a frame, and the prediction file that holds them.

A prediction file is JSON in ProAssist's layout (`metadata`, and `predictions`: a record a frame with its six keys), so
that its tools read it; everything about dialogue state tracking stands apart under "dst", from which all of it is read
back.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.clips import ACTIVE_ROLES, Clip, Step, Turn, in_sequence_order
from pipeline.dst import State, Update, apply_updates, parse_updates
from pipeline.errors import ProspectError
from pipeline.storage import write_atomically

FORMAT = "prospect.prediction/1"


@dataclass(frozen=True, slots=True)
class Action:
    """A block that the model wrote (or was made to write) at a frame."""

    role: Literal["dst_update", "assistant"]
    text: str
    p_update: float  # the heads' probabilities at the decision that called for it
    p_speak: float


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame of a stream."""

    frame: int  # index into the frames file (or of a live stream, from 0)
    p_update: float  # the heads' probabilities at the frame itself: the first decision
    p_speak: float
    actions: tuple[Action, ...]  # in order
    p_update_last: float  # at the last decision, after all actions (of a silent frame: the first once more)
    p_speak_last: float
    context_tokens: int  # in the context after the frame
    computed_tokens: int  # that went through the model for this frame, restarts included
    is_restart: bool  # the context was full, and was cut before this frame
    seconds: float  # from the frame's features (the vision tower apart) to its last decision


@dataclass(frozen=True, slots=True)
class ClipPrediction:
    """A streamed clip beside its reference (the clip's own turns)."""

    clip: Clip
    frames: tuple[FrameRecord, ...]  # of every frame of the clip, in order
    settings: dict[str, Any]  # of the stream: checkpoint, thresholds, context policy, ...


@dataclass(frozen=True, slots=True)
class UpdateEvent:
    """One transition of one step at one frame: what DST metrics match."""

    frame: int
    update: Update


@dataclass(frozen=True, slots=True)
class SpeechEvent:
    """What is said at one frame; several utterances there are one, joined by a space."""

    frame: int
    text: str


def reference_updates(clip: Clip) -> list[UpdateEvent]:
    """The clip's transitions, each at the end_frame of its turn."""
    return [
        UpdateEvent(turn.end_frame, update)
        for turn in clip.turns
        if turn.role == "dst_update" and turn.end_frame is not None
        for update in parse_updates(turn.text)
    ]


def predicted_updates(frames: Sequence[FrameRecord]) -> list[UpdateEvent]:
    return [
        UpdateEvent(record.frame, update)
        for record in frames
        for action in record.actions
        if action.role == "dst_update"
        for update in parse_updates(action.text)
    ]


def reference_speech(clip: Clip) -> list[SpeechEvent]:
    spoken = [(turn.end_frame, turn.text) for turn in clip.turns if turn.role == "assistant"]
    return _joined([(frame, text) for frame, text in spoken if frame is not None])


def predicted_speech(frames: Sequence[FrameRecord]) -> list[SpeechEvent]:
    return _joined([(r.frame, action.text) for r in frames for action in r.actions if action.role == "assistant"])


def states_by_frame(clip: Clip, events: Sequence[UpdateEvent]) -> list[dict[str, State]]:
    """The state of every step after each frame of the clip. An illegal transition leaves its step as it is."""
    by_frame: dict[int, list[Update]] = {}
    for event in events:
        by_frame.setdefault(event.frame, []).append(event.update)
    states, state = [], clip.state
    for frame in range(clip.start_frame, clip.end_frame + 1):
        for update in by_frame.get(frame, []):
            state = tracked(state, update)
        states.append(state)
    return states


def tracked(state: dict[str, State], update: Update) -> dict[str, State]:
    """The tracked state after `update`; unchanged where it is illegal (unconstrained generation may write such)."""
    try:
        return apply_updates(state, [update])
    except ValueError:
        return state


def write_prediction(path: Path, prediction: ClipPrediction) -> None:
    """The file appears complete or not at all."""
    write_atomically(path, (json.dumps(_to_json(prediction), ensure_ascii=False, indent=1) + "\n").encode())


def read_prediction(path: Path) -> ClipPrediction:
    """Inverse of `write_prediction`.

    Raises:
        ProspectError: no prediction file of this format.
    """
    try:
        record = json.loads(path.read_bytes())["dst"]
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']!r}")
        return _from_json(record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProspectError(
            f"{path}: cannot be read as a prediction ({error!r}), expected {FORMAT}; remove it and evaluate again"
        ) from None


def proassist_records(prediction: ClipPrediction) -> list[dict[str, Any]]:
    """ProAssist's record of each frame; silence is the empty string, `image` is left out as ProAssist does on saving.

    Times are ProAssist's: frame i of the stream is over at (i + 1) / fps seconds.
    """
    clip = prediction.clip
    generated = {event.frame: event.text for event in predicted_speech(prediction.frames)}
    reference = {event.frame: event.text for event in reference_speech(clip)}
    inputs: dict[int, list[list[str]]] = {}
    for turn in clip.turns:
        if turn.role not in ACTIVE_ROLES:
            place = clip.start_frame if turn.end_frame is None else max(turn.end_frame, clip.start_frame)
            inputs.setdefault(place, []).append([turn.role, turn.text])
    return [
        {
            "gen": generated.get(frame, ""),
            "ref": reference.get(frame, ""),
            "text_inputs": inputs.get(frame, []),
            "frame_idx_in_stream": number,
            "frame_idx_in_original_video": frame,
            "timestamp_in_stream": (number + 1) / clip.fps,
        }
        for number, frame in enumerate(range(clip.start_frame, clip.end_frame + 1))
    ]


def _joined(spoken: Sequence[tuple[int, str]]) -> list[SpeechEvent]:
    by_frame: dict[int, list[str]] = {}
    for frame, text in spoken:
        by_frame.setdefault(frame, []).append(text)
    return [SpeechEvent(frame, " ".join(texts)) for frame, texts in sorted(by_frame.items())]


def _to_json(prediction: ClipPrediction) -> dict[str, Any]:
    clip = prediction.clip
    return {
        "metadata": {
            "dataset": clip.dataset,
            "sample_idx": clip.id,
            "video_uid": clip.video_uid,
            "fps": clip.fps,
            **prediction.settings,
        },
        "predictions": proassist_records(prediction),
        "dst": {
            "format": FORMAT,
            "clip": asdict(clip),
            "settings": prediction.settings,
            "frames": [asdict(record) for record in prediction.frames],
        },
    }


def _from_json(record: dict[str, Any]) -> ClipPrediction:
    about = record["clip"]
    clip = Clip(
        **about
        | {
            "steps": tuple(Step(**step) for step in about["steps"]),
            "initial_state": tuple(about["initial_state"]),
            "turns": in_sequence_order([Turn(**turn) for turn in about["turns"]], about["start_frame"]),
        }
    )
    frames = tuple(
        FrameRecord(**frame | {"actions": tuple(Action(**action) for action in frame["actions"])})
        for frame in record["frames"]
    )
    return ClipPrediction(clip, frames, record["settings"])
