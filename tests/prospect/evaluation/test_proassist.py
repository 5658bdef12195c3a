"""Our scorer beside ProAssist's own, stood in for by a package of the same interface.

The stand-in's matching is the definition written down plainly: every assignment of speaking frames to frames inside the
window is tried, and the cheapest is taken.
"""

import sys
from dataclasses import dataclass, field
from itertools import product
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import ProspectError
from prospect.evaluation.matching import match_speech
from prospect.evaluation.proassist import proassist_scores
from prospect.evaluation.speech_scores import speech_metrics, speech_terms
from prospect.evaluation.text_scores import ALIKE, TEXT_SCORES, TextScores
from tests.helpers.predictions import letters, prediction

MODEL = SimpleNamespace(encode=letters)


@dataclass
class FrameOutput:
    gen: str = ""
    ref: str = ""
    image: object = None
    text_inputs: list = field(default_factory=list)
    frame_idx_in_stream: int = -1
    frame_idx_in_original_video: int = -1
    timestamp_in_stream: float = 0.0


def find_match(eval_outputs, sts_model, match_window, dist_func_factor, dist_func_power):
    left, right = match_window
    frames = range(len(eval_outputs))
    speaking = [i for i in frames if eval_outputs[i].gen]

    def text_cost(i, j):
        if not eval_outputs[j].ref:
            return 1.0
        a, b = sts_model.encode([eval_outputs[i].gen, eval_outputs[j].ref]).astype(float)
        return 1 - abs(a @ b) / np.sqrt((a @ a) * (b @ b))

    def cost(i, j):
        return text_cost(i, j) + dist_func_factor * abs(i - j) ** dist_func_power / max(-left, right) ** dist_func_power

    choices = [[j for j in frames if left <= j - i <= right] for i in speaking]
    best = min(
        (js for js in product(*choices) if len(set(js)) == len(js)),
        key=lambda js: sum(cost(i, j) for i, j in zip(speaking, js, strict=True)),
    )
    pairs = [(i, j) for i, j in zip(speaking, best, strict=True) if eval_outputs[j].ref]
    return SimpleNamespace(
        matched=[(eval_outputs[i], eval_outputs[j]) for i, j in pairs],
        missed=[eval_outputs[j] for j in frames if eval_outputs[j].ref and j not in best],
        redundant=[eval_outputs[i] for i, j in zip(speaking, best, strict=True) if not eval_outputs[j].ref],
        match_costs=[cost(i, j) for i, j in pairs],
        semantic_scores=[1 - text_cost(i, j) for i, j in pairs],
    )


class NLGEval:
    asked: tuple = ()

    def compute_metrics(self, refs, hyps):
        NLGEval.asked = (refs, hyps)
        print({"testlen": 1})
        return {name: 0.25 for name in TEXT_SCORES}


@pytest.fixture
def mmassist(monkeypatch):
    def module(name, **content):
        made = ModuleType(name)
        made.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, made)

    for package in ("", ".eval", ".eval.evaluators", ".eval.runners", ".eval.metrics"):
        module(f"mmassist{package}", __path__=[])
    module("mmassist.eval.eval_utils", get_match_time_window=lambda dataset: {"assembly101": (-2, 4)}[dataset])
    module("mmassist.eval.evaluators.pred_match", find_match=find_match)
    module("mmassist.eval.runners.stream_inference", FrameOutput=FrameOutput)
    module("mmassist.eval.metrics.nlg_scorer", NLGEval=NLGEval)
    monkeypatch.setattr("prospect.evaluation.proassist.missing", lambda: None)


CLIPS = [
    prediction(
        [(103, "aab"), (110, "ab"), (114, "b"), (118, "c")],
        [(100, "d"), (105, "a"), (110, "abcc"), (117, "b")],
        frames=(100, 119),
        dataset="assembly101",
    ),
    prediction([], [(4, "a")], dataset="assembly101"),
    prediction([(2, "ab")], [], dataset="assembly101"),
]


def test_both_scorers_agree(mmassist):
    theirs, problem = proassist_scores(CLIPS, MODEL)
    matches = match_speech(CLIPS, letters)
    terms = [speech_terms(match, clip.clip.fps) for match, clip in zip(matches, CLIPS, strict=True)]
    ours = speech_metrics(terms, TextScores(dict.fromkeys(TEXT_SCORES, 0.25), None))
    assert problem is None
    assert list(theirs) == list(ours)
    assert theirs == pytest.approx(ours)
    # 103 -> 105 (0.89), 110 -> 110 (0.58) and 114 -> 117 (1) match; 118 -> 118, 2 -> 2: nothing was to be said
    assert [ours[f"num_{n}"] for n in ("matched", "mismatched", "missed", "redundant")] == [3, 0, 2, 2]


def test_its_text_scorer_gets_the_matched_pairs_and_prints_nothing(mmassist, capsys):
    scores, _ = proassist_scores(CLIPS, MODEL)
    assert NLGEval.asked == (
        {"0": ["a"], "1": ["abcc"], "2": ["b"]},
        {"0": "aab", "1": "ab", "2": "b"},
    )
    assert (scores["METEOR"], scores["METEOR_w"]) == (0.25, pytest.approx(0.25 * 3 / 7))
    assert capsys.readouterr().out == ""


def test_without_java_its_text_scores_are_none(mmassist, monkeypatch):
    monkeypatch.setattr("prospect.evaluation.proassist.missing", lambda: "no Java")
    scores, problem = proassist_scores(CLIPS, MODEL)
    assert (scores["METEOR"], scores["num_matched"], problem) == (None, 3, "no Java")


def test_nothing_said_in_any_clip(mmassist):
    scores, problem = proassist_scores(CLIPS[1:2], MODEL)
    assert (scores["missing_rate"], scores["METEOR"], scores["num_missed"], problem) == (1, None, 1, None)


def test_its_cider_of_references_that_are_all_alike_is_undefined_too(mmassist):
    scores, problem = proassist_scores([prediction([(4, "a")], [(4, "a")], dataset="assembly101")], MODEL)
    assert (scores["CIDEr"], scores["CIDEr_w"], scores["METEOR"], problem) == (None, None, 0.25, ALIKE)


def test_without_the_package_an_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmassist", None)
    with pytest.raises(
        ProspectError,
        match=r"^scorer 'proassist': ProAssist's package mmassist cannot be imported .*; install ProAssist",
    ):
        proassist_scores(CLIPS, MODEL)
