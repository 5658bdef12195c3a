"""Stored images, opened with care: what a shard or a frames file holds may come from anywhere.

Only the formats that frames have are tried (Pillow would hand an EPS to Ghostscript), and a header that claims more
pixels than any frame has is refused before memory follows it.
"""

import io

from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000  # an 8K frame has 33 million
ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # of a broken image; SyntaxError: a PNG


def open_image(data: bytes) -> Image.Image:
    """Open an encoded image; pixels are decoded when they are asked for. A context manager.

    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: ERRORS; no such image, or too large.
    """
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    check_size(image.width, image.height)
    return image


def check_size(width: int, height: int) -> None:
    """Raise ValueError where an image claims more pixels than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS}")
