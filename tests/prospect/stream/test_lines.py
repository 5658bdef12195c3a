"""How many of the lines that wait a frame takes. A line of n words is n + 3 tokens here: header, end, newline."""

import io
import threading

import pytest

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.stream.board import clock_time
from prospect.stream.lines import Lines, script_lines


def length(turn):
    return len(turn.text.split()) + 3


def heard(lines, frames, most):
    found = [lines.heard(frame, length, most) for frame in range(frames)]
    return [[turn.text for turn in one.turns] for one in found], [list(one.notes) for one in found]


def test_lines_that_are_too_many_for_a_frame_are_spread_over_the_next_in_order():
    """5 tokens each: of 14 two fit; one of 7 words takes 10 and goes alone."""
    script = [(0.0, f"line {i}") for i in range(5)] + [(0.0, "one two three four five six seven"), (0.0, "line 5")]
    lines = Lines([], script, 2, 0)
    assert lines.left == 7
    texts, notes = heard(lines, 5, 14)
    assert texts == [
        ["line 0", "line 1"], ["line 2", "line 3"], ["line 4"], ["one two three four five six seven"], ["line 5"],
    ]  # fmt: skip
    assert notes == [[]] * 5 and lines.left == 0


def test_a_line_that_waits_comes_before_one_that_is_due_later():
    lines = Lines([Turn("user", "of the clip", 1, 1)], [(0.0, "a b"), (0.0, "c d"), (0.5, "e")], 2, 0)
    assert heard(lines, 4, 6)[0] == [["a b"], ["c d"], ["of the clip"], ["e"]]
    assert lines.left == 0


def test_a_line_that_fills_the_reserve_is_heard_and_one_token_more_is_refused_with_a_note():
    fits, over = "one two three four five", "one two three four five six"
    texts, notes = heard(Lines([], [(0.0, over), (0.0, fits), (0.0, "go")], 2, 0), 2, 8)
    assert texts == [[fits], ["go"]]
    assert notes == [
        [
            "not heard, as it takes 9 tokens and a frame 8 at most (some 24 characters of such text): 'one two three "
            "four five six'; say it in shorter lines"
        ],
        [],
    ]
    ((note,), *_) = heard(Lines([], [(0.0, "word " * 100)], 2, 0), 1, 8)[1]
    assert f"{'word ' * 8!r}"[:-1] + "...'" in note and len(note) < 200


def test_lines_that_no_frame_was_left_for_are_counted():
    lines = Lines([], [(0.0, "a b"), (0.0, "c d"), (9.0, "late")], 2, 0)
    assert heard(lines, 1, 5)[0] == [["a b"]] and lines.left == 2


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("17", 17), ("0:17", 17), ("0:07.5", 7.5), ("1:00", 60), ("75:00.0", 4500), ("1:01:02.5", 3662.5), ("0:00", 0)],
)
def test_a_script_takes_the_clock_that_the_tool_prints(tmp_path, time, seconds):
    path = tmp_path / "script.txt"
    path.write_text(f"{time} What is next? 0:03\n")
    assert script_lines(path) == [(seconds, "What is next? 0:03")]


@pytest.mark.parametrize("seconds", [0, 7.5, 59.9, 60, 3600, 4503.2])
def test_every_time_that_is_printed_can_be_read_back(tmp_path, seconds):
    (tmp_path / "s.txt").write_text(f"{clock_time(seconds)}  Hello\n")
    assert script_lines(tmp_path / "s.txt") == [(pytest.approx(seconds), "Hello")]


@pytest.mark.parametrize("line", ["1:90 x", "1:5 x", "1:2:03 x", "1:60:00 x", "0:17", "17", ":17 x", "-1 x", "0:1a x"])
def test_what_is_no_time_is_named(tmp_path, line):
    (tmp_path / "s.txt").write_text(f"1 a\n{line}\n")
    with pytest.raises(
        ProspectError, match=r"s\.txt line 2: found .*, expected seconds and text: `3.5 What is next\?`"
    ):
        script_lines(tmp_path / "s.txt")


def test_a_time_of_five_thousand_digits_is_after_every_frame(tmp_path):
    (tmp_path / "s.txt").write_text(f"{'9' * 5000} x\n{'9' * 5000}:00 y\n")
    lines = Lines([], script_lines(tmp_path / "s.txt"), 2, 0)
    assert lines.heard(10**9, length, 9).turns == () and lines.left == 2


def test_a_terminal_that_is_gone_ends_no_stream():
    class Gone(io.StringIO):
        def __next__(self):
            raise OSError(5, "Input/output error")

    lines, before = Lines([], [(0.0, "a b")], 2, 0), set(threading.enumerate())
    lines.listen(Gone())
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert heard(lines, 1, 5)[0] == [["a b"]]
