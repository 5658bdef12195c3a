"""Predictions beside a clip that is reviewed: where the model and the annotation disagree, worst first, and what can be
done about each: take the prediction, move the reference there, or keep it as one that the annotator missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pipeline.annotations import edits
from pipeline.annotations.clips import Clip
from pipeline.annotations.edits import Draft
from pipeline.errors import ProspectError
from pipeline.shards.sample import clip_key
from prospect.evaluation.events import (
    SpeechEvent,
    UpdateEvent,
    predicted_speech,
    predicted_updates,
    reference_speech,
    reference_updates,
)
from prospect.evaluation.matching import match_window
from prospect.evaluation.mistakes import EventError, speech_errors, update_errors
from prospect.evaluation.predictions import ClipPrediction, read_prediction

WEIGHTS = {  # how bad a disagreement is, before its distance; a wrong state outweighs every word
    "wrong_step": 100, "wrong_transition": 95, "missed": 90, "spurious": 80, "repeated": 60, "late": 20, "early": 20,
}  # fmt: skip
SPEECH_SHARE = 0.4  # of an utterance, against an update's
MISSED = {"review": "missed by the annotator"}  # a key of a turn: metadata (docs/data-formats.md)
Action = Literal["accept", "shift", "missed"]
Event = UpdateEvent | SpeechEvent


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One mistake of the model, or of the annotation."""

    error: EventError
    badness: float

    @property
    def actions(self) -> list[Action]:
        """What can be done about it."""
        if self.error.predicted is None:
            return ["accept"]
        return ["accept", "missed"] if self.error.reference is None else ["accept", "shift"]

    @property
    def is_speech(self) -> bool:
        """Whether it is of an utterance, not of an update."""
        return isinstance(self.error.predicted or self.error.reference, SpeechEvent)


class Predictions:
    """A folder of predictions, one file a clip."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: of KEY.json; or an evaluation's, whose model's are taken.

        Raises:
            ProspectError: there are none.
        """
        tried = [folder / "predictions" / "model", folder / "model", folder]
        self.folder = next((path for path in tried if path.is_dir() and any(path.glob("*.json"))), folder)
        if not self.folder.is_dir():
            raise ProspectError(
                f"--predictions {folder}: no such folder; pass an evaluation's, e.g. runs/NAME/evaluation/val"
            )
        if not any(self.folder.glob("*.json")):
            raise ProspectError(
                f"--predictions {folder}: found no predictions, expected KEY.json files of prospect evaluate"
            )

    def of(self, clip: Clip) -> ClipPrediction | None:
        """Give a clip's; None: it has none.

        Raises:
            ProspectError: its file is no prediction.
        """
        path = self.folder / f"{clip_key(clip)}.json"
        if not path.is_file():
            return None
        return _read(path, path.stat().st_mtime_ns)

    def compared(self, clip: Clip) -> dict[str, Any] | None:
        """Give what the page shows of a clip's prediction; None: it has none."""
        prediction = self.of(clip)
        if prediction is None:
            return None
        found = [shown(one, number) for number, one in enumerate(disagreements(clip, prediction))]
        return {"ghosts": ghosts(prediction), "disagreements": found}

    def settle(self, draft: Draft, clip: Clip, number: object, action: object) -> Draft:
        """Change a clip's draft so that the disagreement of a number is settled.

        Raises:
            ProspectError: there is no such disagreement, or it cannot be settled so.
        """
        prediction = self.of(clip)
        found = disagreements(clip, prediction) if prediction else []
        if type(number) is int and 0 <= number < len(found):
            wanted = next((one for one in found[number].actions if one == action), None)
            if wanted:
                return settled(draft, found[number].error, wanted)
        raise ProspectError("this disagreement is gone; look again")


@lru_cache(maxsize=64)
def _read(path: Path, changed_ns: int) -> ClipPrediction:
    return read_prediction(path)


