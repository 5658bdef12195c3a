"""A toy checkpoint with random weights, and clips to stream; weights are scaled up so that decisions differ."""

import pytest

from pipeline.annotations.clips import Turn
from prospect.layout import Tokens
from prospect.model.presets import PRESETS, make_checkpoint
from tests.fakes import clip_texts, make_clip
from tests.prospect.model.models import TOKENIZER, grid_config, load

TURNS = (
    Turn("system", "Be kind.", None, None),
    Turn("user", "Hello there", 0, 1),
    Turn("dst_update", "S1->start", 2, 4),
    Turn("assistant", "Take it.", 2, 4),
    Turn("dst_update", "S1->complete", 8, 9),
    Turn("dst_update", "S2->start", 8, 9),
    Turn("assistant", "Well done, go on.", 8, 9),
    Turn("user", "How far am I?", 12, 12),
    Turn("assistant", "One of two.", 12, 12),
    Turn("dst_update", "S2->complete", 15, 17),
)


@pytest.fixture(scope="session")
def clip():
    return make_clip(TURNS, frames=(0, 19))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Four tokens a frame."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "grid", grid_config)
        folder = make_checkpoint(
            "grid", tmp_path_factory.mktemp("checkpoints") / "grid", clip_texts(make_clip(TURNS)), 1
        )
    return load(folder, tokens_per_frame=4)


@pytest.fixture(scope="session")
def tokens():
    return Tokens(TOKENIZER, 4)
