"""Model sizes that need no download: random weights at a known size, saved as an ordinary SmolVLM checkpoint folder.

`make_checkpoint` trains a byte-level BPE tokenizer from the texts given, draws weights from a seed, and writes config,
weights, tokenizer and image processor. What it writes loads with transformers' own classes; nothing in it is ours.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from pipeline.errors import ProspectError
from prospect.model.checkpoint import writing

# SmolVLM2's special tokens. The first three stand first in its vocabulary too.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<end_of_utterance>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
)
TOY_VOCAB_SIZE, SMOLVLM2_VOCAB_SIZE = 384, 49280
WHOLE_WORDS = 512  # a vocabulary in which every word of the toy world is one token


def toy_tokenizer(texts: Iterable[str], vocab_size: int = TOY_VOCAB_SIZE) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer in SmolLM2's manner (digits one by one) from `texts`.

    The same texts give the same tokenizer. Any text survives encoding and decoding: all 256 bytes are tokens.
    Vocabulary: special tokens, bytes, then merges as far as the texts supply them.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return as_smolvlm(backend)


def as_smolvlm(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """Give transformers' tokenizer around one that has SPECIAL_TOKENS, each in SmolVLM's place."""
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
        clean_up_tokenization_spaces=False,
    )


def toy_config(tokenizer: PreTrainedTokenizerFast) -> SmolVLMConfig:
    """Give 0.8 million parameters, 64 px frames, one token a frame; known to learn the toy world (docs/results.md)."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return SmolVLMConfig(
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 16,
            "initializer_range": 0.05,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": TOY_VOCAB_SIZE,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "initializer_range": 0.05,
            "tie_word_embeddings": True,
            **ids,
        },
        scale_factor=4,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
        **ids,
    )


# Tokens, by heads: from an id to its frame (11: past another update), from a colour to its step's id.
LOOKS_BACK = (3, 4, 11, 4)


def toy_hard_config(tokenizer: PreTrainedTokenizerFast) -> SmolVLMConfig:
    """Give the toy with what a lookup needs: a vocabulary of whole words, two layers, and attention biases."""
    config = toy_config(tokenizer)
    text = config.text_config
    text.vocab_size, text.num_hidden_layers, text.attention_bias = WHOLE_WORDS, 2, True
    text.rope_parameters = {"rope_type": "default", "rope_theta": 100_000.0}  # SmolLM2's
    return config


