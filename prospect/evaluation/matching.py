"""Which prediction answers which reference event: the two matchings that every streamed metric is read from.

`match_speech` is ProAssist's (arXiv 2506.05904): each frame that speaks goes to one frame of the clip, at a cost of
text and distance; one that goes to a silent frame was redundant. `match_events` is ours, for state updates: one to
one, by time alone, and where time cannot tell, by content. Both allow only pairs inside the dataset's window: the
reference stands in [prediction + left, prediction + right]. F frames, P predictions, R references, D embedding width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from prospect.evaluation.events import SpeechEvent, UpdateEvent, predicted_speech, reference_speech
from prospect.evaluation.predictions import ClipPrediction

FloatArray = npt.NDArray[np.float64]
Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]  # texts (N) -> (N, D)
Window = tuple[int, int]  # frames: left (0 or less), right (0 or more)

DISTANCE_FACTOR, DISTANCE_POWER = 0.3, 1.5  # ProAssist's defaults
_DEFAULT_WINDOW_S = (-2.5, 2.5)
_WINDOWS_S = (  # ProAssist's, seconds; the first name that is part of the dataset's counts
    ("narration", (-2.5, 2.5)),
    ("ego4d", (-4.0, 8.5)),
    ("epickitchens", (-1.5, 3.0)),
    ("holoassist", (-1.5, 2.5)),
    ("egoexolearn", (-2.0, 3.5)),
    ("assembly101", (-2.0, 4.0)),
    ("wtag", (-3.0, 6.0)),
)


@dataclass(frozen=True, slots=True)
class SpeechPair:
    """An utterance and the reference utterance it was matched to."""

    predicted: SpeechEvent
    reference: SpeechEvent
    score: float  # |cosine| of their embeddings, 0..1


@dataclass(frozen=True, slots=True)
class SpeechMatch:
    """ProAssist's matching of one clip."""

    pairs: tuple[SpeechPair, ...]  # in order of the prediction
    missed: tuple[SpeechEvent, ...]  # references that no prediction was matched to
    redundant: tuple[SpeechEvent, ...]  # predictions matched to a silent frame


def match_window(dataset: str, fps: float) -> Window:
    """Give ProAssist's window of a dataset in frames; seconds times fps, cut towards zero."""
    seconds = next((window for name, window in _WINDOWS_S if name in dataset), _DEFAULT_WINDOW_S)
    return int(seconds[0] * fps), int(seconds[1] * fps)


def match_events(
    predicted: Sequence[UpdateEvent] | Sequence[SpeechEvent],
    reference: Sequence[UpdateEvent] | Sequence[SpeechEvent],
    window: Window,
    *,
    same_content_only: bool = False,
) -> list[tuple[int, int]]:
    """Find the best one-to-one pairs (index of prediction, index of reference), in order of the prediction.

    Best is, in this order: most pairs, least sum of distances in frames, most pairs of equal content (update or text).

    Args:
        same_content_only: pairs of unequal content are not allowed at all.
    """
    if not predicted or not reference:
        return []
    frame_p, frame_r = (np.array([event.frame for event in side]) for side in (predicted, reference))
    number: dict[object, int] = {}  # of each distinct content
    same_p, same_r = (
        np.array([number.setdefault(_content(event), len(number)) for event in side]) for side in (predicted, reference)
    )
    offset = frame_r - frame_p[:, None]  # (P, R)
    same = same_p[:, None] == same_r
    allowed = (window[0] <= offset) & (offset <= window[1])
    if same_content_only:
        allowed &= same
    # Whole numbers, exact in float64: one frame outweighs every content, one pair outweighs every distance. What is
    # not allowed costs 0, as much as no pair: the solver fills up with it, and it is dropped.
    most = min(offset.shape)
    frame_cost = most + 1
    pair_gain = most * (max(-window[0], window[1]) * frame_cost + 1) + 1
    cost = np.where(allowed, np.abs(offset) * frame_cost + ~same - pair_gain, 0)
    rows, columns = linear_sum_assignment(cost)
    return [(int(p), int(r)) for p, r in zip(rows, columns, strict=True) if allowed[p, r]]


