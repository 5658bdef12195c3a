from pathlib import Path

import pytest

from pipeline.shards.build import build_split
from pipeline.shards.scan import Options
from tests.helpers.fakes import RAW_CLIP, raw_clip, word_tokenizer, write_root

STEPS = [step["name"] for step in RAW_CLIP["dst"]]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/x with three clips, and shards without (plain) and with (embedded) frames."""
    folder = tmp_path_factory.mktemp("loader")
    write_root(folder / "data", [raw_clip(video_uid=f"v{i}", frames_file=f"frames/v{i}.arrow") for i in range(3)])
    for name, embed in (("plain", False), ("embedded", True)):
        options = Options(max_silent_frames=4, embed_frames=embed, max_shard_samples=16)
        build_split(folder / "data", "x", "train", folder / name, options=options)
    return folder


@pytest.fixture(scope="session")
def tokenizer():
    texts = [turn["content"] for turn in RAW_CLIP["conversation"] if isinstance(turn["content"], str)]
    return word_tokenizer([*texts, *STEPS])
