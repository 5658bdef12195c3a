"""The token sequence of a sample as the model sees it, from the code that trains, with what is learned at each token.

    context  plain           LM target  green        DST target  magenta
    decision 0,0  on blue    decision 1  on red      frame without a label  on grey

A decision is learned at the last token of a block; the labels of both heads follow it in brackets.
"""

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from pipeline.shards.sample import TurnSample, rebuild_clip
from prospect.config import DataConfig
from prospect.data.sequences import part_sequence, parts_of
from prospect.layout import (
    CONTEXT,
    DST_TARGET,
    IGNORE,
    LM_TARGET,
    Tokens,
    TokenSequence,
)
from prospect.turn_layout import turn_sequence

TARGETS = {CONTEXT: "dim", LM_TARGET: "green", DST_TARGET: "magenta"}
NAMES = {CONTEXT: "context", LM_TARGET: "lm", DST_TARGET: "dst_gen"}
LEGEND = (
    ("context", "dim"), ("LM target", "green"), ("DST target", "magenta"), ("decision 0,0", "white on blue"),
    ("decision 1", "white on red"), ("frame without a label", "white on grey37"),
)  # fmt: skip


def sequence_of(sample: TurnSample, clip: Sequence[TurnSample], tokens: Tokens, data: DataConfig) -> TokenSequence:
    """Give the sequence that a sample is trained in: its own (`turn` packing), or the part of its clip where it ends.

    `clip` is all samples of its clip. Silent frames are all labelled, as in validation; training draws from them.
    """
    if data.packing == "turn":
        coming = next((s.target for s in clip if s.sample_idx > sample.sample_idx and s.target), None)
        next_event = coming.end_frame if coming else None
        following = coming.role if coming and sample.target and next_event == sample.end_frame else None
        return turn_sequence(tokens, sample, following, next_event=next_event, event_margin=data.event_margin)
    whole = rebuild_clip(clip)
    parts = parts_of(whole, tokens, data)
    part = next(part for part in parts if part.first_frame <= sample.end_frame <= part.last_frame)
    return part_sequence(whole, part, tokens, data)


def token_rows(sequence: TokenSequence, tokenizer: Any) -> list[dict[str, Any]]:
    """Give one record a token: position, id, text, what it is a target of, and the decision learned at it, if any."""
    rows = []
    for position, token in enumerate(sequence.ids):
        update, speak = sequence.update_labels[position], sequence.speak_labels[position]
        rows.append(
            {
                "position": position,
                "id": token,
                "text": tokenizer.decode([token]),
                "target": NAMES[sequence.target_kind[position]],
                "should_update_dst": None if update == IGNORE else update,
                "when_to_speak": None if speak == IGNORE else speak,
                "at_frame": bool(sequence.at_frame[position]),
            }
        )
    return rows


def token_view(sequence: TokenSequence, tokenizer: Any, image_token: int) -> Text:
    """Colour the sequence; a frame's <image> tokens are drawn as one, with the frame's number."""
    text = Text()
    for name, style in LEGEND:
        text.append(f" {name} ", style=style).append("  ")
    num_images = sequence.ids.count(image_token)
    a_frame = num_images // max(len(sequence.frames), 1)
    text.append(f"\n{len(sequence)} tokens, {len(sequence.frames)} frames of {a_frame} <image> tokens\n\n")
    frames = iter(sequence.frames)
    for position, token in enumerate(sequence.ids):
        update, speak = sequence.update_labels[position], sequence.speak_labels[position]
        if token == image_token and not sequence.at_frame[position]:
            continue  # of a frame that is drawn at its last token
        style = TARGETS[sequence.target_kind[position]]
        piece = tokenizer.decode([token])
        if sequence.at_frame[position]:
            piece, style = f"[frame {next(frames)}]", "white on grey37"
        label = ""
        if update != IGNORE:
            label, style = f"({update},{speak})", "white on red" if update or speak else "white on blue"
        text.append(piece.replace("\n", "⏎"), style=style).append(label, style="bold")
        text.append("\n" * piece.count("\n"))
    return text
