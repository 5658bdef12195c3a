"""From an evaluation's folder to a judge's scores in it; the server answers as it is told to."""

import json
import re
import threading
from dataclasses import replace

import pytest

from pipeline.endpoint.asking import Sampling, ask
from pipeline.endpoint.cache import AnswerCache
from pipeline.endpoint.client import Client, Endpoint
from pipeline.errors import ProspectError
from prospect.evaluation.judge import (
    REPAIRS,
    carry_judge,
    evaluation_of,
    judge_there,
    judged,
    plan_judge,
    read_shown,
    replaced,
    write_judge,
)
from prospect.evaluation.results import read_metrics
from tests.helpers.chat import Chat, verdict
from tests.helpers.evaluations import evaluation_metrics, write_evaluation
from tests.helpers.predictions import prediction

GOOD = prediction([(5, "Take it.")], [(5, "Take it.")], clip_id="good")
BAD = prediction([(1, "Stop."), (2, "Stop.")], [(5, "Take it.")], clip_id="bad", dataset="other")
EVIL = "</script><b>bold</b>"


def score(body):
    """5 for what is said as in the reference, else as many as the repeat."""
    reference, generated = re.findall(r"<(?:reference|generated)>\n(.*?)\n</", body["messages"][1]["content"], re.S)
    return verdict(5 if reference == generated else 1 + body["seed"], EVIL)


@pytest.fixture
def chat():
    chat = Chat(score)
    yield chat
    chat.stop()


class Judging:
    """One run of the command, without its terminal."""

    def __init__(self, chat, folder, rows=("model",), model="m", **options):
        metrics = read_metrics(folder / "metrics.json")
        plan = plan_judge(read_shown(folder, metrics, rows), Sampling(model, 3, 0.5), **options)
        stop, cache = threading.Event(), AnswerCache(folder / "judge.jsonl")
        client = Client(Endpoint(chat.url, model, retries=1), stop, lambda seconds: None)
        try:
            failed = ask(
                plan.questions, client, cache, stop, instead="try another", repairs=REPAIRS, concurrency=1
            )  # fmt: skip
        finally:
            self.num_calls = client.num_calls
        self.judge = judged(plan, cache, failed)
        self.metrics = write_judge(folder, metrics, self.judge)


def test_scores_of_two_clips_in_three_repeats(chat, tmp_path):
    """Clip means 5 and 2: mean 3.5; repeats 3, 3.5 and 4."""
    before = write_evaluation(tmp_path, {"model": [GOOD, BAD]})
    run = Judging(chat, tmp_path)
    assert run.metrics == json.loads((tmp_path / "metrics.json").read_text()) == read_metrics(tmp_path / "metrics.json")
    overall = run.judge.rows["model"].all.axes["overall"]
    assert (overall.mean, overall.std_clips, overall.std_repeats) == (3.5, pytest.approx(4.5**0.5), 0.5)
    assert run.metrics["rows"]["model"]["datasets"]["other"]["metrics"]["judge_overall"] == 2
    assert [clip["metrics"]["judge_overall"] for clip in run.metrics["clips"]] == [5, 2]
    block = run.metrics["judge"]
    assert block["rows"]["model"]["clips"][1]["scores"]["overall"] == [1, 2, 3]
    assert (block["model"], block["hosts"], block["repeats"]) == ("m", [chat.url.split("/")[2]], 3)
    assert block["parameters"] == {"temperature": 0.5, "max_tokens": 8192} and len(block["dates"]) == 2
    assert {name: run.metrics[name] for name in ("more", "notes", "checkpoint")} == {
        name: before[name] for name in ("more", "notes", "checkpoint")
    }
    assert [body["seed"] for body in chat.bodies] == [0, 1, 2, 0, 1, 2]


def test_the_report_has_the_scores_and_the_judges_words_as_data(chat, tmp_path):
    write_evaluation(tmp_path, {"model": [GOOD, BAD]})
    blocks = re.compile(r'^<script type="application/json" id="clip-\d">.*$', re.M)
    clips = blocks.findall((tmp_path / "report.html").read_text())
    run = Judging(chat, tmp_path, model="<b>m</b>")
    page = (tmp_path / "report.html").read_text()
    assert blocks.findall(page) == clips and len(clips) == 2, "timelines stay as they are"
    assert "<b>m</b>" not in page and EVIL not in page
    about, text = (
        re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)[0]
        for name in ("about", "metrics")
    )
    assert "judge_overall" in json.loads(about)["headlines"]
    assert json.loads(about)["judge_spreads"]["model"]["overall"] == "±2.12, ±0.50"
    assert json.loads(about)["judge"].startswith("judged by <b>m</b> at 127.0.0.1:")
    assert json.loads(text) == {**run.metrics}
    assert json.loads(text)["judge"]["rows"]["model"]["clips"][0]["analyses"] == [EVIL] * 3


