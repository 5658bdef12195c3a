"""What can be had without a model and without pixels: the majority baseline and the best history-only rule.

Both are fitted on the training clips and judged on the reference histories of the evaluated ones, i.e. teacher-forced
like the model's own numbers.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.annotations.clips import Clip
from pipeline.annotations.dst import Update, format_updates, parse_updates
from prospect.carried import state_after
from prospect.layout import frame_groups
from prospect.train.metrics import MetricTerms


@dataclass(frozen=True, slots=True)
class _Event:
    """A dst_update of the reference."""

    text: str
    guess: str  # of the history-only rule
    is_start: bool


def baselines(train: list[Clip], evaluated: list[Clip], event_margin: int = 0) -> dict[str, dict[str, float | None]]:
    """Give metrics by name of the baseline: `majority` and `history_only`."""
    majority = Counter(event.text for event in _events(train)).most_common(1)
    gap = _best_gap(train, event_margin)
    return {
        "majority": {
            "should_update_dst_f1_at_frame": 0.0,  # silence, the majority at frames, finds no event
            "when_to_speak_f1_at_frame": 0.0,
            **_exact_match(evaluated, majority[0][0] if majority else None),
        },
        "history_only": {
            "should_update_dst_f1_at_frame": _timing_f1(evaluated, gap, event_margin),
            "when_to_speak_f1_at_frame": None,
            **_exact_match(evaluated, None),
        },
    }


def _exact_match(clips: list[Clip], constant: str | None) -> dict[str, float | None]:
    """Of the constant text, or (None) of the rule: complete the step in progress, else start the first one left."""
    right = Counter[bool]()
    count = Counter[bool]()
    for event in _events(clips):
        guess = event.guess if constant is None else constant
        count[event.is_start] += 1
        right[event.is_start] += guess == event.text
    return {
        "dst_gen_exact_match": right.total() / count.total() if count.total() else None,
        "dst_gen_exact_match_start": right[True] / count[True] if count[True] else None,
    }


def _events(clips: Iterable[Clip]) -> Iterable[_Event]:
    for clip in clips:
        state = clip.state
        for turn in clip.turns:
            if turn.role == "dst_update":
                in_progress = [step for step, value in state.items() if value == "in_progress"]
                left = [step for step, value in state.items() if value == "not_started"]
                guess = ""
                if in_progress:
                    guess = format_updates([Update(in_progress[0], "complete")])
                elif left:
                    guess = format_updates([Update(left[0], "start")])
                is_start = any(update.transition == "start" for update in parse_updates(turn.text))
                yield _Event(turn.text, guess, is_start)
                state = state_after(state, [turn])


def _timing(clips: list[Clip], event_margin: int) -> tuple[np.ndarray, np.ndarray]:
    """For each labelled frame: frames since the last dst_update (or the clip's start), and whether one is due."""
    since, due = [], []
    for clip in clips:
        last = clip.start_frame
        for group in frame_groups(clip, event_margin):
            if group.after or group.is_silent:
                since.append(group.frame - last)
                due.append(bool(group.after) and group.after[0].role == "dst_update")
            if any(turn.role == "dst_update" for turn in group.after):
                last = group.frame
    return np.array(since, dtype=np.int64), np.array(due, dtype=bool)


def _best_gap(clips: list[Clip], event_margin: int) -> int:
    """The rule's waiting time, in frames: fires when that many have passed; the best on `clips`."""
    since, due = _timing(clips, event_margin)
    gaps = range(int(since.max(initial=0)) + 1)
    return max(gaps, key=lambda gap: _f1(since >= gap, due) or 0.0, default=0)


def _timing_f1(clips: list[Clip], gap: int, event_margin: int) -> float | None:
    since, due = _timing(clips, event_margin)
    return _f1(since >= gap, due)


def _f1(fired: np.ndarray, due: np.ndarray) -> float | None:
    terms = MetricTerms()
    pair = np.stack([due, due], -1), np.stack([fired, fired], -1)
    terms.add_decisions(*pair, np.ones_like(due))
    tp, fp, fn = terms.hits[0, 0]
    return float(2 * tp / (2 * tp + fp + fn)) if tp + fp + fn else None
