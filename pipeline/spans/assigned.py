"""Blocks, which step each was found to be of, and the spans that this makes.

A block is something described (`blocks.py`) or, in a video without such, something said. A span of a step runs from
its first block to its last: nothing is known of when a step was done but what its own blocks say. In particular the
next step's start is not this one's end.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import Problem
from pipeline.spans.blocks import Block, blocks_of
from pipeline.spans.records import Dialogue, NamedStep, Span, VideoSpans

Kind = Literal["done", "repeated", "undone"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a block was found to be."""

    step: str | None  # its id; None: of no step
    kind: Kind = "done"  # repeated: work on a step that was finished begins again; undone: the block takes it back
    confidence: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A video whose steps have no times, or not all of them."""

    record: VideoSpans
    steps: tuple[NamedStep, ...]  # that blocks may be of: all but those never performed
    blocks: tuple[Block, ...]  # in the order of their times
    source: str  # where the blocks are from
    said: bool = False  # they are utterances
    num_late: int = 0  # utterances past the video's end, left out


def task_of(
    record: VideoSpans, dialogues: Sequence[Dialogue], spans_file: str, dialogues_file: str, problems: list[Problem]
) -> Task:
    """Find the blocks of a video; mistakes in them go to `problems`."""
    steps = tuple(step for step in record.steps if step.id not in record.not_performed)
    described = blocks_of(record, spans_file, problems)
    if described:
        return Task(record, steps, _in_order(described), spans_file)
    said = [
        Block(
            start_s=line.start_s,
            end_s=line.start_s if line.end_s is None else line.end_s,
            text=line.text,
            role=line.role,
        )
        for dialogue in dialogues
        for line in dialogue.lines
        if line.role != "system" and line.start_s is not None
    ]
    in_time = [block for block in said if record.duration_s is None or block.end_s <= record.duration_s]
    blocks = _in_order(dict.fromkeys(in_time))  # a video's dialogues share utterances
    return Task(record, steps, blocks, dialogues_file, said=True, num_late=len(said) - len(in_time))


def spans_of(task: Task, choices: Sequence[Choice], method: str) -> list[Span]:
    """Make spans of what each block was found to be, in the order of their starts.

    Flags: `moment` (no length: when the step was done is known, not how long), `equal_text` (the block at an end reads
    like one that was found to be something else), `equal_steps` (another step has that name), `parallel` (it overlaps
    another step's span), `repeated`, `utterances` (when it was spoken of), and those of the choices at its ends.
    """
    of_step: dict[str, list[tuple[Block, Choice]]] = defaultdict(list)
    meanings: dict[str, set[str | None]] = defaultdict(set)
    for block, choice in zip(task.blocks, choices, strict=True):
        meanings[plain(block.text)].add(choice.step)
        if choice.step is not None:
            of_step[choice.step].append((block, choice))
    names = [plain(step.name) for step in task.record.steps]
    spans: list[Span] = []
    for step in task.steps:
        for stretch in _stretches(of_step[step.id]):
            flags = {flag for _, choice in (stretch[0], stretch[-1]) for flag in choice.flags}
            if any(len(meanings[plain(block.text)]) > 1 for block, _ in (stretch[0], stretch[-1])):
                flags.add("equal_text")
            if names.count(plain(step.name)) > 1:
                flags.add("equal_steps")
            spans.append(_span(step.id, stretch, task, method, flags))
    flagged = [_with_parallel(span, spans) for span in spans]
    return sorted(flagged, key=lambda span: (span.start_s, span.end_s))


def flag_all(choices: Iterable[Choice], flag: str) -> list[Choice]:
    """Give the choices with a flag more."""
    return [replace(choice, flags=(*choice.flags, flag)) for choice in choices]


def plain(text: str) -> str:
    """Give a text as it is compared: without case and spaces that mean nothing."""
    return " ".join(text.casefold().split())


def _in_order(blocks: Iterable[Block]) -> tuple[Block, ...]:
    return tuple(sorted(blocks, key=lambda block: (block.start_s, block.end_s)))


def _stretches(assigned: Sequence[tuple[Block, Choice]]) -> Iterator[list[tuple[Block, Choice]]]:
    """A step's blocks, cut where its work is repeated, and where it is taken back: blocks that do so are alone."""
    stretch: list[tuple[Block, Choice]] = []
    for entry in assigned:
        if stretch and ("undone" in (entry[1].kind, stretch[-1][1].kind) or entry[1].kind == "repeated"):
            yield stretch
            stretch = []
        stretch.append(entry)
    if stretch:
        yield stretch


def _span(step: str, stretch: Sequence[tuple[Block, Choice]], task: Task, method: str, flags: set[str]) -> Span:
    first = stretch[0]
    last = max(stretch, key=lambda entry: entry[0].end_s)
    confidences = [choice.confidence for _, choice in (first, last) if choice.confidence is not None]
    end_s = last[0].end_s
    if end_s == first[0].start_s:
        flags.add("moment")
    if first[1].kind == "repeated":
        flags.add("repeated")
    if task.said:
        flags.add("utterances")
    return Span(
        step=step,
        start_s=first[0].start_s,
        end_s=end_s,
        outcome="undone" if first[1].kind == "undone" else "done",
        source=task.source,
        method=method,
        confidence=round(min(confidences), 4) if confidences else None,
        flags=tuple(sorted(flags)),
    )


def _with_parallel(span: Span, spans: Sequence[Span]) -> Span:
    is_parallel = any(
        other.step != span.step and other.start_s < span.end_s and span.start_s < other.end_s for other in spans
    )
    return span.model_copy(update={"flags": tuple(sorted({*span.flags, "parallel"}))}) if is_parallel else span
