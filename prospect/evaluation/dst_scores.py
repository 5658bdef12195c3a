"""How well a stream tracks the state, and finds the moments to update it and to speak (docs/design.md §9).

Everything is read from a few terms a clip that add up over clips, so that metrics are pooled (sums first, then ratios)
and a bootstrap resamples clips without matching anything again. C clips, T terms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Protocol

import numpy as np

from prospect.evaluation.events import (
    predicted_speech,
    predicted_updates,
    reference_speech,
    states_by_frame,
)
from prospect.evaluation.matching import FloatArray, match_events, match_window
from prospect.evaluation.predictions import ClipPrediction

DELAY_QUANTILES = {"update_delay_s_median": 0.5, "update_delay_s_p90": 0.9}


@dataclass(frozen=True, slots=True)
class DSTCounts:
    """What adds up over clips. "Found" is a pair of the matching in time, whatever its content."""

    predicted_updates: int
    reference_updates: int
    found_updates: int
    exact_updates: int  # found, with the reference's step and transition
    equal_updates: int  # pairs of the matching that allows only equal content
    predicted_speech: int
    reference_speech: int
    found_speech: int
    right_frames: int  # with the whole state right; this and what follows is 0 where no state ever changes
    num_frames: int
    right_ends: int  # 1: the state after the last frame is right
    num_clips: int  # 1


@dataclass(frozen=True, slots=True)
class DSTTerms:
    """One clip's."""

    counts: DSTCounts
    delays_s: tuple[float, ...]  # predicted minus reference time of each exact pair: negative is early

    def vector(self) -> FloatArray:
        """Give the counts, (T,), as `dst_ratios` takes them."""
        return np.array(astuple(self.counts), dtype=np.float64)


def dst_terms(prediction: ClipPrediction) -> DSTTerms:
    """Count the terms of a clip. Its frames (and its end) are counted for the joint state only where the reference has
    an update: a clip without steps, or in which nothing is begun or done, is right by silence."""
    clip = prediction.clip
    window = match_window(clip.dataset, clip.fps)
    predicted, reference = predicted_updates(prediction.frames), prediction.reference_updates
    pairs = match_events(predicted, reference, window)
    exact = [(p, r) for p, r in pairs if predicted[p].update == reference[r].update]
    said, expected = predicted_speech(prediction.frames), reference_speech(clip)
    right = [
        state == wanted
        for state, wanted in zip(states_by_frame(clip, predicted), states_by_frame(clip, reference), strict=True)
        if reference
    ]
    counts = DSTCounts(
        predicted_updates=len(predicted),
        reference_updates=len(reference),
        found_updates=len(pairs),
        exact_updates=len(exact),
        equal_updates=len(match_events(predicted, reference, window, same_content_only=True)),
        predicted_speech=len(said),
        reference_speech=len(expected),
        found_speech=len(match_events(said, expected, window)),
        right_frames=sum(right),
        num_frames=len(right),
        right_ends=sum(right[-1:]),
        num_clips=int(bool(right)),
    )
    return DSTTerms(counts, tuple((predicted[p].frame - reference[r].frame) / clip.fps for p, r in exact))


def dst_ratios(sums: FloatArray) -> dict[str, FloatArray]:
    """Give the named ratios of summed counts: (..., T) to (...), NaN where there is nothing to divide by.

    `should_update_dst_*` and `when_to_speak_*`: events found in time. `dst_update_accuracy`: exact among the found.
    `dst_update_f1`: from the matching that allows only equal content. `joint_state_accuracy`: share of frames with the
    whole state right, `joint_state_at_end`: of clips that end so; both of clips with a reference update alone.
    """
    of = DSTCounts(*np.moveaxis(sums, -1, 0))
    return {
        "should_update_dst_precision": ratio(of.found_updates, of.predicted_updates),
        "should_update_dst_recall": ratio(of.found_updates, of.reference_updates),
        "should_update_dst_f1": ratio(2 * of.found_updates, of.predicted_updates + of.reference_updates),
        "when_to_speak_precision": ratio(of.found_speech, of.predicted_speech),
        "when_to_speak_recall": ratio(of.found_speech, of.reference_speech),
        "when_to_speak_f1": ratio(2 * of.found_speech, of.predicted_speech + of.reference_speech),
        "dst_update_accuracy": ratio(of.exact_updates, of.found_updates),
        "dst_update_f1": ratio(2 * of.equal_updates, of.predicted_updates + of.reference_updates),
        "joint_state_accuracy": ratio(of.right_frames, of.num_frames),
        "joint_state_at_end": ratio(of.right_ends, of.num_clips),
    }


def dst_metrics(terms: Sequence[DSTTerms]) -> dict[str, float | None]:
    """Pool metrics over clips; None where there is nothing to measure (no such events, no exact pair)."""
    delays = [delay for of_clip in terms for delay in of_clip.delays_s]
    return without_nan(dst_ratios(pooled_sums(terms, DSTCounts))) | {
        name: float(np.quantile(delays, share)) if delays else None for name, share in DELAY_QUANTILES.items()
    }


class Terms(Protocol):
    """One clip's terms, which add up over clips."""

    def vector(self) -> FloatArray: ...


def pooled_sums(terms: Sequence[Terms], named: type) -> FloatArray:
    """Add up the vectors of clips, (T,); zeros without clips. `named` is the record that has a field for each term."""
    return np.sum([of_clip.vector() for of_clip in terms], axis=0) if terms else np.zeros(len(fields(named)))


def ratio(part: FloatArray | float, whole: FloatArray | float) -> FloatArray:
    """Give part / whole, elementwise; NaN where whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def without_nan(values: Mapping[str, FloatArray]) -> dict[str, float | None]:
    """Give plain numbers of 0-dimensional values, None for NaN."""
    return {name: None if np.isnan(value) else float(value) for name, value in values.items()}
