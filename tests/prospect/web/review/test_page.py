"""The review page in Chromium: what a person does with mouse and keys is in the file, and nothing else is."""

import json

import pytest

from pipeline.annotations.validate import check_clip
from pipeline.spans.records import read_spans, write_records
from prospect.web.review.documents import Documents
from prospect.web.review.routes import make_review
from tests.helpers.review import HOSTILE, clip, diff, review_of, review_root
from tests.helpers.spans import spans_of
from tests.helpers.videos import video
from tests.helpers.waiting import wait_for
from tests.helpers.web import NARROW, WIDE, overflow, served

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path):
    review_root(tmp_path / "data")
    return tmp_path / "data"


def ready(page):
    page.wait_for_selector(".item .bar")
    return page


def drag(page, item, by_frames, part="middle"):
    """Drag an item of the timeline by so many frames."""
    box = page.locator(f'.item[data-id="{item}"] .bar').bounding_box()
    frame = page.locator(".timeline-axis").bounding_box()["width"] / 18  # the clip's
    x = {"middle": box["x"] + box["width"] / 2, "to": box["x"] + box["width"] - 1, "from": box["x"] + 1}[part]
    y = box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by_frames * frame, y, steps=5)
    page.mouse.up()


def saved(page):
    page.keyboard.press("Control+s")
    page.wait_for_selector('.desk-head .tag:text-is("Saved")')


def asked(page, key):
    """Press a key that asks for a text; keys that come before the question stands would be shortcuts."""
    page.keyboard.press(key)
    page.wait_for_selector("dialog[open] textarea:focus")


def lines(root):
    return [(line[0], line[1:].strip().rstrip(",")) for line in diff(root)]


def test_an_event_moved_by_mouse_and_one_added_by_keys_are_in_the_file(browser, root):
    with served(review_of(root)) as url, browser.open(url) as page:
        ready(page)
        drag(page, "turn-4", 2)  # S1 complete, S2 start: from 12 to 14
        page.wait_for_selector('.tag:text-is("Not saved")')
        page.locator(".timeline").focus()
        for key in ("End", "ArrowLeft", "ArrowLeft", "2"):  # S2 is completed at 17
            page.keyboard.press(key)
        page.wait_for_selector('[data-lane="updates"] .item >> nth=2')
        saved(page)
    made = json.loads((root / "x" / "train_training.json").read_text())
    assert check_clip(made[0], index=0, file="", dataset="x", open_frames=None)[1] == []
    assert made[1] == json.loads((root / "x" / "train_training.json.orig").read_text())[1]
    gone = [line for sign, line in lines(root) if sign == "-"]
    new = [line for sign, line in lines(root) if sign == "+"]
    assert gone == ['"start_frame": 10', '"end_frame": 12']
    assert new[:2] == ['"start_frame": 12', '"end_frame": 14'] and '"start_frame": 17' in new and '"id": "S2"' in new
    assert len(new) == 2 + 15  # one turn, a key or bracket a line


def test_undo_and_redo_by_keys(browser, root):
    with served(review_of(root)) as url, browser.open(url) as page:
        ready(page)
        drag(page, "turn-1", 2)
        page.wait_for_selector('.tag:text-is("Not saved")')
        page.keyboard.press("Control+z")
        page.wait_for_selector('.tag:text-is("Saved")')
        page.keyboard.press("Control+y")
        page.wait_for_selector('.tag:text-is("Not saved")')
        page.keyboard.press("Control+Shift+z")
        page.keyboard.press("Control+z")
        page.wait_for_selector('.tag:text-is("Saved")')
    assert diff(root) == []


def test_utterances_and_user_lines_are_typed(browser, root):
    with served(review_of(root)) as url, browser.open(url) as page:
        ready(page)
        page.keyboard.press("Shift+ArrowRight")  # frame 12
        asked(page, "a")
        page.keyboard.type("Now the 2nd, please.")
        page.keyboard.press("Enter")
        page.wait_for_selector('[data-lane="assistant"] .item >> nth=1')
        asked(page, "u")
        page.keyboard.type("nothing")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        asked(page, "u")
        page.keyboard.type("What now?")
        page.keyboard.press("Enter")
        page.wait_for_selector('[data-lane="user"] .item >> nth=1')
        saved(page)
    turns = json.loads((root / "x" / "train_training.json").read_text())[0]["conversation"]
    assert [turn["content"] for turn in turns if turn["end_frame"] == 12 and turn["role"] != "DST_UPDATE"] == [
        "What now?",
        "Now the 2nd, please.",
    ]


