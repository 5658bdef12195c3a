import io
import struct

import numpy as np
import pytest
from PIL import Image
from transformers import SmolVLMImageProcessorPil

from pipeline.errors import ProspectError
from prospect.data.decode import blind_frames, decode_frame
from tests.helpers.fakes import jpeg


def test_pixels_are_channels_first_uint8_of_the_models_size():
    pixels = decode_frame(jpeg(0, size=96), 64, "x")
    assert pixels.shape == (3, 64, 64) and pixels.dtype == np.uint8


def test_a_frame_of_the_right_size_is_not_resampled():
    expected = np.asarray(Image.open(io.BytesIO(jpeg(3))).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decode_frame(jpeg(3), 64, "x"), expected)


def photo(size: int) -> bytes:
    """Smooth colour with a camera's noise."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    out = io.BytesIO()
    noisy = np.asarray(smooth, np.int16) + rng.normal(0, 8, (size, size, 3))
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


@pytest.mark.parametrize(
    ("size", "mean", "most"),
    [
        (96, 0.05, 1),  # enlarged
        (200, 0.05, 1),  # made smaller, decoded whole
        (384, 0.6, 5),  # decoded at 6/8 of its size
        (640, 0.6, 5),  # at 4/8
    ],
)
def test_resized_pixels_are_those_of_transformers_processor(size, mean, most):
    """Against the PIL image processor (its resize and rescale, no splitting), in grey levels of 255."""
    data = photo(size)
    processor = SmolVLMImageProcessorPil(
        do_resize=True, size={"longest_edge": 128}, do_image_splitting=False, max_image_size={"longest_edge": 128},
        do_normalize=False, do_rescale=False, resample=Image.Resampling.LANCZOS,
    )  # fmt: skip
    theirs = np.asarray(processor(Image.open(io.BytesIO(data)), return_tensors="np")["pixel_values"])[0, 0]
    difference = np.abs(theirs.astype(float) - decode_frame(data, 128, "x").astype(float))
    assert difference.mean() <= mean and difference.max() <= most


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_that_are_not_rgb_are_read_as_rgb(mode):
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (40, 40, 40)).convert(mode).save(out, "JPEG")
    assert np.abs(decode_frame(out.getvalue(), 64, "x").astype(int) - 40).max() <= 3


def test_grey_png_is_read_as_rgb():
    out = io.BytesIO()
    Image.new("L", (10, 20), 7).save(out, "PNG")
    assert (decode_frame(out.getvalue(), 8, "x") == 7).all()


def test_what_cannot_be_decoded_is_named():
    with pytest.raises(ProspectError, match=r"f\.arrow frame 3: cannot be decoded"):
        decode_frame(b"nonsense", 64, "f.arrow frame 3")
    with pytest.raises(ProspectError, match="cannot be decoded"):
        decode_frame(jpeg(0)[:300], 64, "x")
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    with pytest.raises(ProspectError, match="cannot be decoded"):  # Pillow raises a SyntaxError
        decode_frame(out.getvalue().replace(b"IDAT", b"\x9aDAT"), 64, "x")


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 20
%%EndComments
showpage
%%EOF
"""


def test_no_other_format_is_opened(monkeypatch):
    """attack.md 8: Pillow hands an EPS to Ghostscript."""
    monkeypatch.setattr("subprocess.check_call", None)
    with Image.open(io.BytesIO(EPS)) as image:
        assert image.format == "EPS", "Pillow takes it"
    with pytest.raises(ProspectError, match=r"x: cannot be decoded \(no JPEG, PNG, WEBP image"):
        decode_frame(EPS, 64, "x")


@pytest.mark.parametrize("progressive", [True, False])
@pytest.mark.parametrize(
    ("side", "message"), [(9000, "9000 x 9000 pixels, more than 64000000"), (30000, "exceeds limit of")]
)
def test_an_image_that_claims_to_be_enormous_is_refused_by_its_header(progressive, side, message):
    """attack.md 6: 545 bytes took 3 GB."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG", progressive=progressive)
    data = bytearray(out.getvalue())
    header = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[header + 5 : header + 9] = struct.pack(">HH", side, side)
    with pytest.raises(ProspectError, match=rf"x: cannot be decoded .*{message}"):
        decode_frame(bytes(data), 64, "x")


def test_blind_frames_are_not_exactly_zero_once_normalised():
    assert (blind_frames(2, 4) != 127.5).all()
