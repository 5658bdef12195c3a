"""Frames: stored JPEG or PNG bytes to uint8 pixels of the model's size. One resize, no tiles, no padding.

Pixels stay uint8 until the device, where the model normalises them.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import ProspectError

GREY = 100  # of blind frames; not mid-grey, which is exactly zero once normalised


def decode_frame(data: bytes, size: int, where: str) -> npt.NDArray[np.uint8]:
    """Pixels (3, size, size) of an encoded image; `where` (file and frame) goes into the error."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            rgb = image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ProspectError(f"{where}: cannot be decoded ({error}), expected a JPEG or PNG image") from None
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


def blind_frames(count: int, size: int) -> npt.NDArray[np.uint8]:
    return np.full((count, 3, size, size), GREY, dtype=np.uint8)
