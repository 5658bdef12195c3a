"""What annotate reads, almost as it was written: blocks in spans, answers that were kept, and what a server says."""

import json
import threading

import pytest

from pipeline.endpoint.asking import Sampling, ask
from pipeline.endpoint.cache import AnswerCache
from pipeline.endpoint.client import Client, Endpoint
from pipeline.spans.annotate import AlignSettings, annotate, by_align, read_tasks
from pipeline.spans.assigned import Task
from pipeline.spans.blocks import Block
from pipeline.spans.by_endpoint import by_endpoint, plan_questions
from pipeline.spans.records import NamedStep, VideoSpans, read_spans
from tests.helpers.chat import Chat, answer_by_words
from tests.helpers.embed import words
from tests.helpers.fuzz import CASES, fuzz, mutated_bytes, mutated_json

STEPS = (NamedStep(id="S1", name="paint"), NamedStep(id="S2", name="dry"))
BLOCKS = [{"start_s": 0, "end_s": 5, "text": "paint"}, {"start_s": 6, "end_s": 9, "text": "dry"}]
RECORD = VideoSpans(video="v", dataset="d", duration_s=20, steps=STEPS, provenance={"blocks": BLOCKS})
TASK = Task(RECORD, STEPS, tuple(Block.model_validate(block) for block in BLOCKS), "x")
ANSWER = {"blocks": [{"block": 1, "step": "S1", "kind": "done"}, {"block": 2, "step": None, "kind": "done"}]}


@pytest.fixture
def chat():
    chat = Chat(answer_by_words)
    yield chat
    chat.stop()


def aligned(tasks):
    return by_align(tasks, words, AlignSettings("words"))


def test_spans_with_blocks(tmp_path):
    def read(record) -> None:
        (tmp_path / "train_spans.jsonl").write_text(json.dumps(record) + "\n")
        tasks = read_tasks(tmp_path / "train_spans.jsonl", None)
        annotate(tasks, aligned(tasks), tmp_path / "out.jsonl", anew=True)
        read_spans(tmp_path / "out.jsonl")

    outcomes = fuzz("blocks", lambda random: mutated_json(json.loads(RECORD.model_dump_json()), random), read)
    assert sum(outcomes.values()) == CASES


def answered(chat, folder) -> None:
    plan, stop = plan_questions([TASK], Sampling("m")), threading.Event()
    client = Client(Endpoint(chat.url, "m", retries=0), stop, lambda seconds: None)
    cache = AnswerCache(folder / "answers.jsonl")
    failed = ask(plan.questions, client, cache, stop, instead="align")
    (found,), _ = by_endpoint([TASK], plan, cache, failed, aligned)
    assert len(found.choices) == 2


def test_answers_that_were_kept(chat, tmp_path):
    answered(chat, tmp_path)
    kept = (tmp_path / "answers.jsonl").read_bytes()

    def read(data: bytes) -> None:
        (tmp_path / "answers.jsonl").write_bytes(data)
        answered(chat, tmp_path)

    assert sum(fuzz("answers", lambda random: mutated_bytes(kept, random), read).values()) == CASES


@pytest.mark.parametrize("what", ["body", "answer"])
def test_what_a_server_says(chat, tmp_path, what):
    def mutant(random) -> bytes:
        if what == "answer":
            return chat.completion(json.dumps(mutated_json(ANSWER, random)))
        body = json.loads(chat.completion(json.dumps(ANSWER)))
        return random.choice(
            (mutated_bytes(json.dumps(body).encode(), random), json.dumps(mutated_json(body, random)).encode())
        )

    def read(body: bytes) -> None:
        (tmp_path / "answers.jsonl").unlink(missing_ok=True)
        chat.faults = [body, body]
        answered(chat, tmp_path)

    assert sum(fuzz(what, mutant, read).values()) == CASES
