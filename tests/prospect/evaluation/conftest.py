"""Shards of three small clips, and a toy checkpoint with random weights to stream them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.shards.build import build_split
from pipeline.shards.scan import Options
from prospect.evaluation.evaluate import Places, ProspectEvaluator
from prospect.model.presets import make_checkpoint
from prospect.stream.load import Overrides
from tests.helpers.fakes import raw_clip, write_root
from tests.helpers.models import TEXTS


@dataclass
class World:
    """data/x of videos v0, v1, v2 (frames 2 to 19), its shards, and a checkpoint."""

    root: Path
    checkpoint: Path

    def build(self, **changes: Any) -> None:
        """(Again, with every clip changed.)"""
        clips = [raw_clip(video_uid=f"v{i}", frames_file=f"frames/v{i}.arrow", **changes) for i in range(3)]
        write_root(self.root / "data", clips, split="test")
        build_split(self.root / "data", "x", "test", self.root / "shards", options=Options(), force=True)

    @property
    def places(self) -> Places:
        return Places((f"{self.root}/shards/x/test",), self.root / "data")

    def evaluator(self, out: Path, **options: Any) -> ProspectEvaluator:
        short = {"overrides": Overrides(max_new_tokens=4)}  # an untrained model talks on to the limit
        return ProspectEvaluator(str(self.checkpoint), self.places, out=out, **short | options)


@pytest.fixture(scope="session")
def toy_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint("toy", tmp_path_factory.mktemp("evaluation") / "toy", TEXTS, seed=1)


@pytest.fixture
def world(tmp_path: Path, toy_checkpoint: Path) -> World:
    made = World(tmp_path, toy_checkpoint)
    made.build()
    return made
