import time

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from prospect.config import LoraSettings
from prospect.model.checkpoint import with_tokens
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.lora import add_lora, without_adapter
from prospect.train.speed import ModelFlops, Speed, peak_flops
from tests.helpers.models import TOKENIZER, grid_config, make_batch


def counted(model, batch) -> int:
    """Of matrix products and attention in a forward and a backward, by torch's own counter."""
    with FlopCounterMode(display=False) as counter:
        model(**batch).sums.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_flops_of_a_step_are_torchs_count_of_it(frozen, lora):
    """But for causal attention, which the eager kind takes over all pairs of tokens: twice as many."""
    torch.manual_seed(0)
    config = with_tokens(grid_config(TOKENIZER), "x", 4)
    config._attn_implementation = "eager"  # the counter knows no fused attention of a CPU
    model = DSTSmolVLM(config).train()
    model.model.vision_model.requires_grad_(not frozen)
    whole = add_lora(model, LoraSettings(rank=1), freeze_connector=False) if lora else model
    batch = make_batch([64, 64], tokens_per_frame=4)
    flops = ModelFlops.of(without_adapter(whole))
    ours = flops.step([64, 64], int((batch["target_kind"] > 0).sum()), len(batch["frames"]))
    over_all_pairs = ours + 3 * flops.attention * 2 * 64 * 64
    assert over_all_pairs == pytest.approx(counted(whole, batch), rel=0.03)


def test_cached_features_cost_no_flops():
    model = DSTSmolVLM(with_tokens(grid_config(TOKENIZER), "x", 4))
    model.model.connector.requires_grad_(False)
    without = ModelFlops.of(model, encodes_frames=False)
    assert without.step([10], 0, 0) == without.step([10], 0, 99) > 0
    assert ModelFlops.of(model).step([10], 0, 99) > without.step([10], 0, 99)


def test_a_connector_trained_from_cached_features_is_counted():
    model = DSTSmolVLM(with_tokens(grid_config(TOKENIZER), "x", 4))
    cached = ModelFlops.of(model, encodes_frames=False)
    projection = model.model.connector.modality_projection.proj.weight
    assert cached.step([10], 0, 1) - cached.step([10], 0, 0) == 3 * 2 * projection.numel() * 4


def test_rates_by_hand(monkeypatch):
    """Two batches; 14 s from the first that was asked for, of which 1 was spent waiting, and 2 elsewhere, which do not
    count: nor does an evaluation before."""
    # An evaluation; two batches and the end of them; elsewhere from 111 on; told at 114.
    clock = iter([0, 90, 100, 100.5, 103, 103.5, 104, 104, 111, 113, 114, 120])
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    model = DSTSmolVLM(with_tokens(grid_config(TOKENIZER), "x", 4))
    speed = Speed(ModelFlops.of(model), torch.device("cpu"))
    batch = {
        "target_kind": torch.tensor([[0, 2, 2, 0, 1, 1], [0, 1, 0, 0, 0, 0]]),
        "attention_mask": torch.tensor([[1] * 6, [1, 1, 0, 0, 0, 0]]),
        "update_labels": torch.tensor([[-100, 1, 0, -100, -100, 0], [0, -100, -100, -100, -100, -100]]),
        "frames": torch.zeros(3, 3, 64, 64),
    }
    with speed.elsewhere():
        pass
    assert list(speed.take(iter([batch, batch]))) == [batch, batch]
    with speed.elsewhere():
        pass
    assert speed.rates(lambda values: values, 1) == pytest.approx(
        {
            "tokens_per_s": 16 / 12, "frames_per_s": 6 / 12, "turns_per_s": 6 / 12, "decisions_per_s": 8 / 12,
            "padding_waste": 1 - 16 / 24, "data_wait_share": 1 / 12,
        }
    )  # fmt: skip


def test_peaks_are_found_by_the_devices_name():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12 and peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA GeForce RTX 4090") == 165e12 and peak_flops("Something new") is None
    assert peak_flops("NVIDIA L4") == 121e12 and peak_flops("NVIDIA L40S") == 362e12
    assert peak_flops("NVIDIA L40") == 181e12 and peak_flops("NVIDIA GH200 480GB") == 989e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12 and peak_flops("NVIDIA A1000") is None
