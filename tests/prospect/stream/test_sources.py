import io
import json
import os
import struct
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from pipeline.annotations.clips import Step, Turn
from pipeline.errors import InvalidInput, ProspectError
from pipeline.importers.video import extract_frames
from pipeline.importers.video_names import sources_of
from pipeline.io.engine import LocalEngine
from pipeline.video.settings import Settings
from prospect.stream.lines import Lines, script_lines
from prospect.stream.sources import SourceFrame, ahead, frames_of
from prospect.stream.task import task_of, task_of_clip, task_of_steps
from tests.helpers.fakes import jpeg, raw_clip, write_frames
from tests.helpers.places import ROOT
from tests.helpers.videos import film, video


def test_an_arrow_file_gives_the_frames_asked_for(tmp_path):
    path, images = tmp_path / "a.arrow", write_frames(tmp_path / "a.arrow", 9)
    expected = [SourceFrame(image, f"{path} frame {number}") for number, image in enumerate(images)]
    assert list(frames_of(path, 2, 64, 0, None)) == expected
    assert list(frames_of(path, 2, 64, 3, 5)) == expected[3:6]
    assert list(frames_of(path, 2, 64, 7, 99)) == expected[7:], "to the end at most, as of folders and videos"
    with pytest.raises(ProspectError, match=r"a\.arrow: found 9 frames, expected more than 9"):
        list(frames_of(tmp_path / "a.arrow", 2, 64, 9, None))


def test_images_of_a_folder_come_in_natural_order(tmp_path):
    for number in (10, 2, 1):
        (tmp_path / f"frame{number}.jpg").write_bytes(jpeg(number))
    (tmp_path / "notes.txt").write_text("no image")
    expected = [
        SourceFrame(jpeg(number), f"{tmp_path}/frame{number}.jpg, frame {place}")
        for place, number in enumerate((1, 2, 10))
    ]
    assert list(frames_of(tmp_path, 2, 64, 0, None)) == expected
    assert list(frames_of(tmp_path, 2, 64, 1, 99)) == expected[1:]
    with pytest.raises(ProspectError, match="found 3 frames, expected more than 3"):
        list(frames_of(tmp_path, 2, 64, 3, None))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProspectError, match="empty: found no images, expected files of"):
        list(frames_of(tmp_path / "empty", 2, 64, 0, None))


def test_a_video_is_sampled_at_the_rate_as_the_importer_does(tmp_path):
    path = video(tmp_path / "v.mp4", 3)
    frames = list(frames_of(path, 2, 32, 0, None))
    assert len(frames) == 6
    images = [np.asarray(Image.open(io.BytesIO(frame.data))) for frame in frames]
    assert [image.mean() for image in images] == pytest.approx([0, 20, 40, 60, 80, 100], abs=4)
    assert [frame.where for frame in frames] == [f"{path} frame {number}" for number in range(6)]
    assert list(frames_of(path, 2, 32, 1, 3)) == frames[1:4] and list(frames_of(path, 2, 32, 4, 99)) == frames[4:]
    with pytest.raises(ProspectError, match=r"v\.mp4: found 6 frames, expected more than 6"):
        list(frames_of(path, 2, 32, 6, None))


def test_a_video_remembers_its_shape_beside_its_square_frames(tmp_path):
    frame = next(frames_of(video(tmp_path / "v.mp4", 1, width=128), 2, 32, 0, None))
    assert frame.aspect == 2.0 and Image.open(io.BytesIO(frame.data)).size == (32, 32)


def test_frames_files_of_videos_remember_their_shape_too(tmp_path):
    """Of 128 x 64 pixels."""
    settings = Settings(size=32)
    extract_frames(
        sources_of([video(tmp_path / "v.mp4", 1, width=128)], "{stem}", None),
        tmp_path,
        settings,
        LocalEngine(),
        lambda *_: None,
    )
    assert [frame.aspect for frame in frames_of(tmp_path / "v.arrow", 2, 32, 0, None)] == [2.0, 2.0]


