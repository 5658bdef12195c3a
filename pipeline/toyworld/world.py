"""What happens in a toy clip, frame by frame: which parts, in which order, what the hand does, when events stand.

A step starts at the first frame that shows its part in the hand, and completes at the first that shows it placed. In
the two frames before, nothing tells an event from a hover: the hand is over the part, as in hovers without a grasp, or
still carries it. How long the hand idles and carries is drawn with a long tail, so that timing alone tells little.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("wheel", "block", "wedge", "rod")
LEAD = 2  # frames of an event's range before the frame it stands at
MIN_FRAMES, MAX_FRAMES = 40, 90  # of a clip
AT_ONCE = 0.1  # of parts are taken as the one before is let go of: two updates of one frame
EventKind = Literal["start", "complete"]
Point = tuple[float, float]

REST: Point = (54.0, 34.0)
CENTRE: Point = (32.0, 32.0)  # where a carried part is shown, enlarged


@dataclass(frozen=True, slots=True)
class Part:
    colour: str
    shape: str
    slot: int  # place on the tray


@dataclass(frozen=True, slots=True)
class Event:
    frame: int  # where it stands
    kind: EventKind
    part: int  # index into `Episode.parts`


@dataclass(frozen=True, slots=True)
class Scene:
    """What one frame shows."""

    hand: Point
    is_open: bool  # just let go of a part
    carried: int | None
    placed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Episode:
    """One video. Parts 0..num_steps-1 are those of the steps, in the prompt's order; the rest is never used."""

    parts: tuple[Part, ...]
    num_steps: int
    events: tuple[Event, ...]
    scenes: tuple[Scene, ...]


def _partition() -> dict[frozenset[str], str]:
    """Every combination of 3 or 4 colours belongs to one split: 3/5 train, 1/5 val, 1/5 test."""
    sets = [frozenset(c) for size in (3, 4) for c in combinations(COLOURS, size)]
    order = np.random.default_rng(20261123).permutation(len(sets))
    kinds = ("train", "val", "train", "test", "train")
    return {sets[i]: kinds[place % len(kinds)] for place, i in enumerate(order)}


_SPLIT_OF = _partition()


def split_of(colours: frozenset[str]) -> str:
    """Give the only split in which clips with this combination of steps occur, hence every order of it."""
    return _SPLIT_OF[colours]


def draw_episode(
    rng: np.random.Generator, split: str, *, hard: bool, two_parts: bool, at_once: float = AT_ONCE
) -> tuple[Episode, list[int]]:
    """Draw an episode of `split` and the first frames of its clips ([0], or [0, cut]).

    `hard` lists the steps in any order; otherwise by colour. The order of execution is never that of the list.
    """
    while True:
        episode = _draw(rng, split, hard, at_once)
        count = len(episode.scenes)
        if not two_parts and MIN_FRAMES <= count <= MAX_FRAMES:
            return episode, [0]
        if two_parts:
            busy = {frame for event in episode.events for frame in range(event.frame - LEAD, event.frame + 1)}
            earliest, latest = max(MIN_FRAMES, count - MAX_FRAMES), min(MAX_FRAMES, count - MIN_FRAMES)
            cuts = [f for f in range(earliest, latest + 1) if f not in busy and f - 1 not in busy]
            if cuts:
                return episode, [0, int(rng.choice(cuts))]


def draw_combination(rng: np.random.Generator, split: str, *, hard: bool = True) -> list[str]:
    """Draw the colours of a list of steps of `split`: in any order, or without `hard` in that of COLOURS."""
    sets = sorted((s for s, owner in _SPLIT_OF.items() if owner == split), key=sorted)
    chosen = sorted(sets[rng.integers(len(sets))], key=COLOURS.index)
    return [chosen[i] for i in rng.permutation(len(chosen))] if hard else chosen


def _draw(rng: np.random.Generator, split: str, hard: bool, at_once: float) -> Episode:
    chosen = draw_combination(rng, split, hard=hard)
    order = np.arange(len(chosen))
    while (order == np.arange(len(chosen))).all():
        order = rng.permutation(len(chosen))
    spare = [colour for colour in COLOURS if colour not in chosen]
    extra = [spare[rng.integers(len(spare))]] if rng.random() < 0.5 else []
    slots = rng.permutation(5)
    parts = tuple(
        Part(colour, SHAPES[rng.integers(len(SHAPES))], int(slots[i])) for i, colour in enumerate(chosen + extra)
    )
    return _Player(rng, parts, at_once).play([int(i) for i in order], len(chosen))


def tray(part: Part) -> Point:
    """Give where the part lies before it is taken."""
    return 8.0 + 12.0 * part.slot, 55.0


def slot_in_assembly(place: int) -> Point:
    """Give where the part that was placed as number `place` sits."""
    return 9.0 + 12.0 * place, 10.0


class _Player:
    """Plays an episode forward; each method appends frames."""

    def __init__(self, rng: np.random.Generator, parts: tuple[Part, ...], at_once: float) -> None:
        self.rng, self.parts, self.at_once = rng, parts, at_once
        self.scenes: list[Scene] = []
        self.events: list[Event] = []
        self.placed: list[int] = []
        self.hand = REST

    def play(self, order: list[int], num_steps: int) -> Episode:
        self.idle(4 + self.wait(4))
        carried = None
        for position, part in enumerate(order):
            if carried is None:
                self.idle(self.wait(2))
                self.reach(part, LEAD)
                self.event("start", part)
            self.carry(part, 1 + LEAD + self.wait(0))
            self.placed.append(part)
            at_once = position + 1 < len(order) and self.rng.random() < self.at_once
            self.event("complete", part)
            carried = order[position + 1] if at_once else None
            if carried is not None:
                self.event("start", carried)
            else:
                x, y = slot_in_assembly(len(self.placed) - 1)
                self.show((x + 5, y + 8), is_open=True)
                self.idle(LEAD)
        self.idle(5 + self.wait(2))
        return Episode(self.parts, num_steps, tuple(self.events), tuple(self.scenes))

    def wait(self, least: int) -> int:
        """A long-tailed number of frames, at most 12 over `least`."""
        return least + min(int(self.rng.geometric(0.2)) - 1, 12)

    def event(self, kind: EventKind, part: int) -> None:
        """An event at the next frame to be shown."""
        self.events.append(Event(len(self.scenes), kind, part))

    def idle(self, frames: int) -> None:
        """Rest and wander; now and then hover over a part without taking it."""
        while frames > 0:
            if frames >= LEAD + 1 and self.rng.random() < 0.35:
                left = [i for i in range(len(self.parts)) if i not in self.placed]
                over = int(self.rng.integers(len(self.parts))) if not left else left[self.rng.integers(len(left))]
                count = int(self.rng.integers(LEAD, min(frames, 4) + 1))
                self.reach(over, count)
            else:
                count = min(frames, int(self.rng.integers(1, 4)))
                aim = REST if self.rng.random() < 0.5 else (self.rng.uniform(14, 58), self.rng.uniform(18, 50))
                for _ in range(count):
                    self.show(aim)
            frames -= count

    def reach(self, part: int, frames: int) -> None:
        for _ in range(frames):
            self.show(tray(self.parts[part]))

    def carry(self, part: int, frames: int) -> None:
        for _ in range(frames):
            self.show(CENTRE, carried=part)

    def show(self, aim: Point, *, is_open: bool = False, carried: int | None = None) -> None:
        x, y = aim[0] + self.rng.normal(0, 1.2), aim[1] + self.rng.normal(0, 1.2)
        self.scenes.append(Scene((x, y), is_open, carried, tuple(self.placed)))
