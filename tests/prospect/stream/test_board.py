import io

import pytest
from rich.console import Console

from pipeline.annotations.clips import Step, Turn
from prospect.stream.board import KEPT, Board, clock_time, shown_against, steps_shown
from prospect.stream.lines import Lines
from prospect.stream.streamer import StreamSettings
from prospect.stream.task import Task
from tests.helpers.streams import TASK, Clock, played, with_bias

MANY = tuple(Step(f"S{i}", f"do S{i}") for i in range(1, 31))


def test_each_event_is_a_line(model, tokens):
    lines = Lines([Turn("user", "Hi [bold]", 1, 1)], [], 2, 0)
    board = Board(TASK, StreamSettings())
    frames = played(with_bias(model, 9, -9), tokens, lines=lines, max_actions=1)
    told = [line for one in frames for line in board.add(one)]
    assert told[0].startswith("0:00.0  DST: S") and "0:00.5  User: Hi [bold]" in told
    assert len(told) == 1 + sum("DST" in line for line in told), "nothing for a silent frame"


def view_after(frames, task=TASK, height=24, width=80) -> list[str]:
    """The rows of the board after `frames`."""
    board = Board(task, StreamSettings(), Clock(0.25))
    for one in frames:
        board.add(one)
    plain = Console(file=io.StringIO(), width=width, height=height)
    plain.print(board)
    return plain.file.getvalue().splitlines()


def test_the_live_board_shows_steps_heads_figures_and_what_was_said(model, tokens):
    rows = view_after(played(with_bias(model, 9, -9), tokens, 3, max_actions=1), width=100)
    view = "\n".join(rows)
    for text in (
        "0:01.0",
        "frame 2",
        "S1",
        "schön 做",
        "update",
        "fires at 0.50",
        "DST: S",
        "/4096 tokens, 4.0 frames/s, ",
    ):
        assert text in view


def test_the_board_fits_the_terminal_and_keeps_the_newest_events(model, tokens):
    """With 30 steps, and lines that wrap."""
    task = Task(MANY, {step.id: "not_started" for step in MANY})
    turns = [Turn("user", f"line {i} " + "word " * 30, i, i) for i in range(6)]
    frames = played(with_bias(model, -9, -9), tokens, 6, task=task, lines=Lines(turns, [], 2, 0))
    for height in (24, 16):
        rows = view_after(frames, task, height)
        assert len(rows) <= height
        assert any("context " in row for row in rows) and any("User: line 5" in row for row in rows)
    assert not any("User: line 0" in row for row in view_after(frames, task, 24))
    assert any("User: line 0" in row for row in view_after(frames, task, 60)) and KEPT >= 6


@pytest.mark.parametrize(
    ("done", "active", "shown"),
    [
        ([], [], "S1 S2 S3 S4"),
        (range(1, 6), [6], "S4 S5 S6 S7"),
        (range(1, 6), [], "S3 S4 S5 S6"),
        (range(1, 30), [30], "S27 S28 S29 S30"),
    ],
)
def test_steps_around_the_active_one_are_shown(done, active, shown):
    state = {step.id: "not_started" for step in MANY}
    state |= {f"S{i}": "completed" for i in done} | {f"S{i}": "in_progress" for i in active}
    assert [step.id for step in steps_shown(MANY, state, 4)] == shown.split()


@pytest.mark.parametrize(
    ("p", "threshold", "shown"),
    [
        (0.995, 0.995, ("0.995", "0.995")),
        (0.9949, 0.995, ("0.994", "0.995")),
        (0.4999, 0.5, ("0.49", "0.50")),
        (0.5, 0.5, ("0.50", "0.50")),
        (0.29, 0.5, ("0.29", "0.50")),  # 0.29 * 100 is below 29
        (0.99996, 0.9999, ("0.9999", "0.9999")),
        (1.0, 1.0, ("1.00", "1.00")),
        (3e-8, 0.005, ("0.000", "0.005")),
        (0.5, 1e-30, ("0.500000000", "0.000000000")),
    ],
)
def test_what_is_shown_reaches_the_threshold_only_where_the_head_fires(p, threshold, shown):
    assert shown_against(p, threshold) == shown


def test_a_note_is_a_line_like_others(model, tokens):
    lines = Lines([Turn("user", "word " * 100, 1, 1)], [], 2, 0)
    board = Board(TASK, StreamSettings())
    told = [
        line for one in played(with_bias(model, -9, -9), tokens, lines=lines, reserve=40) for line in board.add(one)
    ]
    assert len(told) == 1 and told[0].startswith("0:00.5  Note: not heard, as it takes ")


def test_few_steps_are_all_shown_and_none_are_none():
    assert steps_shown(MANY[:3], dict.fromkeys(("S1", "S2", "S3"), "completed"), 4) == MANY[:3]
    assert steps_shown((), {}, 4) == ()


def test_times_read_as_minutes_and_seconds():
    assert [clock_time(t) for t in (0, 7.5, 59.96, 61)] == ["0:00.0", "0:07.5", "1:00.0", "1:01.0"]
