"""Each kind of mistake; the window is 2 frames back and 4 ahead."""

from prospect.evaluation.mistakes import SPEECH_KINDS, UPDATE_KINDS, count_errors, speech_errors, update_errors
from tests.helpers.predictions import speech, update

WINDOW = (-2, 4)
REFERENCE = [update(10, "S1->start"), update(20, "S1->complete"), update(20, "S2->start")]


def kinds(errors):
    return [(error.kind, error.frame) for error in errors]


def updates(*predicted, reference=REFERENCE):
    return kinds(update_errors(predicted, reference, WINDOW))


def test_a_perfect_prediction_has_no_errors():
    assert updates(*REFERENCE) == []
    assert speech_errors([speech(3)], [speech(3, "Other words.")], WINDOW) == []


def test_early_late_and_missed():
    assert updates(update(8, "S1->start"), update(22, "S2->start")) == [("early", 8), ("missed", 20), ("late", 22)]
    assert updates() == [("missed", 10), ("missed", 20), ("missed", 20)]


def test_wrong_content_of_found_updates():
    predicted = [update(10, "S2->start"), update(20, "S1->complete"), update(21, "S2->complete")]
    assert updates(*predicted) == [("wrong_step", 10), ("late", 21), ("wrong_transition", 21)]


def test_an_update_again_is_repeated_and_a_new_one_spurious():
    predicted = [
        *REFERENCE,
        update(16, "S1->start"),  # the reference had it at 10
        update(12, "S1->complete"),  # the reference has it later only
        update(30, "S2->complete"),
        update(31, "S2->complete"),
    ]
    predicted.sort(key=lambda event: event.frame)
    assert updates(*predicted) == [("spurious", 12), ("repeated", 16), ("spurious", 30), ("repeated", 31)]


def test_work_begun_again_after_a_reset_is_no_repetition():
    reference = [update(2, "S1->start"), update(4, "S1->complete"), update(6, "S1->reset"), update(8, "S1->start")]
    assert updates(*reference, reference=reference) == []
    again = updates(*reference, update(30, "S1->start"), update(31, "S1->complete"), reference=reference)
    assert again == [("repeated", 30), ("spurious", 31)], "complete was said before the reset, start since"


def test_an_update_of_the_same_frame_twice_is_repeated():
    assert updates(update(10, "S1->start"), update(10, "S1->start"), reference=REFERENCE[:1]) == [("repeated", 10)]


def test_what_the_reference_said_and_the_prediction_missed_is_repeated_later():
    assert updates(update(30, "S1->start"), reference=REFERENCE[:1]) == [("missed", 10), ("repeated", 30)]


def test_an_error_names_both_events():
    early, *_ = update_errors([update(8, "S1->start")], REFERENCE[:1], WINDOW)
    assert (early.predicted, early.reference) == (update(8, "S1->start"), REFERENCE[0])


def test_speech():
    reference = [speech(10), speech(30), speech(50)]
    predicted = [
        speech(8, "a"),  # early, if it were paired: 11 is nearer to 10, so it repeats
        speech(11, "b"),  # late
        speech(20, "c"),  # nothing near
        speech(25, "c"),  # nothing near, but said before
        speech(32, "d"),  # late
    ]
    assert kinds(speech_errors(predicted, reference, WINDOW)) == [
        ("repeated", 8),
        ("late", 11),
        ("spurious", 20),
        ("repeated", 25),
        ("late", 32),
        ("missed", 50),
    ]


def test_counts_name_every_kind():
    errors = [*update_errors([], REFERENCE, WINDOW), *update_errors([update(8, "S1->start")], REFERENCE[:1], WINDOW)]
    assert count_errors(errors, UPDATE_KINDS) == dict.fromkeys(UPDATE_KINDS, 0) | {"missed": 3, "early": 1}
    assert list(count_errors([], SPEECH_KINDS)) == ["early", "late", "missed", "repeated", "spurious"]
