"""A small toy world and a finished run on it: made once, and copied for each module, which writes beside its own copy."""

import shutil
from pathlib import Path

import pytest

from pipeline.annotations.clips import SPLITS
from tests.helpers.command import TINY, succeed


@pytest.fixture(scope="session")
def made_toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `toy` is copied from; no test writes here."""
    folder = tmp_path_factory.mktemp("made")
    succeed(folder, "make-toy", "--clips", 12)
    for split in SPLITS:
        succeed(folder, "build-shards", "--split", split, "--data-root", "data/toy", "--workers", 1)
    return folder


@pytest.fixture(scope="session")
def made_run(made_toy: Path) -> Path:
    """What `trained` is copied from."""
    succeed(made_toy, "train", *TINY, "--set", "name=tiny")
    return made_toy / "runs" / "tiny"


@pytest.fixture(scope="module")
def toy(made_toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/toy (12 + 8 + 8 clips) and its shards."""
    folder = tmp_path_factory.mktemp("toy")
    for part in ("data", "shards"):
        shutil.copytree(made_toy / part, folder / part)
    return folder


@pytest.fixture(scope="module")
def trained(made_run: Path, toy: Path) -> Path:
    """The folder of a finished run of 6 steps on `toy`, with checkpoints at 3 and 6."""
    return Path(shutil.copytree(made_run, toy / "runs" / "tiny"))
