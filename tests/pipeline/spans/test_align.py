"""Alignment by hand: small matrices whose best assignment can be seen."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.spans.align import align

LEAST = 0.5


def aligned(*rows: tuple[float, ...], back: float | None = None):
    return align(np.array(rows), LEAST, back)


def test_each_block_is_of_the_step_that_it_resembles():
    found = aligned((0.9, 0.1), (0.8, 0.2), (0.1, 0.9))
    assert found.steps == (0, 0, 1)
    assert found.score == pytest.approx(0.4 + 0.3 + 0.4)


def test_a_block_that_resembles_no_step_is_of_none():
    assert aligned((0.9, 0.1), (0.4, 0.3), (0.1, 0.9)).steps == (0, None, 1)


def test_a_step_that_no_block_resembles_stays_empty():
    assert aligned((0.9, 0.1, 0.1), (0.1, 0.1, 0.9)).steps == (0, 2)


def test_of_blocks_out_of_order_those_that_say_more_win():
    """Step 1 then step 0: one of them has to go; 0.9 says more than 0.8."""
    assert aligned((0.1, 0.8), (0.9, 0.1)).steps == (None, 0)
    assert aligned((0.1, 0.9), (0.8, 0.1)).steps == (1, None)


def test_going_back_costs_its_price():
    """Both blocks give 0.4 + 0.3 - price; one alone 0.4."""
    assert aligned((0.1, 0.8), (0.9, 0.1), back=0.2).steps == (1, 0)
    assert aligned((0.1, 0.8), (0.9, 0.1), back=0.31).steps == (None, 0)


def test_blocks_of_one_text_are_told_apart_by_their_neighbours():
    """The second and fourth blocks read alike, as do steps 1 and 3 (a knife is cleaned twice)."""
    knife = (0.1, 0.9, 0.1, 0.9)
    assert aligned((0.9, 0.1, 0.1, 0.1), knife, (0.1, 0.1, 0.9, 0.1), knife).steps == (0, 1, 2, 3)


def test_a_margin_is_what_another_assignment_of_the_block_costs():
    found = aligned((0.9, 0.6))
    assert found.steps == (0,)
    assert found.margins == pytest.approx([0.3])  # of step 1: 0.1 in place of 0.4
    found = aligned((0.9, 0.2), (0.7, 0.65))
    assert found.steps == (0, 0)
    assert found.margins == pytest.approx([0.4, 0.05])  # of none: 0.2 in place of 0.6; of step 1: 0.55


def test_a_tie_is_a_margin_of_nothing_and_goes_to_the_earlier_step():
    found = aligned((0.9, 0.9))
    assert (found.steps, found.margins) == ((0,), (0.0,))


def test_no_blocks_and_no_steps_are_aligned_too():
    assert align(np.zeros((0, 3)), LEAST).steps == ()
    found = align(np.zeros((2, 0)), LEAST)
    assert (found.steps, found.margins) == ((None, None), (math.inf, math.inf))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 3), st.sampled_from([None, 0.1, 0.4]))
def test_no_other_assignment_scores_higher(data, num_blocks, num_steps, back):
    """Against all (K + 1) ^ B of them, and the margins against the best with the block elsewhere."""
    values = st.lists(st.integers(0, 10).map(lambda n: n / 10), min_size=num_steps, max_size=num_steps)
    matrix = np.array(data.draw(st.lists(values, min_size=num_blocks, max_size=num_blocks)))
    found = align(matrix, LEAST, back)
    scores = {
        steps: score_of(matrix, steps, back)
        for steps in itertools.product((*range(num_steps), None), repeat=num_blocks)
    }
    best = max(scores.values())
    assert found.score == pytest.approx(best)
    assert scores[found.steps] == pytest.approx(best)
    for block, margin in enumerate(found.margins):
        others = max(score for steps, score in scores.items() if steps[block] != found.steps[block])
        assert margin == pytest.approx(best - others, abs=1e-9)


def score_of(matrix: np.ndarray, steps: tuple[int | None, ...], back: float | None) -> float:
    total, last = 0.0, 0
    for block, step in enumerate(steps):
        if step is None:
            continue
        total += matrix[block, step] - LEAST
        if step < last:
            total -= math.inf if back is None else back
        last = step
    return total
