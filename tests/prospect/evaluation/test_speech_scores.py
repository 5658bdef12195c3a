"""ProAssist's metrics against numbers worked by hand; the window is 5 frames to each side, at 2 frames a second."""

import math

import pytest

from prospect.evaluation.matching import match_speech
from prospect.evaluation.speech_scores import matched_texts, speech_metrics, speech_terms
from prospect.evaluation.text_scores import TEXT_SCORES, TextScores
from tests.helpers.predictions import letters, prediction

FRAMES = (0, 39)
HALF = TextScores(dict.fromkeys(TEXT_SCORES, 0.5), None)


def metrics(*predictions, texts=HALF):
    matches = match_speech(predictions, letters)
    terms = [speech_terms(match, p.clip.fps) for match, p in zip(matches, predictions, strict=True)]
    return speech_metrics(terms, texts)


MIXED = prediction(
    [(3, "a"), (10, "ab"), (20, "b"), (30, "a"), (32, "a")],
    [(5, "a"), (10, "a"), (20, "a"), (38, "a")],
    frames=FRAMES,
)


def test_one_of_each():
    """3 -> 5 scores 1; 10 -> 10 scores 1 / sqrt(2); 20 -> 20 scores 0: a mismatch. Nobody is near 38; 30 and 32 are
    redundant."""
    found = metrics(MIXED)
    assert [found[f"num_{name}"] for name in ("matched", "mismatched", "missed", "redundant")] == [2, 1, 1, 2]
    assert found["jaccard_index"] == 2 / (3 + 1 + 2)
    assert found["missing_rate"] == 1 / (3 + 1)
    assert found["redundant_rate"] == 2 / (3 + 2)
    assert found["semantic_score"] == pytest.approx((1 + 1 / math.sqrt(2)) / 2)
    assert found["time_diff"] == (2 / 2 + 0) / 2  # seconds
    assert found["precision"] == 2 / 5
    assert found["recall"] == 2 / 4
    assert found["F1"] == pytest.approx(2 * 0.4 * 0.5 / 0.9)
    assert found["CIDEr"] == 0.5 and found["CIDEr_w"] == found["jaccard_index"] * 0.5
    assert matched_texts(match_speech([MIXED], letters)) == [("a", "a"), ("ab", "a")]


def test_names_are_proassists():
    text = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "CIDEr", "METEOR"]
    assert set(metrics(MIXED)) == {
        *("jaccard_index", "missing_rate", "redundant_rate", "semantic_score", "time_diff"),
        *("precision", "recall", "F1", "num_matched", "num_mismatched", "num_missed", "num_redundant"),
        *text,
        *(f"{name}_w" for name in text),
    }


def test_a_score_of_exactly_the_threshold_is_a_mismatch_that_counts_for_the_mean():
    # "abcd" and "a": cosine 1 / 2
    found = metrics(prediction([(3, "abcd")], [(3, "a")]))
    assert (found["num_matched"], found["num_mismatched"], found["semantic_score"]) == (0, 1, 0.5)


def test_a_perfect_prediction():
    reference = [(5, "a"), (10, "b")]
    found = metrics(prediction(reference, reference, frames=FRAMES))
    assert [found[n] for n in ("jaccard_index", "precision", "recall", "F1", "semantic_score")] == [1, 1, 1, 1, 1]
    assert [found[n] for n in ("missing_rate", "redundant_rate", "time_diff", "num_mismatched")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("actions", "reference", "missing_rate", "redundant_rate"),
    [([], [(5, "a")], 1, None), ([(5, "a")], [], None, 1), ([], [], None, None)],
)
def test_ratios_of_nothing_are_undefined_not_zero(actions, reference, missing_rate, redundant_rate):
    """Precision is of what was said, recall of what was to be said; F1 and Jaccard are 0 where either is there."""
    found = metrics(prediction(actions, reference), texts=TextScores(dict.fromkeys(TEXT_SCORES), None))
    assert (found.pop("missing_rate"), found.pop("redundant_rate")) == (missing_rate, redundant_rate)
    assert (found.pop("num_missed"), found.pop("num_redundant")) == (missing_rate or 0, redundant_rate or 0)
    assert (found.pop("num_matched"), found.pop("num_mismatched")) == (0, 0)
    assert found.pop("precision") == (0 if actions else None) and found.pop("recall") == (0 if reference else None)
    assert found.pop("F1") == found.pop("jaccard_index") == (0 if actions or reference else None)
    assert set(found.values()) == {None}, "semantic_score, time_diff, and every text score"


def test_clips_are_pooled_before_ratios():
    # 2 of 6 in MIXED, 1 of 1 beside it
    assert metrics(MIXED, prediction([(3, "a")], [(3, "a")]))["jaccard_index"] == 3 / 7


def test_scores_that_are_not_there_stay_so_when_weighted():
    found = metrics(MIXED, texts=TextScores(dict.fromkeys(TEXT_SCORES), "no Java"))
    assert found["METEOR"] is None and found["METEOR_w"] is None and found["F1"] is not None


def test_no_clips():
    assert speech_metrics([], HALF)["F1"] is None