def test_judged_again_nothing_is_asked_and_the_files_are_the_same(chat, tmp_path):
    write_evaluation(tmp_path, {"model": [GOOD, BAD]})
    Judging(chat, tmp_path)
    names = ("metrics.json", "report.html")
    first = [(tmp_path / name).read_bytes() for name in names]
    assert Judging(chat, tmp_path).num_calls == 0
    assert [(tmp_path / name).read_bytes() for name in names] == first


def test_rows_that_say_the_same_are_asked_about_once(chat, tmp_path):
    write_evaluation(tmp_path, {"model": [GOOD], "blind": [GOOD], "text_only": [replace(GOOD, frames=BAD.frames)]})
    run = Judging(chat, tmp_path, ["model", "blind", "text_only", "blind"])
    assert run.num_calls == 6
    means = {row: numbers["all"]["metrics"].get("judge_overall") for row, numbers in run.metrics["rows"].items()}
    assert means == {"model": 5, "blind": 5, "text_only": 2, "always_silent": None}


def test_an_answer_that_cannot_be_used_is_asked_for_twice_more_and_then_named(chat, tmp_path):
    """The first repeat of the first clip fails, then all of them."""
    write_evaluation(tmp_path, {"model": [GOOD, BAD]})
    chat.faults = [("text", verdict(6))] * 3
    run = Judging(chat, tmp_path)
    assert run.num_calls == 3 + 5
    (note,) = run.judge.notes
    assert note.startswith(
        "clip 'good' of 'toy' (model): 1 of 3 repeats have no answer that can be used, and are left out (correctness: "
        "Input should be less than or equal to 5: '{"
    )
    assert run.judge.rows["model"].clips[0].scores["overall"] == [None, 5, 5]
    again = Judging(chat, tmp_path)
    assert (again.num_calls, again.judge.notes) == (1, [])
    chat.faults = [("text", "moo")] * 18
    (tmp_path / "judge.jsonl").unlink()
    with pytest.raises(
        ProspectError, match="row model: none of 2 clips has an answer that can be used, the last: clip"
    ):
        Judging(chat, tmp_path)


def test_a_broken_server_ends_it_and_what_was_answered_is_kept(chat, tmp_path):
    write_evaluation(tmp_path, {"model": [GOOD, BAD]})
    before = (tmp_path / "metrics.json").read_bytes()
    chat.faults = [None] * 4 + [500, "nothing"]
    with pytest.raises(ProspectError) as caught:
        Judging(chat, tmp_path)
    assert str(caught.value).startswith(
        f"{chat.url}/chat/completions: asked 'm' about clip 'bad' of 'other' (model), got"
    )
    assert "4 of 6 answers are kept in" in str(caught.value)
    assert (tmp_path / "metrics.json").read_bytes() == before
    assert Judging(chat, tmp_path).num_calls == 2


def test_what_is_too_long_is_refused_or_left_out_and_named(chat, tmp_path):
    long = prediction([(frame, "Stop. " * 3000) for frame in (1, 2)], [(5, "Take it.")], clip_id="long")
    write_evaluation(tmp_path, {"model": [GOOD, long]})
    with pytest.raises(ProspectError) as caught:
        Judging(chat, tmp_path, most_tokens=5000)
    assert re.fullmatch(
        r"1 of 2 questions have more than about 5000 tokens: clip 'long' of 'toy' \(model\) 9\d\d\d; pass "
        r"--max-prompt-tokens N if the judge's window holds them, or --skip-long to judge the others alone",
        str(caught.value),
    )
    assert chat.bodies == []
    run = Judging(chat, tmp_path, most_tokens=5000, skip_long=True)
    assert run.judge.rows["model"].all.num_clips == 1 and run.judge.rows["model"].clips[1].analyses == [None] * 3
    assert run.judge.notes[0].startswith(
        "1 clips are not judged, as their questions have more than about 5000 tokens: "
    )
    with pytest.raises(ProspectError, match="2 of 2 questions have more than about 5 tokens"):
        Judging(chat, tmp_path, most_tokens=5, skip_long=True)


