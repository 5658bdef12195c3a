import pytest

from pipeline.errors import ProspectError
from pipeline.spans.edits import mark_step, move_span, problems_of_draft, remove_span, set_outcome, spans_draft
from tests.helpers.spans import spans_of


def draft(**about):
    return spans_draft(spans_of("v", ("S1", 10, 20), ("S2", 30, 50), **about).model_dump(mode="json"))


def spans(made):
    return [(span["step"], span["start_s"], span["end_s"]) for span in made.value["spans"]]


def test_spans_are_moved_and_their_edges():
    assert spans(move_span(draft(), 0, 1.5, 1.5)) == [("S1", 11.5, 21.5), ("S2", 30, 50)]
    assert spans(move_span(draft(), 1, 0, -10.1)) == [("S1", 10, 20), ("S2", 30, 39.9)]
    with pytest.raises(ProspectError, match=r"span 0: found 21\.\.20\.0 s|span 0: found 21\.0\.\.20\.0 s"):
        move_span(draft(), 0, 11, 0)


def test_a_step_is_begun_and_then_ended():
    begun = mark_step(draft(), "S3", 25)
    assert spans(begun) == [("S1", 10, 20), ("S3", 25, 25.1), ("S2", 30, 50)]
    assert spans(mark_step(begun, "S3", 28.4)) == [("S1", 10, 20), ("S3", 25, 28.4), ("S2", 30, 50)]
    assert spans(mark_step(begun, "S3", 5))[0] == ("S3", 5, 5.1)  # nothing was begun before that
    assert problems_of_draft(begun) == []


def test_an_outcome_is_one_of_three_and_a_span_goes():
    assert set_outcome(draft(), 1, "undone").value["spans"][1]["outcome"] == "undone"
    with pytest.raises(ProspectError, match="found outcome 'half', expected one of done, error, undone"):
        set_outcome(draft(), 1, "half")
    assert spans(remove_span(draft(), 0)) == [("S2", 30, 50)]
    with pytest.raises(ProspectError, match="span 9: there is none"):
        remove_span(draft(), 9)


def test_problems_stand_at_their_spans():
    assert problems_of_draft(mark_step(draft(), "S9", 5)) == [
        (0, "spans.0.step: found 'S9', expected one of S1, S2, S3")
    ]
    late = move_span(draft(), 1, 0, 90)
    assert [number for number, _ in problems_of_draft(late)] == [1]
    broken = spans_draft(draft().value | {"spans": [{"step": "S1", "start_s": "x", "end_s": 2}], "dataset": 3})
    assert sorted(number is None for number, _ in problems_of_draft(broken)) == [False, True]


def test_a_record_says_once_that_a_person_changed_it():
    made = draft(provenance={"importer": "x"})
    assert made.value["provenance"] == {"importer": "x"}
    changed = move_span(move_span(made, 0, 1, 1), 0, 1, 1)
    assert changed.value["provenance"] == {"importer": "x", "edited": "prospect review"}
    assert made.value["provenance"] == {"importer": "x"}
