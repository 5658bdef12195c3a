"""Stored images to pixels as a viewer shows them: the one owner of what an encoded frame looks like.

Upright (EXIF orientations 2 to 8, of JPEG, PNG and WebP), 16-bit grey scaled to 8 bits, transparency over white, as
transformers' image processors put it. Training, streaming, contact sheets, films and pages all decode here.

What a shard or a frames file holds may come from anywhere: only the formats that frames have are tried (Pillow hands
an EPS to Ghostscript), and a header that claims more pixels than any frame has is refused before memory follows it.
JPEGs are decoded by simplejpeg (libjpeg-turbo; the same pixels as Pillow's, in about half the time:
benchmarks/stream.py), anything else by Pillow.
"""

import io
import struct

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base as Tag

Pixels = npt.NDArray[np.uint8]

SHOWN_AS = "upright, 16 bit scaled, over white"  # goes into the key of cached features: another look, other features
FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000  # an 8K frame has 33 million
ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # of a broken image; SyntaxError: a PNG
BAD_EXIF = (SyntaxError, ValueError, KeyError, TypeError, OSError, struct.error)  # what Pillow raises on one
JPEG_START = b"\xff\xd8"
JPEG_SCAN, JPEG_APP1 = 0xDA, 0xE1  # markers: compressed pixels begin; EXIF or XMP
SEGMENT = struct.Struct(">BBH")  # 0xFF, marker, length of what follows the marker
EXIF_START = b"Exif\0\0"
TIFF_SHORT = 3  # the type of a 16-bit number
AS_STORED = 1  # the orientation of what is upright already
UPRIGHT = {  # EXIF orientation -> what turns the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(data: bytes) -> Image.Image:
    """Open an encoded image; pixels are decoded when they are asked for. A context manager.

    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: ERRORS; no such image, or too large.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:  # its message has an address in memory, other in each run
        raise ValueError(f"no {', '.join(FORMATS)} image") from None
    check_size(image.width, image.height)
    return image


def check_header(data: bytes) -> None:
    """Look at what an encoded image's header says, not at its pixels.

    Raises:
        ERRORS: no such image, or too large.
    """
    if data.startswith(JPEG_START):
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
        except ValueError:  # Pillow reads more kinds of JPEG and says what is wrong
            pass
        else:
            check_size(width, height)
            return
    open_image(data).close()


def rgb_pixels(data: bytes, least: int = 0, out: Pixels | None = None) -> Pixels:
    """Decode an image to pixels (H, W, 3) as a viewer shows it.

    Args:
        least: a JPEG may come at a fraction of its size (DCT scaling) whose sides are still so long; 0: never.
        out: (H, W, 3), contiguous; used for the result where an upright JPEG fits it exactly, to spare a copy.

    Raises:
        ERRORS: it cannot be decoded.
    """
    if data.startswith(JPEG_START):
        orientation = _jpeg_orientation(data)
        pixels = _decode_jpeg(data, least, out if orientation not in UPRIGHT else None)
        if pixels is None:
            with open_image(data) as image:
                pixels = np.asarray(_as_rgb(image))
    else:
        with open_image(data) as image:
            pixels = np.asarray(_as_rgb(image))
            orientation = _orientation(image)
    return _turned(pixels, orientation)


def rgb_image(data: bytes) -> Image.Image:
    """Decode an image as `rgb_pixels` does, to a picture to draw with."""
    return Image.fromarray(rgb_pixels(data))


def check_size(width: int, height: int) -> None:
    """Raise ValueError where an image claims more pixels than MAX_PIXELS."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels, more than {MAX_PIXELS}")


def _decode_jpeg(data: bytes, least: int, out: Pixels | None) -> Pixels | None:
    """Pixels as stored; None where libjpeg-turbo objects: Pillow reads more kinds of JPEG and says what is wrong."""
    scale = {"min_height": least, "min_width": least} if least else {}
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        check_size(width, height)  # a progressive one is held whole, however small it is decoded
        height, width, *_ = simplejpeg.decode_jpeg_header(data, **scale)
        fits = {"buffer": out} if out is not None and (height, width) == out.shape[:2] else {}
        pixels: Pixels = simplejpeg.decode_jpeg(data, **scale, **fits)
    except ValueError:
        return None
    return pixels


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    if orientation not in UPRIGHT:
        return pixels
    return np.asarray(Image.fromarray(pixels).transpose(UPRIGHT[orientation]))


def _jpeg_orientation(jpeg: bytes) -> int:
    """The EXIF orientation of a JPEG: a walk over the segments of its header, microseconds where it has no EXIF."""
    place, last = len(JPEG_START), len(jpeg) - SEGMENT.size
    while place <= last:
        fill, marker, length = SEGMENT.unpack_from(jpeg, place)
        if marker == JPEG_SCAN or fill != 0xFF:
            break
        if marker == JPEG_APP1 and jpeg.startswith(EXIF_START, place + SEGMENT.size):
            return _tiff_orientation(jpeg[place + SEGMENT.size + len(EXIF_START) : place + 2 + length])
        place += 1 if marker == 0xFF else 2 + length  # 0xFF: padding before a marker
    return AS_STORED


def _tiff_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block: a TIFF header, then entries of 12 bytes (tag, type, count, value)."""
    order = ">" if exif.startswith(b"MM") else "<"
    try:
        (first,) = struct.unpack_from(f"{order}L", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for entry in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHLH", exif, first + 2 + 12 * entry)
            if tag == Tag.Orientation and kind == TIFF_SHORT:
                return int(value)
    except struct.error:  # ends in the middle: a viewer shows the picture as it is stored
        pass
    return AS_STORED


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of an opened PNG or WebP."""
    try:
        return image.getexif().get(Tag.Orientation, AS_STORED)
    except BAD_EXIF:
        return AS_STORED
