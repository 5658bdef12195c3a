import pytest

from prospect.model.presets import PRESETS, make_checkpoint
from tests.helpers.models import TEXTS, grid_config, load


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "grid", grid_config)
        patch.setitem(PRESETS, "grid-untied", lambda tokenizer: grid_config(tokenizer, tied=False))
        names = ("toy", "grid", "grid-untied")
        return {name: make_checkpoint(name, folder / name, TEXTS, seed=1) for name in names}


@pytest.fixture(scope="module")
def toy(checkpoints):
    return load(checkpoints["toy"])
