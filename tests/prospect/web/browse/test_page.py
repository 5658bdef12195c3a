"""The browse pages in Chromium: served, and from a folder that was published."""

import json

import pytest

from prospect.web.browse.publish import publish
from tests.helpers.browse import browse_of, sections_of
from tests.helpers.fakes import write_frames
from tests.helpers.review import HOSTILE, clip
from tests.helpers.waiting import wait_for
from tests.helpers.web import NARROW, WIDE, overflow, served

pytestmark = pytest.mark.slow
SIZES = pytest.mark.parametrize("size", [WIDE, NARROW])


def titles(page):
    return page.locator(".card h2").all_text_contents()


def count(page, told):
    page.wait_for_selector(f'[role="status"]:text-is("{told}")')


def test_filters_stand_in_the_address_and_a_copied_link_shows_the_same(browser, world):
    with served(browse_of(*world.every)) as url:
        with browser.open(url) as page:
            count(page, "3 clips")
            page.get_by_label("Text").fill("hello")
            count(page, "2 of 3 clips")
            page.get_by_label("Has a turn of").select_option("update")
            count(page, "1 of 3 clips")
            link = page.url
            assert link.endswith("#clips?text=hello&kind=update") and titles(page) == ["v1-c000"]
        with browser.open(link) as page:
            count(page, "1 of 3 clips")
            assert page.get_by_label("Text").input_value() == "hello" and titles(page) == ["v1-c000"]
            page.get_by_label("Text").fill("nowhere")
            count(page, "0 of 3 clips; take a filter away to see more")
            page.get_by_label("Text").fill("")
            page.get_by_label("Has a turn of").select_option("")
            page.get_by_label("The model's mistake").select_option("missed_update")
            count(page, "1 of 3 clips")
            assert titles(page) == ["v3-c000"] and "missed update × 2" in page.locator(".card").text_content()


def test_going_back_from_a_clip_shows_the_cards_as_they_were(browser, world):
    with served(browse_of(world.data)) as url, browser.open(url + "#clips?text=hello") as page:
        page.get_by_role("link", name="v2-c000").click()
        page.wait_for_selector('h1:text-is("v2-c000")')
        page.go_back()
        count(page, "2 of 3 clips")
        assert titles(page) == ["v1-c000", "v2-c000"]
        page.get_by_label("Text").fill("v1")
        count(page, "1 of 3 clips")


def test_more_cards_come_as_one_scrolls(browser, tmp_path):
    clips = [clip(video_uid=f"v{number:02d}", frames_file="frames/v1.arrow") for number in range(60)]
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "train_training.json").write_text(json.dumps(clips))
    with served(browse_of(tmp_path)) as url, browser.open(url) as page:
        page.wait_for_selector(".card")
        assert len(titles(page)) < 60

        def all_there():
            page.mouse.wheel(0, 6000)
            return page.locator(".card").count() == 60

        wait_for(all_there)
        assert titles(page) == [f"v{number:02d}-c000" for number in range(60)]
        assert page.locator(".more").is_hidden() and page.get_by_text("no frames here").count() == 60


