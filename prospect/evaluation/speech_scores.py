"""ProAssist's metrics of what was said and when, pooled over clips, under its names.

`before` counts all matched pairs: those of a semantic score above 0.5 (`num_matched`) and the others
(`num_mismatched`). As in ProAssist every ratio of nothing is 0. C clips, T terms.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from prospect.evaluation.matching import FloatArray, SpeechMatch
from prospect.evaluation.text_scores import TextScores

SEMANTIC_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class SpeechTerms:
    """One clip's, which add up over clips."""

    matched: float  # pairs with a score above the threshold
    mismatched: float  # the other pairs
    missed: float
    redundant: float
    score_sum: float  # of the pairs with a score of the threshold or more
    num_scores: float
    time_diff_sum_s: float  # of `matched` pairs, whatever the sign

    def vector(self) -> FloatArray:
        """Give (T,), as `speech_ratios` takes them."""
        return np.array(astuple(self), dtype=np.float64)


def speech_terms(match: SpeechMatch, fps: float) -> SpeechTerms:
    matched = [pair for pair in match.pairs if pair.score > SEMANTIC_THRESHOLD]
    scores = [pair.score for pair in match.pairs if pair.score >= SEMANTIC_THRESHOLD]
    return SpeechTerms(
        matched=len(matched),
        mismatched=len(match.pairs) - len(matched),
        missed=len(match.missed),
        redundant=len(match.redundant),
        score_sum=sum(scores),
        num_scores=len(scores),
        time_diff_sum_s=sum(abs(pair.predicted.frame - pair.reference.frame) for pair in matched) / fps,
    )


def matched_texts(matches: Sequence[SpeechMatch]) -> list[tuple[str, str]]:
    """List (prediction, reference) of the pairs that text scores are computed over."""
    return [
        (pair.predicted.text, pair.reference.text)
        for match in matches
        for pair in match.pairs
        if pair.score > SEMANTIC_THRESHOLD
    ]


def speech_ratios(sums: FloatArray) -> dict[str, FloatArray]:
    """Give the named ratios of summed terms: (..., T) to (...)."""
    of = SpeechTerms(*np.moveaxis(sums, -1, 0))
    before = of.matched + of.mismatched
    precision = _ratio(of.matched, before + of.redundant)
    recall = _ratio(of.matched, before + of.missed)
    return {
        "jaccard_index": _ratio(of.matched, before + of.missed + of.redundant),
        "missing_rate": _ratio(of.missed, before + of.missed),
        "redundant_rate": _ratio(of.redundant, before + of.redundant),
        "semantic_score": _ratio(of.score_sum, of.num_scores),
        "time_diff": _ratio(of.time_diff_sum_s, of.matched),
        "precision": precision,
        "recall": recall,
        "F1": _ratio(2 * precision * recall, precision + recall),
    }


def speech_metrics(terms: Sequence[SpeechTerms], texts: TextScores) -> dict[str, float | int | None]:
    """Give all of ProAssist's metrics, pooled; `texts` of `matched_texts` of the same clips.

    Each text score stands once more as NAME_w, times the Jaccard index; None where it could not be computed.
    """
    sums = np.sum([of_clip.vector() for of_clip in terms], axis=0) if terms else np.zeros(len(SpeechTerms.__slots__))
    ratios = {name: float(value) for name, value in speech_ratios(sums).items()}
    counts = dict(zip(("num_matched", "num_mismatched", "num_missed", "num_redundant"), map(int, sums), strict=False))
    weighted = {
        f"{name}_w": None if score is None else ratios["jaccard_index"] * score for name, score in texts.scores.items()
    }
    return {**ratios, **counts, **texts.scores, **weighted}


def _ratio(part: FloatArray | float, whole: FloatArray | float) -> FloatArray:
    """part / whole, elementwise; 0 where whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0)
