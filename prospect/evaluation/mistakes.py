"""What went wrong in a stream, event by event, for counts and for the report.

Time and content are told apart: a prediction that was found (paired in time by `match_events`) may be late and wrong at
once, and is then listed twice. A perfect prediction lists nothing.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.annotations.dst import Update
from prospect.evaluation.events import SpeechEvent, UpdateEvent
from prospect.evaluation.matching import Window, match_events

SPEECH_KINDS = ("early", "late", "missed", "repeated", "spurious")
UPDATE_KINDS = (*SPEECH_KINDS, "wrong_step", "wrong_transition")


@dataclass(frozen=True, slots=True)
class EventError:
    """One mistake. Either side is None where there is no such event."""

    kind: str  # one of UPDATE_KINDS
    frame: int  # of the prediction; of the reference where it was missed
    predicted: UpdateEvent | SpeechEvent | None
    reference: UpdateEvent | SpeechEvent | None


def update_errors(
    predicted: Sequence[UpdateEvent], reference: Sequence[UpdateEvent], window: Window
) -> list[EventError]:
    """List the mistakes of one clip's updates, in order of frames.

    - early, late: found, before or after the reference's frame
    - missed: a reference that nothing is paired with
    - wrong_step: found, of another step; wrong_transition: found, of the right step
    - repeated: not found, and the reference or an earlier prediction has the same step and transition at its frame or
      before, with no reset of the step since; spurious: any other that is not found
    """
    pairs = match_events(predicted, reference, window)
    errors = _in_time(predicted, reference, pairs)
    for p, r in pairs:
        was, wanted = predicted[p].update, reference[r].update
        if was != wanted:
            kind = "wrong_step" if was.step != wanted.step else "wrong_transition"
            errors.append(EventError(kind, predicted[p].frame, predicted[p], reference[r]))
    for number in _unpaired(len(predicted), (p for p, _ in pairs)):
        event = predicted[number]
        before = [*predicted[:number], *(other for other in reference if other.frame <= event.frame)]
        kind = "repeated" if _is_said(event.update, before) else "spurious"
        errors.append(EventError(kind, event.frame, event, None))
    return sorted(errors, key=lambda error: error.frame)


def _is_said(update: Update, before: Iterable[UpdateEvent]) -> bool:
    """Whether `update` was among what came before, after the last reset of its step."""
    of_step = sorted((e for e in before if e.update.step == update.step), key=lambda event: event.frame)
    since: list[Update] = []
    for event in of_step:
        if event.update.transition == "reset" and update.transition != "reset":
            since.clear()
        since.append(event.update)
    return update in since


def speech_errors(
    predicted: Sequence[SpeechEvent], reference: Sequence[SpeechEvent], window: Window
) -> list[EventError]:
    """List the mistakes of one clip's utterances, in order of frames; what they say counts only for repetition.

    - early, late, missed: as for updates
    - repeated: not found, and a reference inside its window is paired with another prediction, or an earlier prediction
      has the same text; spurious: any other that is not found
    """
    pairs = match_events(predicted, reference, window)
    errors = _in_time(predicted, reference, pairs)
    answered = [reference[r].frame for _, r in pairs]
    for number in _unpaired(len(predicted), (p for p, _ in pairs)):
        event = predicted[number]
        again = any(window[0] <= frame - event.frame <= window[1] for frame in answered)
        again = again or any(other.text == event.text for other in predicted[:number])
        errors.append(EventError("repeated" if again else "spurious", event.frame, event, None))
    return sorted(errors, key=lambda error: error.frame)


def count_errors(errors: Iterable[EventError], kinds: Sequence[str]) -> dict[str, int]:
    """Count errors by kind, over any number of clips; every one of `kinds` is there."""
    counts = Counter(error.kind for error in errors)
    return {kind: counts[kind] for kind in kinds}


def _in_time(
    predicted: Sequence[UpdateEvent] | Sequence[SpeechEvent],
    reference: Sequence[UpdateEvent] | Sequence[SpeechEvent],
    pairs: Sequence[tuple[int, int]],
) -> list[EventError]:
    """early, late and missed."""
    errors = []
    for p, r in pairs:
        if off := predicted[p].frame - reference[r].frame:
            errors.append(EventError("early" if off < 0 else "late", predicted[p].frame, predicted[p], reference[r]))
    for number in _unpaired(len(reference), (r for _, r in pairs)):
        errors.append(EventError("missed", reference[number].frame, None, reference[number]))
    return errors


def _unpaired(count: int, paired: Iterable[int]) -> list[int]:
    return sorted(set(range(count)) - set(paired))
