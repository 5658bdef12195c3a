import io
import json

import av
import numpy as np
import pytest
from rich.console import Console

from pipeline.clips import Step, Turn
from pipeline.errors import ProspectError
from prospect.stream.board import Board, clock_time
from prospect.stream.player import RunFile, Summary, play
from prospect.stream.sources import Lines, Task
from prospect.stream.streamer import StreamSettings
from prospect.stream.video_out import PANEL, SIDE, VideoWriter
from tests.fakes import jpeg
from tests.prospect.stream.test_streamer import streamer, with_bias

TASK = Task((Step("S1", "do S1"), Step("S2", "schön 做")), {"S1": "not_started", "S2": "not_started"})


class Clock:
    """Each reading takes 0.1 s; a sleep takes what it is told."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def __call__(self) -> float:
        self.now += 0.1
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def played(model, tokens, count=4, task=TASK, lines=None, realtime=False, clock=None, **settings):
    stream = streamer(model, tokens, **settings)
    clock = clock or Clock()
    lines = lines or Lines(task.turns, [], 2, task.first_frame)
    frames = [jpeg(i) for i in range(count)]
    return list(play(stream, frames, task, lines, 2, realtime=realtime, clock=clock, sleep=clock.sleep))


def test_frames_are_played_with_their_lines_states_and_times(model, tokens):
    lines = Lines([Turn("user", "Hi", 1, 1)], [], 2, 0)
    found = played(with_bias(model, 9, -9), tokens, lines=lines, max_actions=1)
    assert [p.record.frame for p in found] == [0, 1, 2, 3] and [p.time_s for p in found] == [0, 0.5, 1, 1.5]
    assert [[turn.text for turn in p.lines] for p in found] == [[], ["Hi"], [], []]
    assert found[0].record.actions and set(found[3].state.values()) != {"not_started"}
    assert found[2].image == jpeg(2)


def test_in_real_time_frames_wait_for_their_time(model, tokens):
    """Four readings of the clock a frame: 0.4 s of 0.5, so the 0.3 s by which the first is late are made good."""
    clock = Clock()
    found = played(model, tokens, realtime=True, clock=clock)
    assert [one.lag_s for one in found] == pytest.approx([0.3, 0.2, 0.1, 0.1])
    assert [one.latency_s for one in found] == pytest.approx([0.4, 0.3, 0.2, 0.2])
    assert sum(clock.slept) == pytest.approx(0.1)
    assert _summary(found, 2).missed == 0 and _summary(found, 4).missed == 2
    assert "4 frames" in (told := _summary(found, 4).text()) and "2 missed deadlines, at most 0.3 s behind" in told


def _summary(found, fps) -> Summary:
    summary = Summary(fps, True)
    for one in found:
        summary.add(one)
    return summary


def test_a_frame_that_cannot_be_decoded_ends_the_stream_after_those_before(model, tokens):
    stream = play(streamer(model, tokens), [jpeg(0), b"nonsense"], TASK, Lines([], [], 2, 0), 2)
    assert next(stream).record.frame == 0
    with pytest.raises(ProspectError, match="frame 1: cannot be decoded"):
        next(stream)


def test_a_run_file_has_a_header_and_a_line_a_frame(model, tokens, tmp_path):
    file = RunFile(tmp_path / "deep" / "run.jsonl", {"source": "x"})
    for one in played(with_bias(model, 9, -9), tokens, 2, max_actions=1):
        file.add(one)
    header, first, second = map(json.loads, (tmp_path / "deep" / "run.jsonl").read_text().splitlines())
    file.close()
    assert header == {"format": "prospect.stream/1", "source": "x"}
    assert first["actions"][0]["role"] == "dst_update" and second["time_s"] == 0.5 and second["frame"] == 1


def test_off_a_terminal_the_board_is_a_line_an_event(model, tokens):
    out = io.StringIO()
    lines = Lines([Turn("user", "Hi [bold]", 1, 1)], [], 2, 0)
    with Board(Console(file=out, markup=False), TASK, StreamSettings()) as board:
        for one in played(with_bias(model, 9, -9), tokens, lines=lines, max_actions=1):
            board.show(one)
    told = out.getvalue().splitlines()
    assert told[0].startswith("0:00.0  DST: S") and "0:00.5  User: Hi [bold]" in told
    assert len(told) == 1 + sum("DST" in line for line in told), "nothing for a silent frame"


def test_the_live_board_shows_steps_heads_and_what_was_said(model, tokens):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    board = Board(console, TASK, StreamSettings())
    for one in played(with_bias(model, 9, -9), tokens, 3, max_actions=1):
        board.show(one)
    console = Console(file=io.StringIO(), width=100)
    console.print(board.view(one))
    view = console.file.getvalue()
    for text in ("0:01.0", "frame 2", "S1", "schön 做", "update", "fires at 0.50", "DST: S", "context "):
        assert text in view


def test_times_read_as_minutes_and_seconds():
    assert [clock_time(t) for t in (0, 7.5, 59.96, 61)] == ["0:00.0", "0:07.5", "1:00.0", "1:01.0"]


def test_a_film_has_every_frame_and_the_state_drawn(model, tokens, tmp_path):
    talk = [Turn("user", "Tell me ünicode 做 \x00 now " * 6, 0, 0)]
    path = tmp_path / "out.mp4"
    with VideoWriter(path, TASK, StreamSettings(), 2) as video:
        for one in played(with_bias(model, 9, -9), tokens, 5, lines=Lines(talk, [], 2, 0), max_actions=1):
            video.add(one)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (SIDE, SIDE + PANEL, 3)
    drawn = [np.asarray(frame[:, SIDE:], int) for frame in frames]
    assert drawn[0].std() > 10 and np.abs(drawn[0] - drawn[-1]).max() > 60, "the panel tells, and changes"


def test_a_film_that_breaks_off_leaves_no_file(model, tokens, tmp_path):
    with pytest.raises(ZeroDivisionError), VideoWriter(tmp_path / "out.mp4", TASK, StreamSettings(), 2) as video:
        video.add(played(model, tokens, 1)[0])
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []
