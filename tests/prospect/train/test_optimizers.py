"""Which precisions learn at a fine-tuning learning rate: the optimizers that a config gets, on bf16 and fp32 weights."""

import pytest
import torch
from transformers import Trainer

from pipeline.errors import ProspectError
from prospect.config import Config, load_config
from prospect.train.trainer import _arguments
from tests.prospect.train.test_trainer import CONFIGS


def learned(optimizer: str, dtype: torch.dtype) -> tuple[float, float]:
    """What part of the way a regression goes in 300 steps at 1e-5; the share of weights that one step moves."""
    config = Config.model_validate(
        {"model": {"preset": "toy"}, "train": {"optimizer": optimizer, "learning_rate": 1e-5, "weight_decay": 0}}
    )
    cls, options = Trainer.get_optimizer_cls_and_kwargs(_arguments(config, 300))
    torch.manual_seed(0)
    inputs = torch.randn(256, 64)
    wanted = inputs @ torch.randn(64, 64) / 8
    layer = torch.nn.Linear(64, 64, bias=False).to(dtype)
    before = layer.weight.detach().clone()
    optimizer_ = cls(layer.parameters(), **options)
    losses, moved = [], 0.0
    for step in range(300):
        loss = (layer(inputs.to(dtype)).float() - wanted).square().mean()
        loss.backward()
        optimizer_.step()
        optimizer_.zero_grad()
        losses.append(loss.item())
        moved = (layer.weight != before).float().mean().item() if step == 0 else moved
    return losses[0] - losses[-1], moved


def test_bf16_weights_learn_with_stochastic_rounding_and_not_without():
    full, all_move = learned("adamw", torch.float32)
    nearest, few_move = learned("adamw", torch.bfloat16)
    by_chance, _ = learned("adamw_8bit", torch.bfloat16)
    assert all_move > 0.99 and few_move < 0.2, "most updates of 1e-5 round away"
    assert nearest < 0.1 * full
    assert by_chance == pytest.approx(full, rel=0.1)


def test_a_config_that_would_not_learn_is_refused_with_the_ways_out():
    with pytest.raises(ProspectError, match=r"most updates of a small learning rate round away; use train.optimizer"):
        load_config(CONFIGS / "toy.yaml", ["model.dtype=bfloat16"])
    for way in (["train.optimizer=adamw_8bit"], ["model.lora.rank=4"]):
        load_config(CONFIGS / "toy.yaml", ["model.dtype=bfloat16", *way])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_valid_and_named_as_its_file(path):
    assert load_config(path).name == path.stem
