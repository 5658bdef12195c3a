"""The live page in Chromium, with a film of the toy world as its camera (`tests/helpers/live.py` says what is real)."""

import json

import pytest

from pipeline.annotations.clips import Step
from pipeline.annotations.dst import apply_updates, parse_updates
from prospect.layout import Tokens
from prospect.stream.streamer import StreamSettings
from prospect.stream.task import Task
from prospect.web.review.documents import Documents
from tests.helpers.fakes import jpeg
from tests.helpers.live import Seeing, film, live, live_session, plain, toy_clip
from tests.helpers.models import TOKENIZER
from tests.helpers.review import HOSTILE
from tests.helpers.streams import with_bias
from tests.helpers.videos import video
from tests.helpers.waiting import wait_for
from tests.helpers.web import NARROW, WIDE, chromium, overflow

pytestmark = pytest.mark.slow
FPS = 8


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_clip(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def camera(toy, tmp_path_factory):
    """Chromium, whose camera plays the clip's frames, four times as fast as they were filmed."""
    path = film(tmp_path_factory.mktemp("film") / "camera.y4m", toy[1], FPS)
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium(*flags, f"--use-file-for-fake-video-capture={path}") as running:
        yield running


@pytest.fixture
def seeing(model, toy):
    return Seeing(model, TOKENIZER, Tokens(TOKENIZER, 1), StreamSettings(), ()).know(*toy)


@pytest.fixture
def session(model, tmp_path):
    """A model that is silent at every frame."""
    made, told = live_session(plain(with_bias(model, -9, -9)), tmp_path / "out", FPS)
    made.told_terminal = told
    return made


def task_of(clip):
    return Task(clip.steps, clip.state)


def states(page):
    return page.eval_on_selector_all(
        ".step", "all => Object.fromEntries(all.map(one => [one.dataset.step, one.dataset.state]))"
    )


def begin(page, button="#start"):
    page.wait_for_selector("#status:text-is('Ready')")
    page.click(button)
    page.wait_for_selector("#stop")
    page.wait_for_selector("#foot >> text=/[0-9] ms/")


def end(page):
    page.click("#stop")
    page.wait_for_selector("#status:text-is('Ready')")


TASK = Task((Step("S1", "one"), Step("S2", "two")), {"S1": "not_started", "S2": "not_started"})


def test_the_checklist_ends_as_the_annotation_says_and_the_recording_opens_in_review(camera, seeing, toy, tmp_path):
    clip, _ = toy
    expected = clip.state
    for turn in clip.turns:
        if turn.role == "dst_update":
            expected = apply_updates(expected, parse_updates(turn.text))
    assert "completed" in expected.values()
    session, _ = live_session(seeing, tmp_path / "out", FPS)
    with live(session, task_of(clip)) as url, camera.open(url) as page:
        page.check("#record")
        begin(page)
        page.wait_for_selector("#status:text-is('● Recording')")
        last = [turn.text for turn in clip.turns if turn.role == "assistant"][-1]
        page.wait_for_selector(f".line.assistant >> text={last}", timeout=90_000)
        wait_for(lambda: states(page) == expected)
        assert page.inner_text(".subtitle") == last and overflow(page) == 0
        box = page.eval_on_selector("video", "one => one.videoWidth / one.videoHeight")
        assert box == pytest.approx(256 / 192, abs=0.01)
        name = next(step.name for step in clip.steps if expected[step.id] == "completed")
        assert name in page.inner_text(".transcript")
        page.screenshot(path=tmp_path / "live.png")
        end(page)
        assert "recorded as live-" in page.inner_text("#ended")
    documents = Documents(tmp_path / "out")
    raw = documents.files[0]
    drafted = documents.entry(documents.file("live", raw.name), 0).draft
    made = [turn.value["content"] for turn in drafted.items if turn.value["role"] == "DST_UPDATE"]
    assert made == [
        str(update) for turn in clip.turns if turn.role == "dst_update" for update in parse_updates(turn.text)
    ]


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_thresholds_lines_and_corrections_reach_the_model(camera, session, size):
    with live(session, TASK) as url, camera.open(url, size) as page:
        begin(page)
        page.fill("[data-head=update]", "0.25")
        page.press("[data-head=update]", "Enter")
        x, y = page.evaluate("""() => {
            const line = document.querySelector(".threshold.look-speak .handle");
            line.scrollIntoView({block: "center"});
            const box = line.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }""")
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x, y - 60, steps=4)
        page.mouse.up()
        page.fill("#line", "How far am I?")
        page.press("#line", "Enter")
        page.click("[data-step=S2]")
        page.wait_for_selector(".line.user >> text=How far am I?")
        page.wait_for_selector("[data-step=S2][data-state=in_progress]:not(.waiting)")
        page.click("[data-step=S2]")
        page.wait_for_selector("[data-step=S2][data-state=completed]:not(.waiting)")
        settings = session.streamer.settings
        assert (settings.update_threshold, settings.speak_threshold) == (0.25, 1.0)
        assert page.input_value("[data-head=speak]") == "1" and session.streamer.state["S2"] == "completed"
        assert session.log.summary.restarts == 2 and overflow(page) == 0
        end(page)


