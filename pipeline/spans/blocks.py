"""Blocks: what is described in a video, and when, as a record of spans keeps it in provenance["blocks"]."""

from typing import Literal

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import Problem
from pipeline.spans.records import PAST_END_S, Record, Seconds, Text, VideoSpans


class Block(Record):
    """Something seen or said."""

    start_s: Seconds
    end_s: Seconds  # start_s: a moment
    text: Text
    role: Literal["user", "assistant"] | None = None  # who said it; None: it was described


_BLOCKS = TypeAdapter(list[Block])


def blocks_of(record: VideoSpans, file: str, problems: list[Problem]) -> list[Block]:
    """Give a record's blocks, as they stand there; mistakes in them go to `problems`."""
    where = f"video {record.video!r}"
    try:
        blocks = _BLOCKS.validate_python(record.provenance.get("blocks", []))
    except ValidationError as error:
        for detail in error.errors():
            field = ".".join(map(str, ("provenance.blocks", *detail["loc"])))
            problems.append(Problem(file, where, "", field, repr(detail["input"])[:80], detail["msg"]))
        return []
    for number, block in enumerate(blocks):
        if block.end_s < block.start_s:
            expected = f"at least its start_s, {block.start_s}"
        elif record.duration_s is not None and block.end_s > record.duration_s + PAST_END_S:
            expected = f"at most the video's duration_s, {record.duration_s}"
        else:
            continue
        problems.append(Problem(file, where, "", f"provenance.blocks.{number}.end_s", str(block.end_s), expected))
    return blocks
