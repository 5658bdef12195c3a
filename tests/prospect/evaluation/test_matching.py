"""Both matchings against cases worked by hand, and against all matchings of small cases."""

from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prospect.evaluation.matching import match_events, match_speech, match_window
from tests.helpers.predictions import letters, prediction, speech, update


@pytest.fixture(autouse=True)
def asked():
    letters.asked.clear()
    return letters.asked


@pytest.mark.parametrize(
    ("dataset", "fps", "expected"),
    [
        ("assembly101", 2, (-4, 8)),
        ("ego4d", 2, (-8, 17)),
        ("wtag", 2, (-6, 12)),
        ("holoassist/dialog", 2, (-3, 5)),
        ("epickitchens", 2, (-3, 6)),
        ("egoexolearn", 2, (-4, 7)),
        ("ego4d_narration", 2, (-5, 5)),  # narration comes first
        ("toy", 2, (-5, 5)),
        ("toy", 1, (-2, 2)),  # 2.5 is cut towards zero, on both sides
    ],
)
def test_window_is_the_datasets_in_frames(dataset, fps, expected):
    assert match_window(dataset, fps) == expected


def test_events_pair_inside_the_window_only():
    reference = [update(10, "S1->start")]
    assert match_events([update(6, "S1->start")], reference, (-2, 4)) == [(0, 0)]
    assert match_events([update(5, "S1->start")], reference, (-2, 4)) == []
    assert match_events([update(12, "S1->start")], reference, (-2, 4)) == [(0, 0)]
    assert match_events([update(13, "S1->start")], reference, (-2, 4)) == []


def test_more_pairs_go_before_nearer_ones():
    # 12 stands on the reference at 12, but then 14 (window -2..1) is left alone: 12 -> 10 and 14 -> 12 makes two pairs
    predicted, reference = [speech(12), speech(14)], [speech(10), speech(12)]
    assert match_events(predicted, reference, (-2, 1)) == [(0, 0), (1, 1)]


def test_nearer_pairs_go_before_equal_content():
    predicted = [update(4, "S1->start"), update(6, "S2->start")]
    reference = [update(4, "S2->start"), update(6, "S1->start")]
    assert match_events(predicted, reference, (-5, 5)) == [(0, 0), (1, 1)]
    assert match_events(predicted, reference, (-5, 5), same_content_only=True) == [(0, 1), (1, 0)]


def test_content_decides_between_events_of_one_frame():
    predicted = [update(4, "S1->complete"), update(4, "S2->start")]
    reference = [update(5, "S2->start"), update(5, "S1->complete")]
    assert match_events(predicted, reference, (-5, 5)) == [(0, 1), (1, 0)]


def test_no_events_no_pairs():
    assert match_events([], [speech(3)], (-5, 5)) == match_events([speech(3)], [], (-5, 5)) == []


def value(pairs, predicted, reference):
    """What is compared: pairs, then distance, then content; greater is better."""
    distance = sum(abs(predicted[p].frame - reference[r].frame) for p, r in pairs)
    return len(pairs), -distance, sum(predicted[p].text == reference[r].text for p, r in pairs)


events = st.lists(st.builds(speech, st.integers(0, 7), st.sampled_from("ab")), max_size=4)


@settings(max_examples=150, deadline=None)
@given(events, events, st.integers(-3, 0), st.integers(0, 3))
def test_pairs_are_the_best_of_all_matchings(predicted, reference, left, right):
    found = match_events(predicted, reference, (left, right))
    best = max(
        value(pairs, predicted, reference)
        for size in range(min(len(predicted), len(reference)) + 1)
        for rows in combinations(range(len(predicted)), size)
        for columns in permutations(range(len(reference)), size)
        for pairs in [list(zip(rows, columns, strict=True))]
        if all(left <= reference[r].frame - predicted[p].frame <= right for p, r in pairs)
    )
    assert value(found, predicted, reference) == best


def test_speech_goes_to_the_nearest_equal_text():
    found = match_speech([prediction([(3, "a"), (8, "b")], [(4, "a"), (6, "b")])], letters)[0]
    assert [(pair.predicted.frame, pair.reference.frame, pair.score) for pair in found.pairs] == [(3, 4, 1), (8, 6, 1)]
    assert found.missed == found.redundant == ()


def test_speech_at_zero_cost_is_matched():
    """The edge that ProAssist's sparse matrix drops: same frame, same text."""
    found = match_speech([prediction([(3, "a")], [(3, "a"), (5, "a")])], letters)[0]
    assert [(pair.predicted.frame, pair.reference.frame) for pair in found.pairs] == [(3, 3)]
    assert [event.frame for event in found.missed] == [5]


