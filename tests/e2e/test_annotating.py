"""`prospect annotate` as users run it: by alignment, by an endpoint that is killed under way, and compared."""

import json
import signal
from pathlib import Path

import pytest

from pipeline.spans.records import NamedStep, Span, VideoSpans, read_spans, write_records
from tests.helpers.chat import Chat, answer_by_words
from tests.helpers.command import fail, run, start, succeed
from tests.helpers.waiting import wait_for


@pytest.fixture
def chat():
    chat = Chat(answer_by_words)
    yield chat
    chat.stop()


def video(name: str, *texts: str, spans: tuple[Span, ...] = ()) -> VideoSpans:
    blocks = [{"start_s": 10 * n, "end_s": 10 * n + 5, "text": text} for n, text in enumerate(texts)]
    steps = (NamedStep(id="S1", name="Attach the wheels"), NamedStep(id="S2", name="Screw the roof on"))
    provenance = {"blocks": blocks} if blocks else {}
    return VideoSpans(video=name, dataset="toys", steps=steps, spans=spans, provenance=provenance)


def write(folder: Path, *records: VideoSpans, name: str = "train_spans.jsonl") -> Path:
    write_records(folder / name, records)
    return folder / name


@pytest.mark.slow
def test_the_packaged_model_finds_steps_in_what_was_described(tmp_path):
    texts = ("a person sits down", "puts a wheel on", "puts the second wheel on", "fastens the roof with screws")
    write(tmp_path, video("v", *texts))
    told = succeed(tmp_path, "annotate", "--spans", "train_spans.jsonl", "--out", "train_spans.align.jsonl")
    assert told == ("train_spans.align.jsonl: 1 videos, 4 blocks, 1 blocks of no step, 2 spans found\n")
    (record,) = read_spans(tmp_path / "train_spans.align.jsonl")
    assert [(span.step, span.start_s, span.end_s, span.method) for span in record.spans] == [
        ("S1", 10, 25, "align"),
        ("S2", 30, 35, "align"),
    ]
    assert record.provenance["annotate"]["model"] == "all-minilm"


def test_an_endpoint_that_is_killed_under_way_goes_on_where_it_was(tmp_path, chat):
    """Two of four videos are answered when it is killed; the next run asks for the two others alone."""
    write(tmp_path, *(video(f"v{n}", f"part {n}", "Screw the roof on") for n in range(4)))
    arguments = ("annotate", "--spans", "train_spans.jsonl", "--out", "out.jsonl", "--method", "endpoint")
    arguments += ("--base-url", chat.url, "--model", "m", "--concurrency", "1")
    chat.faults = [None, None, "stall"]
    killed = start(tmp_path, *arguments)
    wait_for(lambda: len(chat.bodies) == 3)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "out.jsonl").exists()
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2
    dry = succeed(tmp_path, *arguments, "--dry-run", "--json")
    assert {name: json.loads(dry)[name] for name in ("questions", "calls")} == {"questions": 4, "calls": 2}
    told = succeed(tmp_path, *arguments)
    assert told.splitlines() == [
        "4 questions, 2 of them answered in answers.jsonl: 2 calls",
        "out.jsonl: 4 videos, 8 blocks, 4 blocks of no step, 4 spans found, 4 steps without a block",
    ]
    assert len(chat.bodies) == 5
    assert "0 calls, about 0 tokens" in succeed(tmp_path, *arguments, "--dry-run")
    assert read_spans(tmp_path / "out.jsonl")[0].spans[0].method == "endpoint:m"


def test_an_interrupt_ends_it_while_the_endpoint_is_silent(tmp_path, chat):
    write(tmp_path, video("v", "part"))
    chat.faults = ["stall"]
    arguments = ("annotate", "--spans", "train_spans.jsonl", "--out", "out.jsonl", "--method", "endpoint")
    silent = start(tmp_path, *arguments, "--base-url", chat.url, "--model", "m", sigint=signal.default_int_handler)
    wait_for(lambda: len(chat.bodies) == 1)
    silent.send_signal(signal.SIGINT)
    _, stderr = silent.communicate(timeout=60)
    assert silent.returncode == 130
    assert stderr.startswith("interrupted; what was finished is kept")


def test_a_refused_key_is_one_line_without_it(tmp_path, chat, monkeypatch):
    write(tmp_path, video("v", "part"))
    chat.faults = [401]
    monkeypatch.setenv("MY_KEY", "sk-secret")
    told = fail(
        tmp_path, "annotate", "--spans", "train_spans.jsonl", "--out", "out.jsonl", "--method", "endpoint",
        "--base-url", chat.url, "--model", "m", "--key-from", "MY_KEY",
    )  # fmt: skip
    assert chat.keys == ["Bearer sk-secret"]
    assert told == (
        f"error: {chat.url}/chat/completions: asked 'm' about video 'v', got 401 Unauthorized: '{{\"error\": {{\"message\": \"no\"}}}}'; is the key that of this server? See --key-from; 0 of 1 answers are kept in answers.jsonl: run the same command again to go on\n"
    )
    assert not (tmp_path / "out.jsonl").exists()


