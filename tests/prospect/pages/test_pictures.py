import numpy as np
import pyarrow as pa
import pytest
import simplejpeg

from pipeline.errors import ProspectError
from pipeline.io.frame_store import SHAPE, FrameFile
from pipeline.io.images import rgb_pixels
from prospect.pages.pictures import data_url, frame_jpeg, shown_jpeg


def square(side=40):
    """Left half dark, right half light."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[:, side // 2 :] = 250
    return simplejpeg.encode_jpeg(pixels, quality=95)


@pytest.mark.parametrize(("shape", "height", "expected"), [
    (None, None, (40, 40)), ((90, 160), None, (40, 71)), ((160, 90), 20, (20, 11)), (None, 400, (40, 40)), ((1, 1000), None, (40, 320)),
])  # fmt: skip
def test_a_frame_is_shown_at_the_video_s_shape_and_never_enlarged(shape, height, expected):
    pixels = rgb_pixels(shown_jpeg(square(), shape, height))
    assert pixels.shape[:2] == expected
    assert pixels[:, : expected[1] // 3].mean() < 20 and pixels[:, -expected[1] // 3 :].mean() > 230


def test_a_frames_file_tells_its_shape(tmp_path):
    schema = pa.schema([("frame", pa.binary())]).with_metadata({SHAPE[0]: b"90", SHAPE[1]: b"160"})
    path = tmp_path / "v.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        writer.write_table(pa.table({"frame": [square(), b"no image"]}, schema=schema))
    frames = FrameFile(path)
    assert rgb_pixels(frame_jpeg(frames, 0)).shape == (40, 71, 3)
    with pytest.raises(ProspectError, match=r"v\.arrow frame 1: no image that can be decoded"):
        frame_jpeg(frames, 1)
    assert data_url(b"\xff\xd8").startswith("data:image/jpeg;base64,")
