"""Sources that are fed by hand (`Fed`): nothing waits for time to pass."""

import itertools
import threading

import pytest

from pipeline.errors import ProspectError
from prospect.stream.newest import Arrival, newest, paced
from tests.helpers.streams import Clock, Fed


def test_the_newest_item_is_given_and_its_number_tells_how_many_were_left_out():
    source, clock = Fed(), Clock(1.0)
    stream = newest(source, clock)
    assert source.first(stream, "a") == Arrival(0, "a", 1.0)
    source.put("b", "c", "d")
    assert next(stream) == Arrival(3, "d", 4.0)
    source.put("e")
    assert next(stream) == Arrival(4, "e", 5.0), "a model that is fast enough misses none"
    source.put("f", "g")
    source.end()
    assert list(stream) == [Arrival(6, "g", 7.0)], "the last one is given before the end"


def test_the_sources_error_comes_after_what_it_gave():
    source = Fed()
    stream = newest(source)
    assert source.first(stream, "a").item == "a"
    source.put("b")
    source.end(ProspectError("the camera is gone"))
    assert next(stream).item == "b"
    with pytest.raises(ProspectError, match="the camera is gone"):
        next(stream)


def test_a_source_of_nothing_ends_at_once():
    assert list(newest([])) == []


def test_the_source_is_closed_once_nobody_asks():
    may_read, closed, given = threading.Semaphore(1), threading.Event(), []

    def endless():
        try:
            for number in itertools.count():
                may_read.acquire()
                given.append(number)
                yield number
        finally:
            closed.set()

    stream = newest(endless())
    assert next(stream).item == 0
    stream.close()
    may_read.release()
    assert closed.wait(60) and given == [0, 1]


def test_paced_items_wait_for_their_time():
    """Of a reading of 0.1 s, at 2 a second: due at 0.1, 0.6 and 1.1; each wait ends at its time."""
    clock = Clock()
    assert list(paced("abc", 2, clock, clock.sleep)) == ["a", "b", "c"]
    assert clock.slept == pytest.approx([0.4, 0.4])
