"""Blocks to steps by a model behind a URL: a server of our own answers right, wrong, late, in part, or not at all."""

import json
import threading
from pathlib import Path

import pytest

from pipeline.endpoint.asking import Sampling, ask
from pipeline.endpoint.cache import AnswerCache
from pipeline.endpoint.client import Client, Endpoint
from pipeline.errors import ProspectError
from pipeline.spans.annotate import AlignSettings, Found, by_align
from pipeline.spans.assigned import Choice, Task
from pipeline.spans.blocks import Block
from pipeline.spans.by_endpoint import by_endpoint, plan_questions
from pipeline.spans.records import NamedStep, VideoSpans
from tests.helpers.chat import Chat, answer_by_words
from tests.helpers.embed import words

TEXTS = ("paint", "talk", "dry")


@pytest.fixture
def chat():
    chat = Chat(answer_by_words)
    yield chat
    chat.stop()


def task(video: str = "v", *texts: str) -> Task:
    steps = (NamedStep(id="S1", name="paint"), NamedStep(id="S2", name="dry"))
    record = VideoSpans(video=video, dataset="d", steps=steps)
    blocks = tuple(Block(start_s=10 * n, end_s=10 * n + 5, text=text) for n, text in enumerate(texts or TEXTS))
    return Task(record, steps, blocks, "train_spans.jsonl")


class Asking:
    """One run: what was found, said and waited for."""

    def __init__(
        self, chat: Chat, folder: Path, *tasks: Task, retries: int = 5, key: str | None = None, concurrency: int = 1,
        timeout_s: float = 20, blocks_per_call: int = 60, **sampling,
    ) -> None:  # fmt: skip
        self.waits: list[float] = []
        stop = threading.Event()
        client = Client(Endpoint(chat.url, "m", key, timeout_s, retries), stop, self.waits.append)
        plan = plan_questions(tasks, Sampling("m", **sampling), blocks_per_call)
        cache = AnswerCache(folder / "answers.jsonl")
        self.before = plan.questions.missing(cache)
        try:
            failed = ask(
                plan.questions, client, cache, stop, instead="try another model, or --method align",
                concurrency=concurrency,
            )  # fmt: skip
        finally:
            self.num_calls = client.num_calls
        self.found, self.notes = by_endpoint(tasks, plan, cache, failed, aligned)

    @property
    def steps(self) -> list[str | None]:
        return [choice.step for choice in self.found[0].choices]


def aligned(tasks) -> list[Found]:
    return by_align(tasks, words, AlignSettings("words"))


def test_a_right_answer_is_what_blocks_are_of(chat, tmp_path):
    run = Asking(chat, tmp_path, task())
    assert run.found[0].choices == [Choice("S1"), Choice(None), Choice("S2")]
    assert run.found[0].method == "endpoint:m"
    assert run.found[0].about["parameters"] == {
        "temperature": 0.0, "seed": 0, "max_tokens": 8192, "samples": 1, "blocks_per_call": 60,
    }  # fmt: skip
    (body,) = chat.bodies
    assert (body["model"], body["temperature"], body["response_format"]["type"]) == ("m", 0.0, "json_schema")
    assert body["messages"][1]["content"] == "Steps:\nS1: paint\nS2: dry\n\nBlocks:\n1: paint\n2: talk\n3: dry"
    assert chat.keys == [None]


@pytest.mark.parametrize(("forms", "asked"), [(("json_object", "none"), 2), (("none",), 3)])
def test_a_server_without_schemas_is_asked_in_the_next_form_and_from_then_on_in_that(chat, tmp_path, forms, asked):
    chat.forms = forms
    run = Asking(chat, tmp_path, task("v"), task("w", "dry"))
    assert run.steps == ["S1", None, "S2"]
    assert len(chat.bodies) == asked + 1
    assert run.waits == []