def test_a_camera_that_is_denied_is_a_sentence(camera, session):
    with live(session, TASK) as url, camera.open(url) as page:
        page.evaluate("""() => {
            navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("Denied", "NotAllowedError"));
        }""")
        page.wait_for_selector("#status:text-is('Ready')")
        page.click("#start")
        page.wait_for_selector(".notice.wrong >> text=The browser may not use the camera. Allow it beside the address")


def test_a_second_tab_watches_and_takes_over_when_the_first_is_gone(camera, session):
    with live(session, TASK) as url, camera.open(url) as first:
        first.wait_for_selector("#start:enabled")
        with camera.open(url) as second:
            second.wait_for_selector("#role:text-is('Another tab drives; this one watches')")
            first.wait_for_selector("#role:text-is('You drive; 1 tab watches')")
            begin(first)
            second.wait_for_selector(".stage img:visible")
            for part in ("#stop", "[data-step=S1]", "#line", "[data-head=speak]"):
                assert second.is_disabled(part)
            first.goto("about:blank")
            second.click("text=Take over")
            second.click("#start:text-is('Go on with this camera')")
            second.wait_for_selector(".stage video:visible")
            end(second)


def test_a_stream_that_is_stopped_while_a_camera_opens_is_not_begun_again(camera, session):
    with live(session, TASK) as url, camera.open(url) as first:
        first.wait_for_selector("#start:enabled")
        with camera.open(url) as second:
            begin(first)
            second.wait_for_selector(".stage img:visible")
            first.goto("about:blank")
            second.evaluate("""() => {
                const play = HTMLMediaElement.prototype.play;
                HTMLMediaElement.prototype.play = function () {
                    return new Promise(done => { window.opened = () => play.call(this).then(done); });
                };
            }""")
            second.click("text=Take over")
            second.click("#start:text-is('Go on with this camera')")
            second.wait_for_selector(".stage video:visible")
            end(second)
            second.evaluate("window.opened()")
            second.wait_for_selector(".stage video", state="hidden")
            assert session.phase == "ready" and session.log.number == 1


def test_text_from_elsewhere_is_text(camera, model, tmp_path):
    """In the checkpoint's name, a step's, the user's line, the model's utterance, and a video's name."""
    session, _ = live_session(plain(with_bias(model, -9, -9)), tmp_path / "out", FPS, HOSTILE)
    task = Task((Step("S1", HOSTILE),), {"S1": "not_started"})
    path = video(tmp_path / "</script><script>.mp4".replace("/", "_"), 3)
    with live(session, task) as url, camera.open(url) as page:
        page.wait_for_selector("#status:text-is('Ready')")
        assert HOSTILE in page.inner_text(".live-head") and page.input_value("#steps") == f"S1: {HOSTILE}"
        page.set_input_files("#picker", path)
        page.wait_for_selector("#stop")
        page.fill("#line", HOSTILE)
        page.press("#line", "Enter")
        page.wait_for_selector(".line.user")
        assert HOSTILE in page.inner_text(".transcript") and HOSTILE in page.inner_text("#checklist")
        assert page.title() == "Live" and page.locator("body img[src=x]").count() == 0
        page.wait_for_selector("#status:text-is('Ready')")


def test_a_video_is_played_to_its_end_at_its_true_aspect(camera, session, tmp_path):
    """64 by 64 stored pixels, each twice as wide as it is high."""
    with live(session, TASK) as url, camera.open(url) as page:
        page.wait_for_selector("#status:text-is('Ready')")
        page.uncheck("#pace")
        page.set_input_files("#picker", video(tmp_path / "v.mp4", 3, pixel=2))
        page.wait_for_selector("#ended:visible")
        assert page.inner_text("#ended").startswith("24 frames in ") and "dropped" not in page.inner_text("#ended")
        box = page.locator(".stage img").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(2, abs=0.05)


def test_a_video_that_breaks_off_is_a_sentence_and_what_came_before_is_kept(camera, session, tmp_path):
    whole = film(tmp_path / "whole.mkv", list(map(jpeg, range(40))), 10).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.mp4").write_bytes(b"no video")
    steps = tmp_path / "steps.txt"
    steps.write_text("S1: one\nS1: two")
    with live(session, TASK) as url, camera.open(url, expected=["400 (Bad Request)"]) as page:
        page.wait_for_selector("#status:text-is('Ready')")
        page.check("#record")
        page.uncheck("#pace")
        page.set_input_files("#picker", tmp_path / "cut.mkv")
        page.wait_for_selector("#ended.wrong")
        told = page.inner_text("#ended")
        assert told.startswith("cut.mkv: breaks off after frame ") and "recorded as live-" in told
        assert "cut.mkv: breaks off after frame " in "\n".join(session.told_terminal)
        page.set_input_files("#picker", tmp_path / "none.mp4")
        page.wait_for_selector("#ended:has-text('none.mp4: breaks off at its beginning')")
        page.set_input_files("#picker", steps)
        page.wait_for_selector(".notice:has-text('steps.txt: found step')")
    (clip,) = json.loads((tmp_path / "out" / "live" / "train_training.json").read_text())
    assert clip["end_frame_idx"] >= 5
