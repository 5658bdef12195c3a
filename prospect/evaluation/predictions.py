"""The prediction file of a streamed clip.

It is JSON in ProAssist's layout (`metadata`, and `predictions`: a record a frame with its six keys), so that its tools
read it; everything about dialogue state tracking stands apart under "dst", from which all of it is read back.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.annotations.clips import ACTIVE_ROLES, Clip, decode_clip
from pipeline.errors import ProspectError
from pipeline.io.storage import write_atomically
from prospect.evaluation.events import predicted_speech, reference_speech
from prospect.stream.records import Action, FrameRecord

FORMAT = "prospect.prediction/1"


@dataclass(frozen=True, slots=True)
class ClipPrediction:
    """A streamed clip beside its reference (the clip's own turns)."""

    clip: Clip
    frames: tuple[FrameRecord, ...]  # of every frame of the clip, in order
    settings: dict[str, Any]  # of the stream: checkpoint, thresholds, context policy, ...


def write_prediction(path: Path, prediction: ClipPrediction) -> None:
    """Write the file, complete or not at all."""
    write_atomically(path, (json.dumps(_to_json(prediction), ensure_ascii=False, indent=1) + "\n").encode())


def read_prediction(path: Path) -> ClipPrediction:
    """Invert `write_prediction`.

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


def _from_json(record: dict[str, Any]) -> ClipPrediction:
    frames = tuple(
        FrameRecord(**frame | {"actions": tuple(Action(**action) for action in frame["actions"])})
        for frame in record["frames"]
    )
    return ClipPrediction(decode_clip(record["clip"]), frames, record["settings"])
