"""`prospect live` as it is started, ended, and killed; its page is driven in tests/prospect/web/live/."""

import json
import signal
import socket

import pytest
from websockets.sync.client import connect

from prospect.model.presets import make_checkpoint
from tests.helpers.command import fail, start
from tests.helpers.fakes import jpeg
from tests.helpers.models import TEXTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a checkpoint of random weights, and steps."""
    made = tmp_path_factory.mktemp("live")
    make_checkpoint("toy", made / "model", TEXTS, 1)
    (made / "steps.txt").write_text("S1: Take the red wheel\n")
    return made


def record_some(url, frames):
    """Drive a recorded stream until so many frames were decided."""
    seen = 0
    with connect(url.replace("http", "ws") + "socket", close_timeout=1, max_size=None) as page:
        page.send(json.dumps({"do": "start", "source": "camera", "steps": "S1: Take it", "record": True}))
        while seen < frames:
            page.send(jpeg(seen))
            seen += len(json.loads(page.recv(timeout=120))["points"])
        return page


def test_a_recording_survives_a_kill_and_is_whole_at_the_next_start(folder):
    words = ("live", "--checkpoint", "model", "--steps", "steps.txt", "--port", 0, "--fps", 10)
    killed = start(folder, *words)
    try:
        told = killed.stdout.readline()
        assert told.startswith("live: http://127.0.0.1:") and told.endswith("(Ctrl-C ends it)\n")
        record_some(told.split()[1], 4)
    finally:
        killed.kill()
        killed.communicate()
    assert len(list((folder / "live" / "live" / "frames").glob("*.arrow.partial"))) == 1
    again = start(folder, *words)
    try:
        assert again.stdout.readline().startswith("live: the recording live-")
        url = again.stdout.readline().split()[1]
        record_some(url, 3)
        again.send_signal(signal.SIGINT)
        output, errors = again.communicate(timeout=120)
    finally:
        again.kill()
    assert (again.returncode, errors) == (0, "")
    assert "frames in" in output and "recorded as live-" in output
    clips = json.loads((folder / "live" / "live" / "train_training.json").read_text())
    assert len(clips) == 2 and len(list((folder / "live" / "predictions").glob("*.json"))) == 2
    assert not list((folder / "live" / "live" / "frames").glob("*.partial"))


def test_what_cannot_be_is_one_sentence_before_a_model_is_loaded(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"error: port {port} is taken" in fail(folder, "live", "--checkpoint", "model", "--port", port)
    (folder / "bad.txt").write_text("S1: one\nS1: two\n")
    message = fail(folder, "live", "--checkpoint", "model", "--steps", "bad.txt")
    assert message.startswith("error: bad.txt: found step 'S1', expected unique ids with names of one line")
    assert "nowhere: found no such folder, expected a checkpoint's folder" in fail(
        folder, "live", "--checkpoint", "nowhere", "--port", 0
    )
