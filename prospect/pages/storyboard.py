"""Which frames tell a clip, and what happens at them in words: for contact sheets, and for cards of clips on pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.annotations.clips import Clip, Turn
from pipeline.annotations.dst import parse_updates

MOST_SHOTS = 25  # rows of a sheet, filled
Look = Literal["update", "speak", "user"]
LOOKS: dict[str, Look] = {"dst_update": "update", "assistant": "speak", "user": "user"}


@dataclass(frozen=True, slots=True)
class Event:
    """What stands at a frame."""

    look: Look  # its colour by meaning, and the word for it
    text: str


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame of a storyboard."""

    frame: int  # an index into the Arrow file
    time_s: float  # of the video
    events: tuple[Event, ...]


def storyboard(clip: Clip, most: int = MOST_SHOTS) -> list[Shot]:
    """Choose at most `most` frames of a clip, in order: those at which something stands come first in line, the rest
    lie evenly between them."""
    events: dict[int, list[Event]] = {}
    for turn in clip.turns:
        if turn.role in LOOKS and turn.end_frame is not None and turn.end_frame >= clip.start_frame:
            events.setdefault(turn.end_frame, []).append(event_of(turn, clip))
    frames = range(clip.start_frame, clip.end_frame + 1)
    chosen = evenly(sorted(events), most)
    chosen += evenly([frame for frame in frames if frame not in events], most - len(chosen))
    return [Shot(frame, frame / clip.fps, tuple(events.get(frame, ()))) for frame in sorted(chosen)]


def event_of(turn: Turn, clip: Clip) -> Event:
    """Give a turn in words: of updates each transition with its step's name."""
    return Event(LOOKS[turn.role], updates_in_words(turn.text, clip.names) if turn.role == "dst_update" else turn.text)


def updates_in_words(text: str, names: Mapping[str, str]) -> str:
    """Write `S3->complete` as `S3 complete: Attach the wheel`; `names` are the steps' by their ids."""
    return "; ".join(f"{one.step} {one.transition}: {names[one.step]}" for one in parse_updates(text))


def evenly(places: Sequence[int], most: int) -> list[int]:
    """Take all, or the middle ones of `most` even stretches: of 0..5, two are 1 and 4."""
    if len(places) <= most:
        return list(places)
    return [places[(2 * number + 1) * len(places) // (2 * most)] for number in range(most)]