WRONG = {
    "no JSON": "Sure! Block 1 is S1.",
    "half a JSON": '{"blocks": [{"block": 1, "st',
    "an unknown step": '{"blocks": [{"block": 1, "step": "S9", "kind": "done"}]}',
    "a block that was not asked about": '{"blocks": [{"block": 4, "step": "S1", "kind": "done"}]}',
    "a block twice": '{"blocks": [{"block": 1, "step": "S1"}, {"block": 1, "step": "S2"}]}',
    "an unknown kind": '{"blocks": [{"block": 1, "step": "S1", "kind": "begun"}]}',
    "a number as a text": '{"blocks": [{"block": "1", "step": "S1"}]}',
    "nothing": "",
    "numbers deep within": "[" * 5000,
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_a_wrong_answer_is_repaired_once(chat, tmp_path, answer):
    chat.faults = [("text", answer)]
    run = Asking(chat, tmp_path, task())
    assert (run.steps, run.notes, run.num_calls) == (["S1", None, "S2"], [], 2)
    first, second = chat.bodies
    assert second["messages"][:2] == first["messages"]
    assert second["messages"][2] == {"role": "assistant", "content": answer}
    assert second["messages"][3]["content"].startswith("That answer cannot be used: ")


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_what_is_wrong_twice_is_aligned_and_flagged_and_asked_again_next_time(chat, tmp_path, answer):
    chat.faults = [("text", answer)] * 2
    run = Asking(chat, tmp_path, task("v"), task("w", "dry"))
    assert [found.method for found in run.found] == ["align", "endpoint:m"]
    assert run.steps == ["S1", None, "S2"]
    assert all("endpoint_failed" in choice.flags for choice in run.found[0].choices)
    assert run.found[0].about["endpoint_failed"]["model"] == "m"
    (note,) = run.notes
    assert note.startswith("video 'v': aligned, as the endpoint's answer cannot be used (")
    again = Asking(chat, tmp_path, task("v"), task("w", "dry"))
    assert (again.num_calls, again.found[0].method) == (1, "endpoint:m")


def test_blocks_that_an_answer_does_not_name_are_of_no_step(chat, tmp_path):
    """Coverage is not forced: that S2 has no block is an answer."""
    chat.faults = [("text", '```json\n{"blocks": [{"block": 1, "step": "S1", "kind": "undone"}]}\n```')]
    assert Asking(chat, tmp_path, task()).found[0].choices == [Choice("S1", "undone"), Choice(None), Choice(None)]


def test_a_question_that_is_refused_in_each_form_is_aligned(chat, tmp_path):
    chat.faults = [400, 400, 400]
    run = Asking(chat, tmp_path, task("v"), task("w", "dry"))
    assert [found.method for found in run.found] == ["align", "endpoint:m"]
    assert 'refused with 400 Bad Request: \'{"error"' in run.notes[0]
    assert chat.bodies[3]["response_format"]["type"] == "json_schema"  # which was not what was wrong


@pytest.mark.parametrize("fault", [429, 500, 503, "half", "half json", "nothing"])
def test_what_may_pass_is_tried_again_after_longer_and_longer_waits(chat, tmp_path, fault):
    chat.faults = [fault] * 4
    run = Asking(chat, tmp_path, task())
    assert (run.steps, run.waits) == (["S1", None, "S2"], [1, 2, 4, 8])


def test_the_server_says_how_long_to_wait_up_to_a_minute(chat, tmp_path):
    chat.faults = [(429, 7), (429, 100_000), (429, "Wed, 21 Oct 2026 07:28:00 GMT")]
    assert Asking(chat, tmp_path, task()).waits == [7, 60, 4]


@pytest.mark.parametrize(
    ("fault", "came"),
    [
        (429, "429 Too Many Requests: '{\"error\": {\"message\": \"no\"}}', 3 times"),
        (500, "500 Internal Server Error: '{\"error\": {\"message\": \"no\"}}', 3 times"),
        ("nothing", "'Remote end closed connection without response', 3 times"),
        ("half", "'IncompleteRead(0 bytes read, "),
        ("half json", "'{\"object\": \"chat.com', 3 times"),
        (401, "401 Unauthorized: '{\"error\": {\"message\": \"no\"}}'; is the key that of this server?"),
        (404, "404 Not Found: '{\"error\": {\"message\": \"no\"}}'; expected a chat completion: is the model's name right"),
        ("html", "'<!doctype html><title>Welcome</title>'; expected a chat completion"),
        ("redirect", "302 Found: nothing; see what the server's log says"),
    ],
)  # fmt: skip
def test_an_end_is_put_to_it_with_what_was_asked_and_what_came_and_answers_are_kept(chat, tmp_path, fault, came):
    Asking(chat, tmp_path, task("first", "paint"))
    chat.faults = [fault] * 100
    with pytest.raises(ProspectError) as caught:
        Asking(chat, tmp_path, task("first", "paint"), task("second"), retries=2)
    message = str(caught.value)
    assert message.startswith(f"{chat.url}/chat/completions: asked 'm' about video 'second', got {came}")
    assert message.endswith(f"1 of 2 answers are kept in {tmp_path}/answers.jsonl: run the same command again to go on")
    assert "\n" not in message
    chat.faults = []
    assert Asking(chat, tmp_path, task("first", "paint"), task("second")).num_calls == 1


def test_a_silent_server_is_given_up(chat, tmp_path):
    chat.faults = ["stall"] * 2
    with pytest.raises(ProspectError, match="got 'timed out', 2 times"):
        Asking(chat, tmp_path, task(), retries=1, timeout_s=0.05)


def test_what_a_model_says_to_itself_before_its_answer_is_not_read(chat, tmp_path):
    chat.answer = lambda body: "<think>{not yet}</think>\n\n" + answer_by_words(body)
    assert Asking(chat, tmp_path, task()).steps == ["S1", None, "S2"]


def test_an_endpoint_that_answers_nonsense_alone_ends_the_run(chat, tmp_path):
    chat.answer = lambda body: "moo"
    tasks = [task(f"v{n}", f"text {n}") for n in range(30)]
    with pytest.raises(ProspectError) as caught:
        Asking(chat, tmp_path, *tasks)
    assert "20 answers in a row cannot be used, the last about video 'v19': Invalid JSON: " in str(caught.value)
    assert "'moo'; try another model, or --method align; 0 of 30 answers are kept" in str(caught.value)


def test_the_key_is_sent_and_stands_in_no_message(chat, tmp_path):
    key = "sk-secret-123"
    chat.answer = lambda body: f"moo {key}"
    run = Asking(chat, tmp_path, task(), key=key)
    assert chat.keys == [f"Bearer {key}"] * 2
    assert "'moo ***'" in run.notes[0]
    assert key not in repr(Endpoint(chat.url, "m", key)) + str(run.notes) + str(run.found)


def test_answers_are_not_asked_for_twice_by_another_run_or_camera(chat, tmp_path):
    """The second camera has another name and other times, but shows the same."""
    Asking(chat, tmp_path, task("camera 1"))
    late = task("camera 2")
    late = Task(late.record, late.steps, tuple(b.model_copy(update={"end_s": b.end_s + 9}) for b in late.blocks), "x")
    run = Asking(chat, tmp_path, task("camera 1"), late)
    assert (run.before, run.num_calls, len(chat.bodies)) == ({}, 0, 1)
    assert run.found[1].choices == [Choice("S1"), Choice(None), Choice("S2")]


def test_two_cameras_in_one_run_ask_once(chat, tmp_path):
    assert Asking(chat, tmp_path, task("camera 1"), task("camera 2"), concurrency=4).num_calls == 1


@pytest.mark.parametrize(
    "other", [{"temperature": 0.5}, {"more": {"max_tokens": 5}}, {"more": {"seed": None}}, {"samples": 2}]
)
def test_other_parameters_are_other_questions(chat, tmp_path, other):
    Asking(chat, tmp_path, task())
    assert Asking(chat, tmp_path, task(), **other).num_calls == 1


def test_a_cut_line_of_the_answers_is_asked_again_and_the_next_stands_on_its_own(chat, tmp_path):
    """As a killed run leaves it."""
    Asking(chat, tmp_path, task("v"), task("w", "dry"))
    path = tmp_path / "answers.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-30])
    assert Asking(chat, tmp_path, task("v"), task("w", "dry")).num_calls == 1
    assert Asking(chat, tmp_path, task("v"), task("w", "dry")).num_calls == 0
    assert AnswerCache(path).num_damaged == 1
    assert whole.splitlines()[0] in path.read_text().splitlines()


def test_an_answer_that_was_changed_by_hand_to_nonsense_is_asked_again(chat, tmp_path):
    Asking(chat, tmp_path, task())
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"answer": "moo"}) + "\n")
    run = Asking(chat, tmp_path, task())
    assert (run.num_calls, run.steps) == (1, ["S1", None, "S2"])
    assert Asking(chat, tmp_path, task()).num_calls == 0


