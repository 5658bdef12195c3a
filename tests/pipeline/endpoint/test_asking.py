"""Questions asked of a server of our own; more of its faults in tests/pipeline/spans/test_by_endpoint.py."""

import json
import threading
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from pipeline.endpoint.asking import (
    Asked,
    InvalidAnswer,
    Questions,
    ask,
    key_of,
    one_line,
    prompt_tokens,
    read_json,
)
from pipeline.endpoint.cache import AnswerCache
from pipeline.endpoint.client import Client, Endpoint
from tests.helpers.chat import Chat


class Number(BaseModel):
    number: int


@dataclass(frozen=True)
class Double:
    """What is twice a number?"""

    of: int

    def messages(self):
        return [{"role": "system", "content": "Double it."}, {"role": "user", "content": str(self.of)}]

    def wanted(self, reason):
        return f"No: {reason}"

    def schema(self):
        return {}

    def answer_tokens(self):
        return 3

    def read(self, answer):
        number = read_json(answer, Number).number
        if number != 2 * self.of:
            raise InvalidAnswer(f"{number} is not twice {self.of}")
        return number


def double(body):
    return json.dumps({"number": 2 * int(body["messages"][1]["content"])})


@pytest.fixture
def chat():
    chat = Chat(double)
    yield chat
    chat.stop()


def questions(*numbers):
    asked = {key_of("t", "m", {}, of): Asked(Double(of), {}, f"number {of}") for of in numbers}
    return Questions("m", "t", asked)


def run(chat, folder, asked, repairs=1):
    stop = threading.Event()
    client = Client(Endpoint(chat.url, "m", retries=0), stop, lambda seconds: None)
    cache = AnswerCache(folder / "answers.jsonl")
    failed = ask(asked, client, cache, stop, instead="ask another", repairs=repairs)
    return asked.answers(cache), failed, client.num_calls


def test_answers_are_read_and_asked_for_once(chat, tmp_path):
    both = questions(1, 2)
    one, two = both.asked
    assert run(chat, tmp_path, both) == ({one: 2, two: 4}, {}, 2)
    assert run(chat, tmp_path, both) == ({one: 2, two: 4}, {}, 0)
    entry = json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])
    assert list(entry) == ["format", "key", "model", "template", "parameters", "host", "date", "answer"]
    assert entry["host"] == chat.url.split("/")[2]


@pytest.mark.parametrize(("repairs", "calls"), [(0, 1), (1, 2), (2, 3)])
def test_an_answer_that_cannot_be_used_is_asked_for_again_a_few_times(chat, tmp_path, repairs, calls):
    chat.faults = [("text", '{"number": 5}')] * calls
    asked = questions(2)
    (key,) = asked.asked
    assert run(chat, tmp_path, asked, repairs) == ({}, {key: "5 is not twice 2: '{\"number\": 5}'"}, calls)
    assert all(body["messages"][-1]["content"] == "No: 5 is not twice 2" for body in chat.bodies[1:])
    assert all(len(body["messages"]) == 4 for body in chat.bodies[1:])
    assert run(chat, tmp_path, asked)[0] == {key: 4}


def test_tokens_are_estimated_of_what_is_missing(chat, tmp_path):
    """A question here has 16 bytes."""
    assert prompt_tokens(Double(100000)) == 4
    asked, cache = questions(100000, 200000), AnswerCache(tmp_path / "answers.jsonl")
    assert asked.tokens(cache) == (8, 6)
    cache.add(next(iter(asked.asked)), '{"number": 200000}', {})
    assert asked.tokens(cache) == (4, 3)


def test_a_key_is_of_all_that_is_asked():
    keys = {key_of("t", "m", {}, 1), key_of("u", "m", {}, 1), key_of("t", "n", {}, 1), key_of("t", "m", {"a": 1}, 1)}
    assert len(keys | {key_of("t", "m", {}, 2)}) == 5 and key_of("t", "m", {}, 1) in keys


def test_no_text_begins_a_line_of_its_own():
    assert one_line(" a\n\tb\u2028c\x85d\r\n") == "a b c d"
