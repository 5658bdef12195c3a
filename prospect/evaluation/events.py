"""Events of a clip, predicted and annotated: what is matched in time, and the states that follow from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.annotations.clips import Clip
from pipeline.annotations.dst import State, Update, parse_updates
from prospect.stream.records import FrameRecord, tracked


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
    """List the clip's transitions, each at the end_frame of its turn."""
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
    """Give the state of every step after each frame of the clip. An illegal transition leaves its step as it is."""
    by_frame: dict[int, list[Update]] = {}
    for event in events:
        by_frame.setdefault(event.frame, []).append(event.update)
    states, state = [], clip.state
    for frame in range(clip.start_frame, clip.end_frame + 1):
        for update in by_frame.get(frame, []):
            state = tracked(state, update)
        states.append(state)
    return states


def _joined(spoken: Sequence[tuple[int, str]]) -> list[SpeechEvent]:
    by_frame: dict[int, list[str]] = {}
    for frame, text in spoken:
        by_frame.setdefault(frame, []).append(text)
    return [SpeechEvent(frame, " ".join(texts)) for frame, texts in sorted(by_frame.items())]
