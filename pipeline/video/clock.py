"""The clock of a video: which picture a viewer sees when, and from that the rows of a constant rate.

Containers tell a time and a duration of each picture. A viewer's clock begins where the container does (sound may
come before the picture: the first picture is shown until then), runs on where files were joined and their times step
back, and shows a picture until the next one comes. Times are exact fractions of a second; as containers round theirs,
to milliseconds often, a picture that comes within their unit after a row's time is shown in it.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Generic, TypeVar

from pipeline.errors import ProspectError

Item = TypeVar("Item")
MAX_ROUNDING_S = Fraction(1, 500)  # a larger unit of time is that of the pictures, and exact
MAX_DISORDER_S = Fraction(1, 2)  # a time that steps back further begins a joined file
TOLD_GAP_S = 5.0  # without a picture, before it is told


@dataclass(frozen=True, slots=True)
class Span(Generic[Item]):
    """What is shown from `begin` to `until`, in seconds."""

    begin: Fraction
    until: Fraction
    shown: Item
    rounding: Fraction = Fraction(0)  # `until` may be told too late by so much


@dataclass(slots=True)
class Gaps:
    """Stretches in which no picture came, longer than TOLD_GAP_S. Filled while the pictures are read."""

    max_s: float  # a longer one is an error
    count: int = 0
    longest_s: float = 0.0
    longest_at_s: float = 0.0

    def add(self, begin: Fraction, end: Fraction) -> None:
        """
        Raises:
            ProspectError: it is longer than `max_s`.
        """
        length = float(end - begin)
        if length > self.max_s:
            raise ProspectError(
                f"shows no new picture from {float(begin):.1f} s to {float(end):.1f} s, expected a gap of at most "
                f"{self.max_s:g} s (a damaged timestamp?); extract-frames --max-gap allows longer ones"
            )
        if length > TOLD_GAP_S:
            self.count += 1
            if length > self.longest_s:
                self.longest_s, self.longest_at_s = length, float(begin)

    def text(self) -> str:
        """What is to be told; nothing, where there are none."""
        if not self.count:
            return ""
        place = f"{self.longest_s:.1f} s, from {self.longest_at_s:.1f} s on"
        return f"no new picture for {place}" if self.count == 1 else f"{self.count} gaps, the longest {place}"


def exact_rate(fps: float) -> Fraction:
    """Give the rate that a number stands for: 29.97 and 29.97002997 are 30000/1001."""
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    return ntsc if abs(float(ntsc) - fps) < 2e-6 * fps else Fraction(fps).limit_denominator(1001)


def on_one_clock(
    pictures: Iterable[tuple[Fraction, Fraction, Item]],
    gaps: Gaps,
    sound_end: Callable[[], Fraction],
    time_unit: Fraction = Fraction(0),
) -> Generator[Span[Item], None, None]:
    """Give what is shown from 0 s on without a hole, from (time, duration, picture) in the order of showing.

    Pictures at 3 s and 4 s, each for 1 s, then at 0 s for 1 s (a joined file): from 0, 4 and 5 s, until 6 s. A time
    that steps back by less than MAX_DISORDER_S is that of the picture before it.

    Args:
        sound_end: when the sound ends, asked after the last picture, which is shown until then.
        time_unit: of the times (s), to which they are rounded.

    Raises:
        ProspectError: a gap is too long.
    """
    rounding = min(time_unit, MAX_ROUNDING_S)
    joined, began, last, until = Fraction(0), Fraction(0), Fraction(0), Fraction(0)
    shown: list[Item] = []
    for told, duration, picture in pictures:
        time = told + joined
        if time < last - MAX_DISORDER_S and shown:
            joined += until - time
            time = until
        time = max(time, last)
        gaps.add(until, time)
        if shown:
            yield Span(began, time, shown[0], rounding)
            began = time
        shown, last, until = [picture], time, time + duration
        gaps.add(time, until)
    if shown:
        end = max(until, sound_end() + joined)
        gaps.add(until, end)
        yield Span(began, end, shown[0], rounding)


def one_after_another(videos: Iterable[Iterable[Span[Item]]]) -> Generator[Span[Item], None, None]:
    """Join the spans of several videos: each begins where the one before ended."""
    joined = Fraction(0)
    for spans in videos:
        end = Fraction(0)
        for span in spans:
            end = span.until
            yield replace(span, begin=span.begin + joined, until=end + joined)
        joined += end


def at_constant_rate(spans: Iterable[Span[Item]], rate: Fraction) -> Generator[tuple[int, Item], None, None]:
    """Give (row, what is shown at row / rate seconds), from row 0 on.

    Shown from 0, 0.4, 0.6 and 1.5 s, until 1.6 s, at 2 a second: rows 0, 1 and 2 are the first, the second and the
    third; row 3 the last. There is always a row of the last one, if there is any.
    """
    row, shown = 0, list[Item]()
    for span in spans:
        shown = [span.shown]
        end = span.until - min(span.rounding, 1 / (4 * rate))
        while row / rate < end:
            yield row, span.shown
            row += 1
    if shown and not row:
        yield 0, shown[0]
