"""Runs in browse: what is compared, curves, the clips where one fails and the other does not; in Python and Chromium."""

import json
import shutil
from dataclasses import replace

import pytest

from pipeline.errors import ProspectError
from prospect.evaluation.predictions import read_prediction, write_prediction
from prospect.stream.records import Action
from prospect.web.browse.publish import publish
from tests.helpers.browse import World, browse_of, sections_of
from tests.helpers.evaluations import evaluation_metrics
from tests.helpers.web import NARROW, WIDE, overflow, served

HOSTILE = "</script><script>document.title = 'taken'</script>"
LINES = [
    {"step": 0, "epoch": 0.0, "split": "val", "loss": 2.0, "lm_loss": 1.5, "perplexity": None},
    {"step": 9, "epoch": 1.0, "split": "val", "loss": 0.02, "lm_loss": 0.5, "perplexity": 1.6},
]


def finished(run, f1, origin="d"):
    """Give a run its metrics and its log, as `prospect train` leaves them."""
    metrics = {"val": {"should_update_dst_f1": f1, "perplexity": 1.5}, "untrained": {"val": {"perplexity": 9.0}},
               "baselines": {"val": {"history_only": {"should_update_dst_f1": 0.1}}}, "origin": {"data": {"val": origin}}}  # fmt: skip
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line | {"loss": line["loss"] / f1}) + "\n" for line in LINES))


@pytest.fixture
def two(world, tmp_path) -> World:
    """The world's run, and one beside it that finds the first update, late; both finished and evaluated."""
    copy = World(tmp_path / "w")
    shutil.copytree(world.folder, copy.folder)
    other = copy.run.parent / "better"
    shutil.copytree(copy.run, other)
    (path,) = (other / "evaluation" / "test" / "predictions" / "model").iterdir()
    prediction = read_prediction(path)
    said = {8: (Action("dst_update", "S1->start", 0.9, 0.1), Action("assistant", HOSTILE, 0.1, 0.9))}
    frames = tuple(replace(one, actions=said.get(one.frame, ())) for one in prediction.frames)
    better = replace(prediction, frames=frames, settings=prediction.settings | {"update_threshold": 0.5})
    write_prediction(path, better)
    for run, one, f1 in ((copy.run, prediction, 0.5), (other, better, 0.8)):
        finished(run, f1, run.name)
        metrics = evaluation_metrics([one], ["model"])
        metrics["clips"][0]["metrics"] = {"dst_update_f1": f1, "missed": 3 if f1 == 0.5 else 2}
        (run / "evaluation" / "test" / "metrics.json").write_text(json.dumps(metrics))
    return copy


def runs_of(*paths):
    return next(section for section in sections_of(*paths) if section.name == "runs")


def test_runs_are_compared_as_the_command_does_and_unlike_ones_are_told(two):
    runs = runs_of(two.data, two.run, two.run.parent / "better")
    assert runs.about() == {
        "runs": ["r", "better"], "unfinished": [], "splits": ["val"],
        "evaluations": [{"name": "r/test", "has_scores": True}, {"name": "better/test", "has_scores": True}],
    }  # fmt: skip
    told = runs.answer(["compare", "val"], {})
    assert [row["name"] for row in told["rows"]] == ["r", "better", "untrained", "history only"] and told[
        "num_runs"
    ] == 2
    assert told["columns"]["dst_gen_exact_match_start"] == "DST exact starts"
    assert [row["values"]["should_update_dst_f1"] for row in told["rows"]] == [0.5, 0.8, None, 0.1]
    assert told["told"] == [
        "* better: not of the data of r (better, not r): its numbers do not compare with r's or the baselines'"
    ]


def test_curves_are_points_by_split_and_metric(two):
    first, second = runs_of(two.run, two.run.parent / "better").answer(["curves"], {})
    assert (first["name"], first["points"]) == (
        "r", {"val": {"loss": [[0, 4.0], [9, 0.04]], "lm_loss": [[0, 1.5], [9, 0.5]], "perplexity": [[9, 1.6]]}}
    )  # fmt: skip
    assert second["points"]["val"]["loss"] == [[0, 2.5], [9, pytest.approx(0.025)]]


