"""One small world for the tests of this folder."""

import pytest

from tests.helpers.browse import World, make_world


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("browse"))
