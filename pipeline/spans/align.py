"""Monotone alignment of blocks with steps, by dynamic programming over a matrix of similarities.

Each block is of one step or of none; the steps of the blocks that are of one never go back in the list (or only at a
price, `back`). A step may have several blocks, or none. The score of an assignment is

    sum over its blocks b of step k:  similarity[b, k] - least        (- back, each time that k is before the last one)

so that a block that resembles no step by `least` is left out: it would lower the sum. The assignment with the highest
score wins; of equal ones that with the earlier step, then that which uses a block. Its margin at a block is by how much
the score of the whole falls if that block has to be of another step, or of none, and all else may follow: small where
the block says little, and where its neighbours do not say it for it.

In a video whose steps were done in another order than the list's, a monotone assignment leaves out what is out of
order. With `back` (about 0.3) it goes back where the blocks say so clearly enough.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alignment:
    """The best assignment."""

    steps: tuple[int | None, ...]  # of each block: which step; None: of none
    margins: tuple[float, ...]  # of each block, in the unit of similarity; inf: there was nothing else
    score: float


def align(similarity: npt.NDArray[np.floating], least: float, back: float | None = None) -> Alignment:
    """Align blocks with steps.

    Args:
        similarity: (B, K), of blocks in the order of their times with steps in theirs.
        least: similarity at which a block begins to speak for a step.
        back: price of going back in the list of steps; None: never.
    """
    gains = similarity.astype(np.float64) - least  # (B, K)
    moves = _moves(gains.shape[1], back)
    num_blocks, num_steps = gains.shape
    ahead = np.zeros((num_blocks + 1, num_steps + 1))  # best score of the blocks from b on, after state s
    for b in reversed(range(num_blocks)):
        ahead[b] = np.maximum(ahead[b + 1], (moves + gains[b] + ahead[b + 1, 1:]).max(axis=1, initial=-np.inf))
    behind = np.full(num_steps + 1, -np.inf)  # best score of the blocks before b that ends in state s
    behind[0] = 0
    state, steps, margins = 0, list[int | None](), list[float]()
    for b in range(num_blocks):
        entering = (behind[:, None] + moves).max(axis=0) + gains[b]  # (K)
        totals = np.append(entering + ahead[b + 1, 1:], (behind + ahead[b + 1]).max())  # of all, were b of k, or none
        options = np.append(moves[state] + gains[b] + ahead[b + 1, 1:], ahead[b + 1, state])  # (K + 1), on the path
        choice = int(options.argmax())
        others = np.delete(totals, choice)
        margins.append(float(max(totals[choice] - others.max(initial=-np.inf), 0)))
        steps.append(choice if choice < num_steps else None)
        state = choice + 1 if choice < num_steps else state
        behind = np.maximum(behind, np.append(-np.inf, entering))
    return Alignment(tuple(steps), tuple(margins), float(ahead[0, 0]))


def _moves(num_steps: int, back: float | None) -> Matrix:
    """(K + 1, K): price, at most 0, of going from a state (0: no step yet; k + 1: step k) to a step."""
    state, step = np.arange(num_steps + 1)[:, None], np.arange(num_steps)[None]
    return np.where(step + 1 >= state, 0.0, -np.inf if back is None else -back)