def test_clips_have_the_scores_of_their_evaluation_and_both_sides(two):
    runs = runs_of(two.data, two.run, two.run.parent / "better")
    key = two.key("v3")
    assert [runs.answer(["scores", str(n)], {})[0] for n in (0, 1)] == [
        {"key": key, "id": "v3-c000", "metrics": {"dst_update_f1": f1, "missed": missed}} for f1, missed in ((0.5, 3), (0.8, 2))
    ]  # fmt: skip
    block = runs.answer(["clip", "1", key], {})
    assert [(one["at"], one["text"], one["errors"]) for one in block["predicted_updates"]] == [
        (6, "S1->start", ["late"])
    ]
    assert block["settings"] == {"update_threshold": 0.5, "speak_threshold": None} and block["id"] == "v3-c000"


def test_what_is_not_there_is_a_sentence(two):
    assert runs_of(two.data) is not None and runs_of(two.data).about() is None
    (two.run / "metrics.json").unlink()
    (two.run / "evaluation" / "test" / "metrics.json").unlink()
    runs = runs_of(two.run)
    assert (
        runs.about()["unfinished"] == ["r"] and runs.about()["splits"] == [] and runs.answer(["scores", "0"], {}) == []
    )
    for place, told in (
        (["scores", "1"], "there is none of this number"),
        (["clip", "0", "../../x"], "r/test has no prediction of it"),
        (["clip", "x", "y"], "there is none of this number"),
        (["compare", HOSTILE], "no finished run has it"),
        (["else"], "there is no such page of runs"),
    ):
        with pytest.raises(ProspectError, match=told):
            runs.answer(place, {})
    (two.run / "metrics.jsonl").write_text('{"step": -1}\n')
    with pytest.raises(ProspectError, match=r"metrics.jsonl line 1"):
        runs.answer(["curves"], {})


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_from_the_table_to_the_clip_where_one_run_fails(browser, two, size):
    with (
        served(browse_of(two.data, two.run, two.run.parent / "better")) as url,
        browser.open(url + "#runs", size) as page,
    ):
        page.wait_for_selector(".chart-dot")
        assert page.get_by_label("Compared").locator("tbody tr").nth(1).text_content().startswith("better *")
        assert overflow(page) == 0
        chart = page.locator(".chart")
        chart.focus()
        page.keyboard.press("ArrowRight")
        assert chart.locator(".chart-told").text_content() == "r, step 0: lm_loss 1.500"
        page.get_by_label("Metric").select_option("loss")
        page.wait_for_selector('.chart-axis:text-is("loss")')
        page.get_by_role("link", name="log").click()
        page.wait_for_selector('.chart-drawing text:text-is("0.1")')
        assert "metric=loss" in page.url and "scale=log" in page.url
        pairs = page.get_by_label("Pairs")
        assert "Of 1 clip B is better in 1, A in 0, and in 0 there is no difference." in pairs.text_content()
        pairs.get_by_label("By").select_option("missed")
        page.wait_for_selector('[aria-label=Pairs] tbody:has-text("v3-c000321")')
        page.get_by_role("link", name="v3-c000").click()
        page.wait_for_selector(".item .bar")
        lanes = page.locator(".timeline-label span").all_text_contents()
        assert lanes[2:8] == [
            f"{what}, {who}" for what in ("Updates", "Utterances") for who in ("annotated", "r/test", "better/test")
        ]
        assert page.locator("[data-lane=p_update] .curve").count() == 2
        mistakes = page.get_by_label("Mistakes").text_content()
        assert "late by 1.0 s updates, better/test: S1 start: Turn it" in mistakes and HOSTILE in mistakes
        assert "missed by r/test" in mistakes
        page.keyboard.press("ArrowRight")
        assert page.locator(".stage img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert page.title() == "v3-c000 – Browse" and overflow(page) == 0


@pytest.mark.slow
def test_a_published_folder_has_the_runs_too(browser, two, tmp_path):
    paths = [two.data, two.run, two.run.parent / "better"]
    listed = sections_of(*paths)
    publish(listed[0].library, listed, tmp_path / "out", limit=5)
    with browser.open((tmp_path / "out" / "index.html").as_uri() + "#runs") as page:
        page.wait_for_selector(".chart-dot")
        page.get_by_role("link", name="v3-c000").click()
        page.wait_for_selector(".item .bar")
        assert "late by 1.0 s" in page.get_by_label("Mistakes").text_content()
