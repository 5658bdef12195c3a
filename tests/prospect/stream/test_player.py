import json
from itertools import pairwise

import pytest

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.stream.lines import Lines
from prospect.stream.player import RunFile, Summary, play
from prospect.stream.sources import SourceFrame
from tests.helpers.fakes import jpeg
from tests.helpers.streams import TASK, Clock, Fed, played, source_frames, streamer, with_bias


def test_frames_are_played_with_their_lines_states_and_times(model, tokens):
    lines = Lines([Turn("user", "Hi", 1, 1)], [], 2, 0)
    found = played(with_bias(model, 9, -9), tokens, lines=lines, max_actions=1)
    assert [p.record.frame for p in found] == [0, 1, 2, 3] and [p.time_s for p in found] == [0, 0.5, 1, 1.5]
    assert [[turn.text for turn in p.lines] for p in found] == [[], ["Hi"], [], []]
    assert found[0].record.actions and set(found[3].state.values()) != {"not_started"}
    assert found[2].image == SourceFrame(jpeg(2), "frame 2")


def test_in_real_time_frames_wait_for_their_time(model, tokens):
    """A frame is slept for to its time; the reading that takes it up is 0.1 s later, the one at its end 0.2 s."""
    clock = Clock()
    found = played(model, tokens, realtime=True, clock=clock)
    assert [one.lag_s for one in found] == pytest.approx([0.1, 0.1, 0.1, 0.1])
    assert [one.latency_s for one in found] == pytest.approx([0.2, 0.2, 0.2, 0.2])
    assert clock.slept == pytest.approx([0.1, 0.1, 0.1])
    assert _summary(found, 2).missed == 0 and _summary(found, 6).missed == 4


def test_a_model_slower_than_the_frames_falls_behind_and_says_so(model, tokens):
    """Four readings of 0.2 s a frame of 0.5 s: 0.3 s later with each; the first waits for nothing."""
    clock = Clock(0.2)
    found = played(model, tokens, realtime=True, clock=clock)
    assert [one.lag_s for one in found] == pytest.approx([0.2, 0.5, 0.8, 1.1])
    assert [one.latency_s for one in found] == pytest.approx([0.4, 0.7, 1.0, 1.3])
    assert clock.slept == [] and [one.record.frame for one in found] == [0, 1, 2, 3], "none is dropped"
    told = _summary(found, 2).text()
    assert "4 frames" in told and "3 missed deadlines, at most 1.1 s behind" in told


def test_the_clock_of_real_time_starts_with_the_first_frame(model, tokens):
    """However long it takes to open the source."""
    clock = Clock()

    def frames():
        clock.now += 100
        yield SourceFrame(jpeg(0), "frame 0")

    (first,) = play(streamer(model, tokens), frames(), TASK, Lines([], [], 2, 0), 2, realtime=True, clock=clock)
    assert first.lag_s == pytest.approx(0.1) and first.latency_s == pytest.approx(0.2)


def _summary(found, fps) -> Summary:
    summary = Summary(fps, True)
    for one in found:
        summary.add(one)
    return summary


def test_lines_that_wait_before_the_first_frame_are_spread_over_frames(model, tokens):
    """Of a reserve that holds two lines: seven take four frames, and the context has each once."""
    turn = Turn("user", "Hello there", 0, 0)
    length = len(tokens.turn(turn).ids)
    lines = Lines([turn] * 7, [], 2, 0)
    found = played(with_bias(model, -9, -9), tokens, 5, lines=lines, reserve=2 * length)
    assert [len(one.lines) for one in found] == [2, 2, 2, 1, 0] and not any(one.notes for one in found)
    growth = [after.record.context_tokens - before.record.context_tokens for before, after in pairwise(found)]
    assert growth == [4 + 2 * length, 4 + 2 * length, 4 + length, 4]