def test_another_measurement_keeps_the_scores_that_still_fit(chat, tmp_path):
    write_evaluation(tmp_path, {"model": [GOOD, BAD], "blind": [GOOD, BAD]})
    judge = Judging(chat, tmp_path, ["model", "blind"]).judge
    assert judge_there(tmp_path / "metrics.json") == (judge, None)
    fresh = evaluation_metrics([GOOD, BAD], ["model", "blind", "always_silent"])
    same = {"model": [BAD, replace(GOOD, settings={"other": 1})], "blind": [GOOD, BAD]}
    assert carry_judge(judge, fresh, same) == json.loads((tmp_path / "metrics.json").read_text())
    kept = carry_judge(judge, fresh, {"model": [GOOD, BAD], "blind": [GOOD, GOOD]})
    assert list(kept["judge"]["rows"]) == ["model"] and kept["rows"]["blind"] == fresh["rows"]["blind"]
    assert kept["notes"][1].startswith("the scores of m, which judged these rows, are left out: blind (its predictions")
    none = carry_judge(judge, fresh, {"model": [GOOD]})
    assert "judge" not in none and none["rows"] == fresh["rows"] and none["clips"] == fresh["clips"]
    assert "are left out: model, blind (" in none["notes"][1]


def test_a_judge_that_cannot_be_read_is_said_to_be_lost(chat, tmp_path):
    write_evaluation(tmp_path, {"model": [GOOD]})
    path = tmp_path / "metrics.json"
    assert judge_there(path) == judge_there(tmp_path / "none.json") == (None, None)
    Judging(chat, tmp_path)
    value = json.loads(path.read_text())
    value["judge"]["rows"]["model"]["all"]["axes"] = {}
    path.write_text(json.dumps(value))
    judge, note = judge_there(path)
    assert judge is None and note is not None
    assert note.startswith(f"the scores of a judge, if there were any, are left out: {path}: judge: found other axes")


def test_another_judges_scores_are_said_to_be_replaced(chat, tmp_path):
    write_evaluation(tmp_path, {"model": [GOOD], "blind": [GOOD]})
    both, one = Judging(chat, tmp_path, ["model", "blind"]).judge, Judging(chat, tmp_path).judge
    assert replaced(None, one) is replaced(one, one) is replaced(one, both) is None
    assert (replaced(both, one) or "").startswith("these replace the scores of model, blind, judged by m at 127.0.0.1:")
    assert replaced(one, replace(one, model="n")) is not None


def test_places_that_are_no_evaluation_are_named(chat, tmp_path):
    write_evaluation(tmp_path / "e", {"model": [GOOD]})
    assert evaluation_of(tmp_path / "e") == evaluation_of(tmp_path / "e" / "predictions") == tmp_path / "e"
    with pytest.raises(ProspectError, match=r"found no metrics.json, expected the folder of an evaluation"):
        evaluation_of(tmp_path)
    with pytest.raises(ProspectError, match=r"--rows: found blind, always_silent, expected any of model$"):
        Judging(chat, tmp_path / "e", ["model", "blind", "always_silent"])
    with pytest.raises(ProspectError, match="found no clips, or --rows without any"):
        Judging(chat, tmp_path / "e", [])
    (tmp_path / "e" / "report.html").write_text("<title>PROSPECT evaluation")
    with pytest.raises(
        ProspectError, match=r"report.html: found 0 clips in it, expected 1; run prospect evaluate again"
    ):
        Judging(chat, tmp_path / "e")
    assert "judge" not in read_metrics(tmp_path / "e" / "metrics.json")
    assert (tmp_path / "e" / "report.html").read_text() == "<title>PROSPECT evaluation"
    (tmp_path / "e" / "report.html").unlink()
    assert "judge" in Judging(chat, tmp_path / "e").metrics and not (tmp_path / "e" / "report.html").exists()
    (tmp_path / "e" / "metrics.json").write_text('{"format": "prospect.run/1"}')
    with pytest.raises(ProspectError, match=r"metrics.json: format: found 'prospect.run/1', expected 'prospect.eval"):
        read_metrics(tmp_path / "e" / "metrics.json")


def test_a_prediction_that_is_gone_is_named(chat, tmp_path):
    write_evaluation(tmp_path, {"model": [GOOD]})
    next((tmp_path / "predictions" / "model").iterdir()).unlink()
    with pytest.raises(ProspectError, match=r"No such file.*evaluate again"):
        Judging(chat, tmp_path)
