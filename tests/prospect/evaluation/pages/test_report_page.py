"""The report in a browser: what stands on it, keys, frames, pictures of the timeline, and that texts are texts."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations.clips import Turn
from prospect.evaluation.judge_question import AXES, Verdict
from prospect.evaluation.judge_scores import Judge, judged_clip, judged_row, with_judge
from prospect.evaluation.pages.html import write_report
from prospect.evaluation.predictions import ClipPrediction
from prospect.evaluation.scores import clip_metrics, measure, pooled, speech_pairs
from prospect.stream.records import Action, FrameRecord
from tests.helpers.fakes import jpeg, make_clip
from tests.helpers.web import NARROW, WIDE, overflow

pytestmark = pytest.mark.slow
HOSTILE = "</script><script>document.title = 'taken'</script>"
LONG_ID = "assembly_nusar-2021_action_both_9011-b06b_9011_user_id_2021-02-01_153724__HMC_84355350_mono10bit"


def predict(clip, actions):
    frames = range(clip.start_frame, clip.end_frame + 1)
    records = [FrameRecord(f, 0.2, 0.3, tuple(actions.get(f, ())), 0.0, 0.0, 10, 2, f == 30, 0.1) for f in frames]
    return ClipPrediction(clip, tuple(records), {})


def clip_of(name: str, dataset: str = "toy"):
    turns = [
        Turn("user", HOSTILE, 20, 21), Turn("dst_update", "S1->start", 22, 24), Turn("assistant", "Take the rod.", 22, 24),
        Turn("dst_update", "S1->complete", 40, 40), Turn("assistant", HOSTILE + " x" * 200, 40, 40),
    ]  # fmt: skip
    return make_clip(turns, frames=(20, 60), clip_id=name)


def update(text):
    return Action("dst_update", text, 0.9, 0.1)


def say(text):
    return Action("assistant", text, 0.1, 0.9)


GOOD = predict(
    clip_of("good"), {24: [update("S1->start"), say("Take the rod.")], 40: [update("S1->complete"), say(HOSTILE)]}
)
LATE = predict(
    clip_of(LONG_ID), {26: [update("S1->start"), say("Take it.")], 40: [update("S1->complete"), say(HOSTILE)]}
)
BAD = predict(clip_of(f"bad {HOSTILE}"), {24: [update("S2->start")], 50: [say(HOSTILE)]})
PREDICTIONS = [GOOD, LATE, BAD]


def embed(texts):
    return np.array([[len(text), text.count("t") * 3] for text in texts], dtype=np.float32)


def evaluated(predictions):
    scores = measure(predictions, embed)
    together = pooled(scores)
    del together["problem"]
    row = {"all": together, "datasets": {"toy": together, HOSTILE: together}}
    metrics = {
        "checkpoint": f"runs/{HOSTILE}", "made": {"date": "2026-11-27", "commit": 40 * "c"}, "data": ["s/toyworld/test"],
        "num_clips": 3, "num_frames": 123, "embedder": HOSTILE, "notes": [HOSTILE],
        "settings": {"update_threshold": 0.5, "speak_threshold": 0.4, "device": HOSTILE},
        "rows": {"model": row, "always_silent": row},
        "clips": [{"id": one.clip_id, "dataset": one.dataset, "metrics": clip_metrics(one), "speech_pairs": speech_pairs(one)}
                  for one in scores],
    }  # fmt: skip
    verdict = Verdict(**{axis: 3 for axis in AXES}, analysis=HOSTILE)
    clips = [judged_clip(one.clip.id, one.clip.dataset, [verdict, None]) for one in predictions]
    rows = {"model": judged_row("f", clips)}
    return with_judge(metrics, Judge("prospect.judge/1", HOSTILE, ["h"], [], "t", {}, 2, rows, [HOSTILE]))


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(
        path, evaluated(PREDICTIONS), PREDICTIONS, lambda clip, frames: ((9, 16), [jpeg(f, 180) for f in frames])
    )
    return path.as_uri()


def shown(page):
    page.wait_for_selector(".item .bar")
    return page.locator(".clip-title").text_content()


def test_it_leads_with_a_sentence_and_the_worst_clip(browser, url):
    with browser.open(url) as page:
        assert shown(page) == BAD.clip.id
        assert (
            page.locator(".lead")
            .text_content()
            .startswith("Found 5 of 6 updates, 1 late, 1 of the wrong step; spoke at 4")
        )
        assert page.title().endswith("· toyworld test · 2026-11-27 · commit cccccccccccc")
        lanes = page.locator(".timeline-label span").all_text_contents()
        assert lanes == [
            "Frames", "P(state changes)", "P(speaks)", "Updates, annotated", "Updates, model", "Utterances, annotated",
            "Utterances, model", "User, system", "Context restarts", "S1 do S1", "S2 do S2",
        ]  # fmt: skip
        assert (
            page.locator(".timeline-track[data-lane=p_update] .threshold, [data-lane=p_speak] .threshold").count() == 2
        )
        assert [page.locator(".entry-title").nth(n).text_content() for n in range(3)] == [
            BAD.clip.id,
            GOOD.clip.id,
            LONG_ID,
        ]
        page.locator(".files select").select_option("late")
        assert page.locator(".entry-title").first.text_content() == LONG_ID
        page.locator(".files input").fill("goo")
        assert page.locator(".entry-title").all_text_contents() == ["good"]


def test_keys_go_from_mistake_to_mistake_clip_to_clip_and_frame_to_frame(browser, url):
    with browser.open(url) as page:
        shown(page)
        told, cursor = page.locator(".timeline-told"), page.locator(".timeline-cursor span")
        kinds = []
        for _ in range(5):
            page.keyboard.press("n")
            kinds.append(told.text_content().split(" · ")[-1])
        assert page.locator(".mistake").count() == 5 and shown(page) == BAD.clip.id
        assert kinds == ["wrong step", "missed", "missed", "missed", "spurious"]
        seen = page.locator(".top > .stack").bounding_box()
        chosen = page.locator(".mistake[aria-current]").bounding_box()
        assert seen["y"] <= chosen["y"] < seen["y"] + seen["height"]
        page.keyboard.press("Shift+N")
        assert "missed" in told.text_content() and "frame 40" in cursor.text_content()
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("ArrowLeft")
        assert "frame 49" in cursor.text_content() and page.locator(".caption").text_content() == "Frame 49"
        page.keyboard.press("PageDown")
        assert shown(page) == GOOD.clip.id and page.locator(".mistake").count() == 0
        page.keyboard.press("n")  # none here: the first of the next clip that follows in the list
        assert shown(page) == LONG_ID and "late by 1.0 s" in told.text_content()
        page.keyboard.press("PageUp")
        assert shown(page) == GOOD.clip.id and page.url.endswith("#clip=good")
        page.go_back()
        assert shown(page) == LONG_ID
        page.keyboard.press("?")
        assert "next mistake" in page.locator("dialog").text_content()
        page.keyboard.press("Escape")
        page.keyboard.press("+")
        page.wait_for_selector(".timeline-overview:not(.idle)")


def test_the_address_names_a_clip(browser, url):
    with browser.open(f"{url}#clip={LONG_ID}") as page:
        assert shown(page) == LONG_ID
        item = page.locator("[data-lane=updates-1] .item").first
        bar = item.locator(".bar").bounding_box()
        per_frame = page.locator(".timeline-axis").bounding_box()["width"] / 41
        assert bar["width"] == pytest.approx(3 * per_frame, abs=3)  # from where it was due, 24, to 26


def test_matched_utterances_say_how_similar_they_are(browser, url):
    with browser.open(f"{url}#clip={LONG_ID}") as page:
        shown(page)
        row = page.locator('.told[data-at="26"]')
        assert re.search(r"Take it\. similarity 0\.\d\d late by 1\.0 s", row.text_content())
        page.locator("[data-lane=speech-1] .item").first.hover()
        assert re.search(r"Take it\.\nsimilarity 0\.\d\d\nlate by 1\.0 s", page.locator(".timeline-tip").text_content())
        row.locator("button").click()
        assert "frame 26" in page.locator(".timeline-cursor span").text_content()


def test_frames_are_shown_large_under_the_pointer_and_by_a_click(browser, url):
    with browser.open(url) as page:
        shown(page)
        image = page.locator("[data-lane=frames] image").nth(1)
        image.hover()
        tip = page.locator(".timeline-tip")
        assert f"frame {image.get_attribute('data-at')}" in tip.text_content()
        assert tip.locator("img").bounding_box()["height"] > 2 * image.bounding_box()["height"]
        image.click()
        page.wait_for_selector(f'.player img[alt^="frame {image.get_attribute("data-at")} of"]')
        box = page.locator(".player img").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(16 / 9, abs=0.05)


def test_the_timeline_is_saved_as_an_svg_and_a_png_that_need_nothing_else(browser, url):
    with browser.open(url, dark=True) as page:
        shown(page)
        files = {}
        for kind in ("SVG", "PNG"):
            with page.expect_download() as saved:
                page.get_by_role("button", name=kind, exact=True).click()
            assert (
                saved.value.suggested_filename.endswith(f".{kind.lower()}")
                and "<" not in saved.value.suggested_filename
            )
            files[kind] = saved.value.path().read_bytes()
    root = ElementTree.fromstring(files["SVG"])
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("width") == "1200"
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Updates, model", "S1 start", "S1 do S1"} <= set(texts) and any("document.title" in text for text in texts)
    images = [node.get("href") for node in root.iter("{http://www.w3.org/2000/svg}image")]
    assert images and all(href.startswith("data:image/jpeg;base64,") for href in images)
    assert b"class=" not in files["SVG"] and b"var(" not in files["SVG"] and b"color(" not in files["SVG"]
    assert {node.get("fill") for node in root.iter("{http://www.w3.org/2000/svg}rect")} >= {"#191c21"}  # dark paper
    with Image.open(io.BytesIO(files["PNG"])) as image:
        assert image.size == (2400, 2 * int(root.get("height"))) and len(image.convert("RGB").getcolors(1 << 24)) > 50


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("dark", [False, True])
def test_every_text_is_text_and_the_page_never_scrolls_sideways(browser, url, size, dark):
    with browser.open(url, size, dark=dark) as page:
        for clip in (BAD, LATE):
            if clip is LATE:
                page.goto(f"{url}#clip={LONG_ID}")
            assert shown(page) == clip.clip.id
            assert page.title().startswith("PROSPECT evaluation") and overflow(page) == 0
            assert page.locator(".timeline-axis").bounding_box()["width"] > 300
            text = page.locator("main").text_content()
            assert f"{HOSTILE} x x" in text and page.locator("td.analysis").first.text_content() == HOSTILE
            assert f"note{'s' if 'notes' in text else ''}" in text and text.count(HOSTILE) > 8
        assert page.locator("script:not([type])").count() == 0


def test_datasets_have_a_switch_and_metrics_their_intervals(browser, url):
    with browser.open(url) as page:
        shown(page)
        options = page.locator("#dataset option").all_text_contents()
        assert options == ["all clips", "toy", HOSTILE]
        cell = page.locator(".numbers-panel tr", has_text="should_update_dst_f1").first
        assert re.search(r"0\.\d{3}0\.\d\d to 1\.00", cell.text_content())
        page.locator("#dataset").select_option(HOSTILE)
        assert page.locator(".numbers-panel tr", has_text="should_update_dst_f1").count() >= 1


def test_a_clip_without_steps_pictures_or_events_is_shown(browser, tmp_path):
    empty = predict(make_clip((), frames=(0, 0), steps=0), {})
    metrics = evaluated([empty])
    write_report(tmp_path / "report.html", metrics, [empty], None)
    with browser.open((tmp_path / "report.html").as_uri()) as page:
        page.wait_for_selector(".curve", state="attached")
        assert page.locator(".mistakes").text_content() == "No mistakes"
        assert "Nothing is said in this clip" in page.locator(".transcript").text_content()
