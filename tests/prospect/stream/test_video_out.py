import io
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.stream.lines import Lines
from prospect.stream.sources import SourceFrame
from prospect.stream.streamer import StreamSettings
from prospect.stream.video_out import BACK, PANEL, SIDE, VideoWriter
from tests.helpers.streams import TASK, played, with_bias


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.MOV"])
def test_a_film_has_every_frame_and_the_state_drawn(model, tokens, tmp_path, name):
    talk = [Turn("user", "Tell me ünicode 做 \x00 now " * 6, 0, 0)]
    path = tmp_path / name
    with VideoWriter(path, TASK, StreamSettings(), 2) as video:
        for one in played(with_bias(model, 9, -9), tokens, 5, lines=Lines(talk, [], 2, 0), max_actions=1):
            video.add(one)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (SIDE, SIDE + PANEL, 3)
    drawn = [np.asarray(frame[:, SIDE:], int) for frame in frames]
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
    ("data", "aspect", "box"),
    [
        (white(64, 64), None, (0, 0, SIDE, SIDE)),
        (white(64, 32), None, (0, 120, SIDE, 360)),  # left, top, right, bottom of the picture
        (white(64, 64), 2.0, (0, 120, SIDE, 360)),
        (white(64, 64), 0.5, (120, 0, 360, SIDE)),
    ],
)
def test_frames_keep_the_shape_in_which_they_were_filmed(model, tokens, tmp_path, data, aspect, box):
    one = replace(played(model, tokens, 1)[0], image=SourceFrame(data, "x", aspect))
    left = np.asarray(VideoWriter(tmp_path / "o.mp4", TASK, StreamSettings(), 2).draw(one))[:, :SIDE]
    expected = np.full((SIDE, SIDE, 3), BACK, np.uint8)
    expected[box[1] : box[3], box[0] : box[2]] = 255
    assert (left == expected).all()


def test_where_the_panel_is_full_the_newest_is_kept():
    """Three events of four lines of 19 pixels, and gaps of 4 between them, take 76 + 4 + 76 + 4 + 76 = 236 pixels."""
    writer = VideoWriter(Path("o.mp4"), TASK, StreamSettings(), 2)
    writer._events = [(float(i), "user", "word " * 40) for i in range(3)]

    def shown(height: int) -> list[tuple[str, int]]:
        return [(lines[0][:6], len(lines)) for _, lines in writer.fitting_events(height)]

    assert shown(236) == [("0:00.0", 4), ("0:01.0", 4), ("0:02.0", 4)]
    assert shown(235) == [("0:01.0", 4), ("0:02.0", 4)]
    assert shown(40) == [("0:02.0", 2)], "of one that is too long, the beginning"