def test_early_closes_of_a_video_end(tmp_path):
    """In another process, as what hangs there ends by no signal; its codec's thread is at work when it is closed."""
    path = film(tmp_path / "v.mp4", [Fraction(i, 10) for i in range(60)], codec="libx264")
    closes = """
import sys
from pathlib import Path
from prospect.stream.sources import ahead, frames_of
for number in range(60):
    frames = ahead(lambda: frames_of(Path(sys.argv[1]), 2, 32, 0, number % 4))
    for taken, _ in enumerate(frames):
        if taken == number % 3:
            break
    frames.close()
print("ended")
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", closes, str(path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)
    assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)


MATRIX = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)  # of an MP4 track: as it is


def turned(path, quarters):
    """A video to be shown turned by `quarters` of a circle, as phones write it."""
    a, b = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]
    matrix = struct.pack(">9i", a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    track = data.index(b"tkhd")
    place = data.index(MATRIX, track)
    path.write_bytes(data[:place] + matrix + data[place + len(MATRIX) :])
    return path


@pytest.mark.parametrize(
    ("pixel", "quarters", "aspect"),
    [(1, 0, 2.0), (1, 1, 0.5), (1, 2, 2.0), (1, 3, 0.5), (2, 0, 4.0), (2, 1, 0.25)],
)
def test_a_videos_shape_is_that_in_which_it_is_shown(tmp_path, pixel, quarters, aspect):
    """Of 128 x 64 pixels, each `pixel` times as wide as high."""
    path = turned(video(tmp_path / "v.mp4", 1, width=128, pixel=pixel), quarters)
    assert next(frames_of(path, 2, 32, 0, None)).aspect == aspect


def test_a_video_that_breaks_off_is_named_after_what_it_has(tmp_path):
    path = video(tmp_path / "v.mkv", 6)
    whole = list(frames_of(path, 2, 32, 0, None))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = []
    with pytest.raises(
        ProspectError, match=r"v\.mkv: breaks off after frame (\d+) \(.*\), expected a whole video"
    ) as e:
        for frame in frames_of(path, 2, 32, 0, None):
            found.append(frame)
    assert 0 < len(found) < len(whole) and f"after frame {len(found) - 1} (" in str(e.value)
    path.write_text("no video")
    with pytest.raises(
        ProspectError,
        match=r"v\.mkv: breaks off at its beginning \(cannot be read: Invalid data found when processing input\), expected",
    ):
        list(frames_of(path, 2, 32, 0, None))


def test_steps_are_read_from_lines_or_lists(tmp_path):
    (tmp_path / "s.txt").write_text("S1: Take the wheel\n\nS2: Put it: here\n")
    task = task_of_steps(tmp_path / "s.txt")
    assert task.steps == (Step("S1", "Take the wheel"), Step("S2", "Put it: here"))
    assert task.state == {"S1": "not_started", "S2": "not_started"}
    (tmp_path / "s.json").write_text(json.dumps([{"id": "S1", "name": "Take"}]))
    assert task_of_steps(tmp_path / "s.json").steps == (Step("S1", "Take"),)
    (tmp_path / "s.txt").write_text("S1: Take", encoding="utf-8-sig")
    assert task_of_steps(tmp_path / "s.txt").steps == (Step("S1", "Take"),), "a byte order mark is no text"
    (tmp_path / "s.yaml").write_text("- {id: S1, name: }")
    with pytest.raises(ProspectError, match=r"s\.yaml: found step 'S1', expected unique ids with names"):
        task_of_steps(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("S1: a\nS1: b", "found step 'S1'"),
        ("S1 x", "found step 'S1 x'"),
        ("", "found step None"),
        ("S1:", "found step 'S1'"),
    ],
)
def test_bad_steps_are_named(tmp_path, text, found):
    (tmp_path / "s.txt").write_text(text)
    with pytest.raises(ProspectError, match=rf"s\.txt: {found}, expected unique ids with names"):
        task_of_steps(tmp_path / "s.txt")


def test_a_steps_name_is_one_line_as_in_annotations(tmp_path):
    path = tmp_path / "s.yaml"
    for name in (r"a\nb", r"a\rb"):
        path.write_text(f'- {{id: S1, name: "{name}"}}')
        with pytest.raises(ProspectError, match=r"found step 'S1', expected unique ids with names of one line"):
            task_of_steps(path)


@pytest.mark.parametrize(
    "text", ["- {id: [a], name: x}", "- {id: S1, name: {a: b}}", "3", "- S1", "- {name: x}", "[" * 5000, "{"]
)
def test_steps_that_are_no_list_of_id_and_name_are_one_line(tmp_path, text):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ProspectError, match=r"^.*s\.yaml: cannot be read \(.*\), expected a list of id and name$"):
        task_of_steps(path)


def test_a_clip_is_named_by_place_or_id(tmp_path):
    path = tmp_path / "train_training.json"
    path.write_text(json.dumps([raw_clip(), raw_clip(video_uid="v2", end_frame_idx=18)]))
    first, second = task_of_clip(str(path)), task_of_clip(f"{path}#1")
    assert (first.first_frame, first.last_frame, second.last_frame) == (2, 19, 18)
    assert [turn.text for turn in first.turns] == ["Be kind.", "Hello"]
    assert task_of_clip(f"{path}#v2-c000") == second
    with pytest.raises(ProspectError, match=r"found no clip '7', expected its place \(from 0\) or its id"):
        task_of_clip(f"{path}#7")
    path.write_text(json.dumps([raw_clip(end_frame_idx=3)]))
    with pytest.raises(InvalidInput, match="correct the clip"):
        task_of_clip(str(path))


@pytest.mark.parametrize("text", ["[1]", "[null]", '["x"]', "[[]]"])
def test_what_is_no_clip_is_named(tmp_path, text):
    path = tmp_path / "train_training.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"train_training\.json clip 0: clip: found \w+, expected a JSON object"):
        task_of_clip(str(path))
    path = path.rename(tmp_path / "train_training.jsonl")
    path.write_text(f"3\n{json.dumps(raw_clip())}\n")
    with pytest.raises(InvalidInput, match="clip 0: clip: found int, expected a JSON object"):
        task_of_clip(f"{path}#0")
    assert task_of_clip(f"{path}#1").first_frame == task_of_clip(f"{path}#v1-c000").first_frame == 2


def test_a_clip_that_is_entered_later_has_the_state_and_the_lines_of_then(tmp_path):
    """Updates stand at frames 6 and 12, the user's line at 4, a system line before the clip."""
    path = tmp_path / "train_training.json"
    path.write_text(json.dumps([raw_clip(fps=0.5)]))

    def entered(start):
        task = task_of(None, str(path), start, None)
        assert task.fps == 0.5
        return task.first_frame, list(task.state.values()), [turn.text for turn in task.turns]

    assert entered(None) == (2, ["not_started", "not_started"], ["Be kind.", "Hello"])
    assert entered(4) == (4, ["not_started", "not_started"], ["Be kind.", "Hello"])
    assert entered(5) == (5, ["not_started", "not_started"], ["Be kind."])
    assert entered(6) == (6, ["not_started", "not_started"], ["Be kind."])
    assert entered(7) == (7, ["in_progress", "not_started"], ["Be kind."])
    assert entered(13) == (13, ["completed", "in_progress"], ["Be kind."])
    assert task_of(None, None, 3, None).fps is None


