import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from pipeline.importers.video import extract_frames
from pipeline.importers.video_names import Source
from pipeline.io.engine import LocalEngine
from pipeline.progress import unwatched
from pipeline.video.settings import Settings as VideoSettings
from prospect.stream.lines import Lines
from prospect.stream.sources import SourceFrame, frames_of
from prospect.stream.streamer import StreamSettings
from prospect.stream.video_out import BACK, HEIGHT, LEAST_WIDTH, MOST_WIDTH, PANEL, VideoWriter
from tests.helpers.streams import TASK, played, with_bias
from tests.helpers.videos import film


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.MOV"])
def test_a_film_has_every_frame_and_the_state_drawn(model, tokens, tmp_path, name):
    talk = [Turn("user", "Tell me ünicode 做 \x00 now " * 6, 0, 0)]
    path = tmp_path / name
    with VideoWriter(path, TASK, StreamSettings(), 2) as video:
        for one in played(with_bias(model, 9, -9), tokens, 5, lines=Lines(talk, [], 2, 0), max_actions=1):
            video.add(one)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (HEIGHT, HEIGHT + PANEL, 3)
    drawn = [np.asarray(frame[:, HEIGHT:], int) for frame in frames]
    assert drawn[0].std() > 10 and np.abs(drawn[0] - drawn[-1]).max() > 60, "the panel tells, and changes"
    assert list(tmp_path.iterdir()) == [path]


def test_a_film_lasts_as_long_as_the_stream_where_frames_were_dropped(model, tokens, tmp_path):
    first, second = played(with_bias(model, -9, -9), tokens, 2)
    with VideoWriter(tmp_path / "o.mp4", TASK, StreamSettings(), 2) as video:
        video.add(first)
        video.add(replace(second, dropped=3))
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5


def test_a_film_that_breaks_off_leaves_no_file(model, tokens, tmp_path):
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "out.mp4", TASK, StreamSettings(), 2) as video:
        video.add(played(model, tokens, 1)[0])
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_a_film_whose_end_cannot_be_written_leaves_no_file(model, tokens, tmp_path):
    class Full:
        def encode(self):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), VideoWriter(tmp_path / "o.mp4", TASK, StreamSettings(), 2) as v:
        v.add(played(model, tokens, 1)[0])
        v._stream = Full()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [("o.xyz", r"the suffix '\.xyz'"), ("o.gif", r"the suffix '\.gif'"), ("o", "the suffix ''"), ("d.mp4", "a folder")],
)
def test_a_name_for_which_there_is_no_film_is_refused_at_once(tmp_path, name, found):
    (tmp_path / "d.mp4").mkdir()
    with pytest.raises(
        ProspectError, match=rf"--video .*{name}: found {found}, expected a file's name in \.mp4, \.mkv"
    ):
        VideoWriter(tmp_path / name, TASK, StreamSettings(), 2)


def white(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "aspect", "width", "box"),
    [
        (white(64, 64), None, HEIGHT, (0, 0, HEIGHT, HEIGHT)),  # left, top, right, bottom of the picture
        (white(64, 32), None, MOST_WIDTH, (0, 30, MOST_WIDTH, 510)),
        (white(64, 64), 16 / 9, MOST_WIDTH, (0, 0, MOST_WIDTH, HEIGHT)),
        (white(64, 64), 9 / 16, LEAST_WIDTH, (0, 0, LEAST_WIDTH, HEIGHT)),
        (white(64, 64), 0.5, LEAST_WIDTH, (17, 0, 287, HEIGHT)),
    ],
)
def test_frames_keep_the_shape_in_which_they_were_filmed(model, tokens, tmp_path, data, aspect, width, box):
    one = replace(played(model, tokens, 1)[0], image=SourceFrame(data, "x", aspect))
    picture = np.asarray(VideoWriter(tmp_path / "o.mp4", TASK, StreamSettings(), 2).draw(one))
    assert picture.shape == (HEIGHT, width + PANEL, 3)
    expected = np.full((HEIGHT, width, 3), BACK, np.uint8)
    expected[box[1] : box[3], box[0] : box[2]] = 255
    assert (picture[:, :width] == expected).all()


