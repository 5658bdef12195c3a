"""ProAssist's metrics of what was said and when, pooled over clips, under its names.

`before` counts all matched pairs: those of a semantic score above 0.5 (`num_matched`) and the others
(`num_mismatched`). A ratio of nothing is undefined (ProAssist's code calls it 0). C clips, T terms.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from prospect.evaluation.dst_scores import pooled_sums, ratio, without_nan
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
    """Give the named ratios of summed terms: (..., T) to (...), NaN where there is nothing to divide by.

    F1 is the harmonic mean of precision and recall; where one of these is undefined, 0.
    """
    of = SpeechTerms(*np.moveaxis(sums, -1, 0))
    before = of.matched + of.mismatched
    return {
        "jaccard_index": ratio(of.matched, before + of.missed + of.redundant),
        "missing_rate": ratio(of.missed, before + of.missed),
        "redundant_rate": ratio(of.redundant, before + of.redundant),
        "semantic_score": ratio(of.score_sum, of.num_scores),
        "time_diff": ratio(of.time_diff_sum_s, of.matched),
        "precision": ratio(of.matched, before + of.redundant),
        "recall": ratio(of.matched, before + of.missed),
        "F1": ratio(2 * of.matched, 2 * before + of.missed + of.redundant),
    }


def speech_metrics(terms: Sequence[SpeechTerms], texts: TextScores) -> dict[str, float | int | None]:
    """Give all of ProAssist's metrics, pooled; `texts` of `matched_texts` of the same clips.

    Each text score stands once more as NAME_w, times the Jaccard index. None: undefined, or could not be computed.
    """
    sums = pooled_sums(terms, SpeechTerms)
    ratios = without_nan(speech_ratios(sums))
    jaccard = ratios["jaccard_index"]
    counts = dict(zip(("num_matched", "num_mismatched", "num_missed", "num_redundant"), map(int, sums), strict=False))
    weighted = {
        f"{name}_w": None if score is None or jaccard is None else jaccard * score
        for name, score in texts.scores.items()
    }
    return {**ratios, **counts, **texts.scores, **weighted}
