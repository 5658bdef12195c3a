"""Keys that are moved are those that a layer makes there."""

from types import SimpleNamespace

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from prospect.model.moved import CannotMove, MovableCache, Mover, rotated
from tests.helpers.parts import SIZES, save_text

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}  # fmt: skip


def text_model(folder, family, **changes):
    return AutoModelForCausalLM.from_pretrained(save_text(folder / family, family, **changes)).model.eval()


def made(text, hidden, first):
    """The first layer's keys and values of hidden states (T, D) at positions from `first` on, by its own parts."""
    layer, count = text.layers[0], len(hidden)
    cache = MovableCache()
    embeddings = text.rotary_emb(hidden[None], torch.arange(first, first + count)[None])
    layer.self_attn(hidden[None], position_embeddings=embeddings, attention_mask=None, past_key_values=cache)
    return cache.tail(count)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {}),
        ("qwen3", {}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}}),
        ("llama", {"rope_parameters": LLAMA3}),
        ("llama", {"rope_parameters": YARN}),
    ],
    ids=["llama", "qwen3", "linear", "llama3", "yarn"],
)
@pytest.mark.parametrize(("begin", "to"), [(900, 120), (7, 8), (30, 3000), (3999, 0)])
@torch.no_grad()
def test_moved_keys_are_those_of_the_layer_at_the_new_positions(tmp_path, family, changes, begin, to):
    text = text_model(tmp_path, family, num_hidden_layers=1, **changes)
    hidden = torch.randn(20, 64, generator=torch.Generator().manual_seed(2))
    (found,), (expected,) = Mover(text).moved(made(text, hidden, begin), begin, to), made(text, hidden, to)
    assert (made(text, hidden, begin)[0][0] - expected[0]).abs().max() > 0.1, "another position, another key"
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-5)
    assert torch.equal(found[1], expected[1])


def test_a_scale_of_the_embedding_is_in_the_keys_once(tmp_path):
    text = text_model(tmp_path, "llama", rope_parameters=YARN)
    assert text.rotary_emb.attention_scaling > 1.1
    keys = torch.randn(2, 5, 16)
    moved = Mover(text).moved([(keys, keys)] * 2, 100, 7)
    torch.testing.assert_close(moved[0][0].norm(dim=-1), keys.norm(dim=-1))


def test_a_quarter_turn_by_hand():
    """(1, 2 | 3, 4): the pairs (1, 3) and (2, 4) are turned, the second by nothing."""
    keys = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    cos, sin = torch.tensor([[0.0, 1.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    assert rotated(keys, cos, sin).tolist() == [[[-3, 2, 1, 4]]]
    assert rotated(keys.bfloat16(), cos, sin).dtype == torch.bfloat16


def test_a_layer_without_positions_keeps_its_keys(tmp_path):
    text = text_model(tmp_path, "smollm3")
    keys = torch.randn(2, 5, 16)
    turned, kept = Mover(text).moved([(keys, keys)] * 2, 50, 9)
    assert torch.equal(kept[0], keys) and not torch.allclose(turned[0], keys)
    assert text.config.no_rope_layers == [1, 0]


@pytest.mark.parametrize(
    ("family", "changes", "found"),
    [
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "rope type dynamic"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0, "short_factor": [1.0] * 8,
             "long_factor": [2.0] * 8, "original_max_position_embeddings": 64}},
            "rope type longrope",
        ),
        ("qwen2-slides", {}, "layers with sliding windows"),
    ],
    ids=["dynamic", "longrope", "slides"],
)  # fmt: skip
def test_what_cannot_be_moved_is_refused_by_name(tmp_path, family, changes, found):
    text = text_model(tmp_path, family, **changes)
    with pytest.raises(
        CannotMove, match=rf"^--context slide: the text model {text.config.model_type}: found {found}.*"
    ):
        Mover(text)


def test_positions_told_in_another_way_are_found_out():
    """Cohere rotates neighbours, where Llama rotates halves."""
    text = AutoModelForCausalLM.from_config(CONFIG_MAPPING["cohere"](vocab_size=100, **SIZES)).model.eval()
    with pytest.raises(CannotMove, match=r"the text model cohere: layer 0: found positions told in a way of its own"):
        Mover(text)


def test_a_part_of_a_head_is_refused():
    config = SimpleNamespace(model_type="llama", hidden_size=64)
    with pytest.raises(CannotMove, match=r"found keys 16 wide of which 8 are rotated, expected all; pass another"):
        Mover(
            SimpleNamespace(
                rotary_emb=HalfRotary(), config=config, device="cpu", dtype=torch.float32, layers=[whole_head]
            )
        )


class HalfRotary:
    inv_freq = torch.ones(4)

    def __call__(self, hidden, position_ids):
        return None


def whole_head(hidden, *, past_key_values, **_):
    past_key_values.update(torch.ones(1, 2, 1, 16), torch.ones(1, 2, 1, 16))


def test_the_end_of_a_cache_is_put_behind_another():
    keys, values = torch.arange(12.0).reshape(1, 1, 6, 2), -torch.arange(12.0).reshape(1, 1, 6, 2)
    cache, other = MovableCache(), MovableCache()
    cache.update(keys, values, 0)
    other.update(keys[:, :, :1], values[:, :, :1], 0)
    other.join(cache.tail(2))
    assert other.get_seq_length() == 3
    assert other.layers[0].keys[0, 0].tolist() == [[0, 1], [8, 9], [10, 11]]
    assert torch.equal(other.layers[0].values, -other.layers[0].keys)
