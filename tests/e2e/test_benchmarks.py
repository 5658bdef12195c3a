"""The benchmarks that need no GPU and little time run to their end, at their smallest; two had stopped unseen."""

import importlib.util
import json
import os
import subprocess
import sys
from zipfile import ZipFile

import pytest
import torch

from tests.helpers.places import ROOT
from tests.helpers.prepared import prepared
from tests.helpers.sources import GENERATED, SESSION


def _run(folder, *words, modules=()):
    """`modules`: folders that are looked into first."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*modules, str(ROOT)]), "BENCH_DIR": str(folder)}
    command = [sys.executable, ROOT / "benchmarks" / words[0], *words[1:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=500)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("packing.py", "--clips", "4", "--repeat", "1"),
        ("stream.py", "--clips", "2", "--samples", "400", "--without-peers"),
        ("scale.py", "--samples", "2000", "--clips", "20"),
        ("train.py", "--clips", "2", "--passes", "1", "--repeat", "1"),
        ("stream_inference.py", "--long", "1200"),
        ("slide.py", "--frames", "300", "--max-seq-len", "700"),
        ("side_by_side.py", "--clips", "4", "--streams", "1", "4"),
        ("learning/decide.py", "--out", "out", "--small"),
        ("build.py", "--clips", "40", "--embedded-clips", "4"),
        ("live.py", "--minutes", "0.05", "--others", "0.05", "--rates", "2", "4"),
    ],
    ids=lambda words: words[0],
)
def test_a_benchmark_runs_to_its_end(tmp_path, words):
    done = _run(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
def test_the_benchmark_of_real_weights_runs_with_a_stand_in_and_does_nothing_twice(tmp_path):
    with ZipFile(tmp_path / "div.zip", "w") as archive:
        for number, split in enumerate(("train", "val")):
            name = f"NIV DIV/repot/repot_000{number}_dialogue.txt"
            archive.writestr(f"HowToDIV/{name}", SESSION)
            archive.writestr(f"HowToDIV/{split}_ids.txt", f"HowToDIV/{name}\n")
    (tmp_path / "generated.json").write_text(json.dumps([GENERATED]))
    (tmp_path / "prepared.jsonl").write_text(json.dumps(prepared()) + "\n")
    sources = ("--howtodiv", "div.zip", "--generated", "generated.json", "--prepared", "prepared.jsonl")
    command = ("learning/pretrained.py", "--small", "--out", "out", *sources)
    first = _run(tmp_path, *command)
    assert first.returncode == 0, first.stderr
    records = json.loads((tmp_path / "out" / "pretrained.json").read_text())["records"]
    assert [(r["world"], r["text"], r["lora"], r["clips"]) for r in records] == [
        ("hard", "pretrained", False, 4),
        ("hard", "random", False, 4),
        ("hard", "pretrained", True, 4),
        ("real", "pretrained", False, 2),
        ("real", "random", False, 2),
        ("real", "toy", False, 40),
        ("real", "pretrained", True, 2),
    ]
    for record in records:
        when = record["before"], record["after"]
        assert all(set(scores) == ({"val"} if record["world"] == "hard" else {"val", "test"}) for scores in when)
        assert all(1 < scores[split]["perplexity"] < 1000 for scores in when for split in scores)
        assert record["hours"] > 0 and all(tokens > 1 for tokens in record["tokens_a_word"].values())
    toy = next(record for record in records if record["text"] == "toy")
    assert toy["after"]["val"]["perplexity"] < toy["before"]["val"]["perplexity"] / 2  # it learned
    assert [point["clips"] for point in records[0]["curve"]] == [0, 2, 4]
    toys = json.loads((tmp_path / "out" / "hard-4" / "data" / "toyworld" / "val_training.json").read_text())
    assert records[0]["baselines"]["chance"]["dst_gen_exact_match_start"] == pytest.approx(_chance(toys))
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.safetensors")}
    second = _run(tmp_path, *command)
    assert first.stdout.endswith(second.stdout) and "-- hard-pretrained-4" not in second.stdout  # no run began
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*.safetensors")}
    table = _run(tmp_path, "learning/pretrained.py", "--table", "--out", "out").stdout
    assert table.splitlines()[:-1] == second.stdout.splitlines()[:-1]  # the last line says the command
    wrong = _run(tmp_path, *command[:-1], "no.jsonl")
    assert wrong.returncode == 1 and wrong.stderr.strip().splitlines()[-1].startswith("error: no.jsonl: ")


def test_a_part_that_is_stopped_leaves_no_process_behind(monkeypatch):
    place = ROOT / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("bench_gpu", place)
    gpu = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_gpu", gpu)  # dataclasses look it up
    spec.loader.exec_module(gpu)
    child = "import signal; print('here', flush=True); signal.pause()"
    leader = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-c", leader]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout.readline() == b"here\n"
        assert gpu.ended(process, 0) is None
        assert process.stdout.read() == b"", "ends once nobody holds the other end"
    assert gpu.ended(subprocess.Popen([sys.executable, "-c", "exit(3)"], start_new_session=True), 300) == 3


@pytest.mark.slow
def test_the_benchmarks_of_a_gpu_keep_what_was_measured_and_name_what_failed(tmp_path):
    command = ("gpu.py", "--cpu-check", "--out", "out", "--only", "memory,features")
    file = tmp_path / "out" / "gpu.json"
    without = tmp_path / "without"
    without.mkdir()
    (without / "polars.py").write_text("raise ModuleNotFoundError('No module named [/]polars')\n")  # a rich tag
    failed = _run(tmp_path, *command, modules=[str(without)])
    assert failed.returncode == 1, failed.stderr
    for record in json.loads(file.read_text())["parts"].values():
        assert record["status"] == "failed (exit code 1)" and record["numbers"] == {}
        assert record["last words"][-1] == "ModuleNotFoundError: No module named [/]polars"
    assert failed.stdout.count("ModuleNotFoundError: No module named") == 2, "a line for each part"
    first = _run(tmp_path, *command)
    assert first.returncode == 0, first.stdout + first.stderr
    parts = json.loads(file.read_text())["parts"]
    assert [record["status"] for record in parts.values()] == ["done", "done"]
    assert parts["features"]["numbers"]["toy: frames/s"] > 0
    assert sum("tokens/s" in name for name in parts["memory"]["numbers"]) >= 2  # 8-bit AdamW needs torchao
    names = {name.partition(":")[0] for name in parts["memory"]["numbers"]} | {*parts["memory"]["not measured"]}
    assert len(names) == 4, "what was not measured is said"
    second = _run(tmp_path, *command, "--again", "features")
    assert "== features" in second.stdout and "== memory" not in second.stdout, "what is there is kept"
    assert _run(tmp_path, "gpu.py", "--table", "--out", "out").stdout == second.stdout.partition("minutes\n")[2]
    wrong = _run(tmp_path, *command[:-1], "speed")
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: speed: found no such part, expected train,memory")
    if not torch.cuda.is_available():
        none = _run(tmp_path, "gpu.py", "--out", "none")
        assert none.returncode == 1 and none.stderr.startswith("error: needs a CUDA GPU, found none; nothing was")


def _chance(clips):
    """Of a guess among the steps left: 1/3 + 1/2 + 1 over 3 for three steps; a video's second part has fewer left."""
    chances = []
    for clip in clips:
        left = sum(state == "not_started" for state in clip.get("initial_dst_state", {}).values()) or len(clip["dst"])
        for turn in clip["conversation"]:
            if turn["role"] == "DST_UPDATE" and turn["content"][0]["transition"] == "start":
                chances.append(1 / left)
                left -= 1
    return sum(chances) / len(chances)