def test_options_outdo_the_clips_frames(tmp_path):
    path = tmp_path / "train_training.json"
    path.write_text(json.dumps([raw_clip()]))
    assert (task_of(None, str(path), 5, 9).first_frame, task_of(None, str(path), 5, 9).last_frame) == (5, 9)
    with pytest.raises(ProspectError, match="--start 9 --end 5"):
        task_of(None, str(path), 9, 5)
    with pytest.raises(ProspectError, match="pass one of them"):
        task_of(path, str(path), None, None)


def test_a_script_has_seconds_and_text(tmp_path):
    (tmp_path / "s.txt").write_text("3.5 What is next?\n\n1\tHello there\n")
    assert script_lines(tmp_path / "s.txt") == [(1.0, "Hello there"), (3.5, "What is next?")]
    (tmp_path / "s.txt").write_text("2 later\n1 b\n1 a\n", encoding="utf-8-sig")
    assert script_lines(tmp_path / "s.txt") == [(1.0, "b"), (1.0, "a"), (2.0, "later")], "at one time as written"
    (tmp_path / "s.txt").write_text("1 a\nsoon b\n")
    with pytest.raises(ProspectError, match=r"s\.txt line 2: found 'soon b', expected seconds and text"):
        script_lines(tmp_path / "s.txt")


def test_lines_come_once_with_the_first_frame_at_or_after_their_time():
    turns = [Turn("system", "x", None, None), Turn("user", "a", 3, 4), Turn("user", "b", 6, 6)]
    lines = Lines(turns, [(0.6, "typed at 0.6 s")], fps=2, first=3)
    assert [[turn.text for turn in lines.at(frame)] for frame in range(3, 8)] == [
        [],
        ["a"],
        ["typed at 0.6 s"],
        ["b"],
        [],
    ]


def test_typed_lines_go_to_the_next_frame():
    lines = Lines([], [], 2, 0)
    lines.listen(io.StringIO("hello\n\n"))
    while not (found := lines.at(0)):
        pass
    assert found == [Turn("user", "hello", 0, 0)]


def test_typed_bytes_that_are_no_text_are_replaced():
    lines = Lines([], [], 2, 0)
    lines.listen(io.TextIOWrapper(io.BytesIO(b"caf\xe9\nnext\n"), encoding="utf-8", errors="strict"))
    found = []
    while len(found) < 2:
        found += lines.at(0)
    assert [turn.text for turn in found] == ["caf\ufffd", "next"]


def test_what_is_read_ahead_comes_in_order_and_its_error_last():
    def items():
        yield b"a", 1
        yield b"b", 2
        raise ProspectError("broke off")

    stream = ahead(items)
    assert [next(stream), next(stream)] == [(b"a", 1), (b"b", 2)]
    with pytest.raises(ProspectError, match="broke off"):
        next(stream)


def test_reading_ahead_is_bounded():
    made = []

    def items():
        for number in range(1000):
            made.append(number)
            yield b"", number

    stream = ahead(items, depth=3)
    next(stream)
    stream.close()
    assert len(made) < 10
