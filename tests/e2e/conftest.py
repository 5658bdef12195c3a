"""The installed `prospect` command on a small toy world, shared by the tests of this folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
PROSPECT = Path(sys.executable).parent / "prospect"
SPLITS = ("train", "val", "test")
TINY = [
    f"--set={setting}"
    for setting in (
        "data.toy=null",
        "data.num_workers=1",
        "data.cache=cache",
        "train.epochs=1",
        "train.warmup_steps=2",
        "train.eval_steps=3",
        "train.save_steps=3",
        "train.log_steps=1",
    )
]


def run(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`prospect ARGUMENTS` in `folder`; stdout and stderr as text."""
    return subprocess.run(
        [str(PROSPECT), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"} | environment,
        timeout=500,
    )


def succeed(folder: Path, *arguments: object, **environment: str) -> str:
    done = run(folder, *arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fail(folder: Path, *arguments: object) -> str:
    """The message of a command that has to end with exit code 1 and without a traceback."""
    done = run(folder, *arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/toy (12 + 8 + 8 clips) and its shards."""
    folder = tmp_path_factory.mktemp("toy")
    succeed(folder, "make-toy", "--clips", 12)
    for split in SPLITS:
        succeed(folder, "build-shards", "--split", split)
    return folder


@pytest.fixture(scope="session")
def trained(toy: Path) -> Path:
    """The folder of a finished run of 6 steps on `toy`, with checkpoints at 3 and 6."""
    succeed(toy, "train", *TINY, "--set", "name=tiny")
    return toy / "runs" / "tiny"
