"""What a judge's scores are read back from, almost as it was written, and what a judge says."""

import json

from pipeline.endpoint.asking import InvalidAnswer
from pipeline.errors import ProspectError
from prospect.evaluation.judge_question import JudgeQuestion, Verdict
from prospect.evaluation.judge_scores import FORMAT, Judge, judged_clip, judged_row, read_judge, with_judge
from prospect.evaluation.pages.html import renew_report
from prospect.evaluation.results import read_metrics
from tests.helpers.chat import verdict
from tests.helpers.evaluations import write_evaluation
from tests.helpers.fuzz import CASES, fuzz, mutated_json
from tests.helpers.predictions import prediction

ONE = prediction([(5, "Take it.")], [(5, "Take it.")])
VERDICT = Verdict.model_validate_json(verdict())
ROW = judged_row("f", [judged_clip("v-c000", "toy", [VERDICT, None])])
JUDGE = Judge(FORMAT, "m", ["h"], ["2026-01-02", "2026-01-02"], "t", {}, 2, {"model": ROW}, ["n"])


def test_metrics_with_a_judge(tmp_path):
    metrics = with_judge(write_evaluation(tmp_path, {"model": [ONE]}), JUDGE)
    page = (tmp_path / "report.html").read_bytes()

    def read(value) -> None:
        (tmp_path / "metrics.json").write_text(json.dumps(value))
        (tmp_path / "report.html").write_bytes(page)
        found = read_metrics(tmp_path / "metrics.json")
        if "judge" in found:
            found = with_judge(found, read_judge(found["judge"], "metrics.json", "judge again"))
        renew_report(tmp_path / "report.html", found)

    outcomes = fuzz("metrics.json", lambda random: mutated_json(metrics, random), read)
    assert sum(outcomes.values()) == CASES


def test_what_a_judge_says():
    def read(value) -> None:
        try:
            found = JudgeQuestion((), (), ()).read(json.dumps(value))
        except InvalidAnswer as error:
            raise ProspectError(str(error)) from None
        assert {type(score) for score in (found.correctness, found.promptness, found.overall)} == {int}

    outcomes = fuzz("verdict", lambda random: mutated_json(json.loads(verdict()), random), read)
    assert sum(outcomes.values()) == CASES
