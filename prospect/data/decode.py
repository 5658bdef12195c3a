"""Frames: stored JPEG or PNG bytes to uint8 pixels of the model's size. One resize, no tiles, no padding.

Pixels stay uint8 until the device, where the model normalises them. JPEGs are decoded by simplejpeg (libjpeg-turbo; the
same pixels as Pillow's, in about half the time: benchmarks/stream.py), anything else by Pillow. A JPEG of more than
twice the model's size is decoded at a fraction of its size (DCT scaling) that is still twice the model's, before the
resize: within half a grey level of the full decode on average, in natural images.
"""

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from pipeline.errors import ProspectError
from pipeline.io.images import ERRORS, check_size, open_image

GREY = 100  # of blind frames; not mid-grey, which is exactly zero once normalised
DRAFT_GAP = 2  # how many times the model's size a JPEG is decoded to at least
JPEG_START = b"\xff\xd8"


def decode_frame(data: bytes, size: int, where: str) -> npt.NDArray[np.uint8]:
    """Give pixels (3, size, size) of an encoded image; `where` (file and frame) goes into the error."""
    pixels = np.empty((size, size, 3), dtype=np.uint8)
    decode_into(pixels, data, where)
    return pixels.transpose(2, 0, 1)


def decode_into(out: npt.NDArray[np.uint8], data: bytes, where: str) -> None:
    """Decode an image into `out`, contiguous (S, S, 3); a JPEG of that size without any copy."""
    size = len(out)
    pixels = _decode_jpeg(data, out) if data.startswith(JPEG_START) else None
    if pixels is None:
        try:
            with open_image(data) as image:
                pixels = np.asarray(image.convert("RGB"))
        except ERRORS as error:
            raise ProspectError(f"{where}: cannot be decoded ({error}), expected a JPEG or PNG image") from None
    if pixels.shape[:2] != (size, size):
        out[...] = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS))
    elif not np.shares_memory(pixels, out):
        out[...] = pixels


def _decode_jpeg(data: bytes, out: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    """Pixels (H, W, 3), in `out` where they fit exactly; None where libjpeg-turbo objects: Pillow reads more kinds of
    JPEG and says what is wrong."""
    least = {"min_height": DRAFT_GAP * len(out), "min_width": DRAFT_GAP * len(out)}
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        check_size(width, height)  # a progressive one is held whole, however small it is decoded
        height, width, *_ = simplejpeg.decode_jpeg_header(data, **least)
        fits = {"buffer": out} if (height, width) == out.shape[:2] else {}
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, **least, **fits)
    except ValueError:
        return None
    return pixels


def blind_frames(count: int, size: int) -> npt.NDArray[np.uint8]:
    return np.full((count, 3, size, size), GREY, dtype=np.uint8)
