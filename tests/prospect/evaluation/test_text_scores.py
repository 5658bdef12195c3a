"""BLEU, CIDEr and METEOR on Java: values, and what happens without it."""

import math
import os
import shutil
import signal
import stat
import sys
import threading
from pathlib import Path

import pytest

from prospect.evaluation.text_scores import ALIKE, TEXT_SCORES, MeteorProcess, TextScores, text_scores
from tests.helpers.waiting import wait_for

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")

PAIRS = [
    ("Take the  wheel,\nplease!", "take THE wheel please"),
    ("Über 3 bolts", "über 4 bolts"),
    ("never compared", "..."),
]


@pytest.fixture(scope="module")
def meteor():
    with MeteorProcess() as process:
        yield process


@needs_java
@pytest.mark.slow
def test_scores_of_two_pairs(capfd, meteor):
    """The third pair's reference has no token but punctuation. Of 4 + 3 words 4 + 2 are right: BLEU-1 is 6/7; of 3 + 2
    pairs of words 3 + 0 are right, and so on. Without the break being joined the lines would be out of step."""
    found = text_scores(PAIRS, meteor)
    assert found.problem is None and set(found.scores) == set(TEXT_SCORES)
    assert found.scores["Bleu_1"] == pytest.approx(6 / 7)
    assert found.scores["Bleu_2"] == pytest.approx(math.sqrt(6 / 7 * 3 / 5))
    assert found.scores["Bleu_3"] == pytest.approx((6 / 7 * 3 / 5 * 2 / 3) ** (1 / 3))
    assert found.scores["Bleu_4"] == pytest.approx((6 / 7 * 3 / 5 * 2 / 3 * 1 / 1) ** (1 / 4))
    # tf-idf over two references: idf is log 2 for every word of one text; the first text is equal (cosine 1 for n = 1
    # to 4), the second shares 2 of 3 words (2/3) and none of the longer n-grams; the mean over n and texts, times 10
    assert found.scores["CIDEr"] == pytest.approx(10 * (1 + (2 / 3) / 4) / 2)
    assert 0.3 < found.scores["METEOR"] < 1.0
    assert capfd.readouterr() == ("", ""), "neither BLEU's counts nor the tokenizer's speed are printed"


@needs_java
@pytest.mark.slow
def test_equal_texts_score_one(meteor):
    scores = text_scores([("take the red wheel", "take the red wheel")], meteor).scores
    assert [scores[name] for name in ("Bleu_1", "Bleu_4", "METEOR")] == pytest.approx([1, 1, 1])


@needs_java
@pytest.mark.slow
def test_no_process_and_no_file_is_left_behind():
    import pycocoevalcap

    folder = Path(next(iter(pycocoevalcap.__path__)))
    files = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    before = java_children()
    text_scores(PAIRS)
    assert {path for path in folder.rglob("*") if "__pycache__" not in path.parts} == files
    assert java_children() == before


def java_children():
    """Java processes that this one started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, parent = (folder / "comm").read_text().strip(), (folder / "stat").read_text().rsplit(")", 1)[1]
        except OSError:
            continue
        if name == "java" and int(parent.split()[1]) == os.getpid():
            found.append(folder.name)
    return found


def test_without_a_pair_all_scores_are_undefined_not_zero():
    assert text_scores([]) == TextScores(dict.fromkeys(TEXT_SCORES), None)


@needs_java
def test_without_a_token_in_any_reference_all_scores_are_undefined():
    assert text_scores([("well done", "...")]) == TextScores(dict.fromkeys(TEXT_SCORES), None)


@needs_java
@pytest.mark.slow
@pytest.mark.parametrize("others", [[], [("nothing like it", "take the red wheel.")]])
def test_cider_of_references_that_are_all_alike_is_undefined_and_said(meteor, others):
    """training.md 10: every word's weight is log 1, and the score of a perfect answer was 0.0."""
    found = text_scores([("take the red wheel", "Take the red wheel"), *others], meteor)
    assert found.scores["CIDEr"] is None and found.scores["Bleu_1"] > 0.4 and found.scores["METEOR"] > 0.4
    assert found.problem == ALIKE


def test_without_java_the_message_names_it(monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = text_scores(PAIRS)
    assert found.scores == dict.fromkeys(TEXT_SCORES)
    assert found.problem == "no BLEU, CIDEr and METEOR: they need Java (apt-get install default-jre-headless)"


def test_without_both_the_message_names_both(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("prospect.evaluation.text_scores.find_spec", lambda name: None)
    assert text_scores(PAIRS).problem == (
        "no BLEU, CIDEr and METEOR: they need pycocoevalcap (pip install 'prospect-vlm[evaluate]') and Java (apt-get install default-jre-headless)"
    )


def fake_java(folder, script):
    path = folder / "java"
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_a_java_that_fails_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", fake_java(tmp_path, "import sys; sys.exit('starting\\nno memory')"))
    found = text_scores(PAIRS)
    assert found.scores == dict.fromkeys(TEXT_SCORES)
    assert found.problem == "no BLEU, CIDEr and METEOR: the tokenizer failed on Java (no memory)"


def test_a_meteor_that_fails_leaves_the_other_scores(monkeypatch, tmp_path):
    script = (
        "import sys\nif '-cp' in sys.argv: print(sys.stdin.read().lower(), end='')\nelse: sys.exit('heap is too large')"
    )
    monkeypatch.setenv("PATH", fake_java(tmp_path, script))
    found = text_scores([("Take the wheel", "take the wheel"), ("Go", "go")])
    assert found.scores["Bleu_1"] == pytest.approx(1) and found.scores["METEOR"] is None
    assert found.problem == "no METEOR: it failed on Java (heap is too large)"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_meteor_runs_ends_it_at_once(monkeypatch, tmp_path, sent):
    """attack.md 7: the package's class held its lock, and its deletion waited for it for ever."""
    asked = tmp_path / "asked"
    monkeypatch.setenv("PATH", fake_java(tmp_path, f"import sys; open({str(asked)!r}, 'w'); sys.stdin.read()"))

    def stopped(signum, frame):
        raise KeyboardInterrupt

    def stop():
        wait_for(asked.exists)
        os.kill(os.getpid(), sent)

    children = java_children()
    before = signal.signal(sent, stopped)
    thread = threading.Thread(target=stop)
    try:
        with pytest.raises(KeyboardInterrupt), MeteorProcess() as process:
            thread.start()
            process.score({0: ["a"]}, {0: ["a"]})
    finally:
        signal.signal(sent, before)
        thread.join()
    assert java_children() == children