def test_samples_agree_on_a_block_and_their_share_is_its_confidence(chat, tmp_path):
    def answer(body):
        """Sample 2 takes the talk for drying."""
        step = '"S2"' if body["seed"] == 2 else "null"
        return f'{{"blocks": [{{"block": 1, "step": "S1"}}, {{"block": 2, "step": {step}}}]}}'

    chat.answer = answer
    run = Asking(chat, tmp_path, task(), samples=3, temperature=0.7)
    assert [body["seed"] for body in chat.bodies] == [0, 1, 2]
    assert run.found[0].choices == [
        Choice("S1", confidence=1.0), Choice(None, confidence=2 / 3), Choice(None, confidence=1.0)
    ]  # fmt: skip


def test_an_invalid_sample_counts_against_agreement(chat, tmp_path):
    chat.answer = lambda body: answer_by_words(body) if body["seed"] == 0 else "moo"
    run = Asking(chat, tmp_path, task(), samples=2, temperature=0.7)
    assert (run.steps, run.notes) == (["S1", None, "S2"], [])
    assert run.found[0].choices[0] == Choice("S1", confidence=0.5, flags=("low_agreement",))


def test_long_videos_are_asked_about_in_parts_with_what_came_before(chat, tmp_path):
    texts = [f"t{n}" for n in range(6)] + ["dry"]
    run = Asking(chat, tmp_path, task("v", *texts), blocks_per_call=4)
    assert run.steps == [None] * 6 + ["S2"]
    assert [body["messages"][1]["content"].partition("\n\n")[2] for body in chat.bodies] == [
        "Blocks:\n1: t0\n2: t1\n3: t2",
        "What came before these blocks:\nt0\nt1\nt2\n\nBlocks:\n1: t3\n2: t4\n3: t5\n4: dry",
    ]


def test_many_at_a_time_give_the_same(chat, tmp_path):
    tasks = [task(f"v{n}", f"text {n}", "paint") for n in range(25)]
    run = Asking(chat, tmp_path, *tasks, concurrency=8)
    assert [[choice.step for choice in found.choices] for found in run.found] == [[None, "S1"]] * 25
    assert run.num_calls == 25


def test_a_video_without_blocks_asks_nothing(chat, tmp_path):
    empty = Task(task().record, task().steps, (), "x")
    run = Asking(chat, tmp_path, empty)
    assert (run.num_calls, run.steps, run.notes) == (0, [], [])
