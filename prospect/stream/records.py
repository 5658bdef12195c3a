"""What a stream says of one frame."""

from dataclasses import dataclass
from typing import Literal

from pipeline.annotations.dst import State, Update, apply_updates


@dataclass(frozen=True, slots=True)
class Action:
    """A block that the model wrote (or was made to write) at a frame."""

    role: Literal["dst_update", "assistant"]
    text: str
    p_update: float  # the heads' probabilities at the decision that called for it
    p_speak: float


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame of a stream."""

    frame: int  # index into the frames file (or of a live stream, from 0)
    p_update: float  # the heads' probabilities at the frame itself: the first decision
    p_speak: float
    actions: tuple[Action, ...]  # in order
    p_update_last: float  # at the last decision, after all actions (of a silent frame: the first once more)
    p_speak_last: float
    context_tokens: int  # in the context after the frame
    computed_tokens: int  # that went through the model for this frame, restarts included
    is_restart: bool  # the context started over before this frame: it was full, or a person corrected the state
    seconds: float  # from the frame's features (the vision tower apart) to its last decision
    summary: str | None = None  # what was written where the context was full, and carried on; None: nothing


def tracked(state: dict[str, State], update: Update) -> dict[str, State]:
    """Give the state after `update`; unchanged where it is illegal (unconstrained generation may write such)."""
    try:
        return apply_updates(state, [update])
    except ValueError:
        return state
