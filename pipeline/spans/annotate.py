"""`prospect annotate`: steps without times, and what was described or said when, to spans.

A method looks at a video's blocks (`assigned.py`) and says which step each is of; the rest is the same for all: spans
are made of it, checked, and written with what made them. Steps that have spans already keep them, and so do videos that
nothing was described in. That no block is of a step does not say that it was not performed.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.progress import Progress, unwatched
from pipeline.spans.align import align
from pipeline.spans.assigned import Choice, Kind, Task, spans_of, task_of
from pipeline.spans.records import Dialogue, Span, VideoSpans, read_dialogues, read_spans, write_records

Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]  # texts (N) -> (N, D)

LEAST = 0.3  # cosine; benchmarks/align.py --sweep: .25 finds some 1% more, also of what is not there; .4 some 3% less
SCALE = 0.1  # a margin of so much is a confidence of .63
LOW_MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class AlignSettings:
    """What `align` was given; goes into each record's provenance."""

    model: str  # of the sentence embeddings
    least: float = LEAST
    back: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a method says of a video's blocks."""

    choices: Sequence[Choice]
    method: str
    about: Mapping[str, Any]  # what made it: model, parameters; for the provenance


@dataclass(slots=True)
class Annotated:
    """What was written."""

    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)  # what was left as it was, and why


def read_tasks(spans: Path, dialogues: Path | None) -> list[Task]:
    """Read what is to be annotated.

    Raises:
        InvalidInput: mistakes in the files, all of them.
        ProspectError: a file cannot be read.
    """
    said: dict[str, list[Dialogue]] = defaultdict(list)
    for dialogue in read_dialogues(dialogues) if dialogues else []:
        said[dialogue.video].append(dialogue)
    problems: list[Problem] = []
    spoken = dialogues.name if dialogues else ""
    tasks = [task_of(record, said[record.video], spans.name, spoken, problems) for record in read_spans(spans)]
    if problems:
        raise InvalidInput(problems, f"nothing was written: correct {spans}")
    if not any(task.blocks for task in tasks):
        expected = 'provenance["blocks"], or --dialogues of these videos'
        raise ProspectError(
            f"{spans}: found nothing described or said in any of {len(tasks)} videos, expected {expected}"
        )
    return tasks


def by_align(tasks: Sequence[Task], embed: Embed, settings: AlignSettings, show: Progress = unwatched) -> list[Found]:
    """Assign blocks to steps by the likeness of their texts (`align.py`), in the order of the list of steps.

    A block's confidence is 1 - exp(-margin / SCALE): 0 where another assignment would do as well.
    """
    about = {"model": settings.model, "parameters": {"least": settings.least, "back": settings.back}}
    found: list[Found] = []
    for number, task in enumerate(tasks):
        show("aligning", number, len(tasks))
        found.append(Found(_aligned(task, embed, settings), "align", about))
    show("aligning", len(tasks), len(tasks))
    return found


def annotate(tasks: Sequence[Task], found: Sequence[Found], out: Path, *, anew: bool = False) -> Annotated:
    """Write OUT, a record for each task, whole or not at all.

    Args:
        anew: steps that have spans get those found in place of them.
    """
    told = Annotated()
    records = [_annotated(task, result, anew, told) for task, result in zip(tasks, found, strict=True)]
    write_records(out, records)
    return told


def _aligned(task: Task, embed: Embed, settings: AlignSettings) -> list[Choice]:
    if not task.blocks or not task.steps:
        return [Choice(None)] * len(task.blocks)
    texts = [*(block.text for block in task.blocks), *(step.name for step in task.steps)]
    vectors = embed(texts)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    similarity = vectors[: len(task.blocks)] @ vectors[len(task.blocks) :].T  # (B, K)
    alignment = align(similarity, settings.least, settings.back)
    choices: list[Choice] = []
    last, begun = None, set[int]()
    for step, margin in zip(alignment.steps, alignment.margins, strict=True):
        if step is None:
            choices.append(Choice(None))
            continue
        is_again = step in begun and step != last
        last = step
        begun.add(step)
        flags = ("low_margin",) if margin < LOW_MARGIN else ()
        kind: Kind = "repeated" if is_again else "done"
        choices.append(Choice(task.steps[step].id, kind, 1 - exp(-margin / SCALE), flags))
    return choices


def _annotated(task: Task, found: Found, anew: bool, told: Annotated) -> VideoSpans:
    record = task.record
    there = {span.step for span in record.spans}
    made = spans_of(task, found.choices, found.method)
    kept: list[Span] = [] if anew and task.blocks else list(record.spans)
    new = [span for span in made if anew or span.step not in there]
    named = {span.step for span in (*kept, *new)}
    without = [step.id for step in task.steps if step.id not in named]
    told.counts["videos"] += 1
    told.counts["blocks"] += len(task.blocks)
    told.counts["blocks of no step"] += sum(choice.step is None for choice in found.choices)
    told.counts["utterances past the video's end, left out"] += task.num_late
    told.counts["spans found"] += len(new)
    told.counts["spans kept"] += len(kept)
    told.counts["steps without a block"] += len(without)
    told.counts.update(f"flagged {flag}" for span in new for flag in span.flags)
    if not task.blocks:
        told.notes.append(f"video {record.video!r}: nothing is described or said in it, left as it was")
        return record
    about = {"method": found.method, **found.about, "blocks": task.source, "no_block": without}
    return record.model_copy(
        update={
            "spans": tuple(sorted((*kept, *new), key=lambda span: (span.start_s, span.end_s))),
            "provenance": {**record.provenance, "annotate": about},
        }
    )
