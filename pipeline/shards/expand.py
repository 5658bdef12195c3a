"""A clip to its turn samples (docs/design.md §4): active turns, and the runs of silent frames between them.

A frame in any active turn's range is never silent. Silent runs are cut before a frame at which a user or system turn
stands, before the next active range, at the clip's end, and at `max_silent_frames`.
"""

from collections.abc import Iterator

from pipeline.annotations.clips import ACTIVE_ROLES, Clip, Turn
from pipeline.annotations.dst import apply_updates, parse_updates
from pipeline.shards.sample import Kind, Next, TurnSample


def expand(clip: Clip, max_silent_frames: int) -> list[TurnSample]:
    """Cut `clip` into its samples, in order; every frame of the clip is in at least one."""
    items = _timeline(clip, max_silent_frames)
    num_samples = sum(not isinstance(item, Turn) or item.role in ACTIVE_ROLES for item in items)
    state, history, samples = clip.state, 0, list[TurnSample]()
    for place, item in enumerate(items):
        if isinstance(item, Turn) and item.role not in ACTIVE_ROLES:
            history += 1
            continue
        target = item if isinstance(item, Turn) else None
        is_last = len(samples) == num_samples - 1
        after = history + (target is not None)
        samples.append(
            TurnSample(
                clip=clip,
                num_samples=num_samples,
                sample_idx=len(samples),
                kind=_kind(item),
                start_frame=_first(item),
                end_frame=_last(item),
                dst_state=tuple(state.values()),
                history=clip.turns[:history],
                target=target,
                next=_next(items[place + 1] if place + 1 < len(items) else None),
                trailing=clip.turns[after:] if is_last else (),
            )
        )
        history = after
        if target and target.role == "dst_update":
            state = apply_updates(state, parse_updates(target.text))
    return samples


_Item = Turn | tuple[int, int]  # a turn, or the first and last frame of a silent run


def _timeline(clip: Clip, max_silent_frames: int) -> list[_Item]:
    """Turns and silent runs in the order of the sequence."""
    runs = list(_silent_runs(clip, max_silent_frames))
    items: list[_Item] = []
    for turn in clip.turns:
        # A silent run comes before a turn that stands at a later frame. One that starts at the turn's own frame comes
        # after it: such a turn is a user or system turn, which stands before its frame.
        while runs and turn.end_frame is not None and runs[0][0] < turn.end_frame:
            items.append(runs.pop(0))
        items.append(turn)
    return [*items, *runs]


def _silent_runs(clip: Clip, max_silent_frames: int) -> Iterator[tuple[int, int]]:
    active, cuts = set[int](), set[int]()
    for turn in clip.turns:
        if turn.start_frame is None or turn.end_frame is None:
            continue
        if turn.role in ACTIVE_ROLES:
            active.update(range(turn.start_frame, turn.end_frame + 1))
        else:
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


def _first(item: _Item) -> int:
    first = item.start_frame if isinstance(item, Turn) else item[0]
    assert first is not None
    return first


def _last(item: _Item) -> int:
    last = item.end_frame if isinstance(item, Turn) else item[1]
    assert last is not None
    return last


def _next(item: _Item | None) -> Next:
    if item is None:
        return "end"
    return item.role if isinstance(item, Turn) else "silent"