def disagreements(clip: Clip, prediction: ClipPrediction) -> list[Disagreement]:
    """List where a prediction and a clip disagree, worst first; the clip is as it is now, not as it was streamed."""
    window = match_window(clip.dataset, clip.fps)
    found = [
        *update_errors(predicted_updates(prediction.frames), reference_updates(clip), window),
        *speech_errors(predicted_speech(prediction.frames), reference_speech(clip), window),
    ]
    listed = [Disagreement(error, _badness(error)) for error in found]
    return sorted(listed, key=lambda one: (-one.badness, one.error.frame))


def ghosts(prediction: ClipPrediction) -> list[dict[str, Any]]:
    """List what was predicted, for a lane of its own."""
    updates = [
        {"frame": e.frame, "step": e.update.step, "transition": e.update.transition}
        for e in predicted_updates(prediction.frames)
    ]
    said = [{"frame": event.frame, "text": event.text} for event in predicted_speech(prediction.frames)]
    return [*updates, *said]


def shown(one: Disagreement, number: int) -> dict[str, Any]:
    """Give what the page shows of a disagreement."""
    error = one.error
    return {
        "number": number,
        "kind": error.kind,
        "is_speech": one.is_speech,
        "predicted": _shown(error.predicted),
        "reference": _shown(error.reference),
        "actions": one.actions,
        "badness": one.badness,
    }


def settled(draft: Draft, error: EventError, action: Action) -> Draft:
    """Change the clip so that a disagreement is settled.

    - accept: the prediction is right: it is added, or the reference becomes it; what was not predicted goes
    - shift: the reference was late or early: it moves to the prediction's frame, and says what it said
    - missed: the prediction is right, and its turn tells that the annotator missed it
    """
    predicted, reference = error.predicted, error.reference
    if reference is None:
        assert predicted is not None
        more = MISSED if action == "missed" else {}
        if isinstance(predicted, SpeechEvent):
            return edits.add_line(draft, predicted.frame, "assistant", predicted.text, more)
        return edits.add_update(draft, predicted.frame, predicted.update.step, predicted.update.transition, more)
    number, place = _turn_of(draft, reference)
    if predicted is None:
        return edits.remove(draft, number, place)
    if action == "accept" and isinstance(predicted, UpdateEvent) and error.kind.startswith("wrong"):
        assert place is not None
        draft = edits.set_transition(draft, number, place, predicted.update.step, predicted.update.transition)
    by = predicted.frame - reference.frame
    return edits.move(draft, number, by, by) if place is None else edits.move_transition(draft, number, place, by)


def _badness(error: EventError) -> float:
    weight: float = WEIGHTS[error.kind]
    if error.kind in ("early", "late") and error.predicted and error.reference:
        weight += min(abs(error.predicted.frame - error.reference.frame), 30)
    speech = isinstance(error.predicted or error.reference, SpeechEvent)
    return round(weight * (SPEECH_SHARE if speech else 1), 1)


def _shown(event: Event | None) -> dict[str, Any] | None:
    if event is None:
        return None
    if isinstance(event, SpeechEvent):
        return {"frame": event.frame, "text": event.text}
    return {"frame": event.frame, "step": event.update.step, "transition": event.update.transition}


def _turn_of(draft: Draft, event: Event) -> tuple[int, int | None]:
    """The turn that an event of the reference is, and its place among the turn's transitions."""
    for number, item in enumerate(draft.items):
        place = edits.range_of(draft, number)
        if place is None or place[1] != event.frame:
            continue
        if isinstance(event, SpeechEvent):
            if edits.role_of(item.value) == "assistant":
                return number, None
            continue
        pairs: Sequence[tuple[str, str]] = edits.transitions_of(item.value)
        wanted = (event.update.step, event.update.transition)
        if wanted in pairs:
            return number, pairs.index(wanted)
    raise ProspectError("this disagreement is gone; look again")
