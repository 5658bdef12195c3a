"""The timeline in a browser: what the pages that use it rely on."""

import pytest

from prospect.web.answers import get, make_app, page
from tests.helpers.web import NARROW, WIDE, overflow, served

pytestmark = pytest.mark.slow
HOSTILE = "</script><script>document.title = 'taken'</script>"
LANES = [
    {"id": "S1", "label": f"S1 Place the red rod {HOSTILE}", "kind": "items", "items": [
        {"id": "a", "from": 10, "to": 30, "look": "done", "shape": "bar", "label": HOSTILE, "text": f"S1\n{HOSTILE}",
         "drag": {"body": True, "from": True, "to": True}}]},
    {"id": "updates", "label": "updates", "kind": "items", "items": [
        {"id": "b", "from": 8, "to": 11, "at": 10.5, "look": "update", "shape": "start", "label": "S1 start", "text": "start",
         "drag": {"body": True}},
        {"id": "c", "from": 9, "to": 11, "at": 10.5, "look": "update", "shape": "complete", "label": "", "text": "complete",
         "error": "found 10, expected 12"},
        {"id": "g", "from": 60, "to": 61, "at": 60.5, "look": "speak", "shape": "speech", "label": "Well done.", "text": "said", "ghost": True}]},
    {"id": "p", "label": "probabilities", "kind": "curve", "curves": [
        {"name": "update", "look": "update", "values": [(i % 20) / 20 for i in range(100)], "threshold": 0.5, "drag": True}]},
]  # fmt: skip
START = """async lanes => {
  const {Timeline} = await import("/static/timeline.js");
  const root = document.createElement("div");
  const main = document.createElement("main");
  main.append(root); document.body.append(main);
  window.heard = [];
  window.timeline = new Timeline(root, {from: 0, to: 100, rate: 2, lanes, cursor: 5});
  for (const name of ["cursor", "choose", "move", "threshold", "open"])
    timeline.addEventListener(name, event => heard.push([name, event.detail.at ?? event.detail.item?.id ?? event.detail.value, event.detail.part, event.detail.by]));
  await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame);
}"""


def make(address):
    return make_app([get("/", lambda request: page("Timeline", "timeline.js", ["timeline.css"]))], address)


@pytest.fixture(scope="module")
def url():
    with served(make) as address:
        yield address


@pytest.fixture
def timeline(browser, url):
    with browser.open(url) as opened:
        opened.evaluate(START, LANES)
        yield opened


def heard(page):
    return page.evaluate("heard.splice(0)")


def test_keys_move_the_cursor_and_choose_items(timeline):
    timeline.locator(".timeline").focus()
    for key in ("ArrowRight", "Shift+ArrowRight", "ArrowLeft", "End", "Home", "ArrowLeft"):
        timeline.keyboard.press(key)
    assert [at for _, at, *_ in heard(timeline)] == [6, 16, 15, 99, 0]
    timeline.keyboard.press("ArrowDown")
    timeline.keyboard.press("ArrowDown")
    timeline.keyboard.press("Alt+ArrowRight")
    timeline.keyboard.press("Enter")
    assert [(name, at) for name, at, *_ in heard(timeline) if name != "cursor"] == [
        ("choose", "a"), ("choose", "b"), ("choose", "c"), ("open", "c")
    ]  # fmt: skip
    assert timeline.locator(".timeline-told").text_content() == "complete · found 10, expected 12"


def test_the_mouse_moves_items_by_whole_units(timeline):
    per_unit = timeline.evaluate("timeline.view.width / 100")
    bar = timeline.locator('.item[data-id="a"] .bar').bounding_box()
    middle = bar["y"] + bar["height"] / 2
    for x, by, expected in (
        (bar["x"] + bar["width"] / 2, 5.2, ("body", 5)),
        (bar["x"] + bar["width"] + 5 * per_unit - 1, -3.4, ("to", -3)),
        (bar["x"] + 5 * per_unit + 1, 100, ("from", 16)),
    ):
        timeline.mouse.move(x, middle)
        timeline.mouse.down()
        timeline.mouse.move(x + by * per_unit, middle, steps=4)
        timeline.mouse.up()
        moves = [(part, moved) for name, _, part, moved in heard(timeline) if name == "move"]
        assert moves == [expected]
    assert timeline.evaluate("[timeline.item('a').from, timeline.item('a').to]") == [31, 32]


def test_an_item_that_may_not_be_moved_stays_and_escape_lets_go(timeline):
    ghost = timeline.locator('.item[data-id="g"] .bar').bounding_box()
    timeline.mouse.move(ghost["x"] + 2, ghost["y"] + 5)
    timeline.mouse.down()
    timeline.mouse.move(ghost["x"] + 200, ghost["y"] + 5)
    timeline.mouse.up()
    bar = timeline.locator('.item[data-id="a"] .bar').bounding_box()
    timeline.mouse.move(bar["x"] + 60, bar["y"] + 5)
    timeline.mouse.down()
    timeline.mouse.move(bar["x"] + 200, bar["y"] + 5)
    assert timeline.evaluate("timeline.item('a').from") > 10
    timeline.keyboard.press("Escape")
    timeline.mouse.up()
    assert timeline.evaluate("[timeline.item('a').from, timeline.item('g').from]") == [10, 60]
    assert not [one for one in heard(timeline) if one[0] == "move"]


def test_zoom_keeps_its_place_and_ends_at_the_whole(timeline):
    timeline.evaluate("timeline.cursor = 20; timeline.zoom(4)")
    first, last = timeline.evaluate("timeline.seen")
    assert last - first == 25 and first < 20 < last
    timeline.evaluate("timeline.zoom(100)")
    first, last = timeline.evaluate("timeline.seen")
    assert round(last - first, 6) == 12  # the least
    timeline.evaluate("timeline.cursor = 90")
    assert timeline.evaluate("timeline.seen[0] <= 90 && timeline.seen[1] >= 91")
    timeline.evaluate("timeline.zoom(0)")
    assert timeline.evaluate("timeline.seen") == [0, 100]


def test_a_threshold_is_dragged(timeline):
    line = timeline.locator(".threshold .handle").bounding_box()
    timeline.mouse.move(line["x"] + 50, line["y"] + 7)
    timeline.mouse.down()
    timeline.mouse.move(line["x"] + 50, line["y"] + 7 - 20)
    timeline.mouse.up()
    (told,) = [value for name, value, *_ in heard(timeline) if name == "threshold"]
    assert 0.6 < told < 0.9


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("dark", [False, True])
def test_text_is_text_and_nothing_scrolls_sideways(browser, url, size, dark):
    with browser.open(url, size, dark=dark) as opened:
        opened.evaluate(START, LANES)
        opened.hover('.item[data-id="a"] .bar')
        assert HOSTILE in opened.locator(".timeline-tip").text_content()
        assert opened.title() == "Timeline" and overflow(opened) == 0
