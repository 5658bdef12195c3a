"""Adapters of a hub id, from training to export: one revision of the base, wherever the hub's main has gone since."""

import json
import shutil

import pytest
from huggingface_hub import constants

from prospect.model.export import export
from prospect.model.lora import ADAPTER_CONFIG, base_of
from prospect.model.presets import make_checkpoint
from prospect.runs import METRICS, checkpoints
from prospect.stream.load import load_streamer
from tests.helpers.hub import put_in_cache
from tests.helpers.models import TEXTS
from tests.helpers.runs import STEPS, run

OLD, NEW = "a" * 40, "b" * 40


@pytest.mark.slow
def test_adapters_of_a_hub_id_keep_the_revision_of_their_base(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    put_in_cache(tmp_path / "hub", "Some/Model", OLD, make_checkpoint("toy", tmp_path / "old", TEXTS, 1))
    settings = ["model.preset=null", "model.checkpoint=Some/Model", "model.lora.rank=2", *STEPS]
    of_run = run(folder, "of_hub", *settings).folder
    expected = load_streamer(str(of_run)).model.state_dict()
    _, *later = checkpoints(of_run)
    for path in later:  # it was stopped after one step
        shutil.rmtree(path)
    (of_run / METRICS).unlink()
    put_in_cache(tmp_path / "hub", "Some/Model", NEW, make_checkpoint("toy", tmp_path / "new", TEXTS, 2))
    run(folder, "of_hub", *settings, resume=True)
    (*_, last) = checkpoints(of_run)
    assert last.name == later[-1].name and is_same(load_streamer(str(last)), expected)

    (tmp_path / "hub").rename(tmp_path / "elsewhere")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere"))
    assert base_of(last) == f"Some/Model@{OLD}"
    assert export(last, tmp_path / "out", merge=False) == f"adapter and heads; its base is Some/Model@{OLD}"
    record = json.loads((tmp_path / "out" / ADAPTER_CONFIG).read_text())
    assert (record["base_model_name_or_path"], record["revision"]) == ("Some/Model", OLD)
    assert is_same(load_streamer(str(tmp_path / "out")), expected)


def is_same(streamer, weights):
    return all((streamer.model.state_dict()[name] == value).all() for name, value in weights.items())
