"""Blocks to steps by a language model behind a URL: all questions, then the answers that are missing, then choices.

    plan = plan_questions(tasks, sampling)        what is asked, a key each; the same question is asked once
    ask(plan.questions, client, cache, ...)       those that the cache lacks (`pipeline/endpoint/asking.py`)
    by_endpoint(plan, cache, ..., fallback)       choices of the answers; a video without a valid one by `align`

An answer is checked before it is kept: known steps, blocks that were asked about. A video that has no answer that can
be used is aligned in place, flagged `endpoint_failed`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.endpoint.asking import Asked, Questions, Sampling
from pipeline.endpoint.cache import AnswerCache
from pipeline.spans.annotate import Found
from pipeline.spans.assigned import Choice, Task, flag_all
from pipeline.spans.block_question import TEMPLATE, questions_of

LOW_AGREEMENT = 0.6
BLOCKS_PER_CALL = 60


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be asked."""

    sampling: Sampling
    blocks_per_call: int
    questions: Questions[tuple[Choice, ...]]
    keys: Sequence[Sequence[Sequence[str]]]  # of each task's questions' samples


def plan_questions(tasks: Sequence[Task], sampling: Sampling, blocks_per_call: int = BLOCKS_PER_CALL) -> Plan:
    """List what is asked. A video without blocks asks nothing."""
    asked: dict[str, Asked[tuple[Choice, ...]]] = {}
    keys: list[list[list[str]]] = []
    for task in tasks:
        blocks = task.blocks if task.steps else ()
        keys.append([])
        for question in questions_of(task.steps, blocks, blocks_per_call):
            samples = [sampling.parameters(sample) for sample in range(sampling.samples)]
            keys[-1].append([question.key(sampling.model, parameters) for parameters in samples])
            for key, parameters in zip(keys[-1][-1], samples, strict=True):
                asked.setdefault(key, Asked(question, parameters, f"video {task.record.video!r}"))
    return Plan(sampling, blocks_per_call, Questions(sampling.model, TEMPLATE, asked), keys)


def by_endpoint(
    tasks: Sequence[Task],
    plan: Plan,
    cache: AnswerCache,
    failed: Mapping[str, str],
    fallback: Callable[[Sequence[Task]], Sequence[Found]],
) -> tuple[list[Found], list[str]]:
    """Make choices of the answers. Returns them, and a note for each video that `fallback` had to be asked about.

    With several samples, a block's choice is the one most of them made, its confidence their share.
    """
    sampling = plan.sampling
    about = {
        "model": sampling.model,
        "template": TEMPLATE,
        "parameters": {
            **sampling.parameters(0),
            "samples": sampling.samples,
            "blocks_per_call": plan.blocks_per_call,
        },
    }
    answers = plan.questions.answers(cache)
    found: list[Found] = []
    notes: list[str] = []
    for task, keys in zip(tasks, plan.keys, strict=True):
        unanswered = [samples for samples in keys if not any(key in answers for key in samples)]
        if unanswered:
            (aligned,) = fallback([task])
            reason = failed[unanswered[0][0]]
            notes.append(f"video {task.record.video!r}: aligned, as the endpoint's answer cannot be used ({reason})")
            failure = {"endpoint_failed": {**about, "reason": reason}}
            choices = flag_all(aligned.choices, "endpoint_failed")
            found.append(replace(aligned, choices=choices, about={**aligned.about, **failure}))
            continue
        chosen: list[Choice] = []
        for samples in keys:
            chosen += _agreed([answers[key] for key in samples if key in answers], sampling.samples)
        if not keys:  # nothing to ask
            chosen = [Choice(None)] * len(task.blocks)
        found.append(Found(chosen, f"endpoint:{sampling.model}", about))
    return found, notes


def _agreed(samples: Sequence[Sequence[Choice]], num_samples: int) -> list[Choice]:
    """What most samples chose for each block; of equals, what the first of them chose. One alone has no confidence."""
    if num_samples == 1:
        return list(samples[0])
    agreed: list[Choice] = []
    for choices in zip(*samples, strict=True):
        choice, count = Counter(choices).most_common(1)[0]
        share = count / num_samples
        flags = ("low_agreement",) if share < LOW_AGREEMENT else ()
        agreed.append(replace(choice, confidence=share, flags=flags))
    return agreed