def test_a_picture_of_another_shape_than_the_first_stands_in_its_place(model, tokens, tmp_path):
    one = played(model, tokens, 1)[0]
    writer = VideoWriter(tmp_path / "o.mp4", TASK, StreamSettings(), 2)
    assert writer.draw(replace(one, image=SourceFrame(white(64, 64), "x"))).size == (HEIGHT + PANEL, HEIGHT)
    second = np.asarray(writer.draw(replace(one, image=SourceFrame(white(64, 32), "x"))))[:, :HEIGHT]
    assert (second[135:405] == 255).all() and (second[:135] == BACK).all() and (second[405:] == BACK).all()


RINGED = np.hypot(*(np.mgrid[:360, :640] - np.array([[[180]], [[320]]])))  # distance from the middle


def ring(number: int) -> np.ndarray:
    """A white ring of radius 100 to 104 in a picture of 640 x 360 pixels."""
    return np.repeat(np.where((RINGED > 100) & (RINGED < 104), 255, 0).astype(np.uint8)[:, :, None], 3, 2)


def test_a_film_of_a_video_is_drawn_from_its_own_pictures_and_of_its_frames_file_at_the_same_shape(
    model, tokens, tmp_path
):
    """A circle stays one; of the video a ring of 4 pixels stays sharp, of squares of 64 pixels it is grey."""
    source = film(tmp_path / "wide.mp4", [Fraction(0), Fraction(1, 2)], pictures=ring)
    engine = LocalEngine(1)
    (made,) = extract_frames([Source("wide", (source,))], tmp_path, VideoSettings(fps=2, size=64), engine, unwatched)
    assert made.error == ""
    one, brightest = played(model, tokens, 1)[0], {}
    for place in (source, tmp_path / "wide.arrow"):
        frame = next(frames_of(place, 2, 64, 0, None))
        picture = VideoWriter(tmp_path / "o.mp4", TASK, StreamSettings(), 2).draw(replace(one, image=frame))
        assert picture.size == (MOST_WIDTH + PANEL, HEIGHT)
        drawn = np.asarray(picture)[:, :MOST_WIDTH].mean(2)
        tall, wide = (np.flatnonzero(drawn.max(axis) > 60) for axis in (1, 0))
        height, width = np.ptp(tall) + 1, np.ptp(wide) + 1
        assert abs(height - 312) <= 20 and abs(width / height - 1) < 0.05, (place, width, height)
        brightest[place.suffix] = np.median(np.sort(drawn.ravel())[-500:])
    assert brightest[".mp4"] > 200 > 180 > brightest[".arrow"]


def test_where_the_panel_is_full_the_newest_is_kept():
    """Three events of four lines of 19 pixels, and gaps of 4 between them, take 76 + 4 + 76 + 4 + 76 = 236 pixels."""
    writer = VideoWriter(Path("o.mp4"), TASK, StreamSettings(), 2)
    words = " ".join(writer._small.wrap("word " * 60, PANEL - 32)[:3])  # with time and role four lines
    writer._events = [(float(i), "user", words) for i in range(3)]

    def shown(height: int) -> list[tuple[str, int]]:
        return [(lines[0][:6], len(lines)) for _, lines in writer.fitting_events(height)]

    assert shown(236) == [("0:00.0", 4), ("0:01.0", 4), ("0:02.0", 4)]
    assert shown(235) == [("0:01.0", 4), ("0:02.0", 4)]
    assert shown(40) == [("0:02.0", 2)], "of one that is too long, the beginning"


def test_events_name_their_steps_and_letters_that_no_font_has_are_told(model, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr("prospect.pages.lettering._font_with", lambda letter: None)
    writer = VideoWriter(tmp_path / "o.mp4", TASK, StreamSettings(), 2)
    writer._events = [(0.0, "dst_update", "S1->complete, S2->start")]
    ((role, lines),) = writer.fitting_events(200)
    assert role == "dst_update" and " ".join(lines) == "0:00.0 DST: S1 complete: do S1; S2 start: schön 做"
    writer.draw(played(model, tokens, 1)[0])
    if "做" in writer._large.missing:  # else the machine's own sans-serif has it
        assert "no font here has 做 (1 letter); drawn as boxes" in writer.note and "fonts-noto-cjk" in writer.note
