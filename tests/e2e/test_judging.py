"""`prospect judge` as users run it, on predictions written down by hand: whole, killed under way, refused, for programs."""

import json
import signal

import pytest

from tests.helpers.chat import Chat, verdict
from tests.helpers.command import fail, start, succeed
from tests.helpers.evaluations import write_evaluation
from tests.helpers.predictions import prediction
from tests.helpers.waiting import wait_for

CLIPS = [
    prediction([(5, "Take it.")], [(5, "Take it.")], clip_id="a"),
    prediction([(1, "Stop.")], [(5, "Take it.")], clip_id="b"),
]


@pytest.fixture
def chat():
    """The first clip gets 5 each time, the other 1, 2 and 3."""
    chat = Chat(lambda body: verdict(1 + body["seed"] if "Stop." in body["messages"][1]["content"] else 5))
    yield chat
    chat.stop()


@pytest.fixture
def folder(tmp_path):
    write_evaluation(tmp_path / "run", {"model": CLIPS, "blind": CLIPS})
    return tmp_path


def test_scores_are_told_and_stand_in_the_metrics_and_the_report(folder, chat):
    """Means 5 and 2; repeats 3, 3.5 and 4."""
    told = succeed(folder, "judge", "--predictions", "run", "--base-url", chat.url, "--model", "m")
    assert "6 questions, 0 of them answered in run/judge.jsonl: 6 calls\n" in told
    assert "judged by m at 127.0.0.1:" in told and "3 repeats" in told
    lines = told.splitlines()
    place = next(number for number, line in enumerate(lines) if line.split()[:1] == ["overall"])
    assert (lines[place].split(), lines[place + 1].split()) == (["overall", "3.500"], ["±2.12,", "±0.50"])
    assert lines[-1] == "the scores are in run/metrics.json and run/report.html"
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics["rows"]["model"]["all"]["metrics"]["judge_overall"] == 3.5
    assert "judged by m at 127.0.0.1:" in (folder / "run" / "report.html").read_text()
    both = ("--rows", "model, blind", "--json")
    block = json.loads(
        succeed(folder, "judge", "--predictions", "run/predictions", "--base-url", chat.url, "--model", "m", *both)
    )
    assert list(block["rows"]) == ["model", "blind"] and len(chat.bodies) == 6
    assert block == json.loads((folder / "run" / "metrics.json").read_text())["judge"]
    told = succeed(folder, "judge", "--predictions", "run", "--base-url", chat.url, "--model", "m")
    assert "note: these replace the scores of model, blind, judged by m at " in told


def test_a_run_that_is_killed_goes_on_with_what_is_missing(folder, chat):
    arguments = ("judge", "--predictions", "run", "--base-url", chat.url, "--model", "m", "--concurrency", 1)
    before = (folder / "run" / "metrics.json").read_bytes()
    chat.faults = [None, None, "stall"]
    killed = start(folder, *arguments)
    wait_for(lambda: len(chat.bodies) == 3)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (folder / "run" / "metrics.json").read_bytes() == before
    assert len((folder / "run" / "judge.jsonl").read_text().splitlines()) == 2
    assert "6 questions, 2 of them answered in run/judge.jsonl: 4 calls" in succeed(folder, *arguments)
    assert len(chat.bodies) == 7


def test_a_dry_run_tells_calls_tokens_and_cost_and_asks_nothing(folder, chat):
    arguments = ("judge", "--predictions", "run", "--dry-run", "--prices", 3, 15)
    counts = json.loads(succeed(folder, *arguments, "--json"))
    assert (counts["questions"], counts["calls"], counts["tokens_answered"]) == (6, 6, 1800)
    assert 1500 < counts["tokens_asked"] < 6000
    assert counts["cost"] == pytest.approx((3 * counts["tokens_asked"] + 15 * 1800) / 1e6)
    told = succeed(folder, *arguments)
    assert told == (
        f"6 questions, 0 of them answered in run/judge.jsonl: 6 calls, about {counts['tokens_asked']} tokens to ask and "
        f"1800 to answer, for {counts['cost']:.2f}; none was asked\n"
    )
    assert not (folder / "run" / "judge.jsonl").exists() and chat.bodies == []
    succeed(folder, "judge", "--predictions", "run", "--base-url", chat.url, "--model", "m")
    assert "6 questions, 6 of them answered in run/judge.jsonl: 0 calls" in succeed(folder, *arguments, "--model", "m")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--model", "m"), "--base-url: found none, expected one of an endpoint"),
        (("--base-url", "http://h/v1"), "--model: found none, expected one of an endpoint"),
        (("--base-url", "ftp://h", "--model", "m"), "--base-url: found 'ftp://h', expected e.g. http://localhost"),
        (("--dry-run", "--rows", "model,mine"), "--rows: found mine, expected any of model, blind"),
        (("--dry-run", "--max-prompt-tokens", 10), "2 of 2 questions have more than about 10 tokens: clip 'a' of 'toy'"),
        (("--base-url", "http://h", "--model", "m", "--prices", 1, 2), "--prices: has no effect without --dry-run"),
        (("--dry-run", "--parameter", "seed=1"), "--parameter seed: is set by the command itself"),
        (("--dry-run", "--cache", "run/metrics.json"), "run/metrics.json: found no answer in it, expected a file of answ"),
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_line(folder, more, message):
    before = (folder / "run" / "metrics.json").read_bytes()
    told = fail(folder, "judge", "--predictions", "run", *more)
    assert told.startswith(f"error: {message}") and told.count("\n") == 1
    assert (folder / "run" / "metrics.json").read_bytes() == before


def test_a_refused_key_is_one_line_without_it(folder, chat, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    chat.faults = [401]
    told = fail(
        folder, "judge", "--predictions", "run", "--base-url", chat.url, "--model", "m", "--key-from", "MY_KEY",
        "--concurrency", 1,
    )  # fmt: skip
    assert chat.keys == ["Bearer sk-secret"] and "sk-secret" not in told and told.count("\n") == 1
    assert "asked 'm' about clip 'a' of 'toy' (model), got 401 Unauthorized" in told
    assert (
        "is the key that of this server? See --key-from; 0 of 6 answers are kept in run/judge.jsonl: run the sa" in told
    )


def test_a_folder_without_an_evaluation_is_named(tmp_path):
    told = fail(tmp_path, "judge", "--predictions", tmp_path, "--dry-run")
    assert "found no metrics.json, expected the folder of an evaluation, e.g. RUN/evaluation/test; run prospect" in told
