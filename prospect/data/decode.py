"""Frames: stored JPEG or PNG bytes to uint8 pixels of the model's size. One resize, no tiles, no padding.

What a frame looks like is `pipeline/io/images.py`'s. Pixels stay uint8 until the device, where the model normalises
them. A JPEG of more than twice the model's size is decoded at a fraction of its size (DCT scaling) that is still twice
the model's, before the resize: within half a grey level of the full decode on average, in natural images.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import ProspectError
from pipeline.io.images import ERRORS, rgb_pixels

GREY = 100  # of blind frames; not mid-grey, which is exactly zero once normalised
DRAFT_GAP = 2  # how many times the model's size a JPEG is decoded to at least


def decode_frame(data: bytes, size: int, where: str) -> npt.NDArray[np.uint8]:
    """Give pixels (3, size, size) of an encoded image; `where` (file and frame) goes into the error."""
    pixels = np.empty((size, size, 3), dtype=np.uint8)
    decode_into(pixels, data, where)
    return pixels.transpose(2, 0, 1)


def decode_into(out: npt.NDArray[np.uint8], data: bytes, where: str) -> None:
    """Decode an image into `out`, contiguous (S, S, 3); a JPEG of that size without any copy."""
    size = len(out)
    try:
        pixels = rgb_pixels(data, DRAFT_GAP * size, out)
    except ERRORS as error:
        raise ProspectError(f"{where}: cannot be decoded ({error}), expected a JPEG or PNG image") from None
    if pixels.shape[:2] != (size, size):
        out[...] = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS))
    elif not np.shares_memory(pixels, out):
        out[...] = pixels


def blind_frames(count: int, size: int) -> npt.NDArray[np.uint8]:
    return np.full((count, 3, size, size), GREY, dtype=np.uint8)
