"""What a language model is asked about a video's blocks, and the check of what it answers.

The question has the steps and the blocks' texts, in order, and nothing else: no name of the video, no times. So two
cameras of one video ask the same, and the answers' cache (`pipeline/endpoint/cache.py`) asks once. Whoever changes a
word here changes `TEMPLATE`, and with it the key of every answer.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, StrictInt, StrictStr

from pipeline.endpoint.asking import InvalidAnswer, key_of, one_line, read_json
from pipeline.spans.assigned import Choice
from pipeline.spans.blocks import Block
from pipeline.spans.records import NamedStep

CONTEXT = 5  # blocks before those of a question, shown with it
TOKENS_PER_BLOCK = 20  # of an answer, about

SYSTEM = """\
You annotate a video of a procedural task. You get the steps of the task, and blocks: what was described or said in \
the video, in the order of time. Decide for each block which one step it shows being worked on, or null if it shows \
none of them: preparation, waiting, talk, or work in no step. What is said shows a step if work on it begins, goes on \
or has just ended then. Steps may be done in another order than listed, several \
times, side by side, or never. Do not give a step to a block only so that each step has one.
kind is "done" if the block is work on the step; "undone" if it takes back what the step did (removes, detaches, \
discards); "repeated" if the step was finished in an earlier block and this block begins it once more.
Answer with JSON alone: {"blocks": [{"block": 1, "step": "ID or null", "kind": "done"}, ...]}, each block once."""
USER = "Steps:\n{steps}\n\n{before}Blocks:\n{blocks}"
BEFORE = "What came before these blocks:\n{texts}\n\n"
REPAIR = (
    "That answer cannot be used: {reason}. Give the whole answer again, as JSON alone, with the blocks 1 to {count} "
    "and the step ids {ids} (or null)."
)


class _Answered(BaseModel):
    block: StrictInt
    step: StrictStr | None
    kind: Literal["done", "repeated", "undone"] = "done"


class _Answer(BaseModel):
    blocks: list[_Answered]


@dataclass(frozen=True, slots=True)
class BlockQuestion:
    """Some blocks of a video, and its steps."""

    steps: tuple[NamedStep, ...]
    blocks: tuple[str, ...]  # texts
    before: tuple[str, ...]  # texts of the blocks before them

    def messages(self) -> list[dict[str, str]]:
        steps = "\n".join(f"{step.id}: {step.name}" for step in self.steps)
        blocks = "\n".join(f"{number}: {one_line(text)}" for number, text in enumerate(self.blocks, 1))
        before = BEFORE.format(texts="\n".join(map(one_line, self.before))) if self.before else ""
        user = USER.format(steps=steps, blocks=blocks, before=before)
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]

    def wanted(self, reason: str) -> str:
        """Say what is wanted in place of an answer that cannot be used."""
        ids = ", ".join(step.id for step in self.steps)
        return REPAIR.format(reason=reason, count=len(self.blocks), ids=ids)

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema of an answer."""
        ids = [step.id for step in self.steps]
        block = {
            "block": {"type": "integer"},
            "step": {"anyOf": [{"type": "string", "enum": ids}, {"type": "null"}]},
            "kind": {"type": "string", "enum": ["done", "repeated", "undone"]},
        }
        item = {"type": "object", "properties": block, "required": list(block), "additionalProperties": False}
        return {
            "type": "object",
            "properties": {"blocks": {"type": "array", "items": item}},
            "required": ["blocks"],
            "additionalProperties": False,
        }

    def key(self, model: str, parameters: Mapping[str, Any]) -> str:
        """Give the key of an answer."""
        steps = [[step.id, step.name] for step in self.steps]
        return key_of(TEMPLATE, model, parameters, steps, self.blocks, self.before)

    def answer_tokens(self) -> int:
        """Estimate the tokens of an answer."""
        return TOKENS_PER_BLOCK * len(self.blocks)

    def read(self, answer: str) -> tuple[Choice, ...]:
        """Read and check an answer: a choice for each block. A block that it does not name is of no step.

        Raises:
            InvalidAnswer: it is no JSON of the form, names an unknown step or block, or a block twice.
        """
        read = read_json(answer, _Answer)
        ids = {step.id for step in self.steps}
        choices: dict[int, Choice] = {}
        for entry in read.blocks:
            if not 1 <= entry.block <= len(self.blocks):
                raise InvalidAnswer(f"block {entry.block} is not one of 1 to {len(self.blocks)}")
            if entry.block in choices:
                raise InvalidAnswer(f"block {entry.block} is named twice")
            if entry.step is not None and entry.step not in ids:
                raise InvalidAnswer(f"step {entry.step[:40]!r} of block {entry.block} is unknown")
            choices[entry.block] = Choice(entry.step, entry.kind if entry.step is not None else "done")
        return tuple(choices.get(number, Choice(None)) for number in range(1, len(self.blocks) + 1))


_FORM = json.dumps(BlockQuestion((), (), ()).schema())
TEMPLATE = hashlib.sha256("\0".join((SYSTEM, USER, BEFORE, REPAIR, _FORM, str(CONTEXT))).encode()).hexdigest()[:16]


def questions_of(steps: Sequence[NamedStep], blocks: Sequence[Block], most_blocks: int) -> list[BlockQuestion]:
    """Cut a video's blocks into questions of at most `most_blocks`, as equal as can be."""
    count = -(-len(blocks) // most_blocks)
    edges = [len(blocks) * number // count for number in range(count + 1)] if count else []
    texts = tuple(f"{block.role}: {block.text}" if block.role else block.text for block in blocks)
    return [
        BlockQuestion(tuple(steps), texts[first:last], texts[max(first - CONTEXT, 0) : first])
        for first, last in pairwise(edges)
    ]