def test_a_bar_s_edge_moves_its_transition_and_escape_lets_go(browser, root):
    with served(review_of(root)) as url, browser.open(url) as page:
        ready(page)
        drag(page, "bar-0", 3, "to")
        page.wait_for_selector('.tag:text-is("Not saved")')
        assert "frames" not in page.locator(".chosen-panel").all_text_contents()
        saved(page)
    turns = json.loads((root / "x" / "train_training.json").read_text())[0]["conversation"]
    assert [(turn["content"], turn["end_frame"]) for turn in turns if turn["role"] == "DST_UPDATE"][1:] == [
        ([{"id": "S2", "transition": "start"}], 12), ([{"id": "S1", "transition": "complete"}], 15)
    ]  # fmt: skip


def test_a_problem_is_marked_at_its_turn_at_once(browser, root):
    with served(review_of(root)) as url, browser.open(url) as page:
        ready(page)
        assert page.locator(".problems").count() == 0
        drag(page, "turn-2", 12)  # S1->start behind S1->complete
        page.wait_for_selector(".problems .problem")
        assert "S1->complete while S1 is not_started" in page.locator(".problems").text_content()
        assert page.locator('[data-lane="updates"] .item.wrong').count() == 2
        page.locator(".problems button").first.click()
        assert "turn" in page.locator(".chosen-panel h2").text_content()


HOSTILE_CLIP = clip(
    id=HOSTILE,
    dst=[{"id": "S1", "name": HOSTILE}, {"id": "S2", "name": "Put it"}],
    conversation=[
        {"role": "system", "content": HOSTILE, "start_frame": 2, "end_frame": 3},
        {"role": "user", "content": HOSTILE, "start_frame": 3, "end_frame": 4, "x": HOSTILE},
        {"role": "DST_UPDATE", "content": [{"id": HOSTILE, "transition": HOSTILE}], "start_frame": 4, "end_frame": 6, "dst_state": {HOSTILE: HOSTILE}},
        {"role": "assistant", "content": HOSTILE, "start_frame": 6, "end_frame": 8},
        {"role": HOSTILE, "content": HOSTILE, "start_frame": 8, "end_frame": 9},
    ],
)  # fmt: skip


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_script_in_every_text_is_text_at_both_widths(browser, tmp_path, size):
    review_root(tmp_path / "data", [HOSTILE_CLIP])
    with served(review_of(tmp_path / "data")) as url, browser.open(url, size) as page:
        ready(page)
        for item in page.locator(".item").all():
            item.locator(".bar").click(force=True)
            item.locator(".bar").hover(force=True)
        assert (
            HOSTILE in page.locator("h1").text_content()
            and HOSTILE in page.locator(".timeline-label").all_text_contents()[1]
        )
        assert page.locator("main script, main img[src='x']").count() == 0
        assert page.title().startswith("</script>") and overflow(page) == 0
        page.get_by_role("button", name="Edit steps").click()
        assert HOSTILE in page.get_by_role("textbox", name="Steps").input_value()


def test_two_tabs_see_the_newest_and_lose_nothing(browser, root):
    with served(review_of(root)) as url, browser.open(url) as one, browser.open(url, expected=["409"]) as two:
        ready(one)
        ready(two)
        drag(one, "turn-1", 2)
        one.wait_for_selector('.tag:text-is("Not saved")')
        drag(two, "turn-1", 5)
        assert "changed in another tab meanwhile" in two.locator(".notice").text_content()
        two.locator('.item[data-id="turn-1"] .bar').click()
        assert "frames 5–6" in two.locator(".chosen-panel").text_content()


def test_a_file_changed_on_disk_is_told_and_reloaded(browser, root):
    path = root / "x" / "train_training.json"
    with served(review_of(root)) as url, browser.open(url, expected=["409"]) as page:
        ready(page)
        drag(page, "turn-1", 2)
        page.wait_for_selector('.tag:text-is("Not saved")')
        path.write_text(path.read_text().replace('"video_uid": "v2"', '"video_uid": "v3"'))
        page.keyboard.press("Control+s")
        page.get_by_role("button", name="Reload").click()
        page.wait_for_selector('.entry-title:text-is("v3")')
        page.wait_for_selector('.tag:text-is("Not saved")')
        saved(page)
    made = json.loads(path.read_text())
    assert made[1]["video_uid"] == "v3" and made[0]["conversation"][1]["start_frame"] == 5