def test_silence_now_costs_less_than_an_unlike_text_later():
    # "b" at 3: its own silent frame costs 1; the reference "a" at 5 costs 1 - 0 + 0.3 (2 / 5)^1.5 = 1.08
    found = match_speech([prediction([(3, "b")], [(5, "a")])], letters)[0]
    assert found.pairs == ()
    assert [event.frame for event in found.redundant] == [3] and [event.frame for event in found.missed] == [5]


def test_an_unlike_text_at_the_same_frame_is_matched_with_a_low_score():
    # no other frame is cheaper than 1 - 0 + 0
    found = match_speech([prediction([(3, "b")], [(3, "a")])], letters)[0]
    assert [pair.score for pair in found.pairs] == [0.0]


def test_speech_outside_the_window_is_never_matched():
    found = match_speech([prediction([(0, "a")], [(6, "a")])], letters)[0]
    assert found.pairs == () and len(found.missed) == len(found.redundant) == 1


def test_two_utterances_for_one_reference_leave_the_farther_one_redundant():
    found = match_speech([prediction([(3, "a"), (5, "a")], [(4, "b"), (6, "a")])], letters)[0]
    # 5 -> 6 costs 0.027 and 3 -> 3 costs 1; 3 -> 6 would cost 0.139 and 5 -> 5 1
    assert [(pair.predicted.frame, pair.reference.frame) for pair in found.pairs] == [(5, 6)]
    assert [event.frame for event in found.redundant] == [3] and [event.frame for event in found.missed] == [4]


def test_only_near_texts_are_embedded_and_each_once(asked):
    far = prediction([(0, "d")], [(9, "d")])
    near = prediction([(3, "a"), (5, "a")], [(4, "a"), (6, "b")])
    match_speech([far, near, near], letters)
    assert asked == [["a", "b"]]


def test_silence_on_either_side(asked):
    silent, unwanted, nothing = (
        match_speech([prediction(said, wanted)], letters)[0]
        for said, wanted in (([], [(4, "a")]), ([(4, "a")], []), ([], []))
    )
    assert [event.frame for event in silent.missed] == [4] and silent.pairs == silent.redundant == ()
    assert [event.frame for event in unwanted.redundant] == [4] and unwanted.pairs == unwanted.missed == ()
    assert nothing.pairs == nothing.missed == nothing.redundant == ()
    assert asked == []


def test_a_text_without_an_embedding_is_like_nothing():
    assert [p.score for p in match_speech([prediction([(3, "x")], [(3, "x")])], letters)[0].pairs] == [0.0]


def cost_of(gen, refs, frame, matched):
    """ProAssist's cost in the words of its definition; window 5, clip of 10 frames."""
    text = 1.0
    if matched in refs:
        a, b = letters([gen])[0], letters([refs[matched]])[0]
        text = 1 - abs(float(a @ b) / float((a @ a) ** 0.5 * (b @ b) ** 0.5))
    return text + 0.3 * (abs(frame - matched) / 5) ** 1.5


texts = st.dictionaries(st.integers(0, 9), st.sampled_from(["a", "b", "ab", "aab", "cd"]), max_size=3)


@settings(max_examples=80, deadline=None)
@given(texts, texts)
def test_speech_matching_costs_the_least_of_all(gens, refs):
    found = match_speech([prediction(list(gens.items()), list(refs.items()))], letters)[0]
    assert len(found.pairs) + len(found.redundant) == len(gens)
    assert len(found.pairs) + len(found.missed) == len(refs)
    near = {i: [j for j in range(10) if abs(i - j) <= 5] for i in gens}
    cost = {(i, j): cost_of(gens[i], refs, i, j) for i in gens for j in near[i]}

    def least(left, taken):
        if not left:
            return 0.0
        i, *rest = left
        return min(cost[i, j] + least(rest, taken | {j}) for j in near[i] if j not in taken)

    def silent(left, taken):
        """The least for redundant ones, which may take any silent frame that is free."""
        if not left:
            return 0.0
        i, *rest = left
        return min(cost[i, j] + silent(rest, taken | {j}) for j in near[i] if j not in taken | refs.keys())

    paired = sum(cost[pair.predicted.frame, pair.reference.frame] for pair in found.pairs)
    redundant = silent([event.frame for event in found.redundant], set())
    assert paired + redundant == pytest.approx(least(list(gens), set()))
