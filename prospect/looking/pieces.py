"""A token sequence read back: cut into frames and blocks by its token ids alone, and decoded to text.

The inverse of `prospect/layout.py` by other means, for the auditor: nothing of how the sequence was made is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.annotations.clips import Role
from prospect.layout import HEADERS, SUMMARY_HEADER, TokenSequence
from prospect.setup import Blueprint


@dataclass(frozen=True, slots=True)
class Piece:
    """A frame, or a text block, of a sequence; cut by token ids."""

    role: Role | Literal["summary"] | None  # None: a frame
    text: str  # of a block, without header; of a frame: empty
    frame: int  # of a frame: its index; of a block: the frame before it, or -1
    first: int  # positions of its tokens
    last: int
    end: int  # position of <end_of_utterance>; of a frame: last


def cut(sequence: TokenSequence, blueprint: Blueprint) -> Iterator[Piece]:
    """Cut a sequence into frames and blocks, found by token ids alone and decoded."""
    tokens, first, frame = blueprint.tokens, 0, -1
    frames = iter(sequence.frames)
    image_end = len(tokens.frame.ids) - 1
    position = 0
    while position < len(sequence):
        token = sequence.ids[position]
        if token == tokens.frame.ids[0] and position == first:
            last = min(position + image_end, len(sequence) - 1)
            frame = next(frames, -2)
            yield Piece(None, "", frame, first, last, last)
            position = first = last + 1
        elif token == tokens.end_of_utterance:
            last = min(position + len(tokens.newline), len(sequence) - 1)
            role, text = _decoded(sequence.ids[first:position], blueprint)
            yield Piece(role, text, frame, first, last, position)
            position = first = last + 1
        else:
            position += 1
    if first < len(sequence):
        role, text = _decoded(sequence.ids[first:], blueprint)
        yield Piece(role, text, frame, first, len(sequence) - 1, len(sequence) - 1)


def text_of(ids: list[int], blueprint: Blueprint) -> str:
    text: str = blueprint.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


def _decoded(ids: list[int], blueprint: Blueprint) -> tuple[Role | Literal["summary"], str]:
    text = text_of(ids, blueprint).removeprefix("<|im_start|>")
    headers: list[tuple[Role | Literal["summary"], str]] = [*HEADERS.items(), ("summary", SUMMARY_HEADER)]
    for role, header in headers:
        if text.startswith(f"{header} "):
            return role, text[len(header) + 1 :]
    return "system", text
