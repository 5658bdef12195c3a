"""A picture with a quarter of each grey, stored in all eight ways, turned and cropped."""

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ProspectError
from pipeline.video.rows import rows_of
from pipeline.video.settings import Settings
from pipeline.video.source import file_place
from tests.helpers.videos import film, video

UPRIGHT = [["a", "b"], ["c", "d"]]  # as stored: a left above, b right above, ...
GREYS = {"a": 0, "b": 80, "c": 160, "d": 240}
PLAIN = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)  # an MP4 track's matrix: as it is


def quarters(width=96, height=64):
    left = np.vstack([np.full((height // 2, width // 2, 3), GREYS[name], np.uint8) for name in "ac"])
    right = np.vstack([np.full((height // 2, width // 2, 3), GREYS[name], np.uint8) for name in "bd"])
    return np.hstack([left, right])


def shown_by(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Says in a video's track that it is shown by a display matrix."""
    data = path.read_bytes()
    place = data.index(PLAIN, data.index(b"tkhd"))
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:place] + matrix + data[place + len(PLAIN) :])
    return path


def first(path, **settings):
    """The names of the quarters of the first row, and the shape that is told."""
    with rows_of([file_place(path)], Settings(size=64, **settings)) as rows:
        pixels = np.asarray(Image.open(io.BytesIO(next(rows.jpegs))).convert("L"), int)
        assert pixels.shape == (64, 64)
        names = [[min(GREYS, key=lambda g: abs(GREYS[g] - pixels[y, x])) for x in (12, 52)] for y in (12, 52)]
        return names, rows.shape


@pytest.fixture
def path(tmp_path):
    return film(tmp_path / "v.mp4", [0, 1], pictures=lambda number: quarters())


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), [["a", "b"], ["c", "d"]]),
        ((0, 1, -1, 0), [["c", "a"], ["d", "b"]]),  # a quarter clockwise
        ((-1, 0, 0, -1), [["d", "c"], ["b", "a"]]),
        ((0, -1, 1, 0), [["b", "d"], ["a", "c"]]),
        ((-1, 0, 0, 1), [["b", "a"], ["d", "c"]]),  # mirrored left to right
        ((1, 0, 0, -1), [["c", "d"], ["a", "b"]]),
        ((0, 1, 1, 0), [["a", "c"], ["b", "d"]]),  # transposed
        ((0, -1, -1, 0), [["d", "b"], ["c", "a"]]),
    ],
)
def test_every_display_matrix_is_obeyed(path, matrix, expected):
    """By hand: a pixel at (x, y) is shown at (a x + c y, b x + d y), moved into view."""
    shape = (96, 64) if matrix[0] == 0 else (64, 96)
    assert first(shown_by(path, *matrix)) == (expected, shape)


@pytest.mark.parametrize(
    ("turn", "expected", "shape"),
    [
        (0, [["a", "b"], ["c", "d"]], (64, 96)),
        (90, [["b", "d"], ["a", "c"]], (96, 64)),  # as Pillow's rotate(90), which ProAssist uses for Assembly101
        (180, [["d", "c"], ["b", "a"]], (64, 96)),
        (270, [["c", "a"], ["d", "b"]], (96, 64)),
    ],
)
def test_a_turn_is_counter_clockwise(path, turn, expected, shape):
    assert first(path, turn=turn) == (expected, shape)
    assert np.array(np.rot90(np.array(UPRIGHT), turn // 90)).tolist() == expected


def test_a_turn_is_of_the_upright_picture(path):
    """A quarter clockwise by the matrix, and back."""
    assert first(shown_by(path, 0, 1, -1, 0), turn=90) == (UPRIGHT, (64, 96))


def striped(width, height, pixel=1.0):
    """White, but for a tenth at each end of its longer side."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    if width * pixel > height:
        pixels[:, : width // 10] = pixels[:, -width // 10 :] = 0
    else:
        pixels[: height // 10] = pixels[-height // 10 :] = 0
    return pixels


@pytest.mark.parametrize(("width", "height"), [(192, 96), (96, 192)])
def test_the_square_in_the_middle_is_cropped(tmp_path, width, height):
    path = film(tmp_path / "v.mp4", [0], pictures=lambda number: striped(width, height))
    for crop, darkest in ((True, 240), (False, 20)):
        with rows_of([file_place(path)], Settings(size=64, crop=crop)) as rows:
            pixels = np.asarray(Image.open(io.BytesIO(next(rows.jpegs))))
            assert pixels.shape == (64, 64, 3) and abs(int(pixels.min()) - darkest) <= 20
            assert rows.shape == ((96, 96) if crop else (height, width))


def test_the_shape_is_of_square_pixels(tmp_path):
    with rows_of([file_place(video(tmp_path / "v.mp4", 1, width=128, pixel=2))], Settings()) as rows:
        assert rows.shape == (64, 256)


def test_a_shape_too_narrow_to_crop_is_refused(tmp_path):
    path = video(tmp_path / "v.mp4", 1, width=64, height=64, pixel=60)
    with pytest.raises(ProspectError, match="has pictures of 3840 x 64 pixels, expected a shape that can be cropped"):
        first(path, crop=True)
    assert first(path)[1] == (64, 3840)


def test_colours_are_those_of_the_videos_colour_space(tmp_path):
    """Green of BT.709, as HD video has it: Y 173, Cb 42, Cr 26 by its matrix."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace = 1  # BT.709
        frame = av.VideoFrame(64, 64, "yuv420p")
        for plane, value in zip(frame.planes, (173, 42, 26), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    with rows_of([file_place(path)], Settings(size=64)) as rows:
        red, green, blue = np.asarray(Image.open(io.BytesIO(next(rows.jpegs))))[32, 32].tolist()
    assert red < 8 and green > 247 and blue < 8
