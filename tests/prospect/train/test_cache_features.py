"""`cache-features` by the workers of an engine: the bytes of one process (what features are: `test_run.py`)."""

from dataclasses import replace

import pytest

from pipeline.errors import ProspectError
from pipeline.io.engine import LocalEngine
from pipeline.io.ray_engine import RayWorkers
from pipeline.progress import unwatched
from prospect.config import Config
from prospect.data.features import FeatureStore
from prospect.train import cache_features
from prospect.train.cache_features import run_cache_features
from tests.helpers.runs import config_of

FROZEN = ["model.freeze_vision=true", "model.freeze_connector=true", "train.seed=3"]


@pytest.fixture(autouse=True)
def nothing_kept():
    yield
    cache_features._encoder.cache_clear()


def features(store):
    return {path.name: path.read_bytes() for path in store.folder.iterdir()}


def test_a_config_is_read_as_it_was_sent(folder):
    config = config_of(folder, "sent", *FROZEN, "model.lora.rank=2", f"data.features={folder}/sent")
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_ray_writes_the_same_bytes_and_goes_on(folder, tmp_path):
    here, _, _ = run_cache_features(config_of(folder, "here", *FROZEN, f"data.features={tmp_path}/here"), unwatched)
    config = config_of(folder, "ray", *FROZEN, f"data.features={tmp_path}/ray")
    num_frames = sum(12 + i for i in range(6))
    told = []
    with RayWorkers(2) as ray:
        store, made, kept = run_cache_features(config, lambda *step: told.append(step), ray)
        assert (made, kept) == (num_frames, 0) and features(store) == features(here)
        assert [done for _, done, _ in told] == [12, 25, 39, 54, 70, 87]
        store.path("x", "frames/v3.arrow").unlink()
        path = store.path("x", "frames/v4.arrow")
        kept_at = path.stat().st_mtime_ns
        assert run_cache_features(config, unwatched, ray) == (store, 15, num_frames - 15)
    assert features(store) == features(here) and path.stat().st_mtime_ns == kept_at


def test_workers_that_do_not_share_the_folder_or_the_model_are_named(folder, tmp_path, monkeypatch):
    """Done in this process."""
    config = config_of(folder, "apart", *FROZEN, f"data.features={tmp_path}/apart")
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write", lambda *arguments: None)
        with pytest.raises(ProspectError, match=r"found no features of frames/v0\.arrow, which a worker has written; "):
            run_cache_features(config, unwatched, LocalEngine(1))
    store = cache_features._store

    def of_another_model(text):
        return replace(store(text), folder=tmp_path / "another")

    monkeypatch.setattr(cache_features, "_store", of_another_model)
    with pytest.raises(
        ProspectError, match=r"would keep features, expected .*/another, as the others: every node needs"
    ):
        run_cache_features(config, unwatched, LocalEngine(1))
