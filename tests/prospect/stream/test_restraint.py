from prospect.stream.restraint import Restraint


def test_nothing_is_held_back_unless_it_is_asked_for():
    free = Restraint(0, 0, 2)
    free.said(3, "Go on.")
    assert free.may_speak(3) and free.may_speak(4) and not free.is_repeat("Go on.")


def test_the_gap_is_counted_in_seconds_between_frames():
    """1.5 s at 2 frames a second are three frames."""
    paused = Restraint(1.5, 0, 2)
    assert paused.may_speak(0)
    paused.said(4, "Go on.")
    assert [paused.may_speak(frame) for frame in (4, 5, 6, 7, 8)] == [False, False, False, True, True]


def test_a_text_may_come_again_after_so_many_others():
    once = Restraint(0, 2, 2)
    for frame, text in enumerate(("a", "b")):
        once.said(frame, text)
    assert once.is_repeat("a") and once.is_repeat("b") and not once.is_repeat("A")
    once.said(2, "c")
    assert not once.is_repeat("a") and once.is_repeat("b")
