"""Thresholds of the heads from cached probabilities, and how far these can be trusted.

The clips were streamed once with the reference's blocks written (row `forced`), so each decision's probabilities are
known in the right context. A sweep over thresholds then needs no model. It cannot see what a head does after its own
mistakes (a repeat, a wrong state): the best pairs are confirmed by streaming (`calibrate.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import numpy as np

from prospect.carried import as_learned
from prospect.evaluation.events import SpeechEvent, reference_speech, reference_updates
from prospect.evaluation.matching import match_events, match_window
from prospect.evaluation.predictions import ClipPrediction
from prospect.layout import frame_groups
from prospect.stream.records import FrameRecord

Head = Literal["should_update_dst", "when_to_speak"]
HEADS: tuple[Head, ...] = ("should_update_dst", "when_to_speak")
GRID = tuple(np.round([0.005, 0.01, *np.arange(0.02, 0.99, 0.02), 0.99, 0.995], 3).tolist())
NUM_BINS = 15
DEFAULT = 0.5  # threshold of a head that is not calibrated
FEW_CLIPS, FEW_EVENTS = 10, 30  # fewer than these say little of other clips


@dataclass(frozen=True, slots=True)
class Sweep:
    """A head's event F1 at each threshold of the grid, the other head following the reference."""

    head: Head
    f1: tuple[float, ...]  # one a threshold of GRID


def sweep(predictions: Sequence[ClipPrediction], head: Head) -> Sweep:
    """Give event F1 as `dst_scores` has it (in time, whatever the content), pooled over clips, at each threshold.

    There has to be an event (`count_events`).
    """
    decided = [[list(_decisions(record, head)) for record in one.frames] for one in predictions]
    return Sweep(head, tuple(_event_f1(predictions, decided, head, threshold) for threshold in GRID))


def best_pairs(update: Sweep | None, speak: Sweep | None, count: int) -> list[tuple[float, float]]:
    """List the `count` pairs (update, speak) of the best mean F1; of equally good ones those nearest to 0.5.

    None: of a head of which nothing is known (no such events; of a model without DST, it never fires): DEFAULT.

    Thresholds that follow each other at the same F1 do the same: the one nearest to 0.5 stands for them.
    """
    ranked = sorted(
        (-(f_update + f_speak), abs(t_update - 0.5) + abs(t_speak - 0.5), t_update, t_speak)
        for t_update, f_update in (_distinct(update) if update else [(DEFAULT, 0.0)])
        for t_speak, f_speak in (_distinct(speak) if speak else [(DEFAULT, 0.0)])
    )
    return [(t_update, t_speak) for _, _, t_update, t_speak in ranked[:count]]


def fires(decisions: Sequence[tuple[float, bool]], threshold: float) -> int:
    """Count how many events a head of `threshold` gives at one frame.

    Args:
        decisions: probability, and whether the reference has the head's block next, of each in order.

    A fire where it is due goes on to the next decision; one that is not due is an event too, and ends the frame, as
    does a due one that is missed. Where another block is due, and the head is silent, the frame goes on.
    """
    count = 0
    for p, is_due in decisions:
        if p >= threshold:
            count += 1
            if not is_due:
                break
        elif is_due:
            break
    return count


def swept_heads(predictions: Sequence[ClipPrediction]) -> tuple[Head, ...]:
    """List the heads of the model that was streamed; of one without DST, when_to_speak alone."""
    return HEADS if all(one.tracks_state for one in predictions) else ("when_to_speak",)


def count_events(predictions: Sequence[ClipPrediction], head: Head) -> int:
    """Count the reference events that `head` is to find."""
    events = reference_updates if head == "should_update_dst" else reference_speech
    return sum(len(events(one.clip)) for one in predictions)


