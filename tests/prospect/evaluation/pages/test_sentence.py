import pytest

from prospect.evaluation.pages.sentence import sentence

NAMES = [f"num_{which}_{of}" for of in ("updates", "speech") for which in ("reference", "predicted", "found")]
KINDS = ("early", "late", "wrong_step", "wrong_transition", "repeated", "spurious", "speech_early", "speech_late")


def counts(*numbers, **errors):
    return dict(zip(NAMES, numbers, strict=True)) | dict.fromkeys(KINDS, 0) | errors | {"dst_update_f1": None}


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        (
            counts(10, 6, 4, 11, 10, 8, late=3, wrong_step=1, spurious=2, speech_early=1),
            "Found 4 of 10 updates, 3 late, 1 of the wrong step, 2 made up; spoke at 8 of the 11 places where it should, "
            "1 early, and 2 times where it should not.",
        ),
        (counts(1, 0, 0, 1, 1, 1), "Found 0 of 1 update; spoke at 1 of the 1 place where it should."),
        (counts(0, 1, 0, 0, 1, 0), "Made 1 update where none is annotated; spoke once where nothing is to be said."),
        (counts(0, 0, 0, 0, 0, 0), "Was silent, as it should be."),
        ({"dst_update_f1": 0.5}, ""),
    ],
)
def test_a_sentence_says_what_was_found_and_what_is_wrong(metrics, text):
    assert sentence(metrics) == text
