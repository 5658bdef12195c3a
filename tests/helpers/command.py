"""The `prospect` command: in this process, where importing torch is paid once, or (`process`) as it is installed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

from pipeline.io.frame_store import open_frames
from prospect.commands.app import app
from prospect.commands.terminal import console
from tests.helpers.places import ROOT

PROSPECT = Path(sys.executable).parent / "prospect"
TINY = [
    "--config=toy",
    *(
        f"--set={setting}"
        for setting in (
            "data.num_workers=0",
            "data.cache=cache",
            "train.epochs=1",
            "train.warmup_steps=2",
            "train.eval_steps=3",
            "train.save_steps=3",
            "train.log_steps=1",
        )
    ),
]


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def run(folder: Path, *arguments: object, columns: int = 200) -> Done:
    """`prospect ARGUMENTS` in `folder`, in this process; an exception that the command does not handle is raised."""
    words = list(map(str, arguments))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    open_frames.cache_clear()  # a command begins with nothing open
    try:
        with (
            contextlib.chdir(folder),
            patch.object(sys, "argv", ["prospect", *words]),
            patch.object(console, "_width", columns),  # which it took from COLUMNS when it was made
        ):
            result = CliRunner().invoke(app, words, env={"COLUMNS": str(columns)}, prog_name="prospect")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def process(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed command, to its end."""
    return _to_its_end(folder, [PROSPECT, *arguments], environment)


def torchrun(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The installed command in two processes, as users start it."""
    return _to_its_end(folder, [PROSPECT.parent / "torchrun", "--nproc-per-node", 2, PROSPECT, *arguments], {})


def ranks(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in two ranks, see `tests/helpers/ranks.py`."""
    words = [sys.executable, "-m", "tests.helpers.ranks", 2, *arguments]
    return _to_its_end(folder, words, {"PYTHONPATH": str(ROOT)} | environment)


def _to_its_end(folder: Path, words: list[object], more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "200"} | more
    return subprocess.run(
        list(map(str, words)), cwd=folder, capture_output=True, text=True, env=environment, timeout=500
    )


def start(folder: Path, *arguments: object, sigint: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[str]:
    """The installed command, to be stopped or killed. `sigint`: what it inherits, whatever these tests did."""
    return subprocess.Popen(
        [str(PROSPECT), *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, sigint),
    )


def records(run_folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def succeed(folder: Path, *arguments: object) -> str:
    """What a command that has to succeed prints."""
    done = run(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fail(folder: Path, *arguments: object) -> str:
    """The message of a command that has to end with exit code 1."""
    done = run(folder, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr
