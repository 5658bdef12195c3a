"""Frames as a page shows them: JPEGs at the shape in which the video is shown, small enough for their place."""

import base64

import numpy as np
import simplejpeg
from PIL import Image

from pipeline.errors import ProspectError
from pipeline.io.frame_store import FrameFile
from pipeline.io.images import ERRORS, rgb_pixels

QUALITY = 85
MOST_ASPECT = 8  # a picture wider (or higher) than this is a strip, whatever its file says
Shape = tuple[int, int]  # height, width


def frame_jpeg(frames: FrameFile, index: int, height: int | None = None) -> bytes:
    """Give frame `index` at its true aspect, as a JPEG.

    Args:
        height: in pixels; default: as high as it is stored. Nothing is made larger than that.

    Raises:
        ProspectError: there is no such frame, or it is no image.
    """
    try:
        return shown_jpeg(frames.read(index), frames.shape, height)
    except ERRORS as error:
        if isinstance(error, ProspectError):
            raise
        raise ProspectError(f"{frames.path} frame {index}: no image that can be decoded ({error})") from None


def shown_jpeg(data: bytes, shape: Shape | None = None, height: int | None = None, quality: int = QUALITY) -> bytes:
    """Give a stored image as a JPEG of the video's shape; frames may be stored as squares.

    Args:
        shape: in which the video is shown; None: the image's own.
        height: in pixels, at most; default: the stored one.

    Raises:
        ERRORS: it cannot be decoded.
    """
    pixels = rgb_pixels(data, least=height or 0)  # (H, W, 3)
    stored_height, stored_width = pixels.shape[:2]
    wanted = min(height or stored_height, stored_height)
    tall, wide = shape or (stored_height, stored_width)
    aspect = min(max(wide / tall, 1 / MOST_ASPECT), MOST_ASPECT)
    size = (max(round(wanted * aspect), 1), wanted)
    if size != (stored_width, stored_height):
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2))
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=quality)


def data_url(jpeg: bytes) -> str:
    """Give a JPEG as the address of a picture that needs no file."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