def test_two_annotations_are_compared(tmp_path):
    human = (Span(step="S1", start_s=0, end_s=10), Span(step="S2", start_s=10, end_s=20))
    write(tmp_path, video("v", spans=human), video("x"), name="a.jsonl")
    write(tmp_path, video("v", spans=(Span(step="S1", start_s=1, end_s=16),)), video("y"), name="b.jsonl")
    assert succeed(tmp_path, "annotate", "--compare", "a.jsonl", "b.jsonl").splitlines() == [
        "1 videos in both; 4 events in a.jsonl, 2 in b.jsonl",
        "1 events within 2 s (F1 0.333); boundaries of 2 paired events differ by 3.50 s (median), 5.50 s (p90)",
        "0 steps missing in a.jsonl",
        "1 steps missing in b.jsonl: v S2",
        "1 videos in a.jsonl alone: x",
        "1 videos in b.jsonl alone: y",
    ]
    result = json.loads(succeed(tmp_path, "annotate", "--compare", "a.jsonl", "b.jsonl", "--tolerance", 6, "--json"))
    assert result["events"] == {"a": 4, "b": 2, "paired": 2, "within": 2}
    assert result["steps_missing_in_b"] == [{"video": "v", "step": "S2"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--spans and --out: found one or none of them, expected both, or --compare A B"),
        (("--spans", "train_spans.jsonl", "--out", "old.jsonl"), "old.jsonl: is there already; pass --force"),
        (("--spans", "train_spans.jsonl", "--out", "train_spans.jsonl", "--force"), "train_spans.jsonl: is what is read"),
        (("--spans", "train_spans.jsonl", "--out", "o", "--model", "m"), "--model: has no effect without --method endpoint"),
        (("--spans", "train_spans.jsonl", "--out", "o", "--dry-run"), "--dry-run: has no effect without --method endpoint"),
        (("--spans", "train_spans.jsonl", "--out", "o", "--method", "endpoint", "--model", "m"), "--base-url: found none"),
        (("--compare", "old.jsonl", "old.jsonl", "--out", "o"), "o: has no effect beside --compare"),
        (
            ("--spans", "train_spans.jsonl", "--out", "o", "--method", "endpoint", "--model", "m", "--base-url", "http://h", "--key-from", "NO_KEY"),
            "--key-from NO_KEY: found no such variable in the environment",
        ),
        (
            ("--spans", "train_spans.jsonl", "--out", "o", "--method", "endpoint", "--dry-run", "--parameter", "seed=1"),
            "--parameter seed: is set by the command itself",
        ),
        (
            ("--spans", "train_spans.jsonl", "--out", "o", "--method", "endpoint", "--dry-run", "--parameter", "max_tokens"),
            "--parameter: found 'max_tokens', expected NAME=JSON",
        ),
    ],
)  # fmt: skip
def test_a_users_mistake_is_one_line(tmp_path, arguments, message):
    write(tmp_path, video("v", "part"))
    (tmp_path / "old.jsonl").write_text("")
    told = fail(tmp_path, "annotate", *arguments)
    assert told.startswith(f"error: {message}") and told.count("\n") == 1
    assert (tmp_path / "old.jsonl").read_text() == "" and not (tmp_path / "o").exists()


def test_a_dry_run_needs_no_endpoint(tmp_path):
    write(tmp_path, video("v", "part"))
    told = run(tmp_path, "annotate", "--spans", "train_spans.jsonl", "--out", "o", "--method", "endpoint", "--dry-run")
    assert (told.returncode, told.stdout.split(":")[0]) == (0, "1 questions, 0 of them answered in answers.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["train_spans.jsonl"]


def test_a_file_without_spans_is_not_written_over(tmp_path):
    record = {"format": "prospect.spans/1", "video": "v", "dataset": "d", "steps": [{"id": "S1", "name": "stir"}]}
    (tmp_path / "train_spans.jsonl").write_text(json.dumps(record))
    (tmp_path / "Makefile").write_text("mine")
    told = fail(tmp_path, "annotate", "--spans", "train_spans.jsonl", "--out", "Makefile", "--force")
    assert "Makefile: found another file than one of spans" in told and (tmp_path / "Makefile").read_text() == "mine"