def match_speech(predictions: Sequence[ClipPrediction], embed: Embed) -> list[SpeechMatch]:
    """Match each clip as ProAssist does. Texts with no counterpart in their window are not embedded, none is twice.

    The cost of a frame that speaks and frame j at distance d is 1 - |cosine| where j has a reference utterance, 1 where
    it is silent, plus 0.3 (d / w)^1.5 with w the longer side of the window; the sum over frames that speak is least.
    An empty text is silence. Unlike in ProAssist, where a sparse matrix drops zeros, a pair of cost 0 can be matched.
    """
    spoken = [_spoken(prediction) for prediction in predictions]
    nearby = [
        [(p, r) for p in said for r in expected if window[0] <= r.frame - p.frame <= window[1]]
        for said, expected, window in spoken
    ]
    similarity = _similarity([(p.text, r.text) for pairs in nearby for p, r in pairs], embed)
    return [
        _match_clip(prediction, *of_clip, {(p.frame, r.frame): similarity[p.text, r.text] for p, r in pairs})
        for prediction, of_clip, pairs in zip(predictions, spoken, nearby, strict=True)
    ]


def _content(event: UpdateEvent | SpeechEvent) -> object:
    return event.update if isinstance(event, UpdateEvent) else event.text


def _spoken(prediction: ClipPrediction) -> tuple[list[SpeechEvent], list[SpeechEvent], Window]:
    clip = prediction.clip
    said = [event for event in predicted_speech(prediction.frames) if event.text]
    expected = [event for event in reference_speech(clip) if event.text]
    return said, expected, match_window(clip.dataset, clip.fps)


def _similarity(pairs: Sequence[tuple[str, str]], embed: Embed) -> dict[tuple[str, str], float]:
    """|cosine| of the embeddings of each distinct pair of texts."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    if not texts:
        return {}
    vectors = embed(texts).astype(np.float64)  # (N, D)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    row = {text: number for number, text in enumerate(texts)}
    return {(p, r): min(float(abs(vectors[row[p]] @ vectors[row[r]])), 1.0) for p, r in set(pairs)}


def _match_clip(
    prediction: ClipPrediction,
    said: Sequence[SpeechEvent],
    expected: Sequence[SpeechEvent],
    window: Window,
    similarity: dict[tuple[int, int], float],
) -> SpeechMatch:
    """`similarity`: of predicted and reference frame, for those inside the window."""
    if not said:
        return SpeechMatch((), tuple(expected), ())
    first, last = prediction.clip.start_frame, prediction.clip.end_frame
    widest = max(-window[0], window[1], 1)  # 1: a window of its own frame alone knows no distance
    rows, columns, costs = [], [], []
    for row, event in enumerate(said):
        for frame in range(max(event.frame + window[0], first), min(event.frame + window[1], last) + 1):
            distance = (abs(frame - event.frame) / widest) ** DISTANCE_POWER * DISTANCE_FACTOR
            rows.append(row)
            columns.append(frame - first)
            # Each row takes exactly one edge, so that 1 more on every edge changes no choice, and no cost is 0.
            costs.append(1 + distance + 1 - similarity.get((event.frame, frame), 0.0))
    graph = coo_array((costs, (rows, columns)), shape=(len(said), last - first + 1)).tocsr()
    taken = {
        first + int(column): said[row] for row, column in zip(*min_weight_full_bipartite_matching(graph), strict=True)
    }
    answered = {event.frame: event for event in expected}
    pairs = [
        SpeechPair(event, answered[frame], similarity[event.frame, frame])
        for frame, event in taken.items()
        if frame in answered
    ]
    redundant = [event for frame, event in taken.items() if frame not in answered]
    return SpeechMatch(
        tuple(sorted(pairs, key=lambda pair: pair.predicted.frame)),
        tuple(event for event in expected if event.frame not in taken),
        tuple(sorted(redundant, key=lambda event: event.frame)),
    )
