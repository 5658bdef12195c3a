"""A GGUF file gives the very model and the very ids; needs the package gguf (the extra `gguf`)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.errors import ProspectError
from prospect.model import gguf_file
from prospect.model.assemble import assemble
from prospect.model.parts import read_text
from prospect.model.presets import SPECIAL_TOKENS
from tests.helpers.models import TOKENIZER, load
from tests.helpers.parts import save_text, save_tower

TEXTS = [
    "Hello world 2024", "a  1 b", "\n\n", "S1->complete, S2->start", " put 12 cups\n in", "   x   9\t\n",
    "Привет мир, 你好 日本 🙂", "it's 3.5%", "<|im_start|>user\nhi<|im_end|>",
]  # fmt: skip
PIECES = {  # what each rule splits, of the models' published tokenizer.json
    "smollm": ["a", "ĠĊ", "1", "2", "Ġ", "3"],
    "qwen2": ["a", "ĠĊ", "1", "2", "Ġ", "3"],
    "llama-bpe": ["a", "ĠĊ", "12", "Ġ", "3"],
    "gpt-2": ["a", "Ġ", "Ċ", "12", "Ġ3"],
}


@pytest.mark.parametrize("rule", PIECES)
def test_text_is_split_by_the_rule_that_the_file_names(rule):
    splits = gguf_file.SPLITS[rule]()
    assert [piece for piece, _ in splits.pre_tokenize_str("a \n12 3")] == PIECES[rule]


def write_gguf(place: Path, source: Path, rule: str = "smollm", kind: str = "gpt2") -> Path:
    """The Llama of a folder as llama.cpp's converter writes it: its own names, queries and keys in pairs."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(place, "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(4096)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(400)
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(rule)
    vocabulary = TOKENIZER.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    tokens += [f"[PAD{number}]" for number in range(len(tokens), 400)]
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL_TOKENS else 5 if "[PAD" in token else 1 for token in tokens])
    merges = json.loads(TOKENIZER.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "model.layers": "blk",
    }  # fmt: skip
    for name, tensor in AutoModelForCausalLM.from_pretrained(source).state_dict().items():
        heads = 4 if "q_proj" in name else 2 if "k_proj" in name else 0
        values = tensor.numpy()
        if heads:
            values = values.reshape(heads, 2, -1, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return place


def test_a_checkpoint_of_a_gguf_file_has_its_logits_and_its_ids(tmp_path):
    source = save_text(tmp_path / "source", "llama")
    file = write_gguf(tmp_path / "tiny.gguf", source)
    assemble(str(file), str(save_tower(tmp_path / "tower")), None, tmp_path / "out", seed=0)
    plain, ours = AutoModelForCausalLM.from_pretrained(source).eval(), load(tmp_path / "out")
    ids = torch.randint(0, len(TOKENIZER), (1, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = ours(input_ids=ids).logits, plain(input_ids=ids).logits
    torch.testing.assert_close(found[..., :400], expected, rtol=1e-5, atol=1e-5)
    tokenizer = gguf_file.gguf_tokenizer(file)
    for text in TEXTS:
        assert tokenizer.encode(text).ids == TOKENIZER.backend_tokenizer.encode(text).ids, text
    assert "tiny.gguf sha256:" in str(ours.prospect_settings.extra["parts"]["text"])


@pytest.mark.parametrize(
    ("rule", "kind", "message"),
    [
        ("tekken", "gpt2", r"found a tokenizer of kind 'gpt2' with the splits of 'tekken', expected .*smollm, gpt-2, "),
        ("default", "llama", r"found a tokenizer of kind 'llama' .*give the model's folder with its tokenizer\.json"),
    ],
)
def test_a_tokenizer_whose_ids_cannot_be_given_exactly_is_refused(tmp_path, rule, kind, message):
    file = write_gguf(tmp_path / "tiny.gguf", save_text(tmp_path / "source", "llama"), rule, kind)
    with pytest.raises(ProspectError, match=message):
        gguf_file.gguf_tokenizer(file)


def test_a_damaged_file_is_one_error(tmp_path):
    file = write_gguf(tmp_path / "tiny.gguf", save_text(tmp_path / "source", "llama"))
    whole = file.read_bytes()
    for size in (0, 3, 100, 5000, len(whole) // 2, len(whole) - 100):
        file.write_bytes(whole[:size])
        with pytest.raises(ProspectError, match=r"tiny\.gguf.*: cannot be loaded \("):
            read_text(str(file))


def test_without_the_package_the_fix_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None)
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    with pytest.raises(ProspectError, match=r"tiny\.gguf: needs the package gguf to be read; run: pip install gguf"):
        read_text(str(tmp_path / "tiny.gguf"))
