"""A contact sheet: frames at the video's true aspect in a PNG, with numbers, seconds, and what stands at them."""

from collections.abc import Callable, Sequence

from PIL import Image, ImageDraw

from pipeline.io.images import rgb_image
from prospect.pages.lettering import Lettering, missing_note
from prospect.pages.pictures import MOST_ASPECT, Shape
from prospect.pages.storyboard import Shot

TILE, MOST_HEIGHT = 240, 200  # pixels: width of a tile, and most of its picture's height
COLUMNS, LEAST_COLUMNS = 5, 3
MARGIN, FRAME, LINE = 16, 4, 19  # pixels
MOST_LINES = 4  # of an event's text
BACK, INK, FAINT, EDGE = "#ffffff", "#1b1e24", "#5d6675", "#b9bfca"
COLOURS = {"update": "#b8420c", "speak": "#2456d6", "user": "#6d3fc4"}  # as static/theme.css; the first there frames
WORDS = {"update": "update", "speak": "assistant", "user": "user"}


def draw_sheet(
    title: str, about: Sequence[str], shots: Sequence[Shot], image_of: Callable[[int], bytes], shape: Shape | None
) -> tuple[Image.Image, str]:
    """Draw a sheet; events are framed in their colour, and named.

    Args:
        about: paragraphs under the title.
        image_of: the encoded image of a frame.
        shape: height, width in which the video is shown; None: the images' own.

    Returns:
        The picture, and a note of letters that no font here has ("": all were found).
    """
    large, font = Lettering(17), Lettering(14)
    columns = min(max(len(shots), LEAST_COLUMNS), COLUMNS)
    width = columns * (TILE + MARGIN) + MARGIN
    head = [(large, INK, line) for line in large.wrap(title, width - 2 * MARGIN)]
    head += [(font, FAINT, line) for text in about for line in font.wrap(text, width - 2 * MARGIN)]
    pictures = [_fitted(rgb_image(image_of(shot.frame)), shape) for shot in shots]
    captions = [_caption(shot, font) for shot in shots]
    rows = [range(first, min(first + columns, len(shots))) for first in range(0, len(shots), columns)]
    picture_height = max((picture.height for picture in pictures), default=0) + 2 * FRAME
    heights = [picture_height + LINE * max(len(captions[place]) for place in row) + MARGIN for row in rows]
    top = MARGIN + sum(LINE + 4 if font is large else LINE for font, _, _ in head) + MARGIN
    sheet = Image.new("RGB", (width, top + sum(heights)), BACK)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN
    for lettering, colour, line in head:
        lettering.draw(draw, (MARGIN, y), line, colour)
        y += LINE + 4 if lettering is large else LINE
    y = top
    for row, height in zip(rows, heights, strict=True):
        for column, place in enumerate(row):
            x = MARGIN + column * (TILE + MARGIN)
            _draw_tile(sheet, draw, (x, y), pictures[place], shots[place])
            for number, (text, colour) in enumerate(captions[place]):
                font.draw(draw, (x, y + picture_height + number * LINE), text, colour)
        y += height
    return sheet, missing_note(large.missing | font.missing)


def _draw_tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, place: tuple[int, int], picture: Image.Image, shot: Shot
) -> None:
    x, y = place
    box = (x, y, x + picture.width + 2 * FRAME - 1, y + picture.height + 2 * FRAME - 1)
    if shot.events:
        looks = {event.look for event in shot.events}
        draw.rectangle(box, next(colour for look, colour in COLOURS.items() if look in looks))
    else:
        draw.rectangle((x + FRAME - 1, y + FRAME - 1, box[2] - FRAME + 1, box[3] - FRAME + 1), EDGE)
    sheet.paste(picture, (x + FRAME, y + FRAME))


def _caption(shot: Shot, font: Lettering) -> list[tuple[str, str]]:
    """(line, colour) below a picture."""
    minutes, seconds = divmod(round(shot.time_s, 1), 60)
    lines = [(f"frame {shot.frame}, {int(minutes)}:{seconds:04.1f}", INK)]
    for event in shot.events:
        text = f"{WORDS[event.look]}: {event.text}"
        lines += [(line, COLOURS[event.look]) for line in font.wrap(text, TILE, MOST_LINES)]
    return lines


def _fitted(image: Image.Image, shape: Shape | None) -> Image.Image:
    """The picture at its true aspect, as large as a tile holds it."""
    tall, wide = shape or (image.height, image.width)
    aspect = min(max(wide / tall, 1 / MOST_ASPECT), MOST_ASPECT)
    height = min(MOST_HEIGHT, round((TILE - 2 * FRAME) / aspect))
    return image.resize((max(round(height * aspect), 1), max(height, 1)), Image.Resampling.LANCZOS, reducing_gap=3)
