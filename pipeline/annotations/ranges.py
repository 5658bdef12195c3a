"""How annotated ranges cover a clip: how much of it is silence, and whether each range reaches back to the one before.

Where it does, as in the annotation author's newer files, a range says when an event ended and no longer how long it
took; whoever sees that may want another `--max-event-frames` or `data.event_margin`.
"""

from collections import Counter

from pipeline.annotations.clips import ACTIVE_ROLES, Clip


def count_ranges(clip: Clip) -> Counter[str]:
    """Count over a clip; counts of several clips add up.

    - frames: of the clip
    - silent_frames: those at which no update and no utterance stands
    - event_ranges: different ranges of updates and utterances
    - contiguous_ranges: of these, the ones that begin at or right after the last frame of the one before
    """
    ranges = dict.fromkeys((turn.start_frame, turn.end_frame) for turn in clip.turns if turn.role in ACTIVE_ROLES)
    contiguous, before = 0, None
    for start, end in ranges:
        assert start is not None and end is not None
        contiguous += before is not None and before <= start <= before + 1
        before = end
    frames = clip.end_frame - clip.start_frame + 1
    return Counter(
        frames=frames,
        silent_frames=frames - len({end for _, end in ranges}),
        event_ranges=len(ranges),
        contiguous_ranges=contiguous,
    )


def ranges_line(counts: Counter[str]) -> str:
    """Say it in a line."""
    share = counts["silent_frames"] / max(counts["frames"], 1)
    return (
        f"{share:.1%} of {counts['frames']} frames are silent; {counts['contiguous_ranges']} of "
        f"{counts['event_ranges']} events' ranges begin where the one before ended"
    )