def doubts(num_events: Mapping[Head, int], num_clips: int) -> list[str]:
    """Say of which heads the threshold is none that was found, or was found on too little, and what to do."""
    clips, lines = f"{num_clips} clip{'s' if num_clips != 1 else ''}", []
    for head, count in num_events.items():
        what = "update" if head == "should_update_dst" else "utterance"
        if not count:
            lines.append(
                f"{head}: no {what} in these {clips}, so no threshold was found: {DEFAULT}, the default, is stored; "
                f"calibrate on clips with {what}s"
            )
        elif count < FEW_EVENTS or num_clips < FEW_CLIPS:
            events = f"{count} {what}{'s' if count != 1 else ''}"
            lines.append(
                f"{head}: found on {events} in {clips}, where {FEW_EVENTS} in {FEW_CLIPS} are the least that say "
                "something of others: calibrate on more"
            )
    return lines


def reliability(predictions: Sequence[ClipPrediction]) -> dict[str, Any]:
    """Give for each of `swept_heads`: `bins` of [mean probability, share of positives, count], and `ece`, the expected
    calibration error.

    Over the first decisions of all frames but those that training leaves unlabelled (inside an event's range, before
    its last frame). Bins are of equal width; empty ones are left out.
    """
    by_head: dict[str, Any] = {}
    for head in swept_heads(predictions):
        pairs = [pair for one in predictions for pair in _labelled(one, head)]
        p, y = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
        place = np.minimum((p * NUM_BINS).astype(int), NUM_BINS - 1)
        bins = [[float(p[place == b].mean()), float(y[place == b].mean()), int((place == b).sum())]
                for b in range(NUM_BINS) if (place == b).any()]  # fmt: skip
        ece = sum(count * abs(mean - share) for mean, share, count in bins) / len(p)
        by_head[head] = {"bins": bins, "ece": ece}
    return by_head


def _distinct(sweep: Sweep) -> Iterator[tuple[float, float]]:
    """(threshold, F1): one of each stretch of the grid with the same F1."""
    for f1, stretch in groupby(zip(GRID, sweep.f1, strict=True), key=itemgetter(1)):
        yield min((threshold for threshold, _ in stretch), key=lambda threshold: abs(threshold - 0.5)), f1


def _decisions(record: FrameRecord, head: Head) -> Iterator[tuple[float, bool]]:
    """Those that `head` takes part in: where an update is due that one goes first, whatever when_to_speak says."""
    role = "dst_update" if head == "should_update_dst" else "assistant"
    is_update = head == "should_update_dst"
    for action in record.actions:
        if is_update or action.role == role:
            yield (action.p_update if is_update else action.p_speak), action.role == role
    yield (record.p_update_last if is_update else record.p_speak_last), False


def _event_f1(
    predictions: Sequence[ClipPrediction],
    decided: Sequence[Sequence[Sequence[tuple[float, bool]]]],
    head: Head,
    threshold: float,
) -> float:
    matched = of = 0
    for one, frames in zip(predictions, decided, strict=True):
        clip = one.clip
        is_update = head == "should_update_dst"
        frames_due = [event.frame for event in (reference_updates(clip) if is_update else reference_speech(clip))]
        predicted = [
            SpeechEvent(record.frame, "")
            for record, decisions in zip(one.frames, frames, strict=True)
            for _ in range(_events(fires(decisions, threshold), head))
        ]
        due = [SpeechEvent(frame, "") for frame in frames_due]
        matched += len(match_events(predicted, due, match_window(clip.dataset, clip.fps)))
        of += len(predicted) + len(due)
    return 2 * matched / of


def _events(count: int, head: Head) -> int:
    """Utterances of one frame are one event."""
    return count if head == "should_update_dst" else min(count, 1)


def _labelled(prediction: ClipPrediction, head: Head) -> Iterator[tuple[float, bool]]:
    is_update = head == "should_update_dst"
    role = "dst_update" if is_update else "assistant"
    clip = as_learned(prediction.clip, prediction.settings.get("memory", "dst"))
    for group, record in zip(frame_groups(clip), prediction.frames, strict=True):
        p = record.p_update if is_update else record.p_speak
        yield p, bool(group.after) and group.after[0].role == role