def test_a_line_that_no_frame_can_take_is_told_and_the_stream_goes_on(model, tokens):
    lines = Lines([Turn("user", "word " * 100, 1, 1), Turn("user", "Hi", 1, 1)], [], 2, 0)
    found = played(with_bias(model, -9, -9), tokens, lines=lines, reserve=40)
    assert [[turn.text for turn in one.lines] for one in found] == [[], ["Hi"], [], []]
    assert [len(one.notes) for one in found] == [0, 1, 0, 0] and "a frame 40 at most" in found[1].notes[0]


def test_late_frames_are_dropped_counted_and_their_lines_heard_at_the_next(model, tokens):
    """Frames 1 to 5 come while the model is at 0, then 6, then 7 to 8 and the end. A reading of the clock is 1 s: one
    as a frame comes, one as it is taken up, one when it is decided."""
    source, images = Fed(), source_frames(9)
    lines = Lines([Turn("user", "Hi", 3, 3)], [], 2, 0)
    silent = streamer(with_bias(model, -9, -9), tokens)
    stream = play(silent, source, TASK, lines, 2, drop_late=True, clock=Clock(1.0))
    found = [source.first(stream, images[0])]
    source.put(*images[1:6])
    found.append(next(stream))
    source.put(images[6])
    found.append(next(stream))
    source.put(*images[7:])
    source.end()
    found += stream
    assert [(one.record.frame, one.dropped, one.time_s) for one in found] == [
        (0, 0, 0), (5, 4, 2.5), (6, 0, 3), (8, 1, 4),
    ]  # fmt: skip
    assert [one.image for one in found] == [images[number] for number in (0, 5, 6, 8)]
    assert [[turn.text for turn in one.lines] for one in found] == [[], ["Hi"], [], []]
    assert {(one.lag_s, one.latency_s) for one in found} == {(1, 2)}
    summary = Summary(2, False, drop_late=True)
    for one in found:
        summary.add(one)
    assert summary.text().endswith("; 5 late frames dropped of 9")


def test_a_frame_that_is_dropped_is_not_decoded(model, tokens):
    source, images = Fed(), source_frames(2)
    stream = play(streamer(model, tokens), source, TASK, Lines([], [], 2, 0), 2, drop_late=True)
    source.first(stream, images[0])
    source.put(SourceFrame(b"nonsense", "b.png"), images[1])
    assert next(stream).record.frame == 2
    source.put(SourceFrame(b"nonsense", "c.png"))
    with pytest.raises(ProspectError, match=r"^c\.png: cannot be decoded"):
        next(stream)


def test_nothing_is_dropped_unless_it_is_asked_for(model, tokens):
    found = played(model, tokens, realtime=True, clock=Clock(0.2))
    assert [one.dropped for one in found] == [0, 0, 0, 0] and "dropped" not in _summary(found, 2).text()


def test_a_frame_that_cannot_be_decoded_ends_the_stream_after_those_before(model, tokens):
    frames = [SourceFrame(jpeg(0), "a.png"), SourceFrame(b"nonsense", "b.png")]
    stream = play(streamer(model, tokens), frames, TASK, Lines([], [], 2, 0), 2)
    assert next(stream).record.frame == 0
    with pytest.raises(ProspectError, match=r"^b\.png: cannot be decoded"):
        next(stream)


def test_a_run_file_has_a_header_and_a_line_a_frame(model, tokens, tmp_path):
    file = RunFile(tmp_path / "deep" / "run.jsonl", {"source": "x"})
    for one in played(with_bias(model, 9, -9), tokens, 2, max_actions=1):
        file.add(one)
    header, first, second = map(json.loads, (tmp_path / "deep" / "run.jsonl").read_text().splitlines())
    file.close()
    assert header == {"format": "prospect.stream/1", "source": "x"}
    assert (first["dropped"], first["notes"]) == (0, [])
    assert first["actions"][0]["role"] == "dst_update" and second["time_s"] == 0.5 and second["frame"] == 1
