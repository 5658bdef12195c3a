"""`prospect browse` as it is started, published and refused."""

import signal
import urllib.request

import pytest

from tests.helpers.browse import make_world
from tests.helpers.command import fail, start, succeed


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("browse"))


def test_it_tells_its_address_serves_and_ends_without_an_error(world):
    process = start(world.folder, "browse", "data", "shards", "runs/r", "--port", 0)
    try:
        told = process.stdout.readline()
        assert told.startswith("browse: http://127.0.0.1:") and told.endswith("(Ctrl-C ends it)\n")
        with urllib.request.urlopen(told.split()[1], timeout=60) as answer:
            assert b"browse/main.js" in answer.read()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output, errors) == (0, "browse: ended\n", "")


def test_a_folder_is_published_and_told(world):
    told = succeed(world.folder, "browse", "data", "--static", "out", "--limit", 1)
    assert told.startswith("out/index.html: 2 clips, 36 pictures, ") and told.endswith(" MB\n")
    assert (world.folder / "out" / "index.html").is_file()


def test_what_cannot_be_shown_is_one_sentence_and_nothing_is_written(world):
    assert "error: nowhere: no such folder, expected a data root" in fail(world.folder, "browse", "nowhere")
    (world.folder / "empty").mkdir()
    assert "error: empty: found none of what can be shown" in fail(world.folder, "browse", "empty")
    assert "pass it too" in fail(world.folder, "browse", "data", "--force")
    assert "no such file" in fail(world.folder, "browse", "data", "--config", "nowhere.yaml")
    assert "which prospect browse did not write" in fail(world.folder, "browse", "data", "--static", "shards")
    broken = world.folder / "broken" / "x"
    broken.mkdir(parents=True)
    (broken / "train_training.json").write_text("[{,]")
    assert "not valid JSON" in fail(world.folder, "browse", "broken", "--static", "pages")
    (broken / "train_training.json").write_text("[]")
    assert "found no clip in the paths given" in fail(world.folder, "browse", "broken", "--static", "pages")
    assert not (world.folder / "pages").exists()
