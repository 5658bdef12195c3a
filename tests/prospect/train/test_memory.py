"""The rehearsal against the real step, measured by torch's profiler, and against what is known of the real sizes."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from prospect.config import Config
from prospect.config_file import load_config
from prospect.model.checkpoint import with_tokens
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import PRESETS
from prospect.setup import prepared
from prospect.train.memory import OVERHEAD, Shapes, predict
from tests.helpers.models import TOKENIZER, grid_config
from tests.helpers.places import CONFIGS

FULL_WINDOW = Shapes(sequences=1, tokens=4096, frames=900, targets=350, decisions=950)


def settings(model=None, train=None) -> Config:
    return Config.model_validate(
        {"data": {"dataset": "x"}, "model": {"preset": "toy"} | (model or {}), "train": train or {}}
    )


def wide_config():
    """Four text layers wide enough that activations, weights and small change can be told apart."""
    config = grid_config(TOKENIZER)
    config.text_config.hidden_size, config.text_config.intermediate_size = 256, 768
    config.text_config.num_hidden_layers = 4
    config.text_config.head_dim = 64
    return with_tokens(config, "wide", 4)


def measured(config: Config, shapes: Shapes) -> float:
    """Most bytes that the CPU's allocator had given out at once in two real micro-batches, weights and all."""
    torch.manual_seed(0)
    model = prepared(DSTSmolVLM(wide_config()).train(), config)
    weights = sum(t.numel() * t.element_size() for t in model.parameters())
    ids = torch.full((shapes.sequences, shapes.tokens), 9)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "target_kind": torch.zeros_like(ids).byte()}
    batch |= {"update_labels": torch.full_like(ids, -100), "speak_labels": torch.full_like(ids, -100)}
    for frame in range(shapes.frames):
        ids[:, 1 + 5 * frame : 5 + 5 * frame] = 4
    batch["target_kind"][:, 1 : shapes.targets + 1] = 1
    for name in ("update_labels", "speak_labels"):
        batch[name][:, 1 : shapes.decisions + 1] = 0
    batch["frames"] = torch.ones(shapes.sequences * shapes.frames, 3, 64, 64, dtype=torch.uint8)
    inputs = sum(t.numel() * t.element_size() for t in batch.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        for _ in range(2):
            model(**batch).sums.sum().backward()
    now = peak = 0
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):  # backward runs in a thread of its own
        now += event.nbytes()
        peak = max(peak, now)
    return weights + inputs + peak


@pytest.mark.slow
@pytest.mark.parametrize("train", [{}, {"gradient_checkpointing": True}])
@pytest.mark.parametrize("model", [{}, {"freeze_vision": True}, {"lora": {"rank": 4}}])
def test_the_predicted_peak_is_the_measured_one(model, train):
    config = settings(model, {"global_batch_size": 4, "micro_batch_size": 2} | train)
    shapes = Shapes(sequences=2, tokens=700, frames=100, targets=150, decisions=120)
    prediction = predict(wide_config(), config, shapes)
    without_optimizer = prediction.peak - prediction.memory["optimizer states"]
    assert without_optimizer == pytest.approx(measured(config, shapes), rel=0.02)


def test_parts_by_hand():
    """The toy: fp32 weights, gradients of the trained ones, two moments of each; 8 bits and a scale for 256 of them."""
    shapes = Shapes(sequences=1, tokens=64, frames=10, targets=5, decisions=5)
    found = predict(with_tokens(PRESETS["toy"](TOKENIZER), "toy", 1), settings(), shapes)
    trained = found.parameters.pop("trained")
    assert trained == sum(found.parameters.values()) and found.parameters["LM head"] == 0, "tied"
    assert found.memory["gradients"] == 4 * trained and found.memory["optimizer states"] == 8 * trained
    assert found.memory["weights"] >= 4 * trained
    assert found.memory["frames and labels"] == pytest.approx(10 * 3 * 64 * 64 + 4 * 64 * 8 + 64, rel=0.05)
    eight = predict(
        with_tokens(PRESETS["toy"](TOKENIZER), "toy", 1), settings(train={"optimizer": "adamw_8bit"}), shapes
    )
    assert 2.03 * trained < eight.memory["optimizer states"] < 2.2 * trained, "small tensors keep whole states"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"), [("smolvlm2-2.2b-24gb", 18e9), ("smolvlm2-2.2b-24gb-full", 16e9), ("smolvlm2-2.2b", 60e9)]
)
def test_the_24_gb_configs_fit_and_the_plain_one_does_not(name, most):
    config = load_config(CONFIGS / f"{name}.yaml", ["model.checkpoint=null", "model.preset=smolvlm2-2.2b"])
    found = predict(with_tokens(PRESETS["smolvlm2-2.2b"](TOKENIZER), name, 4), config, FULL_WINDOW)
    assert found.peak < most
    assert (found.peak + OVERHEAD < 24e9) == ("24gb" in name)
    assert sum(found.parameters[part] for part in ("vision tower", "connector", "text", "LM head")) == pytest.approx(
        2246.8e6, rel=1e-3
    )


def test_four_bits_spare_what_the_text_models_linear_layers_take():
    lora = {"rank": 2, "alpha": 4}
    model = {"dtype": "bfloat16", "freeze_connector": True}
    shapes = Shapes(sequences=1, tokens=200, frames=10, targets=20, decisions=11)
    whole = predict(wide_config(), settings(model | {"lora": lora}), shapes)
    packed = predict(wide_config(), settings(model | {"lora": lora | {"quantize": "4bit"}}), shapes)
    linear = 4 * (4 * 256 * 256 + 3 * 256 * 768)  # 4 layers: queries, keys, values, outputs; three matrices of the MLP
    assert whole.memory["weights"] - packed.memory["weights"] == pytest.approx(linear * (2 - 0.5159), rel=1e-4)
    assert packed.memory["activations"] - whole.memory["activations"] == 2 * 256 * 768, (
        "one layer at a time, in 16 bits"
    )
    assert packed.parameters == whole.parameters
