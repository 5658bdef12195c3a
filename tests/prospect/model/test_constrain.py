import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotations.dst import STATES, Update, apply_updates, legal_updates, parse_updates
from pipeline.errors import ProspectError
from prospect.layout import Tokens
from prospect.model.constrain import UpdateConstraint
from prospect.model.presets import toy_tokenizer

TOKENIZER = toy_tokenizer(["DST: S1->start", " S12->complete, S2->start", "Pick up the red circle."] * 3)
TOKENS = Tokens(TOKENIZER, 1)
END = TOKENS.end_of_utterance


def constraint(steps, state, legal=True):
    return UpdateConstraint(TOKENS.encode, END, steps, dict(zip(steps, state, strict=True)), legal)


def run(rules, choose):
    ids = []
    while options := rules.allowed(ids):
        ids.append(choose(options))
        assert len(ids) < 2000
    return ids


def ids_of(text):
    pieces = text.split(", ")
    return [i for n, piece in enumerate(pieces) for i in (TOKENS.encode(",") if n else []) + TOKENS.encode(f" {piece}")]


@st.composite
def situations(draw):
    numbers = draw(st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True))
    steps = [f"S{n}" for n in numbers]
    return steps, draw(st.lists(st.sampled_from(STATES), min_size=len(steps), max_size=len(steps)))


def test_work_is_undone_only_where_the_training_data_undoes_it():
    state = {"S1": "completed", "S2": "in_progress"}

    def choices(**options):
        rules = UpdateConstraint(TOKENS.encode, END, list(state), state, **options)
        return {
            text
            for text in ("S1->reset", "S2->reset", "S2->complete", "S1->start", "S1->reset, S1->start")
            if all(i in rules.allowed(ids_of(text)[:n]) for n, i in enumerate(ids_of(text)))
        }

    assert choices() == {"S2->complete"}
    assert choices(transitions=("start", "complete", "reset")) == {
        "S1->reset", "S2->reset", "S2->complete", "S1->reset, S1->start",
    }  # fmt: skip


def test_with_resets_every_text_ends():
    rules = UpdateConstraint(
        TOKENS.encode, END, ["S1"], {"S1": "completed"}, transitions=("start", "complete", "reset")
    )
    ids = run(rules, lambda options: max(options, key=lambda token: token != END))
    assert rules.text(ids) == "S1->reset, S1->start, S1->complete"


@given(situations(), st.booleans(), st.randoms(use_true_random=False))
def test_every_generated_update_parses(situation, legal, chance: random.Random) -> None:
    steps, state = situation
    rules = constraint(steps, state, legal)
    assert rules.possible == (not legal or any(s != "completed" for s in state))
    if not rules.possible:
        return
    logits = [chance.random() for _ in range(len(TOKENIZER))]  # of a model that always prefers the same tokens
    chooses = [lambda options: max(options, key=logits.__getitem__), chance.choice]
    for choose in chooses:
        ids = run(rules, choose)
        assert ids[-1] == END
        text = rules.text(ids)
        updates = parse_updates(text)
        assert updates == rules.updates(ids)
        assert TOKENIZER.decode(ids[:-1]) == f" {text}"
        assert ids[:-1] == ids_of(text)  # the ids that training meets
        assert 1 <= len(updates) <= 2 * len(steps) and len(set(updates)) == len(updates)
        assert {u.step for u in updates} <= set(steps)
        if legal:
            apply_updates(dict(zip(steps, state, strict=True)), updates)  # raises if one is illegal


@given(situations())
def test_every_legal_text_can_be_generated(situation) -> None:
    steps, state = situation
    tracked = dict(zip(steps, state, strict=True))
    emitted: list[Update] = []
    while options := legal_updates(steps, apply_updates(tracked, emitted)):
        emitted.append(options[-1])
    rules = constraint(steps, state)
    ids = [*ids_of(", ".join(map(str, emitted))), END] if emitted else []
    for position, token in enumerate(ids):
        assert token in rules.allowed(ids[:position])


def test_s1_and_s12_are_told_apart_by_what_follows() -> None:
    rules = constraint(["S1", "S12"], ["not_started", "not_started"])
    prefix = TOKENS.encode(" S1->start")
    shared = TOKENS.encode(" S12->start")
    split = next(i for i, (a, b) in enumerate(zip(prefix, shared, strict=False)) if a != b)
    assert rules.allowed(prefix[:split]) == sorted({prefix[split], shared[split]})


def test_end_needs_an_update_and_comma_needs_another_legal_one() -> None:
    comma = TOKENS.encode(",")[0]
    alone = constraint(["S1"], ["in_progress"])
    assert END not in alone.allowed([])
    assert alone.allowed(TOKENS.encode(" S1->complete")) == [END]
    two = constraint(["S1", "S2"], ["in_progress", "completed"])
    assert two.allowed(TOKENS.encode(" S1->complete")) == [END]
    first = constraint(["S1"], ["not_started"])
    assert first.allowed(TOKENS.encode(" S1->start")) == sorted([END, comma])  # S1->complete is legal now
    assert first.allowed([*ids_of("S1->start, S1->complete")]) == [END]
    assert first.allowed([*ids_of("S1->start"), END]) == []


def test_impossible_when_every_step_is_completed() -> None:
    rules = constraint(["S1", "S2"], ["completed", "completed"])
    assert not rules.possible
    with pytest.raises(ValueError, match="no transition is legal in state"):
        rules.allowed([])
    assert constraint(["S1"], ["completed"], legal=False).possible
    assert not constraint([], [], legal=False).possible


def test_ids_that_are_not_allowed_are_refused() -> None:
    rules = constraint(["S1"], ["not_started"])
    with pytest.raises(ValueError, match="which is not allowed"):
        rules.allowed(TOKENS.encode(" S2->start"))
    with pytest.raises(ValueError, match="follows 'S1->start', which is not allowed"):
        rules.allowed([*ids_of("S1->start"), END, END])


def test_a_tokenizer_that_confuses_two_updates_is_refused() -> None:
    with pytest.raises(ProspectError, match="S1->start and S1->complete have the ids"):
        UpdateConstraint(lambda text: [7], END, ["S1"], {"S1": "not_started"})
