from pathlib import Path

import pytest

from pipeline.shards.build import build_split
from pipeline.shards.scan import Options
from tests.helpers.fakes import raw_clip, write_root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/x: six clips of uneven length and their shards."""
    folder = tmp_path_factory.mktemp("trainer")
    clips = []
    for i in range(6):
        clip = raw_clip(video_uid=f"v{i}", frames_file=f"frames/v{i}.arrow", end_frame_idx=13 + i)
        clip["conversation"] = clip["conversation"][: 3 + i % 3]
        clips.append(clip)
    write_root(folder / "data", clips)
    build_split(folder / "data", "x", "train", folder / "shards", options=Options())
    return folder
