"""`prospect stream` as a user meets it, beyond what test_evaluation.py streams: typed lines, film, wrong names, board."""

import json
import os
import pty
import subprocess

import av
import pytest

from tests.helpers.command import PROSPECT, fail, succeed
from tests.helpers.fakes import jpeg
from tests.helpers.videos import video

ACTS = ("--update-threshold", 0.2, "--speak-threshold", 0.2)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Twelve frames, f0 to f11, and their task beside them."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(12):
        (folder / f"f{number}.jpg").write_bytes(jpeg(number))
    (folder / "steps.txt").write_text("S1: Take the red wheel\n")
    return folder


def test_lines_typed_while_it_plays_are_heard_even_where_they_are_no_text(trained, images, toy):
    done = subprocess.run(
        [PROSPECT, "stream", images, "--checkpoint", trained, "--realtime", "--fps", "10", "--script", "-"],
        cwd=toy, input=b"caf\xe9 or tea\n", capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "User: caf\ufffd or tea" in done.stdout.decode() and b"Traceback" not in done.stderr


def test_a_wide_video_becomes_a_film_of_all_its_frames(trained, toy, images, tmp_path):
    film, out = tmp_path / "film.mkv", tmp_path / "run.jsonl"
    succeed(
        toy, "stream", video(tmp_path / "v.mp4", 3, width=128), "--checkpoint", trained, "--steps",
        images / "steps.txt", "--start", 1, "--end", 99, "--video", film, "--out", out, *ACTS,
    )  # fmt: skip
    header, *records = map(json.loads, out.read_text().splitlines())
    assert header["format"] == "prospect.stream/1" and header["steps"] == [{"id": "S1", "name": "Take the red wheel"}]
    assert [record["frame"] for record in records] == [1, 2, 3, 4, 5]
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5
    assert frames[-1][10, 240].max() < 50 < frames[-1][270, 240].min(), "above the picture nothing, 0.5 s a grey of 20"


def test_what_cannot_be_streamed_is_named_in_one_line(trained, images, toy, tmp_path):
    common = ("--checkpoint", trained)
    assert "found the suffix '.gif', expected a file's name in .mp4, .mkv, .mov" in fail(
        toy, "stream", images, *common, "--video", tmp_path / "o.gif"
    )
    assert "found 12 frames, expected more than 12" in fail(toy, "stream", images, *common, "--start", 12)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "f1.png").write_bytes(b"")
    assert f"{broken}/f1.png, frame 0: cannot be decoded" in fail(toy, "stream", broken, *common)
    (tmp_path / "bad.json").write_text("[1]")
    message = fail(toy, "stream", images, *common, "--clip", tmp_path / "bad.json")
    assert "clip: found int, expected a JSON object" in message


def test_on_a_terminal_there_is_a_live_board(trained, images, toy):
    ours, theirs = pty.openpty()
    command = [PROSPECT, "stream", images, "--checkpoint", trained, "--steps", images / "steps.txt"]
    process = subprocess.Popen(command, cwd=toy, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"})
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait(300) == 0
    for text in ("frame 11", "Take the red wheel", "fires at 0.50", "frames/s"):
        assert text in shown.decode()
