"""What is no part of a checkpoint is refused by name, before anything is written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, Siglip2Config

from pipeline.errors import ProspectError
from prospect.model.assemble import assemble
from prospect.model.parts import read_text, read_vision
from tests.helpers.models import TOKENIZER
from tests.helpers.parts import SIZES, own_tokenizer, save_text, save_tower


@pytest.fixture
def text(tmp_path) -> Path:
    return save_text(tmp_path / "text", "llama")


@pytest.fixture
def tower(tmp_path) -> Path:
    return save_tower(tmp_path / "tower")


def refused(text: Path | str, tower: Path | str, out: Path, match: str) -> None:
    with pytest.raises(ProspectError, match=match) as caught:
        assemble(str(text), str(tower), None, out, seed=0)
    assert "\n" not in str(caught.value)
    assert not [path for path in out.parent.iterdir() if "out" in path.name]


def other_model(folder: Path, kind: str, **sizes: object) -> Path:
    config = CONFIG_MAPPING[kind](**sizes)
    model = AutoModel.from_config(config) if kind == "t5" else AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("bert", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}),
        ("t5", {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 8, "d_kv": 8}),
        ("gpt2", {"n_embd": 16, "n_layer": 1, "n_head": 2}),  # its layers know no rotation
        ("gemma2", SIZES | {"head_dim": 16, "vocab_size": 400, "final_logit_softcapping": 30.0}),
    ],
)
def test_a_model_that_is_no_decoder_of_llamas_kind_is_refused_by_its_type(tmp_path, tower, kind, sizes):
    folder = other_model(tmp_path / "other", kind, **sizes)
    refused(folder, tower, tmp_path / "out", f"other: found model_type '{kind}', expected a causal language model")


def test_a_vision_model_as_text_and_a_language_model_as_vision_are_refused(tmp_path, text, tower):
    refused(tower, tower, tmp_path / "out", "tower: found model_type 'siglip', expected a causal language model")
    refused(text, text, tmp_path / "out", "text: found model_type 'llama', expected a SigLIP tower of one resolution")


def test_naflex_is_refused_with_what_to_take(tmp_path, text, tower):
    Siglip2Config().save_pretrained(tower)
    refused(
        text, tower, tmp_path / "out", r"'siglip2' \(naflex: pictures of any shape\), expected .*siglip2-base-patch16"
    )


def test_a_family_that_scales_beside_its_layers_is_refused(tmp_path, tower):
    folder = save_text(tmp_path / "text", "granite", embedding_multiplier=12.0, logits_scaling=4.0)
    refused(folder, tower, tmp_path / "out", "text: its layers, called one by one, give other logits than its own")


def changed(name: str, **keys: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        record = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(record | keys))

    return change


def removed(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:2000]) and None


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def tensors_changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


TEXT_MISTAKES = {
    "pickles": (pickled, r"--text .*found pytorch_model\.bin, a pickle file, which may run code, expected model\.safe"),
    "no weights": (removed("model.safetensors"), r"text: found .*expected model\.safetensors or"),
    "no config": (removed("config.json"), r"text: found neither config\.json nor checkpoints/"),
    "no tokenizer": (removed("tokenizer.json", "tokenizer_config.json"), r"text: its tokenizer: cannot be loaded \("),
    "half a tokenizer": (cut("tokenizer.json"), r"text: its tokenizer: cannot be loaded \("),
    "half the weights": (cut("model.safetensors"), r"text: cannot be loaded \("),
    "sizes": (changed("config.json", hidden_size=32), r"text: cannot be loaded \("),
    "claims": (changed("config.json", num_hidden_layers=10**9), r"num_hidden_layers: found 1000000000, expected 1 to"),
    "quantised": (
        changed("config.json", quantization_config={"quant_method": "awq"}),
        "found quantised weights, expec",
    ),
    "type": (changed("config.json", model_type="none of ours"), r"text: cannot be loaded \(.*expected a causal"),
    "a tensor": (
        tensors_changed(lambda tensors: tensors.pop("model.norm.weight")),
        r"text: its weights lack 1 of the model's tensors \(such as model\.norm\.weight\), expected all",
    ),
    "a number": (
        tensors_changed(lambda tensors: tensors["model.norm.weight"].fill_(torch.nan)),
        r"text: model\.norm\.weight: found weights that are not finite",
    ),
}


@pytest.mark.parametrize("mistake", TEXT_MISTAKES)
def test_a_language_model_that_is_not_whole_is_refused(tmp_path, text, tower, mistake):
    break_it, message = TEXT_MISTAKES[mistake]
    break_it(text)
    refused(text, tower, tmp_path / "out", message)


TOWER_MISTAKES = {
    "pickles": (pickled, r"--vision .*found pytorch_model\.bin, a pickle file"),
    "half the weights": (cut("model.safetensors"), r"tower: cannot be loaded \("),
    "a tensor": (
        tensors_changed(lambda tensors: tensors.pop("vision_model.post_layernorm.bias")),
        r"tower: its vision tower's post_layernorm\.bias: found none, by config\.json expected 32; copy",
    ),
    "sizes": (
        changed("config.json", vision_config={"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}),
        r"tower: its vision tower's .*: found 32.*, by config\.json expected",
    ),
    "no sizes": (changed("config.json", vision_config=None), r"tower: cannot be loaded \("),
    "channels": (changed("config.json", vision_config={"num_channels": 4}), r"tower: found 4 channels, expected 3"),
}


@pytest.mark.parametrize("mistake", TOWER_MISTAKES)
def test_a_tower_that_is_not_whole_is_refused(tmp_path, text, tower, mistake):
    break_it, message = TOWER_MISTAKES[mistake]
    break_it(tower)
    refused(text, tower, tmp_path / "out", message)


def test_a_tokenizer_of_another_model_is_refused(tmp_path, tower):
    folder = save_text(tmp_path / "text", "llama", own_tokenizer("<s>", "</s>"), rows=64)
    refused(folder, tower, tmp_path / "out", r"its tokenizer has \d+ tokens, its embeddings 64 rows, expected one for")


def test_places_that_are_not_there_are_named(tmp_path, text, tower):
    refused(tmp_path / "nowhere", tower, tmp_path / "out", r"--text .*nowhere: found no such folder, expected")
    refused(text, tmp_path / "nowhere", tmp_path / "out", r"--vision .*nowhere: found no such folder, expected")
    with pytest.raises(ProspectError, match=r"nowhere\.gguf: (found no such file|needs the package gguf)"):
        read_text(str(tmp_path / "nowhere.gguf"))


def test_a_part_of_the_hubs_cache_is_named_by_id_and_revision(tmp_path, tower, monkeypatch):
    hub = tmp_path / "hub" / "models--somebody--siglip"
    snapshot = hub / "snapshots" / ("a" * 40)
    shutil.copytree(tower, snapshot)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub.parent))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert read_vision("somebody/siglip").name == f"somebody/siglip@{'a' * 40}"
