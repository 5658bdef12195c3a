"""One decoded picture, upright as its display matrix says, turned and cropped as asked for: a square JPEG or pixels."""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import ProspectError
from pipeline.video.settings import Settings

MAX_ASPECT = 32  # of a picture that is cropped


@dataclass(frozen=True, slots=True)
class Picture:
    frame: Any  # as PyAV decoded it
    pixel: Fraction  # width of a pixel over its height


def shape_of(picture: Picture, settings: Settings) -> tuple[int, int]:
    """Height and width in which a picture is shown, before it is made a square: upright, turned, cropped.

    They are of square pixels; where those of the video are not, the width differs from the stored one.
    """
    width, height = _shown_size(picture)
    if settings.crop:
        width = height = min(width, height)
    if _matrix(picture.frame)[0] != bool(settings.turn % 180):
        width, height = height, width
    return height, width


def jpeg_of(picture: Picture, settings: Settings) -> bytes:
    """Give a picture as a square JPEG.

    Raises:
        ProspectError: it is too long and narrow to crop.
    """
    out = io.BytesIO()
    image = Image.fromarray(pixels_of(picture, settings, settings.size, settings.size))
    image.save(out, "JPEG", quality=settings.quality)
    return out.getvalue()


def pixels_of(picture: Picture, settings: Settings, width: int, height: int) -> np.ndarray:
    """Give a picture upright, turned and cropped, at a size of one's own: (height, width, 3).

    Args:
        width, height: where it is cropped the same.

    Raises:
        ProspectError: it is too long and narrow to crop.
    """
    is_transposed, is_flipped_x, is_flipped_y = _matrix(picture.frame)
    if is_transposed != bool(settings.turn % 180):
        width, height = height, width
    pixels = _cropped(picture, width) if settings.crop else _scaled(picture.frame, width, height)
    if is_transposed:
        pixels = pixels.transpose(1, 0, 2)
    pixels = pixels[:: -1 if is_flipped_y else 1, :: -1 if is_flipped_x else 1]
    return np.ascontiguousarray(np.rot90(pixels, settings.turn // 90))


def _matrix(frame: Any) -> tuple[bool, bool, bool]:
    """How a display matrix asks for the stored picture: transposed, then mirrored left to right, then top to bottom.

    A pixel at (x, y) is shown at (a x + c y, b x + d y). All eight of a, b, c, d in {-1, 0, 1} come out exactly; of
    others, such as a turn by 30 degrees, the nearest.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).astype(np.int64).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _shown_size(picture: Picture) -> tuple[int, int]:
    """Width and height of a stored picture in square pixels."""
    return max(1, round(picture.frame.width * picture.pixel)), picture.frame.height


def _cropped(picture: Picture, size: int) -> np.ndarray:
    """The square in the middle, (size, size, 3)."""
    width, height = _shown_size(picture)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ProspectError(f"has pictures of {width} x {height} pixels, expected a shape that can be cropped")
    scale = size / min(width, height)
    width, height = max(size, round(width * scale)), max(size, round(height * scale))
    left, top = (width - size) // 2, (height - size) // 2
    return _scaled(picture.frame, width, height)[top : top + size, left : left + size]


def _scaled(frame: Any, width: int, height: int) -> np.ndarray:
    """(height, width, 3), as stored."""
    # threads of its own, made anew for each picture, would outlive it
    return frame.reformat(width, height, format="rgb24", interpolation="LANCZOS", threads=1).to_ndarray()