def test_a_dropped_video_becomes_an_empty_clip_whose_steps_are_named_and_marked(browser, root, tmp_path):
    film = video(tmp_path / "my film.mp4", 6, width=96, height=48)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(film.read_bytes()[:300])
    notes = tmp_path / "notes.txt"
    notes.write_text("no video")
    with served(review_of(root)) as url, browser.open(url, expected=["400"]) as page:
        ready(page)
        page.set_input_files("input[type=file]", notes)
        assert "notes.txt: found no video, expected one of .mp4" in page.locator(".notice").text_content()
        for path in (broken, film):
            page.set_input_files("input[type=file]", path)
            page.get_by_role("button", name="Add it").click()
            if path is broken:
                page.wait_for_selector(".notice:has-text('broken')")
        page.wait_for_selector('h1:text-is("my film")')
        assert "0:06 long, 0 steps, 0 turns" in page.locator(".about").text_content()
        page.get_by_role("button", name="Edit steps").click()
        page.get_by_role("textbox", name="Steps").fill("Boil the water\nS7: Pour it")
        page.get_by_role("button", name="Take them").click()
        page.wait_for_selector(".step >> nth=1")
        page.locator(".timeline").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("1")
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("1")
        page.wait_for_selector('[data-lane="updates"] .item >> nth=1')
        picture = page.locator(".player img")
        assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [
            768,
            384,
        ]  # at its true aspect
        saved(page)
    made = json.loads((root / "x" / "train_training.json").read_text())[-1]
    assert [(turn["content"][0]["transition"], turn["end_frame"]) for turn in made["conversation"]] == [
        ("start", 1),
        ("complete", 11),
    ]
    assert made["dst"] == [{"id": "S1", "name": "Boil the water"}, {"id": "S7", "name": "Pour it"}]
    assert not [path for path in (root / "x" / "frames").iterdir() if "broken" in path.name]


def test_spans_open_and_save_likewise(browser, tmp_path):
    folder = tmp_path / "data" / "d"
    folder.mkdir(parents=True)
    path = folder / "train_spans.jsonl"
    write_records(
        path,
        [spans_of("v1", ("S1", 10, 20), ("S2", 30, 50), provenance={"importer": "x"}), spans_of("v2", ("S3", 1, 2))],
    )
    before = path.read_text().splitlines()
    with served(review_of(tmp_path / "data")) as url, browser.open(url) as page:
        ready(page)
        second = page.locator(".timeline-axis").bounding_box()["width"] / 100
        box = page.locator('.item[data-id="span-0"] .bar').bounding_box()
        page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 8)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 1 + 5 * second, box["y"] + 8, steps=4)
        page.mouse.up()
        page.wait_for_selector('.tag:text-is("Not saved")')
        page.locator(".timeline").focus()
        page.keyboard.press("Home")
        page.keyboard.press("3")
        page.wait_for_selector('[data-lane="step-S3"] .item')
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("3")
        page.wait_for_selector(".step.completed")
        saved(page)
    after = path.read_text().splitlines()
    assert after[1] == before[1]
    (first, _) = read_spans(path)
    assert [(span.step, span.start_s, span.end_s) for span in first.spans] == [
        ("S3", 0, 1),
        ("S1", 10, pytest.approx(25, abs=0.2)),
        ("S2", 30, 50),
    ]
    assert first.provenance == {"importer": "x", "edited": "prospect review"}


def test_a_player_plays_and_a_page_without_frames_says_so(browser, tmp_path):
    review_root(tmp_path / "data", [clip(), clip(video_uid="v2", frames_file="none.arrow")])
    with served(review_of(tmp_path / "data")) as url, browser.open(url) as page:
        ready(page)
        page.keyboard.press("Space")
        page.wait_for_selector(".player img[alt^='frame 4']")
        page.keyboard.press("Space")
        page.keyboard.press("PageDown")
        page.wait_for_selector(".player-message:has-text('not found')")
        assert page.locator(".problems").count() == 1


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_its_width(browser, root, size, dark):
    with served(review_of(root)) as url, browser.open(url, size, dark=dark) as page:
        ready(page)
        page.locator('.item[data-id="turn-3"] .bar').click()
        assert overflow(page) == 0
        assert page.locator(".chosen-panel textarea").input_value() == "Well begun."


def test_a_read_only_folder_is_a_sentence_and_loses_nothing(browser, root, monkeypatch):
    documents = Documents(root)

    def refuse(file, text):
        from prospect.web.review.documents import _creating

        _creating(file.path, lambda: (_ for _ in ()).throw(OSError(30, "Read-only file system")))

    monkeypatch.setattr(documents, "_write", refuse)
    with (
        served(lambda address: make_review(documents, None, address)) as url,
        browser.open(url, expected=["400"]) as page,
    ):
        ready(page)
        drag(page, "turn-1", 2)
        page.wait_for_selector('.tag:text-is("Not saved")')
        page.keyboard.press("Control+s")
        page.wait_for_selector(
            ".notice.wrong:has-text('cannot be saved (Read-only file system); nothing is lost here')"
        )
        assert page.locator('.desk-head .tag:text-is("Not saved")').count() == 1
        monkeypatch.undo()
        saved(page)
    wait_for(lambda: documents.unsaved == [])
