"""The page of a calibration: what it says, what it draws, and that its texts are texts."""

import json
import re

import pytest

from prospect.evaluation.pages.reliability import write_reliability
from tests.helpers.web import NARROW, WIDE, overflow

HOSTILE = "</script><script>document.title = 'taken'</script>"
GRID = [0.1, 0.3, 0.5, 0.7, 0.9]


def record(update=((0.01, 0.0, 900), (0.99, 1.0, 100)), ece=0.01, sweep=(0.5, 0.9, 0.895, 0.6, 0.2)):
    speak = {"bins": [[0.05, 0.0, 90], [0.5, 0.2, 10]], "ece": 0.075}
    return {
        "checkpoint": f"runs/{HOSTILE}", "data": ["shards/toyworld/val"], "num_clips": 12, "notes": [HOSTILE],
        "tried": [{"update_threshold": 0.3, "speak_threshold": 0.5, "should_update_dst_f1": 0.88, "when_to_speak_f1": None}],
        "grid": GRID, "sweep": {"should_update_dst": list(sweep)},
        "reliability": {"should_update_dst": {"bins": [list(one) for one in update], "ece": ece}, "when_to_speak": speak},
    }  # fmt: skip


def about(tmp_path, given) -> dict:
    write_reliability(tmp_path / "reliability.html", given)
    page = (tmp_path / "reliability.html").read_text()
    return json.loads(re.findall(r'id="about">(.*?)</script>', page)[0])


def test_sentences_say_whether_to_trust_it_and_how_much_the_threshold_matters(tmp_path):
    update, speak = about(tmp_path, record())["heads"]
    assert update["sentences"] == [
        "Its probabilities are off by 0.010 on average over 1,000 decisions: they can be taken as they are.",
        "Its threshold is 0.3, with which it streams at F1 0.880; thresholds from 0.3 to 0.5 come within 0.01 of its best, 0.900.",
    ]
    assert speak["sentences"] == [
        "Its probabilities are off by 0.075 on average over 100 decisions, too high on the whole: it says that the assistant "
        "speaks 10 times, and that is so 2 times. Take them as an order, not as shares.",
        "There were no such events to find a threshold on; 0.5, the default, is stored.",
    ]
    assert update["bins"] == [
        [0.01, 0.0, 900, 0.0, pytest.approx(1 / 15)],
        [0.99, 1.0, 100, pytest.approx(14 / 15), 1.0],
    ]
    low = about(tmp_path, record([(0.1, 0.4, 10)], 0.3, (0.1, 0.2, 0.9, 0.2, 0.1)))["heads"][0]["sentences"]
    assert ", too low on the whole: it says that the state changes 1 times, and that is so 4 times." in low[0]
    assert low[1].endswith("no other threshold comes within 0.01 of its best, 0.900.")


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("dark", [False, True])
def test_charts_mark_the_threshold_and_tell_their_numbers_by_pointer_keys_and_table(browser, tmp_path, size, dark):
    about(tmp_path, record())
    with browser.open((tmp_path / "reliability.html").as_uri(), size, dark=dark) as page:
        page.wait_for_selector(".chart-dot")
        assert page.title() == f"PROSPECT calibration · runs/{HOSTILE} · toyworld val" and overflow(page) == 0
        assert page.locator(".chart-mark-text").all_text_contents() == ["threshold 0.3"] * 2 + ["threshold 0.5"]
        counts = page.locator(".chart").nth(1)
        assert counts.locator(".chart-bar").count() == 2
        counts.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        assert counts.locator(".chart-told").text_content() == "says 0.990: 1.000 of 100 decisions are"
        dot = page.locator(".chart").first.locator(".chart-dot").last
        dot.hover(force=True)
        assert (
            page.locator(".chart").first.locator(".chart-told").text_content()
            == "says 0.990: 1.000 of 100 decisions are"
        )
        page.locator("summary").first.click()
        assert page.locator("tbody tr").first.text_content() == "0.000 to 0.0670.0100.000900"
        assert f"note: {HOSTILE}" in page.locator("main").text_content()
