"""Language models and vision towers of random weights, to make checkpoints of, as they are published."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.helpers.models import TEXTS, TOKENIZER

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": None,
}
FAMILIES: dict[str, dict[str, Any]] = {  # what sets each apart from Llama
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},  # attention biases
    "qwen2-slides": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "qwen3": {"tie_word_embeddings": True, "head_dim": 32},  # norms of queries and keys; heads wider than the model
    "smollm3": {"tie_word_embeddings": True, "no_rope_layer_interval": 2},  # layers without positions
}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
    "initializer_range": 0.1,
}


def own_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with these special tokens alone, the first ids theirs."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=special[0], eos_token=special[-1])


LLAMA_TOKENIZER = own_tokenizer("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")


def save_text(folder: Path, family: str, tokenizer: Any = TOKENIZER, rows: int = 400, **changes: Any) -> Path:
    """A causal language model of a family with random weights, as save_pretrained writes it."""
    torch.manual_seed(1)
    sizes = {"vocab_size": rows} | SIZES | FAMILIES.get(family, {}) | changes
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family.partition("-")[0]](**sizes))
    with torch.no_grad():  # norms and biases that would be seen to be lost
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tower(folder: Path, alone: bool = False, **changes: Any) -> Path:
    """SigLIP with random weights, or its tower alone."""
    torch.manual_seed(2)
    sizes = TOWER | changes
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9, "bos_token_id": 0}
    whole = SiglipConfig(vision_config=sizes, text_config=text | {"eos_token_id": 1, "intermediate_size": 8})
    (SiglipVisionModel(SiglipVisionConfig(**sizes)) if alone else SiglipModel(whole)).save_pretrained(folder)
    return folder
