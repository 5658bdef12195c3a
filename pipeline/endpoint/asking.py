"""Asks a language model behind a URL a list of questions, each once: what is missing, by several threads, kept at once.

    questions.missing(cache)                         what is not answered yet
    ask(questions, client, cache, stop, ...)         asks it; valid answers go into the cache as they come
    questions.answers(cache)                         the answers, read and checked

A question is anything with the methods of `Question`. An answer is checked before it is kept. One that cannot be used
is asked for again, a few times, with what is wrong with it; what is then still invalid is not kept, so that the next
run asks again. Many failures in a row end the run: the endpoint is at fault then.
"""

import hashlib
import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.endpoint.cache import AnswerCache
from pipeline.endpoint.client import Client, Refused
from pipeline.errors import ProspectError
from pipeline.progress import Progress, unwatched

MOST_IN_A_ROW = 20  # failures
MAX_TOKENS = 8192  # of an answer
BYTES_PER_TOKEN = 4  # of English, about

A_co = TypeVar("A_co", covariant=True)
A = TypeVar("A")
M = TypeVar("M", bound=BaseModel)
Item = TypeVar("Item")


class InvalidAnswer(Exception):
    """An answer that cannot be used; the text says why."""


class Question(Protocol[A_co]):
    """What is asked, and how its answer is read."""

    def messages(self) -> list[dict[str, str]]: ...

    def wanted(self, reason: str) -> str:
        """Say what is wanted in place of an answer that cannot be used."""

    def schema(self) -> dict[str, Any]:
        """Give the JSON schema of an answer."""

    def answer_tokens(self) -> int:
        """Estimate the tokens of an answer."""

    def read(self, answer: str) -> A_co:
        """Read and check an answer; raises InvalidAnswer."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a question is asked; each of its samples by itself."""

    model: str
    samples: int = 1
    temperature: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict)  # parameters besides, or in place; None: is not sent

    def parameters(self, sample: int) -> dict[str, Any]:
        """Give what a question's sample is asked with."""
        parameters = {"temperature": self.temperature, "seed": sample, "max_tokens": MAX_TOKENS, **self.more}
        return {name: value for name, value in parameters.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Asked(Generic[A]):
    """A sample of a question, once."""

    question: Question[A]
    parameters: Mapping[str, Any]
    about: str  # the first thing that it is about, for messages: "video 'x'"


@dataclass(frozen=True, slots=True)
class Questions(Generic[A]):
    """All that is to be asked of a model."""

    model: str
    template: str  # version of the questions' words
    asked: Mapping[str, Asked[A]]  # by key

    def answers(self, cache: AnswerCache) -> dict[str, A]:
        """Give the answers that are there, by key."""
        there: dict[str, A] = {}
        for key, asked in self.asked.items():
            if key in cache:
                with suppress(InvalidAnswer):  # the file was changed by hand
                    there[key] = asked.question.read(cache[key])
        return there

    def missing(self, cache: AnswerCache) -> dict[str, Asked[A]]:
        there = self.answers(cache)
        return {key: asked for key, asked in self.asked.items() if key not in there}

    def tokens(self, cache: AnswerCache) -> tuple[int, int]:
        """Estimate the tokens of what is missing, and of its answers."""
        missing = [asked.question for asked in self.missing(cache).values()]
        return sum(map(prompt_tokens, missing)), sum(question.answer_tokens() for question in missing)


def key_of(template: str, model: str, parameters: Mapping[str, Any], *asked: Any) -> str:
    """Give the key of an answer: the hash of template, model, parameters and all that is `asked` (as JSON)."""
    whole = json.dumps([template, model, dict(parameters), *asked], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def prompt_tokens(question: Question[Any]) -> int:
    """Estimate the tokens of a question."""
    return sum(len(message["content"].encode(errors="replace")) for message in question.messages()) // BYTES_PER_TOKEN


def ask(
    questions: Questions[Any],
    client: Client,
    cache: AnswerCache,
    stop: threading.Event,
    *,
    instead: str,
    repairs: int = 1,
    concurrency: int = 4,
    show: Progress = unwatched,
) -> dict[str, str]:
    """Ask what the cache lacks; valid answers go into it as they come. Returns why others failed, by key.

    Args:
        stop: is set when the run ends early; the client's own.
        instead: of a model that answers nothing that can be used: "try another model".
        repairs: how often an answer that cannot be used is asked for again.

    Raises:
        ProspectError: the endpoint does not answer, or nothing that can be used. What came before is in the cache.
    """
    missing = questions.missing(cache)
    failed: dict[str, str] = {}
    num_in_a_row = 0
    show("asking", 0, len(missing))
    asker = _asker(questions, client, cache, repairs)
    try:
        for done, (key, reason) in enumerate(_each(missing.items(), asker, stop, concurrency), 1):
            show("asking", done, len(missing))
            if isinstance(reason, BaseException):
                raise reason
            num_in_a_row = num_in_a_row + 1 if reason else 0
            if reason:
                failed[key] = reason
            if num_in_a_row == MOST_IN_A_ROW:
                raise ProspectError(
                    f"{client.url}: asked {questions.model!r}, {num_in_a_row} answers in a row cannot be used, the "
                    f"last about {missing[key].about}: {reason}; {instead}"
                )
    except ProspectError as error:
        kept = f"{len(questions.answers(cache))} of {len(questions.asked)} answers are kept in {cache.path}"
        raise ProspectError(f"{error}; {kept}: run the same command again to go on") from None
    finally:
        stop.set()
    return failed


def read_json(text: str, kind: type[M]) -> M:
    """Read an answer that is JSON, as models write it.

    Raises:
        InvalidAnswer: it is none, or not of this kind.
    """
    stripped = text.rpartition("</think>")[2].strip()  # what a reasoning model said to itself goes before
    if stripped.startswith("```"):  # a fence of Markdown, which models put around JSON
        stripped = stripped.strip("`").removeprefix("json")
    try:
        return kind.model_validate_json(stripped)
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(map(str, detail["loc"]))
        raise InvalidAnswer(f"{f'{place}: ' if place else ''}{detail['msg']}") from None


def one_line(text: str) -> str:
    """Fold a text's white space, line breaks of every kind too: it cannot begin a line of a question."""
    return " ".join(text.split())


def _asker(
    questions: Questions[Any], client: Client, cache: AnswerCache, repairs: int
) -> Callable[[tuple[str, Asked[Any]]], str | None]:
    def ask_one(item: tuple[str, Asked[Any]]) -> str | None:
        key, asked = item
        question, messages, tried = asked.question, asked.question.messages(), 0
        while True:
            try:
                reply = client.ask(messages, asked.parameters, question.schema(), asked.about)
            except Refused as error:
                return f"refused with {error}"
            try:
                if reply.is_cut:
                    raise InvalidAnswer("it was cut at the most tokens (--parameter max_tokens=N)")
                question.read(reply.text)
            except InvalidAnswer as error:
                if tried == repairs or reply.is_cut:
                    return f"{error}: {client.shown(reply.text)}"
                messages, tried = _repair(question, reply.text, str(error)), tried + 1
                continue
            kept = {
                "model": questions.model,
                "template": questions.template,
                "parameters": asked.parameters,
                "host": client.host,
                "date": datetime.now(UTC).date().isoformat(),
            }
            cache.add(key, reply.text, kept | ({"repaired": True} if tried else {}))
            return None

    return ask_one


def _repair(question: Question[Any], answer: str, reason: str) -> list[dict[str, str]]:
    """The messages that ask again, after an answer that cannot be used."""
    again = {"role": "user", "content": question.wanted(reason)}
    return [*question.messages(), {"role": "assistant", "content": answer}, again]


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
                stop.set()  # an error ends the run: nothing more is asked, whenever it is read

    for _ in range(min(workers, count)):
        threading.Thread(target=run, daemon=True).start()
    for _ in range(count):
        yield results.get()
