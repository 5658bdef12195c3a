"""What can be had without a model and without pixels: the majority, a guess by chance, the best history-only rule.

They are fitted on the training clips and judged on the reference histories of the evaluated ones, i.e. teacher-forced
like the model's own numbers.
"""

from collections import Counter
from collections.abc import Callable, Iterable
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
    chance: float  # that a guess is right: complete the step in progress, else start any one left
    is_start: bool


def baselines(train: list[Clip], evaluated: list[Clip], event_margin: int = 0) -> dict[str, dict[str, float | None]]:
    """Give metrics by name of the baseline: `majority`, `chance` and `history_only`."""
    majority = Counter(event.text for event in _events(train)).most_common(1)
    constant = majority[0][0] if majority else None
    gap = _best_gap(train, event_margin)
    return {
        "majority": {
            "should_update_dst_f1_at_frame": 0.0,  # silence, the majority at frames, finds no event
            "when_to_speak_f1_at_frame": 0.0,
            **_exact_match(evaluated, lambda event: event.text == constant),
        },
        "chance": {
            "should_update_dst_f1_at_frame": None,
            "when_to_speak_f1_at_frame": None,
            **_exact_match(evaluated, lambda event: event.chance),
        },
        "history_only": {
            "should_update_dst_f1_at_frame": _timing_f1(evaluated, gap, event_margin),
            "when_to_speak_f1_at_frame": None,
            **_exact_match(evaluated, lambda event: event.text == event.guess),
        },
    }


def _exact_match(clips: list[Clip], right: Callable[[_Event], float]) -> dict[str, float | None]:
    """Give the shares of all events and of starts whose text is `right`, or the shares to be expected."""
    events = list(_events(clips))
    starts = [event for event in events if event.is_start]
    return {
        "dst_gen_exact_match": sum(map(right, events)) / len(events) if events else None,
        "dst_gen_exact_match_start": sum(map(right, starts)) / len(starts) if starts else None,
    }


def _events(clips: Iterable[Clip]) -> Iterable[_Event]:
    for clip in clips:
        state = clip.state
        for turn in clip.turns:
            if turn.role == "dst_update":
                in_progress = [step for step, value in state.items() if value == "in_progress"]
                left = [step for step, value in state.items() if value == "not_started"]
                choices = [format_updates([Update(step, "complete")]) for step in in_progress[:1]]
                choices = choices or [format_updates([Update(step, "start")]) for step in left]
                guess = choices[0] if choices else ""
                chance = (turn.text in choices) / max(len(choices), 1)
                is_start = any(update.transition == "start" for update in parse_updates(turn.text))
                yield _Event(turn.text, guess, chance, is_start)
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
