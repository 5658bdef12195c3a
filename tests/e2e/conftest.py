"""A small toy world and a finished run on it, shared by the tests of this folder."""

from pathlib import Path

import pytest

from pipeline.annotations.clips import SPLITS
from tests.helpers.command import TINY, succeed


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/toy (12 + 8 + 8 clips) and its shards."""
    folder = tmp_path_factory.mktemp("toy")
    succeed(folder, "make-toy", "--clips", 12)
    for split in SPLITS:
        succeed(folder, "build-shards", "--split", split, "--data-root", "data/toy", "--workers", 1)
    return folder


@pytest.fixture(scope="session")
def trained(toy: Path) -> Path:
    """The folder of a finished run of 6 steps on `toy`, with checkpoints at 3 and 6."""
    succeed(toy, "train", *TINY, "--set", "name=tiny")
    return toy / "runs" / "tiny"
