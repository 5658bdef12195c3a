"""Claim: `prospect annotate` by alignment finds when steps were done nearer to human times than even spacing does.

    prospect import captaincook4d SOURCE --out data/captaincook4d
    prospect import howtodiv SOURCE --out data/howtodiv
    python benchmarks/align.py [--captaincook4d data/captaincook4d] [--howtodiv data/howtodiv] [--sweep]

Human times are hidden, and found again. CaptainCook4D has no dialogue: what was done is described to the aligner, a
block each time that a person worked on a step, in one of three forms: its words as they are; shuffled, with half of
them left out; noisy, which is that with ends off by a normal error of 1 s, each tenth block missing, and half as many
blocks of other recipes between them. The list of steps is in an order of the recipe, in which people did not do them,
or as they did. HowToDIV's blocks are the utterances of user and expert.

Of the human events (start and complete of each span), the share found within 2, 5 and 10 s, and of starts and of ends
within 5 s; how many steps and spans were found at all; boundaries' median difference. Beside it: each step of the list
as long as any other.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline.spans.annotate import LEAST, AlignSettings, Found, by_align
from pipeline.spans.assigned import Task, spans_of, task_of
from pipeline.spans.blocks import Block
from pipeline.spans.compare import compare
from pipeline.spans.records import Dialogue, Span, VideoSpans, read_dialogues, read_spans
from prospect.evaluation.embeddings import PACKAGED_MODEL, load_embedder

TIMES = (2, 5, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captaincook4d", type=Path, default=Path("data/captaincook4d"))
    parser.add_argument("--howtodiv", type=Path, default=Path("data/howtodiv"))
    parser.add_argument("--sweep", action="store_true", help="of `least` and `back`, on train; else val and test")
    arguments = parser.parse_args()
    embed = _remembering(load_embedder(PACKAGED_MODEL, device="cpu").embed)
    print(f"{'':34}{'2 s':>7}{'5 s':>7}{'10 s':>7}{'starts':>8}{'ends':>7}{'steps':>7}{'spans':>7}{'median':>9}")
    for folder, forms in ((arguments.captaincook4d, COOKING), (arguments.howtodiv, TALKING)):
        splits = ("train",) if arguments.sweep else ("val", "test")
        paths = [path for split in splits if (path := folder / f"{split}_spans.jsonl").exists()]
        records = [record for path in paths for record in read_spans(path)]
        if not records:
            print(f"{folder}: nothing there, skipped")
            continue
        said = [line for path in sorted(folder.glob("*_dialogues.jsonl")) for line in read_dialogues(path)]
        for name, form in forms.items():
            truth, tasks = form(records, said)
            print(f"{folder.name}, {name}: {len(truth)} videos, {sum(len(r.spans) for r in truth)} spans")
            _tell("even spacing", truth, [_even(task) for task in tasks])
            ways = [(LEAST, None), (LEAST, 0.3), (LEAST, 0.15)]
            if arguments.sweep:
                ways = [(least, back) for least in (0.25, 0.3, 0.35, 0.4, 0.5) for back in (None, 0.15, 0.3, 0.5)]
            for least, back in ways:
                found = by_align(tasks, embed, AlignSettings(PACKAGED_MODEL, least, back))
                _tell(f"align --least {least}" + (f" --back {back}" if back else ""), truth, _spans(tasks, found))
                if not arguments.sweep:
                    _tell_confidence(truth, _spans(tasks, found))


Form = Callable[[Sequence[VideoSpans], Sequence[Dialogue]], tuple[list[VideoSpans], list[Task]]]


def described(how: str, in_order: bool) -> Form:
    def form(records: Sequence[VideoSpans], _: Sequence[Dialogue]) -> tuple[list[VideoSpans], list[Task]]:
        names = sorted({step.name for record in records for step in record.steps})
        truth, tasks = list[VideoSpans](), list[Task]()
        for record in records:
            if in_order:
                first = {span.step: span.start_s for span in reversed(sorted(record.spans, key=lambda s: s.start_s))}
                steps = sorted(record.steps, key=lambda step: first.get(step.id, np.inf))
                record = record.model_copy(update={"steps": tuple(steps)})
            rng = random.Random(f"{record.video} {how}")
            truth.append(record)
            tasks.append(Task(record, record.steps, _blocks(record, how, names, rng), "blocks"))
        return truth, tasks

    return form


def spoken(records: Sequence[VideoSpans], dialogues: Sequence[Dialogue]) -> tuple[list[VideoSpans], list[Task]]:
    of_video = {record.video: [d for d in dialogues if d.video == record.video] for record in records}
    tasks = [task_of(record, of_video[record.video], "spans", "dialogues", []) for record in records]
    return list(records), tasks


COOKING = {
    f"{how}, steps {order}": described(how, order == "as done")
    for how in ("as written", "shuffled", "noisy")
    for order in ("as the recipe", "as done")
}
TALKING = {"utterances": spoken}


def _blocks(record: VideoSpans, how: str, names: Sequence[str], rng: random.Random) -> tuple[Block, ...]:
    name_of = {step.id: step.name for step in record.steps}
    blocks: list[Block] = []
    for span in record.spans:
        words = name_of[span.step].split()
        start_s, end_s = span.start_s, span.end_s
        if how != "as written":
            words = rng.sample(words, max(len(words) // 2, 1))
        if how == "noisy":
            if rng.random() < 0.1:
                continue
            start_s = max(start_s + rng.gauss(0, 1), 0)
            end_s = max(end_s + rng.gauss(0, 1), start_s)
            if rng.random() < 0.5:
                other_s = rng.uniform(0, max(s.end_s for s in record.spans))
                blocks.append(Block(start_s=other_s, end_s=other_s + 5, text=rng.choice(names)))
        blocks.append(Block(start_s=start_s, end_s=end_s, text=" ".join(words)))
    return tuple(sorted(blocks, key=lambda block: (block.start_s, block.end_s)))


def _even(task: Task) -> VideoSpans:
    """Each step of the list as long as any other, over all of the video that blocks are of."""
    record = task.record
    first, last = min(b.start_s for b in task.blocks), max(b.end_s for b in task.blocks)
    edges = np.linspace(first, last, len(task.steps) + 1)
    spans = [
        Span(step=step.id, start_s=start, end_s=end)
        for step, start, end in zip(task.steps, edges[:-1], edges[1:], strict=True)
    ]
    return record.model_copy(update={"spans": tuple(spans)})


def _spans(tasks: Sequence[Task], found: Sequence[Found]) -> list[VideoSpans]:
    return [
        task.record.model_copy(update={"spans": tuple(spans_of(task, one.choices, one.method))})
        for task, one in zip(tasks, found, strict=True)
    ]


def _tell(name: str, truth: Sequence[VideoSpans], found: Sequence[VideoSpans]) -> None:
    result = compare(truth, found)
    steps = sum(len({span.step for span in record.spans}) for record in truth)
    shares = [f"{result.within(time) / result.events_a:7.1%}" for time in TIMES]
    spans = sum(len(record.spans) for record in found) / sum(len(record.spans) for record in truth)
    of_ends = [sum(abs(gap) <= 5 for gap in result.gaps_s[end::2]) / result.events_a * 2 for end in (0, 1)]
    median = np.median(np.abs(result.gaps_s))
    steps_found = 1 - len(result.missing_b) / steps
    print(
        f"  {name:32}{''.join(shares)}{of_ends[0]:8.1%}{of_ends[1]:7.1%}{steps_found:7.1%}{spans:7.1%}{median:7.1f} s"
    )


def _tell_confidence(truth: Sequence[VideoSpans], found: Sequence[VideoSpans]) -> None:
    """Of the spans of a confidence, how many have both ends within 5 s of a human's of that step."""
    right: dict[int, list[bool]] = {}
    for human, record in zip(truth, found, strict=True):
        for span in record.spans:
            near = any(
                other.step == span.step and max(abs(other.start_s - span.start_s), abs(other.end_s - span.end_s)) <= 5
                for other in human.spans
            )
            right.setdefault(min(int((span.confidence or 0) * 4), 3), []).append(near)
    told = (f"{n / 4:g}-{(n + 1) / 4:g}: {np.mean(right[n]):.0%} of {len(right[n])}" for n in sorted(right))
    print("    spans right within 5 s by confidence: " + ", ".join(told))


def _remembering(embed: Callable[[Sequence[str]], np.ndarray]) -> Callable[[Sequence[str]], np.ndarray]:
    known: dict[str, np.ndarray] = {}

    def remembered(texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, embed(new) if new else (), strict=True))
        return np.stack([known[text] for text in texts])

    return remembered


if __name__ == "__main__":
    main()
