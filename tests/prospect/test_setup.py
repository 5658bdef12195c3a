"""What a checkpoint remembers, where its base comes from, and whose cached features are: those of one model alone."""

import json
import shutil
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from huggingface_hub import constants

from pipeline.errors import ProspectError
from prospect import setup
from prospect.config import DataConfig
from prospect.layout import LAYOUT_VERSION
from prospect.model.presets import make_checkpoint
from prospect.setup import feature_key, load_model, remembered
from tests.helpers.hub import put_in_cache
from tests.helpers.models import TEXTS
from tests.helpers.runs import config_of


def model(tokens=4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), size=64, vision=1.0, connector=1.0):
    """What the key reads of a model, with one weight in each part."""
    tower, projection = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(tower.weight, vision)
    torch.nn.init.constant_(projection.weight, connector)
    return SimpleNamespace(
        prospect_settings=SimpleNamespace(tokens_per_frame=tokens, image_mean=list(mean), image_std=list(std)),
        config=SimpleNamespace(vision_config=SimpleNamespace(image_size=size)),
        model=SimpleNamespace(vision_model=tower, connector=projection),
    )


def test_each_thing_that_a_feature_depends_on_changes_its_key(monkeypatch):
    key = feature_key(model(), "float32", "projected")
    assert feature_key(model(), "float32", "projected") == key
    others = [
        feature_key(model(tokens=1), "float32", "projected"),
        feature_key(model(mean=(0.5, 0.5, 0.4)), "float32", "projected"),
        feature_key(model(std=(0.5, 0.5, 0.4)), "float32", "projected"),
        feature_key(model(size=128), "float32", "projected"),
        feature_key(model(vision=2.0), "float32", "projected"),
        feature_key(model(connector=2.0), "float32", "projected"),
        feature_key(model(), "bfloat16", "projected"),
        feature_key(model(), "float32", "pooled"),
    ]
    monkeypatch.setattr(setup, "DRAFT_GAP", setup.DRAFT_GAP + 1)
    others.append(feature_key(model(), "float32", "projected"))
    assert len({key, *others}) == 1 + 9
    pooled = {feature_key(model(connector=weight), "float32", "pooled") for weight in (1.0, 2.0)}
    assert len(pooled) == 1, "a connector that is trained is no part of what is cached"


def split_of(*rates, update="S1->start"):
    """A split whose clips have these rates, each with a second row, that has none, an utterance about a reset."""
    clips = [row for rate in rates for row in ({"fps": float(rate)}, None)]
    kinds, texts = ["dst_update", "assistant"] * len(rates), [update, "S1->reset"] * len(rates)
    return SimpleNamespace(index=pl.DataFrame({"clip": clips, "kind": kinds, "target": texts}))


def test_a_checkpoint_remembers_the_rates_of_all_that_it_was_trained_on():
    found = remembered(DataConfig(dataset="x", reserve=77), [split_of(2, 10, 2), split_of(0.5, 10)])
    assert json.dumps(found["fps"]) == "[0.5, 2, 10]"
    assert (found["reserve"], found["layout"], found["transitions"]) == (77, LAYOUT_VERSION, ["start", "complete"])
    undone = remembered(DataConfig(dataset="x"), [split_of(2), split_of(2, update="S1->complete, S1->reset")])
    assert undone["transitions"] == ["start", "complete", "reset"]


OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A hub's cache with revision OLD of Some/Model; the config of a run of adapters on it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    put_in_cache(tmp_path / "hub", "Some/Model", OLD, make_checkpoint("toy", tmp_path / "toy", TEXTS, 1))
    return config_of(tmp_path, "r", "model.preset=null", "model.checkpoint=Some/Model", "model.lora.rank=2")


def base_of_loaded(config, resume_from=None):
    model = load_model(config, resume_from, [split_of(2)]).model.get_base_model()
    return model.config.name_or_path.split("/")[-1], model.prospect_settings.extra["base"]


def test_a_resumed_run_has_the_revision_that_it_began_with(base, tmp_path):
    assert base_of_loaded(base) == (OLD, f"Some/Model@{OLD}")
    checkpoint = shutil.copytree(tmp_path / "toy", tmp_path / "checkpoint-1")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"prospect": {"base": f"Some/Model@{OLD}"}}))
    put_in_cache(tmp_path / "hub", "Some/Model", NEW, tmp_path / "toy")
    assert base_of_loaded(base) == (NEW, f"Some/Model@{NEW}"), "a new run has the hub's main"
    assert base_of_loaded(base, checkpoint) == (OLD, f"Some/Model@{OLD}")


def test_adapters_are_trained_of_whole_weights_alone(base, tmp_path):
    """What is saved names one base: an adapter of an adapter would be put on the first one's."""
    adapter = shutil.copytree(tmp_path / "toy", tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text("{}")
    config = config_of(tmp_path, "r", "model.preset=null", f"model.checkpoint={adapter}", "model.lora.rank=2")
    with pytest.raises(ProspectError, match=r"adapter is a LoRA adapter, expected whole weights .*; merge it first"):
        load_model(config, None, [split_of(2)])
