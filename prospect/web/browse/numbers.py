"""A split in numbers: lengths, gaps, transitions by step, words, and what of it training never shows.

They are added up clip by clip while clips are read, of clips with mistakes as far as they can be read.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.annotations.clips import ACTIVE_ROLES
from pipeline.annotations.dst import MOVES
from pipeline.annotations.edits import Draft, role_of, steps_of, transitions_of
from prospect.web.review.views import text_of

MOST_BINS, MOST_LISTED = 14, 100  # of a plot; of a table
NICE = (1, 2, 2.5, 5, 10)  # widths of bins, times a power of ten
Ranges = Sequence[tuple[int, int] | None]  # of a clip's turns: first and last frame


@dataclass(slots=True)
class Numbers:
    """What is counted of a split."""

    lengths: list[float] = field(default_factory=list)  # seconds, one a clip
    gaps: list[float] = field(default_factory=list)  # seconds from an update or utterance to the next, in a clip
    utterances: list[int] = field(default_factory=list)  # words of each
    words: Counter[str] = field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)  # (step, transition)
    orders: Counter[tuple[str, str]] = field(default_factory=Counter)  # a step that is started, and the next one
    sets: Counter[tuple[str, ...]] = field(default_factory=Counter)  # the steps that are worked on in a clip
    frames: int = 0
    events: int = 0  # frames at which something is updated or said

    def add(self, draft: Draft, ranges: Ranges, first: int, last: int, fps: float) -> None:
        """Count a clip in, of frames first to last (inclusive)."""
        names = {step: name or step for step, name in steps_of(draft)}
        roles = [role_of(item.value) for item in draft.items]
        placed = [place for place, role in zip(ranges, roles, strict=True) if place and role in ACTIVE_ROLES]
        frames = sorted({place[1] for place in placed if first <= place[1] <= last})
        self.lengths.append((last - first + 1) / fps)
        self.gaps += [(after - before) / fps for before, after in pairwise(frames)]
        self.frames += last - first + 1
        self.events += len(frames)
        started = []
        worked = set()
        for item, role in zip(draft.items, roles, strict=True):
            if role == "assistant":
                said = text_of(item.value).lower().split()
                self.utterances.append(len(said))
                self.words.update(word.strip(".,;:!?\"'()…") for word in said)
            for step, transition in transitions_of(item.value):
                name = names.get(step, step)
                self.transitions[name, transition] += 1
                worked.add(name)
                started += [name] if transition == "start" else []
        self.orders.update(pairwise(started))
        if worked:
            self.sets[tuple(sorted(worked))] += 1

    def record(self) -> dict[str, Any]:
        """Give what a page shows."""
        words = {word: count for word, count in self.words.items() if word}
        steps: Counter[str] = Counter()
        for (step, _), count in self.transitions.items():
            steps[step] += count
        return {
            "clips": len(self.lengths),
            "seconds": sum(self.lengths),
            "frames": self.frames,
            "silence": 1 - self.events / max(self.frames, 1),
            "updates": self.transitions.total(),
            "utterances": len(self.utterances),
            "plots": [
                {"title": "Length of a clip", "unit": "s", "of": "clips", **distribution(self.lengths)},
                {"title": "Silence between two events", "unit": "s", "of": "gaps", **distribution(self.gaps)},
                {
                    "title": "Words of an utterance",
                    "unit": "words",
                    "of": "utterances",
                    **distribution(self.utterances),
                },
            ],
            "transitions": list(MOVES),
            "num_steps": len(steps),
            "steps": [
                {"step": step, "counts": [self.transitions[step, name] for name in MOVES]}
                for step, _ in steps.most_common(MOST_LISTED)
            ],
            "num_words": len(words),
            "words": [{"word": word, "count": count} for word, count in Counter(words).most_common(MOST_LISTED)],
        }

    def unseen(self, train: "Numbers") -> list[dict[str, Any]]:
        """List what is here and not in training: steps, two steps in a row, the steps of a clip together."""
        own, learned = ({step for step, _ in numbers.transitions} for numbers in (self, train))
        steps = Counter({step: sum(self.transitions[step, name] for name in MOVES) for step in own})
        return [
            _unseen("Steps", "step", steps, learned, lambda step: (step,)),
            _unseen("Two steps in a row", "pair", self.orders, set(train.orders), lambda pair: pair),
            _unseen("The steps of a clip together", "set", self.sets, set(train.sets), lambda steps: steps),
        ]


def distribution(values: Sequence[float]) -> dict[str, Any]:
    """Give counts in bins of a round width, from 0 or below the least, and the usual numbers."""
    if not values:
        return {"count": 0, "numbers": {}, "bins": []}
    array = np.asarray(values, dtype=np.float64)
    low, high = float(array.min()), float(array.max())
    base = 0.0 if low < high / 2 else low
    raw = max(high - base, high / 100, 1e-6) / MOST_BINS  # of values that are all the same too
    power = 10.0 ** np.floor(np.log10(raw))
    width = next(float(nice * power) for nice in NICE if nice * power >= raw * (1 - 1e-9))
    if all(float(value).is_integer() for value in (low, high)) and bool((array % 1 == 0).all()):
        width = max(1.0, np.ceil(width))
    start = np.floor(base / width) * width
    edges = start + width * np.arange(int((high - start) // width) + 2)
    counts, _ = np.histogram(array, edges)
    numbers = {
        "least": low, "mean": float(array.mean()), "median": float(np.median(array)),
        "95% below": float(np.percentile(array, 95)), "most": high,
    }  # fmt: skip
    bins = [
        {"from": round(float(a), 6), "to": round(float(b), 6), "count": int(n)}
        for a, b, n in zip(edges, edges[1:], counts, strict=False)
    ]
    return {"count": len(values), "numbers": {name: round(value, 2) for name, value in numbers.items()}, "bins": bins}


def _unseen(title: str, what: str, own: Counter[Any], learned: set[Any], parts: Any) -> dict[str, Any]:
    new = Counter({one: count for one, count in own.items() if one not in learned})
    listed: Iterable[tuple[Any, int]] = new.most_common(MOST_LISTED)
    return {
        "title": title,
        "what": what,
        "total": len(own),
        "unseen": len(new),
        "listed": [{"steps": list(parts(one)), "count": count} for one, count in listed],
    }
