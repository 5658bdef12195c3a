"""The prediction file of a streamed clip.

It is JSON in ProAssist's layout (`metadata`, and `predictions`: a record a frame with its six keys), so that its tools
read it; everything about dialogue state tracking stands apart under "dst", from which all of it is read back, checked:
people cut, copy and correct such files.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from pipeline.annotations.clips import ACTIVE_ROLES, Clip
from pipeline.annotations.dst import parse_updates
from pipeline.errors import ProspectError
from pipeline.io.storage import write_atomically
from prospect.evaluation.events import UpdateEvent, predicted_speech, reference_speech, reference_updates
from prospect.stream.records import FrameRecord

Format = Literal["prospect.prediction/1"]
FORMAT: Format = "prospect.prediction/1"
_MOST_TOLD = 3  # problems of a kind


@dataclass(frozen=True, slots=True)
class ClipPrediction:
    """A streamed clip beside its reference (the clip's own turns)."""

    clip: Clip
    frames: tuple[FrameRecord, ...]  # of every frame of the clip, in order
    settings: dict[str, Any]  # of the stream: checkpoint, thresholds, context policy, ...

    @property
    def tracks_state(self) -> bool:
        """Whether the model writes updates; of one that does not, nothing of the state is defined."""
        return bool(self.settings.get("memory", "dst") == "dst")

    @property
    def reference_updates(self) -> list[UpdateEvent]:
        """List the clip's transitions, as far as the model is held to them."""
        return reference_updates(self.clip) if self.tracks_state else []


class _Record(BaseModel):
    """What stands under "dst"."""

    format: Format
    clip: Clip
    settings: dict[str, Any]
    frames: tuple[FrameRecord, ...]


class _File(BaseModel):
    dst: _Record


def write_prediction(path: Path, prediction: ClipPrediction) -> None:
    """Write the file, complete or not at all."""
    write_atomically(path, (json.dumps(_to_json(prediction), ensure_ascii=False, indent=1) + "\n").encode())


def read_prediction(path: Path) -> ClipPrediction:
    """Invert `write_prediction`.

    Raises:
        ProspectError: no prediction file of this format, or one that no stream writes: frames missing, doubled or
            outside the clip, texts that are no updates, probabilities that are none.
    """
    try:
        record = _File.model_validate_json(path.read_bytes()).dst
        prediction = ClipPrediction(record.clip, record.frames, record.settings)
        problems = _problems(prediction)
    except OSError as error:
        problems = [str(error)]
    except ValidationError as error:
        problems = [_told(detail) for detail in error.errors()]
    if problems:
        told = "; ".join(problems[:_MOST_TOLD]) + (f"; {len(problems)} in all" if len(problems) > _MOST_TOLD else "")
        raise ProspectError(
            f"{path}: cannot be read as a prediction ({told}), expected {FORMAT}; remove it and evaluate again"
        )
    return prediction


def proassist_records(prediction: ClipPrediction) -> list[dict[str, Any]]:
    """Give ProAssist's record of each frame; silence is the empty string, `image` left out as ProAssist does on saving.

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


def _told(detail: Mapping[str, Any]) -> str:
    place, said = ".".join(map(str, detail["loc"])), " ".join(detail["msg"].split())
    return f"{place}: {said[:1].lower()}{said[1:]}" if place else said


def _problems(prediction: ClipPrediction) -> list[str]:
    """What no stream writes, and nothing that reads a prediction expects."""
    clip = prediction.clip
    problems = list(_clip_problems(clip)) or list(_frame_problems(clip, [one.frame for one in prediction.frames]))
    for record in prediction.frames:
        for said in (record, *record.actions):
            for name in ("p_update", "p_speak", "p_update_last", "p_speak_last"):
                if not 0 <= (p := getattr(said, name, 0)) <= 1:
                    problems.append(f"frame {record.frame}: {name} {p}, expected 0 to 1")
        if not 0 <= record.seconds < math.inf:
            problems.append(f"frame {record.frame}: seconds {record.seconds}, expected 0 or more")
        for action in record.actions:
            if action.role == "dst_update" and (problem := _update_problem(clip, action.text)):
                problems.append(f"frame {record.frame}: {problem}")
    return problems


def _clip_problems(clip: Clip) -> Iterator[str]:
    if len(clip.initial_state) != len(clip.steps):
        yield f"clip: {len(clip.initial_state)} states of {len(clip.steps)} steps"
    if not 0 < clip.fps < math.inf:
        yield f"clip: {clip.fps} frames a second"
    for number, turn in enumerate(clip.turns, 1):
        at, first, last = turn.end_frame, clip.start_frame, clip.end_frame
        if turn.role in ACTIVE_ROLES and (at is None or not first <= at <= last):
            yield f"turn {number} ({turn.role}): at frame {at}, expected one of {first}..{last}"
        if turn.role == "dst_update" and (problem := _update_problem(clip, turn.text)):
            yield f"turn {number}: {problem}"


def _update_problem(clip: Clip, text: str) -> str | None:
    try:
        steps = [update.step for update in parse_updates(text)]
    except ValueError as error:
        return str(error)
    known = [step.id for step in clip.steps]
    unknown = next((step for step in steps if step not in known), None)
    return unknown and f"update of step {unknown!r}, expected one of {', '.join(known)}"


def _frame_problems(clip: Clip, frames: Sequence[int]) -> Iterator[str]:
    """`frames` are to be every frame of the clip. The clip may claim any number of them: gaps are not counted out."""
    first, last = clip.start_frame, clip.end_frame
    inside = sorted({frame for frame in frames if first <= frame <= last})
    gaps = [(a + 1, b - 1) for a, b in pairwise([first - 1, *inside, last + 1]) if b - a > 1]
    lists = {
        "missing": [str(a) if a == b else f"{a}..{b}" for a, b in gaps],
        "twice": [str(frame) for frame, count in Counter(frames).items() if count > 1],
        "outside the clip": [str(frame) for frame in frames if not first <= frame <= last],
    }
    found = [f"{', '.join(of_kind[:_MOST_TOLD])} {kind}" for kind, of_kind in lists.items() if of_kind]
    if not found and list(frames) != inside:
        found = ["out of order"]
    if found:
        yield f"frames: {'; '.join(found)}, expected {first}..{last}, each once, in order"
