"""`prospect review` as it is started and ended."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from tests.helpers.command import fail, start
from tests.helpers.review import review_root


@pytest.fixture
def root(tmp_path):
    review_root(tmp_path / "data")
    return tmp_path


def asked(url, path, value=None):
    data = None if value is None else json.dumps(value).encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, data), timeout=60) as answer:
        return json.loads(answer.read() or b"{}") if path.startswith("api") else answer.read()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_its_address_serves_and_ends_without_an_error(root, how):
    process = start(root, "review", "data", "--port", 0)
    try:
        told = process.stdout.readline()
        assert told.startswith("review: http://127.0.0.1:") and told.endswith("(Ctrl-C ends it)\n")
        url = told.split()[1]
        assert b"review/main.js" in asked(url, "")
        entry = "api/entry/x/train_training.json/0"
        asked(url, f"{entry}/change", {"revision": 0, "change": {"kind": "text", "turn": 1, "text": "Hi"}})
        process.send_signal(how)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    assert output == "review: ended\nnot saved: x/train_training.json entry 0\n"


def test_a_port_that_is_taken_is_one_sentence(root):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert fail(root, "review", "data", "--port", port).startswith(
            f"error: port {port} is taken, perhaps by another prospect"
        )


def test_what_is_not_there_is_named(root):
    assert "data root nowhere: no such folder" in fail(root, "review", "nowhere")
    assert "found no annotations" in fail(root, "review", "data", "--dataset", "y")
    assert "--predictions none: no such folder" in fail(root, "review", "data", "--predictions", "none")


WITHOUT_STARLETTE = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "starlette":
            raise ModuleNotFoundError(f"No module named {name!r}", name="starlette")

sys.meta_path.insert(0, Without())
from prospect.commands.app import app
app()
"""


def test_a_missing_package_is_named_with_what_installs_it(root):
    """In a process of its own, in which nobody has imported starlette yet."""
    command = [sys.executable, "-c", WITHOUT_STARLETTE, "review", "data"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert (
        "this command needs the package starlette" in done.stderr and "pip install 'prospect-vlm[pages]'" in done.stderr
    )
