"""Where a user speaks at an event's own frame: it is answered there or later, never before it was asked."""

import pytest

from pipeline.annotations.clips import Turn
from prospect.layout import frame_groups, jittered
from tests.helpers.fakes import make_clip

ASKED = make_clip([Turn("user", "now?", 3, 3), Turn("assistant", "yes", 3, 3)], frames=(0, 5))
BEFORE = make_clip([Turn("user", "now?", 2, 2), Turn("assistant", "yes", 3, 3)], frames=(0, 5))


@pytest.mark.parametrize(("clip", "shift", "stands_at"), [(ASKED, -1, 3), (ASKED, 1, 4), (BEFORE, -1, 2)])
def test_an_event_is_moved_over_no_user_turn_of_its_own_frame(clip, shift, stands_at):
    groups = jittered(frame_groups(clip), lambda frame: shift)
    assert [group.frame for group in groups if group.after] == [stands_at]
    assert [[turn.role for turn in group.before] for group in groups] == [
        [turn.role for turn in group.before] for group in frame_groups(clip)
    ]
