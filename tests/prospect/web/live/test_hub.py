"""The live page's socket, without a browser: one drives, others watch, and no message ends anything."""

import json
import time
from contextlib import contextmanager
from functools import partial

import pytest
from websockets.sync.client import connect

from pipeline.annotations.clips import Step
from prospect.stream.task import Task
from prospect.web.live.feed import Feed
from tests.helpers.fakes import jpeg
from tests.helpers.live import live, live_session, plain
from tests.helpers.streams import with_bias
from tests.helpers.waiting import wait_for

TASK = Task((Step("S1", "one"), Step("S2", "two")), {"S1": "not_started", "S2": "not_started"})
START = {"do": "start", "source": "camera", "steps": "S1: one\nS2: two"}


class Client:
    """A page without a browser: `view` is what it was told, put together."""

    def __init__(self, socket):
        self.socket, self.view, self.points, self.events, self.alone, self.pictures = socket, {}, [], [], [], []

    def ask(self, **what):
        self.socket.send(json.dumps(what))

    def read(self, timeout_s=1.0):
        """Take the next message, if one comes."""
        try:
            message = self.socket.recv(timeout=timeout_s)
        except TimeoutError:
            return
        if isinstance(message, bytes):
            self.pictures.append(message)
            return
        self.view = json.loads(message)
        self.points += self.view.get("points", [])
        self.events += self.view.get("events", [])
        self.alone += self.view.get("alone", [])

    def until(self, condition):
        """Read until `condition(self)`."""
        end = time.monotonic() + 120
        while not condition(self):
            assert time.monotonic() < end, self.view
            self.read()
        return self

    def until_frames(self, count, picture=None):
        """Send pictures until so many frames were decided."""
        end, number = time.monotonic() + 120, 0
        while len(self.points) < count:
            assert time.monotonic() < end, self.view
            self.socket.send(picture or jpeg(number % 50))
            self.read(0.05)
            number += 1
        return self


@contextmanager
def client(url):
    with connect(url.replace("http", "ws") + "socket", max_size=None, close_timeout=1) as socket:
        yield Client(socket)


@pytest.fixture
def session(model, tmp_path):
    """Silent, at 20 frames a second; `told` is what its terminal was told."""
    made, told = live_session(plain(with_bias(model, -9, -9)), tmp_path / "out", 20)
    made.told_terminal = told
    return made


def ready(one):
    return one.view.get("phase") == "ready"


def test_a_camera_is_streamed_steered_and_recorded(session, tmp_path):
    with live(session, TASK) as url, client(url) as page:
        page.until(lambda one: one.view.get("drives") == "you")
        page.ask(**START, record=True)
        page.until_frames(5)
        page.ask(do="say", text="Where\nam I?")
        page.ask(do="correct", step="S2", state="in_progress")
        page.ask(do="threshold", head="update", value=0.3)
        page.until_frames(len(page.points) + 20)
        assert page.view["state"] == {"S1": "not_started", "S2": "in_progress"} and page.view["foot"]["restarts"] == 1
        assert {(one["role"], one["text"]) for one in page.events} == {
            ("user", "Where am I?"), ("note", "corrected: S2 is in progress"), ("note", "update fires at 0.3 from here on"),
        }  # fmt: skip
        assert session.streamer.settings.update_threshold == 0.3
        page.ask(do="stop")
        page.until(lambda one: ready(one) and one.view["told"])
        assert "frames in" in page.view["told"] and "recorded as live-" in page.view["told"]
    (clip,) = json.loads((tmp_path / "out" / "live" / "train_training.json").read_text())
    assert [(turn["role"], turn["content"]) for turn in clip["conversation"]] in (
        [("user", "Where am I?"), ("DST_UPDATE", "S2->start")], [("DST_UPDATE", "S2->start"), ("user", "Where am I?")]
    )  # fmt: skip
    assert any(line.endswith("User: Where am I?") for line in session.told_terminal)


