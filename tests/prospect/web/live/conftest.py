"""A model of the toy's size, with random weights."""

import pytest

from prospect.model.presets import make_checkpoint
from tests.helpers.models import TEXTS, load


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return load(make_checkpoint("toy", tmp_path_factory.mktemp("checkpoints") / "toy", TEXTS, 1))
