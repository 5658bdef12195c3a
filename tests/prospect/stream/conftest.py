"""A toy checkpoint with random weights, and clips to stream; weights are scaled up so that decisions differ."""

import pytest

from prospect.layout import Tokens
from prospect.model.presets import PRESETS, make_checkpoint
from tests.helpers.fakes import clip_texts, make_clip
from tests.helpers.models import BY_TOKENS, TOKENIZER, grid_config, load
from tests.helpers.streams import TURNS


@pytest.fixture(scope="session")
def clip():
    return make_clip(TURNS, frames=(0, 19))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "grid", grid_config)
        return make_checkpoint("grid", tmp_path_factory.mktemp("checkpoints") / "grid", clip_texts(make_clip(TURNS)), 1)


@pytest.fixture(scope="session")
def model(checkpoint):
    """Four tokens a frame; heads decide."""
    return load(checkpoint, tokens_per_frame=4)


@pytest.fixture(scope="session")
def by_tokens(checkpoint):
    """The same, but tokens decide."""
    return load(checkpoint, tokens_per_frame=4, settings=BY_TOKENS)


@pytest.fixture(scope="session")
def tokens():
    return Tokens(TOKENIZER, 4)
