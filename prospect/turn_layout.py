"""`turn` packing: each sample a sequence of its own (docs/design.md §5), of the blocks and labels of `layout.py`."""

from collections.abc import Callable, Iterator, Sequence

from pipeline.annotations.clips import ACTIVE_ROLES, Role, Turn, prompt_text
from pipeline.shards.sample import TurnSample
from prospect.layout import SILENT, Tokens, TokenSequence, decision_before, just_before


def turn_sequence(
    tokens: Tokens,
    sample: TurnSample,
    following: Role | None,
    keep: Callable[[int], bool] = lambda frame: True,
    next_event: int | None = None,
    event_margin: int = 0,
) -> TokenSequence:
    """Lay out one sample. Earlier turns are text; frames of a silent sample that are not kept are left out, never
    decoded.

    Each decision of a clip is learned in exactly one of its samples: a silent frame's in the first sample that holds
    it, a frame's at which turns stand in that of the first of them, the one after a block in that block's sample.

    Args:
        following: role of the active turn after the target at the same frame, if any.
        keep: which frames are learned from where they are silent.
        next_event: frame of the first active turn after this sample, if any.
        event_margin: so many frames before an event have no label.
    """
    sequence = TokenSequence()
    sequence.add(tokens.prompt(prompt_text(sample.clip.steps, sample.clip.state)))
    inside = [turn for turn in sample.history if turn.end_frame is not None and turn.end_frame >= sample.start_frame]
    for turn in sample.history[: len(sample.history) - len(inside)]:
        sequence.add(tokens.turn(turn))
    silent = set(_silent_frames(sample, inside, next_event, event_margin))
    for frame in sample.frames:
        here = [turn for turn in inside if turn.end_frame == frame]
        for turn in here:
            if turn.role not in ACTIVE_ROLES:
                sequence.add(tokens.turn(turn))
        is_kept = keep(frame)
        if sample.target or is_kept:
            sequence.add_frame(tokens.frame, frame)
        earlier = [turn for turn in here if turn.role in ACTIVE_ROLES]
        if frame in silent and is_kept:
            sequence.decide(SILENT, silent_frame=frame)
        elif sample.target and frame == sample.end_frame and not earlier:
            sequence.decide(decision_before(sample.target.role))
        for turn in earlier:
            sequence.add(tokens.turn(turn))
    if sample.target:
        sequence.add_target(tokens.turn(sample.target), sample.target)
        sequence.decide(decision_before(following))
    return sequence


def _silent_frames(
    sample: TurnSample, inside: Sequence[Turn], next_event: int | None, event_margin: int
) -> Iterator[int]:
    """The frames at which silence is due, as far as no earlier sample holds them.

    A frame of an earlier active turn's range that comes within this sample's frames lies in that turn's sample too:
    that turn stands no later, and samples hold the last so many frames.
    """
    active = [turn for turn in inside if turn.role in ACTIVE_ROLES]
    events = {turn.end_frame for turn in active if turn.end_frame is not None}
    events |= {sample.end_frame} if sample.target else set()
    held = [
        range(turn.start_frame, turn.end_frame) for turn in active if turn.start_frame is not None and turn.end_frame
    ]
    unsure = just_before(events if next_event is None else events | {next_event}, event_margin)
    for frame in sample.frames:
        if frame not in events and frame not in unsure and not any(frame in frames for frames in held):
            yield frame
