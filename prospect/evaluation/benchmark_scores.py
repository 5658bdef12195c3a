"""Metrics after those of newer benchmarks, from the same predictions: our readings of them, not their numbers.

Each has a name of ours, as neither benchmark's scoring code was at hand, and their data differ from ours. Both
decisions, to speak and to update, have a moment at each frame at which something is said or updated. T terms.

*Proact-VL* (arXiv 2603.03447; code: microsoft/AnthropomorphicIntelligence, evaluation/gaming/f1_timediff.py). Known
from a summary of the paper: F1 is that of a binary classification over the whole timeline, in steps of a second, with
the windows of true responses as positives; TimeDiff is the distance in time of predicted and true onsets, and charges
predictions outside such windows.

- `speak_f1_per_second`: a second is positive if a moment lies in it, counted from the clip's first frame; there is no
  tolerance. A response stands at one frame here, as how long it takes to say is not known.
- `speak_nearest_time_diff_s`: the mean distance of each moment, predicted or true, to the nearest of the other side, so
  that silence costs as well as chatter. No window, but a limit, also where there is no other side: 30 s, the length of
  the segments that the benchmark cuts streams into (models that hardly ever speak have some 27 s there).
- `update_f1_per_second`, `update_nearest_time_diff_s`: the same of updates, which the paper does not have.

*Qualcomm Interactive Cooking* (arXiv 2511.21998, section 5.1; code: Qualcomm-AI-research/
qualcomm_interactive_cooking_eval). Known from the paper: IC-Acc is the proportion of instructions that the model
rightly detects as completed, for which it has to give the instruction, the user to complete it, and the model to
identify that inside a window of 30 s centred on the true time.

- `step_completion_30s`: the share of the reference's completions that have one of the same step, one to one, at most
  15 s before or after. To have given the instruction is to have that step in progress in the model's own state. (If
  instructions that nobody completes count as well is not said there; here they do not.)
- `step_completion_told_30s`: those after which the assistant also said something, at the predicted completion or later,
  before the window ends. What it said is not read.

There an instruction may stand for steps done in parallel, and one that is done wrongly gets feedback on a mistake.
Clips say nothing of mistakes: a step done wrongly is complete, as any other, and the benchmark's precision, recall and
fluency over mistakes are not measured.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt

from pipeline.annotations.clips import Clip
from prospect.evaluation.dst_scores import pooled_sums, ratio, without_nan
from prospect.evaluation.events import (
    SpeechEvent,
    UpdateEvent,
    predicted_speech,
    predicted_updates,
    reference_speech,
    reference_updates,
)
from prospect.evaluation.matching import FloatArray, match_events
from prospect.evaluation.predictions import ClipPrediction
from prospect.stream.records import tracked

FARTHEST_S = 30.0
COMPLETION_WINDOW_S = 15.0  # to each side


@dataclass(frozen=True, slots=True)
class BenchmarkTerms:
    """One clip's, which add up over clips."""

    speak_seconds: float  # with a moment, predicted and reference counted apart
    shared_speak_seconds: float
    speak_moments: float  # predicted and reference
    speak_distance_s: float  # summed over them
    update_seconds: float
    shared_update_seconds: float
    update_moments: float
    update_distance_s: float
    completions: float  # of the reference
    found_completions: float
    told_completions: float

    def vector(self) -> FloatArray:
        """Give (T,), as `benchmark_ratios` takes them."""
        return np.array(astuple(self), dtype=np.float64)


def benchmark_terms(prediction: ClipPrediction) -> BenchmarkTerms:
    clip = prediction.clip
    said, updates = predicted_speech(prediction.frames), predicted_updates(prediction.frames)
    wanted = reference_updates(clip)
    return BenchmarkTerms(
        *_moment_terms(clip, said, reference_speech(clip)),
        *_moment_terms(clip, updates, wanted),
        *_completion_terms(clip, _completions(clip, updates), _completions(clip, wanted), said),
    )


def benchmark_ratios(sums: FloatArray) -> dict[str, FloatArray]:
    """Give the named ratios of summed terms: (..., T) to (...), NaN where there is nothing to divide by."""
    of = BenchmarkTerms(*np.moveaxis(sums, -1, 0))
    return {
        "speak_f1_per_second": ratio(2 * of.shared_speak_seconds, of.speak_seconds),
        "speak_nearest_time_diff_s": ratio(of.speak_distance_s, of.speak_moments),
        "update_f1_per_second": ratio(2 * of.shared_update_seconds, of.update_seconds),
        "update_nearest_time_diff_s": ratio(of.update_distance_s, of.update_moments),
        "step_completion_30s": ratio(of.found_completions, of.completions),
        "step_completion_told_30s": ratio(of.told_completions, of.completions),
    }


def benchmark_metrics(terms: Sequence[BenchmarkTerms]) -> dict[str, float | None]:
    """Pool metrics over clips; None where there is nothing to measure."""
    return without_nan(benchmark_ratios(pooled_sums(terms, BenchmarkTerms)))


def _moment_terms(
    clip: Clip, predicted: Iterable[SpeechEvent | UpdateEvent], reference: Iterable[SpeechEvent | UpdateEvent]
) -> tuple[float, float, float, float]:
    """Seconds with a moment, those shared, moments, and the sum of distances."""
    ours, theirs = (_moments_s(clip, events) for events in (predicted, reference))
    our_seconds, their_seconds = (np.unique(np.floor(times)) for times in (ours, theirs))
    return (
        len(our_seconds) + len(their_seconds),
        len(np.intersect1d(our_seconds, their_seconds)),
        len(ours) + len(theirs),
        float(_to_nearest(ours, theirs).sum() + _to_nearest(theirs, ours).sum()),
    )


def _moments_s(clip: Clip, events: Iterable[SpeechEvent | UpdateEvent]) -> FloatArray:
    """Sorted times from the clip's first frame, one a frame."""
    frames: npt.NDArray[np.int64] = np.unique(np.array([event.frame for event in events], dtype=np.int64))
    return (frames - clip.start_frame) / clip.fps


def _to_nearest(times: FloatArray, others: FloatArray) -> FloatArray:
    """The distance of each time to the nearest of `others` (sorted), FARTHEST_S at most, and where there is none."""
    fences = np.concatenate([[-np.inf], others, [np.inf]])
    after = np.searchsorted(fences, times)
    return np.minimum(np.minimum(times - fences[after - 1], fences[after] - times), FARTHEST_S)


def _completions(clip: Clip, updates: Iterable[UpdateEvent]) -> list[UpdateEvent]:
    """The updates that complete a step which is in progress when they come."""
    done, state = [], clip.state
    for event in updates:
        after = tracked(state, event.update)
        if event.update.transition == "complete" and after != state:
            done.append(event)
        state = after
    return done


def _completion_terms(
    clip: Clip, predicted: Sequence[UpdateEvent], reference: Sequence[UpdateEvent], said: Sequence[SpeechEvent]
) -> tuple[float, float, float]:
    """Completions of the reference, those found, those told."""
    widest = int(COMPLETION_WINDOW_S * clip.fps)
    pairs = match_events(predicted, reference, (-widest, widest), same_content_only=True)
    told = [any(predicted[p].frame <= event.frame <= reference[r].frame + widest for event in said) for p, r in pairs]
    return len(reference), len(pairs), sum(told)
