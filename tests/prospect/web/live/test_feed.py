"""A browser's camera as a source of frames."""

import pytest

from prospect.stream.endless import SourceLost
from prospect.web.live.feed import Feed
from tests.helpers.fakes import jpeg

SIZE = 64


def test_the_newest_picture_is_the_frame_and_the_others_are_counted():
    feed = Feed(20, SIZE)
    for number in range(3):
        feed.put(jpeg(number))
    frames = iter(feed)
    first = next(frames)
    assert (first.data, first.where, feed.unused) == (jpeg(2), "camera frame 0", 2)


def test_where_no_picture_comes_the_one_before_is_still_what_is_seen():
    feed = Feed(50, SIZE)
    feed.put(jpeg(7))
    frames = iter(feed)
    assert [next(frames).data for _ in range(3)] == [jpeg(7)] * 3 and feed.repeated == 2
    feed.put(jpeg(8))
    assert next(frames).data == jpeg(8) and feed.repeated == 2


def test_a_picture_that_is_none_is_told_and_left_out():
    told = []
    feed = Feed(50, SIZE, broken=told.append)
    feed.put(jpeg(0))
    frames = iter(feed)
    next(frames)
    feed.put(jpeg(1)[:100])
    assert next(frames).data == jpeg(0) and feed.unused == 1
    assert len(told) == 1 and told[0].startswith("a picture of the camera: cannot be decoded")
    feed.put(jpeg(2))
    assert next(frames).data == jpeg(2)


def test_a_camera_that_goes_silent_is_given_up():
    feed = Feed(50, SIZE, patience_s=0.2)
    feed.put(jpeg(0))
    given = []
    with pytest.raises(SourceLost, match=r"no picture came for 0\.2 s; what was streamed is kept"):
        given.extend(frame.data for frame in feed)
    with pytest.raises(SourceLost, match="no picture came"):
        next(iter(Feed(50, SIZE, patience_s=0.05)))


def test_an_end_ends_it_at_once():
    feed = Feed(0.1, SIZE)
    feed.put(jpeg(0))
    frames = iter(feed)
    next(frames)
    feed.end()
    assert list(frames) == []
