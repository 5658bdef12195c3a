from fractions import Fraction

import pytest

from pipeline.errors import ProspectError
from pipeline.video.clock import Gaps, Span, at_constant_rate, exact_rate, on_one_clock, one_after_another


def pictures(*times, duration=1):
    """Named a, b, c, ..., at these times (s), each for `duration`."""
    return [(Fraction(str(time)), Fraction(str(duration)), name) for time, name in zip(times, "abcdefgh", strict=False)]


def spans(shown, max_gap_s=100.0, sound_end=0):
    gaps = Gaps(max_gap_s)
    found = list(on_one_clock(shown, gaps, lambda: Fraction(sound_end)))
    return [(float(span.begin), float(span.until), span.shown) for span in found], gaps.text()


def shown_until(*times, rounding=0):
    """Numbered pictures, one after another from 0, each until its time."""
    begins = [Fraction(0), *times]
    return [
        Span(begin, Fraction(time), i, Fraction(rounding))
        for i, (begin, time) in enumerate(zip(begins, times, strict=False))
    ]


def rows(shown, fps):
    return [number for _, number in at_constant_rate(shown, exact_rate(fps))]


def test_rows_show_what_a_viewer_sees():
    shown = shown_until(Fraction(2, 5), Fraction(3, 5), Fraction(3, 2), Fraction(8, 5))
    assert list(at_constant_rate(shown, Fraction(2))) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert list(at_constant_rate(shown_until(0), Fraction(2))) == [(0, 0)]
    assert list(at_constant_rate([], Fraction(2))) == []


def test_thirds_of_a_second_lose_no_row():
    assert rows(shown_until(*(Fraction(i + 1, 30) for i in range(300))), 3) == [10 * k for k in range(30)]


def test_times_rounded_to_milliseconds_give_each_picture_once():
    rounded = [Fraction(round(1000 * (i + 1) / 30), 1000) for i in range(300)]
    assert rows(shown_until(*rounded, rounding=Fraction(1, 1000)), 30) == list(range(300))
    assert rows(shown_until(*rounded), 30)[:6] == [0, 1, 1, 3, 4, 4], "by the times alone"


def test_a_picture_that_comes_later_than_its_rounding_is_not_shown_yet():
    """1 ms and 1.1 ms after row 1."""
    shown = shown_until(Fraction(501, 1000), Fraction(1), rounding=Fraction(1, 1000))
    assert rows(shown, 2) == [0, 1]
    shown = shown_until(Fraction(5011, 10_000), Fraction(1), rounding=Fraction(1, 1000))
    assert rows(shown, 2) == [0, 0]


def test_a_rate_is_the_one_that_its_number_stands_for():
    assert exact_rate(2) == 2 and exact_rate(0.5) == Fraction(1, 2) and exact_rate(1000) == 1000
    assert exact_rate(29.97002997) == exact_rate(29.97) == Fraction(30_000, 1001)
    assert exact_rate(23.976) == Fraction(24_000, 1001) and exact_rate(59.94) == Fraction(60_000, 1001)
    assert exact_rate(29.9) == Fraction(299, 10) and exact_rate(0.01) == Fraction(1, 100)


def test_pictures_at_a_broadcast_rate_give_each_once():
    shown = shown_until(*(Fraction(1001 * (i + 1), 30_000) for i in range(3000)))
    assert rows(shown, 29.97002997) == rows(shown, 29.97) == list(range(3000))


def test_the_first_picture_is_shown_from_the_start_on():
    assert spans(pictures(3, 4)) == ([(0, 4, "a"), (4, 5, "b")], "")
    assert spans(pictures(-0.5, 0, 1))[0] == [(0, 0, "a"), (0, 1, "b"), (1, 2, "c")]


def test_times_that_step_back_go_on_after_what_was_shown():
    """Two files joined, of two seconds each; 12 + 12 rows, where the second's first frame begins a new file."""
    assert spans(pictures(0, 1, 0, 1))[0] == [(0, 1, "a"), (1, 2, "b"), (2, 3, "c"), (3, 4, "d")]
    twice = [(Fraction(i % 60, 10), Fraction(1, 10), i) for i in range(120)]
    assert rows(on_one_clock(twice, Gaps(9), lambda: Fraction(0)), 2) == list(range(0, 120, 5))


def test_times_in_disorder_do_not_move_those_after_them():
    assert spans(pictures(0, 2, 1.9, 3))[0] == [(0, 2, "a"), (2, 2, "b"), (2, 3, "c"), (3, 4, "d")]


def test_the_last_picture_is_shown_while_the_sound_goes_on():
    assert spans(pictures(0, 1), sound_end=9) == ([(0, 1, "a"), (1, 9, "b")], "no new picture for 7.0 s, from 2.0 s on")
    assert spans(pictures(0, 1), sound_end=1)[0] == [(0, 1, "a"), (1, 2, "b")]


def test_gaps_are_told_and_long_ones_refused():
    assert spans(pictures(0, 6))[1] == "", "5 s from the end of the first"
    assert spans(pictures(0, 7.5))[1] == "no new picture for 6.5 s, from 1.0 s on"
    assert spans(pictures(0, 7, 20, 21))[1] == "2 gaps, the longest 12.0 s, from 8.0 s on"
    expected = r"^shows no new picture from 1\.0 s to 1000000\.0 s, expected a gap of at most 100 s .*--max-gap"
    with pytest.raises(ProspectError, match=expected):
        spans(pictures(0, 1_000_000))
    with pytest.raises(ProspectError, match=r"from 0\.0 s to 150\.0 s"):
        spans(pictures(150))
    with pytest.raises(ProspectError, match=r"from 0\.0 s to 150\.0 s"):
        spans(pictures(0, duration=150))
    with pytest.raises(ProspectError, match=r"from 1\.0 s to 102\.0 s"):
        spans(pictures(0), sound_end=102)
    assert spans(pictures(0, 1_000_000), max_gap_s=1e6)[0][1] == (1_000_000, 1_000_001, "b")


def test_videos_are_shown_one_after_another():
    one = shown_until(2, 3)
    joined = list(one_after_another([one, one]))
    assert [(span.begin, span.until, span.shown) for span in joined] == [(0, 2, 0), (2, 3, 1), (3, 5, 0), (5, 6, 1)]
