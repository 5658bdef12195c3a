import io

import numpy as np
import pytest
from PIL import Image
from transformers import SmolVLMImageProcessorPil

from pipeline.errors import ProspectError
from prospect.data.frames import blind_frames, decode_frame
from tests.fakes import jpeg


def test_pixels_are_channels_first_uint8_of_the_models_size():
    pixels = decode_frame(jpeg(0, size=96), 64, "x")
    assert pixels.shape == (3, 64, 64) and pixels.dtype == np.uint8


def test_a_frame_of_the_right_size_is_not_resampled():
    expected = np.asarray(Image.open(io.BytesIO(jpeg(3))).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decode_frame(jpeg(3), 64, "x"), expected)


@pytest.mark.parametrize("size", [384, 640])
def test_resized_pixels_are_those_of_transformers_processor(size):
    """Square frames: within one grey level of the PIL image processor (its resize and rescale, no splitting)."""
    data = jpeg(5, size=size)
    processor = SmolVLMImageProcessorPil(
        do_resize=True, size={"longest_edge": 128}, do_image_splitting=False, max_image_size={"longest_edge": 128},
        do_normalize=False, do_rescale=False, resample=Image.Resampling.LANCZOS,
    )  # fmt: skip
    theirs = np.asarray(processor(Image.open(io.BytesIO(data)), return_tensors="np")["pixel_values"])[0, 0]
    ours = decode_frame(data, 128, "x")
    assert np.abs(theirs.astype(float) - ours.astype(float)).max() <= 1


def test_grey_png_is_read_as_rgb():
    out = io.BytesIO()
    Image.new("L", (10, 20), 7).save(out, "PNG")
    assert (decode_frame(out.getvalue(), 8, "x") == 7).all()


def test_what_cannot_be_decoded_is_named():
    with pytest.raises(ProspectError, match=r"f\.arrow frame 3: cannot be decoded"):
        decode_frame(b"nonsense", 64, "f.arrow frame 3")
    with pytest.raises(ProspectError, match="cannot be decoded"):
        decode_frame(jpeg(0)[:300], 64, "x")


def test_blind_frames_are_not_exactly_zero_once_normalised():
    assert (blind_frames(2, 4) != 127.5).all()
