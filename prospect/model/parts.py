"""The parts that a checkpoint can be assembled from: a causal language model, and a vision tower (`assemble.py`).

Each is found (a folder, a hub id, for the text a GGUF file too), and checked by its config before its weights are read:
pickle weights, which may run code, are refused. Weights are those of safetensors files, or of the GGUF file.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor
from transformers import MODEL_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig

from pipeline.errors import ProspectError
from pipeline.io.records import shown
from prospect.model.checkpoint import MODEL_TYPES, check_finite, check_sizes, loading_errors
from prospect.model.gguf_file import check_reader, gguf_tokenizer
from prospect.model.hub import checkpoint_folder, checkpoint_name
from prospect.model.text import last_hidden
from prospect.runs import may_be_hub_id

GGUF = ".gguf"
TEXT = "a causal language model whose layers are called as Llama's are, such as Llama, SmolLM or Qwen"
TOWER = "a SigLIP tower of one resolution, such as google/siglip-so400m-patch14-384 or google/siglip2-base-patch16-224"
SAFE = ("model.safetensors", "model.safetensors.index.json")
TOWERS = ("siglip", "siglip_vision_model", *MODEL_TYPES)
HALF = (0.5, 0.5, 0.5)
PARTS_OF_DECODER = ("embed_tokens", "layers", "norm", "rotary_emb")
PREFIX = re.compile(r"(model\.)?(vision_model\.)?(?=(embeddings|encoder|post_layernorm)\.)")  # of a tower's tensors
PROBE = "Well done, now put 2 cups of water\nin: S1->complete.  Привет 火"
CLOSE = {torch.float32: 1e-4}  # of the two ways to the same logits; of half precision 3e-2


@dataclass(frozen=True, slots=True)
class TextPart:
    """A causal language model: embeddings, decoder layers, LM head."""

    model: Any  # transformers' causal LM; its `base_model` is the decoder
    tokenizer: Tokenizer
    name: str  # with its revision or digest


@dataclass(frozen=True, slots=True)
class VisionPart:
    """A vision tower by SmolVLM's names, without SigLIP's pooling head."""

    config: SmolVLMVisionConfig
    tensors: dict[str, Tensor]
    mean: tuple[float, float, float]  # that its frames are normalised by
    std: tuple[float, float, float]
    name: str


def read_text(place: str) -> TextPart:
    """Read the language model that `place` names: a folder, a hub id, or a GGUF file.

    Raises:
        ProspectError: there is none, it is no such model, or not whole; says what was expected.
    """
    file = Path(place) if place.endswith(GGUF) else None
    if file:
        check_reader(_existing(file))
        folder, name, options = str(file.parent), f"{file.name} sha256:{_digest(file)}", {"gguf_file": file.name}
    else:
        folder = _folder(place, "--text", TEXT)
        name, options = checkpoint_name(folder), {}
    with loading_errors(place, TEXT):
        config = AutoConfig.from_pretrained(folder, **options)
    _check_causal(place, config)
    with loading_errors(f"{place}: its tokenizer", "a whole one: tokenizer.json beside the weights"):
        tokenizer = gguf_tokenizer(file) if file else _tokenizer(folder)
        _check_round_trip(place, tokenizer)
    with loading_errors(place, f"{TEXT}, whole"):
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", use_safetensors=None if file else True, output_loading_info=True, **options
        )
    _check_loaded(place, sorted(loaded["missing_keys"]))
    check_finite(model, place)
    _check_tokens(place, model, tokenizer)
    _check_called_alike(place, model.eval(), tokenizer)
    return TextPart(model, tokenizer, name)


def read_vision(place: str) -> VisionPart:
    """Read the tower that `place` names, a folder or a hub id: SigLIP's, SigLIP2's, or that of a SmolVLM checkpoint.

    Raises:
        ProspectError: there is none, it takes pictures of any shape (SigLIP2's naflex), or it is not whole.
    """
    folder = _folder(place, "--vision", TOWER)
    with loading_errors(place, TOWER):
        record = json.loads((Path(folder) / "config.json").read_text())
        kind = record.get("model_type")
    if kind not in TOWERS:
        why = " (naflex: pictures of any shape)" if str(kind).startswith("siglip2") else ""
        raise ProspectError(f"{place}: found model_type {shown(kind)}{why}, expected {TOWER}")
    with loading_errors(place, TOWER):
        sizes = record if kind == "siglip_vision_model" else record["vision_config"]
        names = set(SmolVLMVisionConfig().to_dict()) - {"model_type", "transformers_version"}
        config = SmolVLMVisionConfig(**siglip_sizes() | {k: v for k, v in sizes.items() if k in names})
        check_sizes(f"{place}/config.json: vision", config)
        if config.num_channels != 3:
            raise ProspectError(f"{place}: found {config.num_channels} channels, expected 3: red, green, blue")
        tensors = _tensors(Path(folder))
        mean, std = _normalisation(Path(folder))
    return VisionPart(config, tensors, mean, std, checkpoint_name(folder))


def siglip_sizes() -> dict[str, Any]:
    """What a SigLIP config.json leaves out, as it is the default there."""
    from transformers import SiglipVisionConfig

    return {
        name: value
        for name, value in SiglipVisionConfig().to_dict().items()
        if name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels",
                    "image_size", "patch_size", "hidden_act", "layer_norm_eps", "attention_dropout")
    }  # fmt: skip


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise ProspectError(f"{file}: found no such file, expected a GGUF file; correct the name")
    return file


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:16]


def _folder(place: str, option: str, expected: str) -> str:
    """The folder of a part, with weights that run no code."""
    if not Path(place).is_dir() and not may_be_hub_id(place):
        raise ProspectError(f"{option} {place}: found no such folder, expected one of {expected}; or a hub id")
    folder = Path(checkpoint_folder(place, processor=False))
    if not any((folder / name).is_file() for name in SAFE):
        pickles = sorted(file.name for file in folder.glob("*.bin"))
        raise ProspectError(
            f"{option} {place}: found {f'{pickles[0]}, a pickle file, which may run code' if pickles else 'no weights'}"
            f", expected {' or '.join(SAFE)}; save them anew with save_pretrained, where you trust them"
        )
    return str(folder)


def _check_causal(place: str, config: Any) -> None:
    """Raise ProspectError unless transformers has a causal LM of this config that is made as Llama's."""
    kind = getattr(config, "model_type", None)
    wrong = ProspectError(f"{place}: found model_type {shown(kind)}, expected {TEXT}")
    if getattr(config, "quantization_config", None) and not place.endswith(GGUF):
        raise ProspectError(f"{place}: found quantised weights, expected those that it was made from")
    is_capped = getattr(config, "final_logit_softcapping", None)  # by no layer, hence not by ours
    is_sized = all(hasattr(config, name) for name in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    if not is_sized or config.is_encoder_decoder or is_capped:
        raise wrong
    check_sizes(f"{place}: config", config)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except ValueError:  # no such class
        raise wrong from None
    decoder, head = model.base_model, getattr(model, "lm_head", None)
    is_alike = all(hasattr(decoder, name) for name in PARTS_OF_DECODER) and head is not None and head.bias is None
    if not is_alike or MODEL_MAPPING.get(type(config), None) is not type(decoder):
        raise wrong


def _tokenizer(folder: str) -> Tokenizer:
    """Read tokenizer.json itself, as transformers' classes make some of it anew; what is older through them."""
    file = Path(folder) / "tokenizer.json"
    if file.is_file():
        return Tokenizer.from_file(str(file))
    return Tokenizer.from_str(AutoTokenizer.from_pretrained(folder).backend_tokenizer.to_str())


def _check_round_trip(place: str, tokenizer: Tokenizer) -> None:
    found = tokenizer.decode(tokenizer.encode(f" {PROBE}", add_special_tokens=False).ids)
    if found.removeprefix(" ") != PROBE:
        raise ProspectError(
            f"{place}: its tokenizer gives {shown(PROBE)} back as {shown(found)}, expected the same text: what is "
            "written would not be what was learned; give another language model"
        )


def _check_loaded(place: str, missing: list[str]) -> None:
    if missing:
        raise ProspectError(
            f"{place}: its weights lack {len(missing)} of the model's tensors (such as {missing[0]}), expected all; "
            "copy or download it again"
        )


def _check_tokens(place: str, model: Any, tokenizer: Tokenizer) -> None:
    rows, tokens = model.get_input_embeddings().weight.shape[0], num_ids(tokenizer)
    if tokens > rows:
        raise ProspectError(
            f"{place}: its tokenizer has {tokens} tokens, its embeddings {rows} rows, expected one for each; the "
            "tokenizer is another model's"
        )


def num_ids(tokenizer: Tokenizer) -> int:
    """Count a tokenizer's ids, from 0 to the last."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


@torch.no_grad()
def _check_called_alike(place: str, model: Any, tokenizer: Tokenizer) -> None:
    """Raise ProspectError unless layers one by one, and the LM head, give the logits of the model's own forward: some
    families scale embeddings, cap logits or share layers besides."""
    ids = torch.tensor([tokenizer.encode(PROBE, add_special_tokens=False).ids])  # (1, T)
    with loading_errors(place, TEXT):
        expected = model(input_ids=ids, use_cache=False).logits.float()
        found = model.lm_head(last_hidden(model.base_model, model.get_input_embeddings()(ids))).float()
    away = (found - expected).norm() / expected.norm()
    if not away <= CLOSE.get(model.dtype, 3e-2):
        raise ProspectError(
            f"{place}: its layers, called one by one, give other logits than its own forward (a share of "
            f"{float(away):.2g} apart), expected {TEXT}"
        )


def _tensors(folder: Path) -> dict[str, Tensor]:
    """The tower's tensors by SmolVLM's names, which are SigLIP's without the pooling head."""
    index = folder / SAFE[1]
    files = [SAFE[0]] if not index.is_file() else sorted({*json.loads(index.read_text())["weight_map"].values()})
    tensors: dict[str, Tensor] = {}
    for file in files:
        with safe_open(folder / Path(file).name, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                if prefix := PREFIX.match(name):
                    tensors[name[prefix.end() :]] = opened.get_tensor(name)
    return tensors


def _normalisation(folder: Path) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and spread of a tower's frames: as its processor says, else .5, which all of SigLIP have."""
    file = folder / "preprocessor_config.json"
    record = json.loads(file.read_text()) if file.is_file() else {}
    mean, std = (tuple(map(float, record.get(name, HALF))) for name in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ProspectError(f"{file}: found image_mean {mean}, image_std {std}, expected three numbers each")
    return mean, std
