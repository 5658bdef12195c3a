from collections import Counter

from pipeline.annotations.clips import Turn
from pipeline.annotations.ranges import count_ranges, ranges_line
from tests.helpers.fakes import make_clip


def test_ranges_that_begin_where_the_one_before_ended_are_counted():
    turns = [
        Turn("dst_update", "S1->start", 0, 3),
        Turn("assistant", "go", 0, 3),  # the same range: one event
        Turn("user", "ok", 3, 4),  # no event
        Turn("dst_update", "S1->complete", 3, 6),  # from the last frame of the one before
        Turn("assistant", "good", 7, 9),  # from the frame after it
        Turn("assistant", "well done", 11, 12),  # apart
    ]
    counts = count_ranges(make_clip(turns, frames=(0, 14)))
    assert counts == Counter(frames=15, silent_frames=15 - 4, event_ranges=4, contiguous_ranges=2)
    line = "73.3% of 15 frames are silent; 2 of 4 events' ranges begin where the one before ended"
    assert ranges_line(counts) == line


def test_counts_of_clips_add_up():
    one = count_ranges(make_clip([Turn("assistant", "hi", 3, 4)]))
    assert one + one == Counter(frames=20, silent_frames=18, event_ranges=2)
