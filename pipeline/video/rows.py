"""Videos to the rows of a frames file: row k is the JPEG of what a viewer sees at k / fps seconds.

The importer that makes frames files and the stream that plays a video both read them here, so that a model meets the
pixels that it was trained on.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

from pipeline.video.clock import Gaps, Span, at_constant_rate, exact_rate, on_one_clock, one_after_another
from pipeline.video.picture import Picture, jpeg_of, shape_of
from pipeline.video.settings import Settings
from pipeline.video.source import Place, opened


@dataclass(frozen=True, slots=True)
class Rows:
    pictures: Iterator[tuple[bytes, Picture]]  # as a square JPEG, and as decoded, once it is asked for
    shape: tuple[int, int]  # height, width in which the pictures are shown, before they are made squares
    gaps: Gaps  # as far as the rows were read

    @property
    def jpegs(self) -> Iterator[bytes]:
        return (jpeg for jpeg, _ in self.pictures)


@contextmanager
def rows_of(places: Sequence[Place], settings: Settings) -> Iterator[Rows]:
    """Open videos, each to be shown after the one before.

    Raises:
        ProspectError: here or while the rows are read: one cannot be read, has no video, or is cut short or damaged
            (once everything before that was given).
    """
    gaps = Gaps(settings.max_gap_s)
    spans = one_after_another(_spans(place, settings, gaps) for place in places)
    rows = at_constant_rate(spans, exact_rate(settings.fps))
    try:
        first = next(rows)
        yield Rows(_with_jpegs(chain([first], rows), settings), shape_of(first[1], settings), gaps)
    finally:
        rows.close()
        spans.close()


def _spans(place: Place, settings: Settings, gaps: Gaps) -> Generator[Span[Picture], None, None]:
    with opened(place) as video:
        yield from on_one_clock(
            video.pictures(settings.allow_short), gaps, video.sound_after, Fraction(video.stream.time_base)
        )


def _with_jpegs(rows: Iterator[tuple[int, Picture]], settings: Settings) -> Iterator[tuple[bytes, Picture]]:
    jpeg, encoded = b"", None
    for _, picture in rows:
        if picture is not encoded:
            jpeg, encoded = jpeg_of(picture, settings), picture
        yield jpeg, picture