def test_what_is_no_picture_or_no_message_is_one_sentence_and_the_stream_goes_on(session):
    with live(session) as url, client(url) as page:
        page.ask(**START)
        page.until_frames(2)
        page.socket.send(b"GIF89a")
        page.socket.send(b"\xff\xd8" + bytes(3 << 20))
        page.socket.send("nonsense")
        page.ask(do="dance")
        page.ask(do="start", source="camera")
        page.ask(do="say", text="x" * 2001)
        page.ask(do="correct", step="S9", state="completed")
        page.ask(do="threshold", head="speak", value=7)
        page.until(lambda one: len(one.alone) == 8)
        page.socket.send(b"\xff\xd8nonsense")
        page.until(lambda one: one.view["complaint"][0] == 1)
        assert page.view["complaint"][1].startswith("a picture of the camera: cannot be decoded")
        for part, said in zip(
            ("no JPEG", "found a picture of 3.1 MB", "no JSON object", "does not know", "a stream goes on; stop it first",
             "found a line of 2001 characters", "found step 'S9'", "found 7, expected a number from 0 to 1"),
            page.alone, strict=True,
        ):  # fmt: skip
            assert part in said
            assert f"page: {said}" in session.told_terminal
        page.until_frames(len(page.points) + 2)
        assert page.view["phase"] == "running"


def test_steps_with_errors_start_nothing(session):
    with live(session) as url, client(url) as page:
        page.ask(do="start", source="camera", steps="S1: one\nS1: two")
        page.until(lambda one: one.alone)
        assert page.alone[0].startswith("the steps: found step 'S1', expected unique ids") and session.phase == "ready"
        page.ask(do="start", source="video")
        page.until(lambda one: len(one.alone) == 2)
        assert page.alone[1] == "there is no video yet; drop one on the page"


def test_one_drives_and_the_others_watch_until_it_goes(session):
    with live(session, TASK) as url, client(url) as first:
        first.until(lambda one: one.view.get("drives") == "you")
        with client(url) as second:
            second.until(lambda one: one.view.get("drives") == "another")
            assert "key" not in second.view
            first.ask(**START)
            first.until_frames(3)
            second.ask(do="stop")
            second.socket.send(jpeg(0))
            second.ask(do="take")
            second.until(lambda one: len(one.alone) >= 2 and len(one.points) >= 3 and one.pictures)
            assert second.alone == [
                "another tab drives; this one can only watch", "another tab drives; close it there first"
            ]  # fmt: skip
            first.socket.close()
            second.until(lambda one: one.view["drives"] == "nobody")
            second.ask(do="take")
            second.until(lambda one: one.view["drives"] == "you")
            assert session.phase == "running", "the stream goes on meanwhile"
            second.until_frames(len(second.points) + 3)
            second.ask(do="stop")
            second.until(ready)


def test_a_page_that_never_reads_delays_no_frame(session):
    """Its connection is full after some hundred kB; the driver goes on."""
    large = jpeg(3, 1400)
    with live(session) as url, client(url) as page, client(url):
        page.ask(**START)
        page.until_frames(40, large)
        lags = [point[4] for point in page.points]
        assert page.view["phase"] == "running" and sorted(lags)[len(lags) // 2] < 1000


def test_a_model_without_state_says_so_and_speaks(model, tmp_path):
    session, _ = live_session(plain(with_bias(model, 9, 9), memory="none", max_new_tokens=3), tmp_path, 20)
    with live(session, TASK) as url, client(url) as page:
        page.ask(**START)
        page.until_frames(2)
        page.ask(do="correct", step="S1", state="completed")
        page.until(lambda one: one.alone)
        assert page.alone == ["this checkpoint tracks no state, so there is none to correct: it only speaks"]
        assert {one["role"] for one in page.events} == {"assistant"}


def test_a_camera_that_is_gone_ends_the_stream_and_keeps_it(session, tmp_path, monkeypatch):
    monkeypatch.setattr("prospect.web.live.session.Feed", partial(Feed, patience_s=0.3))
    with live(session) as url:
        with client(url) as page:
            page.ask(**START, record=True)
            page.until_frames(2)
        wait_for(lambda: session.phase == "ready")
        assert session.told[0].startswith("the camera: no picture came for 0.3 s; what was streamed is kept")
        assert "recorded as live-" in session.told[0] and session.told[1]
    assert len(list((tmp_path / "out" / "predictions").glob("*.json"))) == 1
