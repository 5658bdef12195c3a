"""All metrics of streamed clips: measured clip by clip, pooled over any set of clips, with bootstrap intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prospect.evaluation.benchmark_scores import (
    BenchmarkTerms,
    benchmark_metrics,
    benchmark_ratios,
    benchmark_terms,
)
from prospect.evaluation.dst_scores import DSTTerms, dst_metrics, dst_ratios, dst_terms
from prospect.evaluation.events import predicted_speech, predicted_updates, reference_speech
from prospect.evaluation.intervals import MOST_UNDEFINED, RESAMPLES, delay_intervals, intervals
from prospect.evaluation.matching import Embed, SpeechMatch, match_speech, match_window
from prospect.evaluation.mistakes import SPEECH_KINDS, UPDATE_KINDS, count_errors, speech_errors, update_errors
from prospect.evaluation.predictions import ClipPrediction
from prospect.evaluation.speech_scores import (
    SpeechTerms,
    matched_texts,
    speech_metrics,
    speech_ratios,
    speech_terms,
)
from prospect.evaluation.text_scores import TEXT_SCORES, MeteorProcess, TextScores, text_scores

SEED = 0  # of the bootstrap

Metrics = dict[str, float | int | None]


@dataclass(frozen=True, slots=True)
class ClipScores:
    """What was measured of one clip; everything else is pooled from these."""

    clip_id: str
    dataset: str
    dst: DSTTerms
    match: SpeechMatch
    speech: SpeechTerms
    benchmark: BenchmarkTerms
    update_errors: dict[str, int]
    speech_errors: dict[str, int]
    num_frames: int
    computed_tokens: int  # that went through the model
    num_restarts: int
    seconds: float


def measure(predictions: Sequence[ClipPrediction], embed: Embed) -> list[ClipScores]:
    return [_of(one, match) for one, match in zip(predictions, match_speech(predictions, embed), strict=True)]


def pooled(scores: Sequence[ClipScores], meteor: MeteorProcess | None = None) -> dict[str, Any]:
    """Give `metrics` over all of `scores`, their `intervals` (95%, of those that are ratios of sums), the
    `undefined_resamples` that intervals leave out (of metrics that some resamples leave undefined), and the `problem`
    that kept text scores from being computed, if any."""
    texts = text_scores(matched_texts([one.match for one in scores]), meteor)
    dst = np.stack([one.dst.vector() for one in scores])  # (C, T)
    speech = np.stack([one.speech.vector() for one in scores])
    benchmark = np.stack([one.benchmark.vector() for one in scores])
    resampled = intervals(dst, dst_ratios, SEED) | intervals(speech, speech_ratios, SEED)
    resampled |= intervals(benchmark, benchmark_ratios, SEED)
    resampled |= delay_intervals([one.dst.delays_s for one in scores], SEED)
    return {
        "metrics": _metrics(scores, texts),
        "intervals": {name: list(one.interval) if one.interval else None for name, one in resampled.items()},
        "undefined_resamples": {
            name: one.num_undefined for name, one in resampled.items() if 0 < one.num_undefined < RESAMPLES
        },
        "problem": texts.problem,
    }


def undefined_notes(together: Mapping[str, Any]) -> list[str]:
    """Say what of the model's `pooled` numbers is undefined, where no `problem` says why."""
    explained = {f"{name}{suffix}" for name in TEXT_SCORES for suffix in ("", "_w") if together["problem"]}
    undefined = [name for name, value in together["metrics"].items() if value is None and name not in explained]
    notes = [f"undefined, hence null, of what the model wrote: {', '.join(undefined)}"] if undefined else []
    if resamples := together["undefined_resamples"]:
        counts = ", ".join(f"{name} {count}" for name, count in resamples.items())
        notes.append(
            f"undefined in some of {RESAMPLES} resamples, which are left out of the interval (none is given beyond "
            f"{MOST_UNDEFINED}): {counts}"
        )
    return notes


def by_dataset(scores: Sequence[ClipScores]) -> dict[str, list[ClipScores]]:
    names = sorted({one.dataset for one in scores})
    return {name: [one for one in scores if one.dataset == name] for name in names}


def clip_metrics(score: ClipScores) -> Metrics:
    """Give one clip's metrics: all but the text scores, which mean little for a few utterances."""
    metrics = _metrics([score], TextScores({}, None))
    return {name: value for name, value in metrics.items() if name not in TEXT_SCORES}


def _metrics(scores: Sequence[ClipScores], texts: TextScores) -> Metrics:
    frames, seconds = sum(one.num_frames for one in scores), sum(one.seconds for one in scores)
    errors = {kind: sum(one.update_errors[kind] for one in scores) for kind in UPDATE_KINDS}
    speech = {f"speech_{kind}": sum(one.speech_errors[kind] for one in scores) for kind in SPEECH_KINDS}
    return {
        **dst_metrics([one.dst for one in scores]),
        **_event_counts(scores),
        **speech_metrics([one.speech for one in scores], texts),
        **benchmark_metrics([one.benchmark for one in scores]),
        **errors,
        **speech,
        "computed_tokens_per_frame": sum(one.computed_tokens for one in scores) / frames,
        "num_restarts": sum(one.num_restarts for one in scores),
        "frames_per_s": frames / seconds if seconds else None,
    }


def _event_counts(scores: Sequence[ClipScores]) -> dict[str, int]:
    """How many updates and utterances there are: annotated, predicted, and found in time."""
    names = [f"{which}_{of}" for of in ("updates", "speech") for which in ("reference", "predicted", "found")]
    return {f"num_{name}": sum(getattr(one.dst.counts, name) for one in scores) for name in names}


def speech_pairs(score: ClipScores) -> list[dict[str, float]]:
    """List a clip's matched utterances: the frame of each, and the similarity of what they say, 0 to 1."""
    return [
        {"predicted": pair.predicted.frame, "reference": pair.reference.frame, "score": round(pair.score, 4)}
        for pair in score.match.pairs
    ]


def _of(prediction: ClipPrediction, match: SpeechMatch) -> ClipScores:
    clip, frames = prediction.clip, prediction.frames
    window = match_window(clip.dataset, clip.fps)
    updates = update_errors(predicted_updates(frames), prediction.reference_updates, window)
    spoken = speech_errors(predicted_speech(frames), reference_speech(clip), window)
    return ClipScores(
        clip_id=clip.id,
        dataset=clip.dataset,
        dst=dst_terms(prediction),
        match=match,
        speech=speech_terms(match, clip.fps),
        benchmark=benchmark_terms(prediction),
        update_errors=count_errors(updates, UPDATE_KINDS),
        speech_errors=count_errors(spoken, SPEECH_KINDS),
        num_frames=len(frames),
        computed_tokens=sum(record.computed_tokens for record in frames),
        num_restarts=sum(record.is_restart for record in frames),
        seconds=sum(record.seconds for record in frames),
    )
