"""What a model is told of the task, and what it carries from one context to the next (docs/design.md §9).

- `dst`: the state, which the model tracks by its updates;
- `summary`: a text, as in ProAssist (arXiv 2506.05904), that the model writes where a context is full;
- `none`: nothing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from pipeline.annotations.clips import Clip, Progress, Turn
from pipeline.annotations.dst import State, apply_updates, parse_updates, state_in_words

Memory = Literal["dst", "summary", "none"]
Knowledge = Literal["steps", "goal", "none"]  # what the prompt tells of the task
NOTHING_YET = "Nothing is done yet."  # the summary where no progress text stands before


def as_learned(clip: Clip, memory: Memory, knowledge: Knowledge = "steps") -> Clip:
    """Give the clip as a model sees it that carries `memory` and is told `knowledge` of the task.

    With `dst` no progress texts are left. Otherwise the model only speaks: no dst_update turns, no state in the prompt
    of any part. With `summary` there are progress texts, the annotation's, or where a clip has none, its states in
    words; the first stands before the clip, "" where nothing is known.
    """
    shown = replace(clip, goal=clip.goal if knowledge == "goal" else "", progress=())
    if memory == "dst":
        return shown
    steps = clip.steps if knowledge == "steps" else ()
    untouched: list[State] = ["not_started" for _ in steps]
    turns = tuple(turn for turn in clip.turns if turn.role != "dst_update")
    progress = tuple(_progress(clip)) if memory == "summary" else ()
    return replace(shown, turns=turns, steps=steps, initial_state=tuple(untouched), progress=progress)


def _progress(clip: Clip) -> Iterator[Progress]:
    before = clip.start_frame - 1
    first = [progress.text for progress in clip.progress if progress.frame <= before]
    yield Progress(before, first[-1] if first else state_in_words(clip.names, clip.state))
    if clip.progress:
        yield from (progress for progress in clip.progress if progress.frame > before)
        return
    state = clip.state
    for turn in clip.turns:
        if turn.role == "dst_update" and turn.end_frame is not None:
            state = state_after(state, [turn])
            yield Progress(turn.end_frame, state_in_words(clip.names, state))


def summary_before(clip: Clip, frame: int) -> str:
    """Give what is written where a context ends before `frame` (not the clip's first), of a clip as learned with
    `summary`: the latest progress text."""
    return next((one.text for one in reversed(clip.progress) if one.frame < frame), "") or NOTHING_YET


def kept_free(memory: Memory, reserve: int) -> int:
    """Count the tokens that a context keeps free before each frame: `reserve` for the turns of the frame and, where
    summaries are written, as many for the one that ends the context."""
    return 2 * reserve if memory == "summary" else reserve


def state_after(state: dict[str, State], turns: Iterable[Turn]) -> dict[str, State]:
    for turn in turns:
        if turn.role == "dst_update":
            state = apply_updates(state, parse_updates(turn.text))
    return state
