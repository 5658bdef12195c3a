"""A clip to its turn samples (docs/design.md §4): active turns, and the runs of silent frames between them.

An active sample holds the last `max_event_frames` frames of its turn's range, the whole of a shorter one: where each
turn begins where the one before ended, a range is all the time between two events. Every other frame is silent. Silent
runs are cut before a frame at which a user or system turn stands, before the next active sample, at the clip's end, and
at `max_silent_frames`.
"""

from collections.abc import Iterator

from pipeline.annotations.clips import ACTIVE_ROLES, Clip, Turn
from pipeline.annotations.dst import apply_updates, parse_updates
from pipeline.shards.sample import Kind, Next, TurnSample


def expand(clip: Clip, max_silent_frames: int, max_event_frames: int) -> list[TurnSample]:
    """Cut `clip` into its samples, in order; every frame of the clip is in at least one."""
    return list(samples_of(clip, max_silent_frames, max_event_frames))


def samples_of(clip: Clip, max_silent_frames: int, max_event_frames: int) -> Iterator[TurnSample]:
    """Give the samples of `expand` one after the other: each holds every turn before it."""
    runs = list(_silent_runs(clip, max_silent_frames, max_event_frames))
    items = _timeline(clip, runs)
    num_samples = sum(not isinstance(item, Turn) or item.role in ACTIVE_ROLES for item in items)
    state, history, count = clip.state, 0, 0
    for place, item in enumerate(items):
        if isinstance(item, Turn) and item.role not in ACTIVE_ROLES:
            history += 1
            continue
        target = item if isinstance(item, Turn) else None
        frames = _held(item, max_event_frames) if isinstance(item, Turn) else range(item[0], item[1] + 1)
        is_last = count == num_samples - 1
        after = history + (target is not None)
        yield TurnSample(
            clip=clip,
            num_samples=num_samples,
            sample_idx=count,
            kind=_kind(item),
            start_frame=frames.start,
            end_frame=frames.stop - 1,
            dst_state=tuple(state.values()),
            history=clip.turns[:history],
            target=target,
            next=_next(items[place + 1] if place + 1 < len(items) else None),
            trailing=clip.turns[after:] if is_last else (),
        )
        history, count = after, count + 1
        if target and target.role == "dst_update":
            state = apply_updates(state, parse_updates(target.text))


_Item = Turn | tuple[int, int]  # a turn, or the first and last frame of a silent run


def _timeline(clip: Clip, runs: list[tuple[int, int]]) -> list[_Item]:
    """Turns and silent runs in the order of the sequence."""
    items: list[_Item] = []
    for turn in clip.turns:
        # A silent run comes before a turn that stands at a later frame. One that starts at the turn's own frame comes
        # after it: such a turn is a user or system turn, which stands before its frame.
        while runs and turn.end_frame is not None and runs[0][0] < turn.end_frame:
            items.append(runs.pop(0))
        items.append(turn)
    return [*items, *runs]


def _held(turn: Turn, max_event_frames: int) -> range:
    """The frames of an active turn's sample."""
    assert turn.start_frame is not None and turn.end_frame is not None
    return range(max(turn.start_frame, turn.end_frame - max_event_frames + 1), turn.end_frame + 1)


def _silent_runs(clip: Clip, max_silent_frames: int, max_event_frames: int) -> Iterator[tuple[int, int]]:
    active, cuts = set[int](), set[int]()
    for turn in clip.turns:
        if turn.role in ACTIVE_ROLES:
            active.update(_held(turn, max_event_frames))
        elif turn.end_frame is not None:
            cuts.add(turn.end_frame)
    start: int | None = None
    for frame in range(clip.start_frame, clip.end_frame + 1):
        if start is not None and (frame in active or frame in cuts or frame - start == max_silent_frames):
            yield start, frame - 1
            start = None
        if start is None and frame not in active:
            start = frame
    if start is not None:
        yield start, clip.end_frame


def _kind(item: _Item) -> Kind:
    if not isinstance(item, Turn):
        return "silent"
    assert item.role in ("dst_update", "assistant")
    return item.role


def _next(item: _Item | None) -> Next:
    if item is None:
        return "end"
    return item.role if isinstance(item, Turn) else "silent"