@SIZES
@pytest.mark.parametrize("dark", [False, True])
def test_a_clip_s_page_moves_as_one_and_copies_the_command(browser, world, size, dark):
    where = f"#clips/{world.key('v3')}"
    with (
        served(browse_of(*world.every)) as url,
        browser.open(url + where, size, dark=dark, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        page.wait_for_selector(".item .bar")
        assert page.locator(".timeline-label").all_text_contents()[1:3] == ["S1 Turn it", "S2 Take it"]
        page.locator(".turns .time").nth(2).click()
        page.wait_for_selector(".player img[alt^='frame 12 ']")
        assert page.locator(".step .step-said").all_text_contents() == ["completed", "in progress"]
        key = f"{world.key('v3')}-0004"
        assert page.get_by_label("Command").input_value() == (
            f"prospect inspect-shard {world.shards}/x/test --key {key} --tokens --config {world.run}/config.yaml"
        )
        page.get_by_role("button", name="Copy").click()
        page.wait_for_selector(".notice:has-text('Copied')")
        assert page.evaluate("navigator.clipboard.readText()").endswith("config.yaml")
        page.locator(".timeline").press("ArrowLeft")
        page.wait_for_selector(".player img[alt^='frame 11 ']")
        page.get_by_text("Tokens, as").click()
        page.wait_for_selector(".tokens-block")
        page.locator('.token[data-frame="6"]').click()
        page.wait_for_selector(".player img[alt^='frame 6 ']")
        page.get_by_role("region", name="The model").get_by_text("wrong step").wait_for()
        assert overflow(page) == 0


@SIZES
def test_a_split_s_page_has_plots_as_tables_and_what_training_never_shows(browser, world, size):
    with served(browse_of(*world.every)) as url, browser.open(url + "#datasets", size) as page:
        page.get_by_role("link", name="x/test").click()
        page.wait_for_selector(".plot svg")
        assert overflow(page) == 0
        page.locator(".plot summary").first.click()
        assert page.locator(".plot table").first.is_visible()
        page.get_by_text("Two steps in a row: 1 of 1").click()
        assert page.get_by_text("Turn it, then Take it").is_visible()
        page.wait_for_selector("text=None of 1 clip has a problem.")
        page.get_by_role("button", name="Audit it").click()
        page.wait_for_selector('td:text-is("contradictions")')
        assert overflow(page) == 0
        page.get_by_role("link", name="Take it").last.click()
        count(page, "1 of 3 clips")


def hostile_root(root):
    made = clip(
        id=HOSTILE,
        goal=HOSTILE,
        dst=[{"id": "S1", "name": HOSTILE}, {"id": "S2", "name": "Put it"}],
        conversation=[
            {"role": "system", "content": HOSTILE, "start_frame": 2, "end_frame": 3},
            {"role": "user", "content": HOSTILE, "start_frame": 3, "end_frame": 4},
            {"role": "DST_UPDATE", "content": [{"id": "S1", "transition": "start"}], "start_frame": 4, "end_frame": 6},
            {"role": "assistant", "content": HOSTILE, "start_frame": 6, "end_frame": 8},
        ],
    )
    wrong = {**made, "id": HOSTILE + "2", "conversation": [{"role": HOSTILE, "content": HOSTILE, "start_frame": HOSTILE, "end_frame": 9}],
             "dst": [{"id": HOSTILE, "name": HOSTILE}], "frames_file": HOSTILE}  # fmt: skip
    folder = root / "x"
    folder.mkdir(parents=True)
    (folder / "train_training.json").write_text(json.dumps([made, wrong]))
    write_frames(folder / "frames" / "v1.arrow", 20)
    return root


def taken(page):
    """Whether a text became markup, or ran."""
    return (
        page.evaluate("document.querySelectorAll('main script, main img[src=\"x\"]').length") or page.title() == "taken"
    )


@SIZES
@pytest.mark.parametrize("is_published", [False, True])
def test_a_script_in_every_text_is_text_on_every_page(browser, tmp_path, size, is_published):
    root = hostile_root(tmp_path / "data")
    listed = sections_of(root)
    keys = list(listed[0].library.places)

    def look(url):
        for where in ("", *(f"#clips/{key}" for key in keys), "#datasets", "#datasets/x/train"):
            with browser.open(url + where, size) as page:
                page.wait_for_selector("h1")
                page.wait_for_timeout(200)
                for summary in page.locator("summary").all():
                    summary.click()
                for item in page.locator(".item .bar").all():
                    item.hover(force=True)
                assert HOSTILE in page.locator("main").text_content() or where == "#datasets"
                assert not taken(page) and overflow(page) == 0

    if is_published:
        publish(listed[0].library, listed, tmp_path / "out", 10)
        look((tmp_path / "out" / "index.html").as_uri())
    else:
        with served(browse_of(root)) as url:
            look(url)


@SIZES
def test_a_published_folder_opens_from_the_disk_and_finds_what_the_server_finds(browser, world, tmp_path, size):
    listed = sections_of(*world.every)
    clips = listed[0]
    publish(clips.library, listed, tmp_path / "out", 10)
    url = (tmp_path / "out" / "index.html").as_uri()
    with browser.open(url, size) as page:
        count(page, "3 clips")
        wait_for(lambda: page.evaluate("[...document.images].some(image => image.naturalWidth > 0)"))
        for query in ({"text": "HELLO"}, {"step": "turn"}, {"kind": "user"}, {"of": "x/test"}, {"error": "missed_speech"},
                      {"error": "false_update"}, {"text": "v", "kind": "update"}, {"run": "r/test", "error": "wrong_update"}):  # fmt: skip
            page.goto(f"{url}#clips?{'&'.join(f'{name}={value}' for name, value in query.items())}")
            found = clips.found(query)
            count(
                page,
                "3 clips"
                if len(found) == 3
                else f"{len(found)} of 3 clips" + ("" if found else "; take a filter away to see more"),
            )
            assert titles(page) == [clips.library.about(key)["title"] for key in found], query
        assert overflow(page) == 0
        page.goto(f"{url}#clips/{world.key('v3')}")
        page.wait_for_selector(".player img[alt^='frame 2 ']")
        page.get_by_text("Tokens, as").click()
        page.wait_for_selector(".tokens-block")
        assert overflow(page) == 0
        page.goto(f"{url}#datasets/x/test")
        page.wait_for_selector('td:text-is("contradictions")')
        page.goto(f"{url}#clips/none")
        page.wait_for_selector("text=not among what was published here")


def test_what_is_not_there_is_a_sentence_on_the_page(browser, world):
    with served(browse_of(world.data)) as url:
        with browser.open(url + "#clips/none", expected=["400"]) as page:
            page.wait_for_selector("[role=alert]:has-text('there is none of this key here')")
        with browser.open(url + "#datasets/none", expected=["400"]) as page:
            page.wait_for_selector("[role=alert]:has-text('there is no such page')")
        with browser.open(url + "#nonsense/%E0%A4%A") as page:
            count(page, "3 clips")
