"""Sequences one after another in a row: each sees itself alone, and gives what it gives padded, in each kind of attention;
compiled layers give the same."""

import shutil
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from prospect.model.assemble import assemble
from prospect.model.text import _own_sequence, compile_layers
from tests.helpers.models import load, make_batch, row_of
from tests.helpers.parts import save_text, save_tower

LENGTHS = [60, 23, 41]


def in_a_row(batch, lengths=LENGTHS):
    """A padded batch of these lengths without its padding."""
    rows = [row_of(batch, number, 16) for number in range(len(lengths))]
    row = {name: torch.cat([one[name] for one in rows], 1) for name in batch if name != "frames"}
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    position_ids = torch.cat([torch.arange(length) for length in lengths])[None]
    return row | {"frames": batch["frames"], "position_ids": position_ids, "sequence_starts": ends, "longest": 60}


def gradients(model, batch):
    model.zero_grad()
    output = model(**batch)
    output.sums.sum().backward()
    return output, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def assert_same(model, batch):
    padded, of_padded = gradients(model, batch)
    packed, of_packed = gradients(model, in_a_row(batch))
    torch.testing.assert_close(packed.sums, padded.sums, rtol=1e-6, atol=1e-6)
    assert torch.equal(packed.counts, padded.counts)
    torch.testing.assert_close(packed.decision_logits, padded.decision_logits, rtol=1e-4, atol=1e-5)
    for found, expected in zip(of_packed, of_padded, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_a_row_of_sequences_has_the_losses_and_gradients_of_padded_ones(checkpoints, kernel):
    assert_same(load(checkpoints["grid"], attn_implementation=kernel).train(), make_batch(LENGTHS, 16))


def test_a_sliding_window_ends_in_its_own_sequence(tmp_path):
    text = save_text(tmp_path / "text", "qwen2-slides")
    assemble(str(text), str(save_tower(tmp_path / "tower")), None, tmp_path / "slides", seed=0)
    model = load(tmp_path / "slides").train()
    image = model.config.image_token_id
    batch = make_batch(LENGTHS, 16)
    batch["input_ids"] = batch["input_ids"].where(batch["input_ids"] != 4, image)
    del batch["frames"]
    batch["input_ids"][batch["input_ids"] == image] = 9  # text alone: what slides is the text's attention
    padded = model(**batch | {"attention_mask": batch["attention_mask"]})
    rows = in_a_row(batch | {"frames": torch.zeros(0, 3, 64, 64, dtype=torch.uint8)})
    packed = model(**rows)
    torch.testing.assert_close(packed.sums, padded.sums, rtol=1e-6, atol=1e-6)


def test_flash_attention_is_told_lengths_and_no_positions_for_which_it_would_wait(checkpoints):
    """A stand-in with flash attention's arguments, which attends sequence by sequence."""
    asked = []

    def varlen(module, query, key, value, attention_mask, scaling=None, **options):
        asked.append(options.get("position_ids"))
        ends = options["cu_seq_lens_q"].tolist()
        assert attention_mask is None and options["max_length_q"] == options["max_length_k"] == 60
        groups = {"is_causal": True, "scale": scaling, "enable_gqa": True}
        parts = [
            scaled_dot_product_attention(*(x[:, :, first:end] for x in (query, key, value)), **groups)
            for first, end in pairwise(ends)
        ]
        return torch.cat(parts, 2).transpose(1, 2), None

    ALL_ATTENTION_FUNCTIONS.register("varlen", varlen)
    model, batch = load(checkpoints["grid"]), make_batch(LENGTHS, 16)
    with torch.no_grad():
        expected = model(**batch).sums
        model.config.text_config._attn_implementation = "varlen"
        found = model(**in_a_row(batch)).sums
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert asked == [None] * 3, "in each layer"


def test_who_sees_whom_by_hand():
    sees = _own_sequence(torch.tensor([[0, 1, 2, 0, 1]]))[0, 0].int().tolist()
    assert sees == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]


COMPILER = pytest.mark.skipif(not any(map(shutil.which, ("gcc", "clang"))), reason="no C compiler")


@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore:`torch.jit")  # torch's own, as it compiles
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[COMPILER, pytest.mark.slow])])
def test_compiled_layers_give_the_same_losses_and_gradients_for_any_number_of_tokens(checkpoints, backend):
    plain, model = (load(checkpoints["grid"]).train() for _ in range(2))
    torch._dynamo.reset()
    counter = torch._dynamo.utils.counters
    counter.clear()
    compile_layers(model.model.text_model, backend)
    for lengths in ([60, 41], [50, 20], [47]):
        batch = make_batch(lengths, 16)
        expected, of_plain = gradients(plain, batch)
        found, of_compiled = gradients(model, batch)
        torch.testing.assert_close(found.sums, expected.sums, rtol=1e-5, atol=1e-5)
        for one, other in zip(of_compiled, of_plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert not counter["graph_break"] and counter["stats"]["unique_graphs"] <= 2
    assert [*model.state_dict()] == [*plain.state_dict()], "a checkpoint is as it was"
