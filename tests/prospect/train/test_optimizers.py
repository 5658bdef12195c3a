"""The optimizers that a config gets: which precisions learn at a fine-tuning learning rate, and its other settings."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import Trainer

from pipeline.errors import ProspectError
from prospect.config import Config
from prospect.config_file import load_config
from prospect.train.arguments import training_arguments
from tests.helpers.places import CONFIGS
from tests.helpers.runs import logged, run


def learned(optimizer: str, dtype: torch.dtype) -> tuple[float, float]:
    """What part of the way a regression goes in 300 steps at 1e-5; the share of weights that one step moves."""
    config = Config.model_validate(
        {
            "data": {"dataset": "x"},
            "model": {"preset": "toy"},
            "train": {"optimizer": optimizer, "learning_rate": 1e-5, "weight_decay": 0},
        }
    )
    cls, options = Trainer.get_optimizer_cls_and_kwargs(training_arguments(config, 300))
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


@pytest.fixture
def steps():
    """Of each step of any optimizer: weight decays, betas, learning rates, and the norm of the gradient."""
    found: list[tuple[set[float], set[tuple[float, float]], set[float], float]] = []

    def look(optimizer, args, kwargs):
        groups = optimizer.param_groups
        grads = [p.grad.norm() for group in groups for p in group["params"] if p.grad is not None]
        values = [{group[name] for group in groups} for name in ("weight_decay", "betas", "lr")]
        found.append((*values, torch.stack(grads).norm().item()))

    hook = register_optimizer_step_pre_hook(look)
    yield found
    hook.remove()


@pytest.mark.parametrize(("decay", "betas", "clip"), [(0.03, (0.8, 0.97), 0.25), (0.2, (0.7, 0.9), 0.5)])
def test_a_runs_optimizer_steps_by_the_config(folder, steps, decay, betas, clip):
    """Six steps, of which four warm up to 1e-3; biases and norms do not decay."""
    settings = [
        f"train.weight_decay={decay}", f"train.adam_betas={list(betas)}", f"train.max_grad_norm={clip}",
        "train.warmup_steps=4", "train.lr_schedule=constant_with_warmup", "train.learning_rate=0.001",
        "train.global_batch_size=2", "train.epochs=2", "train.save_steps=6",
    ]  # fmt: skip
    entries = logged(run(folder, f"steps-{clip}", *settings))
    decays, found_betas, rates, norms = zip(*steps, strict=True)
    assert decays == ({0.0, decay},) * 6 and found_betas == ({betas},) * 6
    assert [rate for (rate,) in rates] == pytest.approx([0, 0.00025, 0.0005, 0.00075, 0.001, 0.001])
    assert all(entry["grad_norm"] > clip for entry in entries), "before it is clipped"
    assert norms == pytest.approx([clip] * 6, rel=1e-3)
