import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotations.dst import Update, apply_updates, format_state, format_updates, legal_updates, parse_updates

UPDATES = st.builds(
    Update,
    st.from_regex(r"[A-Za-z0-9_.]{1,4}(-[A-Za-z0-9_.]{1,3})?", fullmatch=True),
    st.sampled_from(["start", "complete"]),
)


@given(st.lists(UPDATES, min_size=1, max_size=4))
def test_update_text_parses_back(updates):
    assert list(parse_updates(format_updates(updates))) == updates


@pytest.mark.parametrize("text", ["", "S1", "S1->stop", "S1->start,S2->start", "S1 ->start", "S1->start, ", "->start"])
def test_other_texts_do_not_parse(text):
    with pytest.raises(ValueError, match="is not an update text"):
        parse_updates(text)


def test_state_texts():
    state = {"S1": "completed", "S2": "in_progress", "S3": "not_started"}
    assert format_state(state, state) == "S1:completed, S2:in_progress, S3:not_started"
    assert format_state(state, state, touched_only=True) == "S1:completed, S2:in_progress"


def test_updates_apply_one_after_the_other():
    state = {"S1": "in_progress", "S2": "not_started"}
    after = apply_updates(state, parse_updates("S1->complete, S2->start"))
    assert after == {"S1": "completed", "S2": "in_progress"}
    assert state["S1"] == "in_progress"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S1->complete", "S1->complete needs S1 in_progress, but it is not_started"),
        ("S9->start", "step 'S9' is not one of S1, S2"),
        ("S1->start, S1->start", "S1->start needs S1 not_started, but it is in_progress"),
    ],
)
def test_illegal_updates_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        apply_updates({"S1": "not_started", "S2": "not_started"}, parse_updates(text))


def test_legal_updates_follow_the_state():
    state = {"S1": "completed", "S2": "in_progress", "S3": "not_started"}
    assert list(map(str, legal_updates(list(state), state))) == ["S2->complete", "S3->start"]
