"""What a stored image looks like, against pictures made by hand and transformers' own processor."""

import io
import random

import numpy as np
import pytest
from PIL import Image
from transformers.image_transforms import convert_to_rgb

from pipeline.io.images import ERRORS, check_header, rgb_image, rgb_pixels

RED, GREEN, BLUE, GREY = (200, 30, 30), (30, 200, 30), (30, 30, 200), (120, 120, 120)
CORNERS = (RED, GREEN, BLUE, GREY)  # top left, top right, bottom left, bottom right
STORED = {  # EXIF orientation -> where a viewer finds the stored corners, as places in CORNERS
    1: (0, 1, 2, 3),
    2: (1, 0, 3, 2),
    3: (3, 2, 1, 0),
    4: (2, 3, 0, 1),
    5: (0, 2, 1, 3),
    6: (2, 0, 3, 1),
    7: (3, 1, 2, 0),
    8: (1, 3, 0, 2),
}


def encoded(image: Image.Image, form: str, **more: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **more)
    return out.getvalue()


def quarters(width: int = 64, height: int = 32) -> Image.Image:
    image = Image.new("RGB", (width, height))
    for number, colour in enumerate(CORNERS):
        image.paste(colour, (number % 2 * width // 2, number // 2 * height // 2, width, height))
    return image


def orientation(value: int, byte_order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x0112] = value
    return exif.tobytes()


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    height, width, _ = pixels.shape
    return [tuple(map(int, pixels[y, x])) for y in (2, height - 3) for x in (2, width - 3)]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turned", STORED)
def test_a_picture_is_upright(form, turned):
    data = encoded(quarters(), form, exif=orientation(turned))
    pixels = rgb_pixels(data)
    assert pixels.shape == ((32, 64, 3) if turned < 5 else (64, 32, 3))
    for found, place in zip(corners(pixels), STORED[turned], strict=True):
        assert np.abs(np.subtract(found, CORNERS[place])).max() <= 16, "lossy formats are near"


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_that_is_not_rgb_is_upright_too(mode):
    pixels = rgb_pixels(encoded(quarters().convert(mode), "JPEG", exif=orientation(6)))
    assert pixels.shape == (64, 32, 3)


def test_orientation_is_read_behind_other_segments_and_in_both_byte_orders():
    data = encoded(quarters(), "JPEG", exif=orientation(6))
    profile = b"\xff\xe2" + (40_002).to_bytes(2) + bytes(40_000)
    assert rgb_pixels(data[:2] + profile + b"\xff\xff" + data[2:]).shape == (64, 32, 3)
    little = bytearray(data)
    place = little.index(b"Exif\0\0") + 6
    tiff = b"II*\0\x08\0\0\0" + b"\1\0" + b"\x12\1\3\0\1\0\0\0\6\0\0\0" + bytes(4)
    big = b"MM\0*\0\0\0\x08" + b"\0\1" + b"\1\x12\0\3\0\0\0\1\0\6\0\0" + bytes(4)
    plain = encoded(quarters(), "JPEG")
    assert place > 0
    for block in (tiff, big):
        segment = b"\xff\xe1" + (len(block) + 8).to_bytes(2) + b"Exif\0\0" + block
        assert rgb_pixels(plain[:2] + segment + plain[2:]).shape == (64, 32, 3)


def test_broken_exif_leaves_the_picture_as_it_is_stored():
    """Any bytes there: the picture is read, never an error, and never other than stored or turned."""
    rng = random.Random(0)
    data = encoded(quarters(8, 4), "JPEG", exif=orientation(6))
    place = data.index(b"Exif\0\0") + 6
    shapes = set()
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(3):
            broken[place + rng.randrange(26)] = rng.choice([0, 255, rng.randrange(256)])
        shapes.add(rgb_pixels(bytes(broken)).shape)
    assert shapes == {(4, 8, 3), (8, 4, 3)}


def test_16_bit_grey_is_scaled():
    """data.md 16: Pillow clips, and 30000 was 255. 30000 / 65535 * 255 = 116.7."""
    image = Image.fromarray(np.array([[0, 30000, 65535]], dtype=np.uint16))
    assert rgb_pixels(encoded(image, "PNG"))[0].tolist() == [[0] * 3, [117] * 3, [255] * 3]


def test_transparency_is_shown_over_white_as_transformers_shows_it():
    pixels = np.array([[(10, 20, 30, 255), (10, 20, 30, 0), (0, 0, 0, 128)]] * 5, dtype=np.uint8)
    image = Image.fromarray(pixels)
    shown = rgb_pixels(encoded(image, "PNG"))
    assert shown[0].tolist() == [[10, 20, 30], [255, 255, 255], [127, 127, 127]]
    for shape in (image, image.convert("LA"), image.quantize(4)):
        data = encoded(shape, "PNG")
        theirs = convert_to_rgb(Image.open(io.BytesIO(data)), return_numpy=True)
        assert np.array_equal(rgb_pixels(data), theirs), shape.mode


def test_a_transparent_colour_of_an_opaque_png_is_white_as_in_a_viewer():
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (9, 9, 9))
    shown = rgb_pixels(encoded(image, "PNG", transparency=(1, 2, 3)))
    assert shown[0].tolist() == [[255, 255, 255], [9, 9, 9]]


def test_a_jpeg_that_fits_is_decoded_in_place_unless_it_is_turned():
    out = np.zeros((32, 64, 3), dtype=np.uint8)
    assert rgb_pixels(encoded(quarters(), "JPEG"), out=out) is out or np.shares_memory(
        rgb_pixels(encoded(quarters(), "JPEG"), out=out), out
    )
    turned = rgb_pixels(encoded(quarters(), "JPEG", exif=orientation(3)), out=out)
    assert not np.shares_memory(turned, out)


def test_pictures_to_draw_with_are_the_same_pixels():
    data = encoded(quarters(), "PNG", exif=orientation(8))
    assert np.array_equal(np.asarray(rgb_image(data)), rgb_pixels(data))


def test_broken_images_raise_what_is_named():
    for data in (b"", b"nonsense", b"\xff\xd8", encoded(quarters(), "JPEG")[:300], encoded(quarters(), "PNG")[:60]):
        with pytest.raises(ERRORS):
            rgb_pixels(data)


KINDS = {
    "grey": encoded(quarters().convert("L"), "JPEG"),
    "cmyk": encoded(quarters().convert("CMYK"), "JPEG"),
    "progressive": encoded(quarters(), "JPEG", progressive=True),
    "turned": encoded(quarters(), "JPEG", exif=orientation(6)),
    "png": encoded(quarters(), "PNG"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_passes_without_its_pixels_and_not_when_it_is_cut(kind):
    data = KINDS[kind]
    check_header(data)
    check_header(data[:-30])
    with pytest.raises(ERRORS):
        check_header(data[:20])


def test_a_webp_is_whole_or_refused():
    data = encoded(quarters(), "WEBP")
    check_header(data)
    with pytest.raises(ERRORS):
        check_header(data[:-30])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_header_that_claims_too_many_pixels_is_refused(form):
    data = encoded(Image.new("L" if form != "WEBP" else "RGB", (9000, 9000)), form)
    with pytest.raises(ValueError, match="9000 x 9000 pixels, more than 64000000"):
        check_header(data)


def test_a_format_that_frames_do_not_have_is_refused_by_its_header():
    for form in ("EPS", "GIF"):
        with pytest.raises(ValueError, match="no JPEG, PNG, WEBP image"):
            check_header(encoded(quarters(), form))
