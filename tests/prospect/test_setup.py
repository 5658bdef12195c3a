"""Cached features are those of one model alone: all that a feature depends on is in its key."""

from types import SimpleNamespace

import torch

from prospect import setup
from prospect.setup import feature_key


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
    key = feature_key(model(), "float32")
    assert feature_key(model(), "float32") == key
    others = [
        feature_key(model(tokens=1), "float32"),
        feature_key(model(mean=(0.5, 0.5, 0.4)), "float32"),
        feature_key(model(std=(0.5, 0.5, 0.4)), "float32"),
        feature_key(model(size=128), "float32"),
        feature_key(model(vision=2.0), "float32"),
        feature_key(model(connector=2.0), "float32"),
        feature_key(model(), "bfloat16"),
    ]
    monkeypatch.setattr(setup, "DRAFT_GAP", setup.DRAFT_GAP + 1)
    others.append(feature_key(model(), "float32"))
    assert len({key, *others}) == 1 + 8