def begin_to_look_up(model: SmolVLMForConditionalGeneration) -> None:
    """Give random weights habits that large models have learned, and that a lookup in the prompt is made of (induction
    heads: Olsson et al., arXiv 2209.11895). Without them few seeds began to look up at all (docs/results.md).

    1. A token's word is in the first half of its features; the second half is room, a part of it for each head.
    2. A head of the first layer looks as many tokens back as LOOKS_BACK says, and copies its part of the word there to
       its part of the room: constant queries and keys, which RoPE turns.
    3. The same head of the second looks for words like the one that it copied, and copies as its own word the one that
       the next head copied there: RoPE's slow frequencies, as the place does not matter.

    No word is known. The distances are the layout's: a picture stands 3 tokens before the id that it decides, or 11
    where another update of its frame stands between, and in the prompt's list an id 4 tokens before its step's colour.
    All else that attention and MLP write starts small, so that the words are not drowned.
    """
    text = model.model.text_model
    heads, width, half = text.config.num_attention_heads, text.config.head_dim, text.config.hidden_size // 2
    part, pairs = half // heads, width // 2
    fast = text.rotary_emb.inv_freq[:6]  # these tell neighbours apart
    each = torch.arange(part)
    slow = torch.cat([each[: part // 2] + pairs, each[: part // 2] + width]) - part // 2
    with torch.no_grad():
        text.embed_tokens.weight[:, half:] = 0
        model.model.connector.modality_projection.proj.weight[half:] = 0
        for layer in text.layers:
            attention = layer.self_attn
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj, layer.mlp.down_proj):
                linear.weight.mul_(0.1)
            attention.o_proj.weight.zero_()
        first, second = (layer.self_attn for layer in text.layers)
        for head in range(heads):
            at, word, next_word = head * width, head * part + each, (head + 1) % heads * part + each
            query, key = torch.zeros(2, width)
            key[: len(fast)] = 5.0
            query[: len(fast)] = 5 * torch.cos(LOOKS_BACK[head] * fast)
            query[pairs : pairs + len(fast)] = -5 * torch.sin(LOOKS_BACK[head] * fast)
            first.q_proj.bias[at : at + width], first.k_proj.bias[at : at + width] = query, key
            first.v_proj.weight[at + each, word] = 1
            first.o_proj.weight[half + word, at + each] = 0.035  # as large as a word: embeddings are normed before
            second.q_proj.weight[at + slow, half + word] = 2
            second.k_proj.weight[at + slow, word] = 2
            second.v_proj.weight[at + each, half + next_word] = 1
            second.o_proj.weight[next_word, at + each] = 0.05


@dataclass(frozen=True, slots=True)
class _Size:
    """What tells the sizes of SmolVLM2 apart (their config.json on the hub)."""

    text: tuple[int, int, int, int, int]  # hidden, layers, heads, key-value heads, intermediate
    vision: tuple[int, int, int, int, int, int]  # hidden, layers, heads, intermediate, image, patch
    scale_factor: int


_SIGLIP_BASE = (768, 12, 12, 3072, 512, 16)
_SIZES = {
    "smolvlm2-256m": _Size((576, 30, 9, 3, 1536), _SIGLIP_BASE, 4),
    "smolvlm2-500m": _Size((960, 32, 15, 5, 2560), _SIGLIP_BASE, 4),
    "smolvlm2-2.2b": _Size((2048, 24, 32, 32, 8192), (1152, 27, 16, 4304, 384, 14), 3),
}


def smolvlm2_config(tokenizer: PreTrainedTokenizerFast, size: str) -> SmolVLMConfig:
    """Give the architecture of a published size, for tests and benchmarks without a hub; embeddings are not tied."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text, vision = _SIZES[size].text, _SIZES[size].vision
    text_names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    vision_names = (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size"
    )  # fmt: skip
    return SmolVLMConfig(
        vision_config=dict(zip(vision_names, vision, strict=True)),
        text_config={
            "model_type": "llama",
            "vocab_size": SMOLVLM2_VOCAB_SIZE,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            **dict(zip(text_names, text, strict=True)),
            **ids,
        },
        scale_factor=_SIZES[size].scale_factor,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
        **ids,
    )


PRESETS: dict[str, Callable[[PreTrainedTokenizerFast], SmolVLMConfig]] = {
    "toy": toy_config,
    "toy-hard": toy_hard_config,
    **{size: partial(smolvlm2_config, size=size) for size in _SIZES},
}


def preset_tokenizer(preset: str, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train the tokenizer of a preset."""
    return toy_tokenizer(texts, WHOLE_WORDS if preset == "toy-hard" else TOY_VOCAB_SIZE)


def make_checkpoint(preset: str, out: Path, texts: Iterable[str], seed: int) -> Path:
    """Write the checkpoint folder `out`, whole or not at all; the same arguments give the same bytes.

    Args:
        preset: a key of PRESETS.
        texts: what the tokenizer is trained from.
        seed: of the weights; the global random state is left as it was.

    Raises:
        ProspectError: the preset is unknown, or `out` is there already.
    """
    if preset not in PRESETS:
        raise ProspectError(f"preset {preset!r}: expected one of {', '.join(PRESETS)}")
    if out.exists():
        raise ProspectError(f"{out}: is there already, expected a new folder; remove it or name another")
    tokenizer = preset_tokenizer(preset, texts)
    config = PRESETS[preset](tokenizer)
    partial = out.with_name(f".{out.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    model = _random_model(config, seed)
    if preset == "toy-hard":
        begin_to_look_up(model)
    with writing(partial, out):
        partial.mkdir(parents=True)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        image_processor(config.vision_config.image_size).save_pretrained(partial)
        partial.rename(out)
    return out


def _random_model(config: SmolVLMConfig, seed: int) -> SmolVLMForConditionalGeneration:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return SmolVLMForConditionalGeneration(config)


def image_processor(
    size: int, mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.5, 0.5, 0.5)
) -> SmolVLMImageProcessorPil:
    """Give SmolVLM2's settings with image splitting off: a frame is one square image."""
    return SmolVLMImageProcessorPil(
        size={"longest_edge": size},
        max_image_size={"longest_edge": size},
        do_image_splitting=False,
        image_mean=list(mean),
        image_std=list(std),
        rescale_factor=1 / 255,
        resample=1,  # LANCZOS
    )
