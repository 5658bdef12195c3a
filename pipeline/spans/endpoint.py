"""Blocks to steps by a language model behind a URL: all questions, then the answers that are missing, then choices.

    plan = plan_questions(tasks, settings)        what is asked, a key each; the same question is asked once
    ask(plan, client, cache, ...)                 those that the cache lacks, by several threads
    by_endpoint(plan, cache, ..., fallback)       choices of the answers; a video without a valid one by `align`

An answer is checked before it is kept: known steps, blocks that were asked about. One that cannot be used is asked for
again, once, with what is wrong with it. What is then still invalid is not kept, so that the next run asks again; its
video is aligned in place, flagged `endpoint_failed`. Many failures in a row end the run: the endpoint is at fault then.
"""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pipeline.errors import ProspectError
from pipeline.progress import Progress, unwatched
from pipeline.spans.annotate import Found
from pipeline.spans.assigned import Choice, Task, flag_all
from pipeline.spans.endpoint_cache import AnswerCache
from pipeline.spans.endpoint_client import Client, Refused
from pipeline.spans.endpoint_template import TEMPLATE, InvalidAnswer, Question, questions_of, read_answer

MOST_IN_A_ROW = 20  # failures
LOW_AGREEMENT = 0.6
MAX_TOKENS = 8192  # of an answer


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """How questions are asked; goes into each record's provenance."""

    model: str
    samples: int = 1
    temperature: float = 0.0
    blocks_per_call: int = 60
    more: Mapping[str, Any] = field(default_factory=dict)  # parameters besides, or in place; None: is not sent

    def parameters(self, sample: int) -> dict[str, Any]:
        """Give what a question's sample is asked with."""
        parameters = {"temperature": self.temperature, "seed": sample, "max_tokens": MAX_TOKENS, **self.more}
        return {name: value for name, value in parameters.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Asked:
    """A sample of a question, once."""

    question: Question
    parameters: Mapping[str, Any]
    video: str  # the first that it is about


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be asked."""

    settings: EndpointSettings
    asked: Mapping[str, Asked]  # by key
    keys: Sequence[Sequence[Sequence[str]]]  # of each task's questions' samples

    def answers(self, cache: AnswerCache) -> dict[str, tuple[Choice, ...]]:
        """Give the answers that are there, by key."""
        there: dict[str, tuple[Choice, ...]] = {}
        for key, asked in self.asked.items():
            if key in cache:
                with suppress(InvalidAnswer):  # the file was changed by hand
                    there[key] = read_answer(cache[key], asked.question)
        return there

    def missing(self, cache: AnswerCache) -> dict[str, Asked]:
        there = self.answers(cache)
        return {key: asked for key, asked in self.asked.items() if key not in there}

    def tokens(self, cache: AnswerCache) -> tuple[int, int]:
        """Estimate the tokens of what is missing, and of its answers."""
        counts = [asked.question.tokens() for asked in self.missing(cache).values()]
        return sum(one for one, _ in counts), sum(other for _, other in counts)


def plan_questions(tasks: Sequence[Task], settings: EndpointSettings) -> Plan:
    """List what is asked. A video without blocks asks nothing."""
    asked: dict[str, Asked] = {}
    keys: list[list[list[str]]] = []
    for task in tasks:
        blocks = task.blocks if task.steps else ()
        keys.append([])
        for question in questions_of(task.steps, blocks, settings.blocks_per_call):
            samples = [settings.parameters(sample) for sample in range(settings.samples)]
            keys[-1].append([question.key(settings.model, parameters) for parameters in samples])
            for key, parameters in zip(keys[-1][-1], samples, strict=True):
                asked.setdefault(key, Asked(question, parameters, task.record.video))
    return Plan(settings, asked, keys)


def ask(
    plan: Plan,
    client: Client,
    cache: AnswerCache,
    stop: threading.Event,
    *,
    concurrency: int = 4,
    show: Progress = unwatched,
) -> dict[str, str]:
    """Ask what the cache lacks; valid answers go into it as they come. Returns why others failed, by key.

    Args:
        stop: is set when the run ends early; the client's own.

    Raises:
        ProspectError: the endpoint does not answer, or nothing that can be used. What came before is in the cache.
    """
    missing = plan.missing(cache)
    failed: dict[str, str] = {}
    num_in_a_row = 0
    show("asking", 0, len(missing))
    try:
        for done, (key, reason) in enumerate(_each(missing.items(), _asker(plan, client, cache), stop, concurrency), 1):
            show("asking", done, len(missing))
            if isinstance(reason, BaseException):
                raise reason
            num_in_a_row = num_in_a_row + 1 if reason else 0
            if reason:
                failed[key] = reason
            if num_in_a_row == MOST_IN_A_ROW:
                raise ProspectError(
                    f"{client.url}: asked {plan.settings.model!r}, {num_in_a_row} answers in a row cannot be used, the "
                    f"last about video {missing[key].video!r}: {reason}; try another model, or --method align"
                )
    except ProspectError as error:
        kept = f"{len(plan.answers(cache))} of {len(plan.asked)} answers are kept in {cache.path}"
        raise ProspectError(f"{error}; {kept}: run the same command again to go on") from None
    finally:
        stop.set()
    return failed


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
    about = {
        "model": plan.settings.model,
        "template": TEMPLATE,
        "parameters": {
            **plan.settings.parameters(0),
            "samples": plan.settings.samples,
            "blocks_per_call": plan.settings.blocks_per_call,
        },
    }
    answers = plan.answers(cache)
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
            chosen += _agreed([answers[key] for key in samples if key in answers], plan.settings.samples)
        if not keys:  # nothing to ask
            chosen = [Choice(None)] * len(task.blocks)
        found.append(Found(chosen, f"endpoint:{plan.settings.model}", about))
    return found, notes


def _asker(plan: Plan, client: Client, cache: AnswerCache) -> Callable[[tuple[str, Asked]], str | None]:
    def ask_one(item: tuple[str, Asked]) -> str | None:
        key, asked = item
        question, what = asked.question, f"video {asked.video!r}"
        messages, repaired = question.messages(), False
        while True:
            try:
                reply = client.ask(messages, asked.parameters, question.schema(), what)
            except Refused as error:
                return f"refused with {error}"
            try:
                if reply.is_cut:
                    raise InvalidAnswer("it was cut at the most tokens (--parameter max_tokens=N)")
                read_answer(reply.text, question)
            except InvalidAnswer as error:
                if repaired or reply.is_cut:
                    return f"{error}: {client.shown(reply.text)}"
                messages, repaired = question.repair(reply.text, str(error)), True
                continue
            kept = {"model": plan.settings.model, "template": TEMPLATE, "parameters": asked.parameters}
            cache.add(key, reply.text, kept | ({"repaired": True} if repaired else {}))
            return None

    return ask_one


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


Item = TypeVar("Item")


def _each(
    items: Iterable[tuple[str, Item]],
    work: Callable[[tuple[str, Item]], str | None],
    stop: threading.Event,
    workers: int,
) -> Iterator[tuple[str, str | BaseException | None]]:
    """Do `work` by several threads; gives (key, result or error) as they end. Threads end with the process."""
    waiting = list(items)[::-1]
    count = len(waiting)
    results: queue.SimpleQueue[tuple[str, str | BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        while not stop.is_set():
            try:
                item = waiting.pop()
            except IndexError:
                return
            try:
                results.put((item[0], work(item)))
            except BaseException as error:
                results.put((item[0], error))

    for _ in range(min(workers, count)):
        threading.Thread(target=run, daemon=True).start()
    for _ in range(count):
        yield results.get()
