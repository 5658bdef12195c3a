"""A checkpoint of SmolVLM's shape made of a causal language model and a vision tower, as ProAssist and VideoLLM-online
are made: `prospect make-checkpoint`.

The text model stays what it is (its class, weights and tokenizer; transformers' SmolVLM takes any). New are

1. SmolVLM's special tokens that its tokenizer lacks, with the mean of the known rows in the embeddings and, where these
   are not shared, in the LM head: a new token is then as likely as the average one (Hewitt, "Initializing New Word
   Embeddings for Pretrained Language Models", 2021). Their ids are remembered: LoRA trains these rows (`lora.py`).
2. The connector, drawn so that a frame's tokens are of the size of a word's embedding: the usual spread of .02 over
   ten thousand inputs would make them a hundred times as large.
3. Without a tower, a fresh one of a preset's sizes.

D hidden, V vocabulary.
"""

import copy
import shutil
from math import sqrt
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMForConditionalGeneration
from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig
from transformers.models.smolvlm.modeling_smolvlm import SmolVLMVisionTransformer

from pipeline.errors import ProspectError
from prospect.model.checkpoint import ProspectSettings, check_finite, native_tokens, writing
from prospect.model.parts import HALF, TextPart, VisionPart, num_ids, read_text, read_vision
from prospect.model.presets import PRESETS, SPECIAL_TOKENS, as_smolvlm, image_processor

NO_VISION = "none"
ROWS = 128  # the vocabulary is padded to a multiple of it, as SmolVLM2's is
OF_THE_FILE = ("quantization_config", "_name_or_path")  # not the model's: the Trainer refuses what was a GGUF file
MOST_NATIVE = 81  # tokens a frame of SmolVLM2-2.2B, the most of its sizes


def assemble(text: str, vision: str, preset: str | None, out: Path, seed: int, scale_factor: int | None = None) -> str:
    """Write the checkpoint folder `out`, whole or not at all; says what it is. The same arguments give the same bytes.

    Args:
        text: folder, hub id or GGUF file of a causal language model.
        vision: folder or hub id of a tower, or "none": a fresh one of the sizes of `preset`.
        seed: of what is new; the global random state is left as it was.
        scale_factor: side of the squares of patches that make one token; None: the least that gives at most 81 tokens
            a frame, or, of a fresh tower, the preset's.

    Raises:
        ProspectError: a part is not there, or does not fit; `out` is there already.
    """
    if out.exists():
        raise ProspectError(f"{out}: is there already, expected a new folder; remove it or name another")
    if (vision == NO_VISION) != (preset is not None):
        raise ProspectError(
            f"--preset gives the sizes of a fresh vision tower: expected with --vision {NO_VISION}, and not with a "
            f"tower of its own sizes; found --vision {vision} and {f'--preset {preset}' if preset else 'no --preset'}"
        )
    if preset is not None and preset not in PRESETS:
        raise ProspectError(f"--preset {preset}: expected one of {', '.join(PRESETS)}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tower = read_vision(vision) if preset is None else None
    words = read_text(text)
    known = num_ids(words.tokenizer)
    tokenizer = _with_special_tokens(words.tokenizer)
    if tower is None:
        sizes = PRESETS[str(preset)](tokenizer)
        tower_config, scale = sizes.vision_config, scale_factor or sizes.scale_factor
    else:
        tower_config = tower.config
        scale = scale_factor or _default_scale(vision, tower_config)
    _check_grid(vision if tower else str(preset), tower_config, scale)
    config = _config(words, tokenizer, tower_config, scale)
    settings = ProspectSettings(
        tokens_per_frame=native_tokens(config),
        image_mean=tower.mean if tower else HALF,
        image_std=tower.std if tower else HALF,
        new_tokens=tuple(range(known, len(tokenizer))),
        extra={"parts": {"text": words.name, "vision": tower.name if tower else f"{preset}, fresh", "seed": seed}},
    )
    settings.put_into(config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _joined(config, words, tower, known, vision)
    _write(model, tokenizer, settings, out)
    return _told(config, words, settings)


def _with_special_tokens(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer with SmolVLM's special tokens; those that it has keep their ids."""
    backend = Tokenizer.from_str(backend.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return as_smolvlm(backend)


def _default_scale(place: str, config: SmolVLMVisionConfig) -> int:
    """The least whole share of the grid's side that gives at most 81 tokens a frame."""
    side = config.image_size // config.patch_size
    return next(scale for scale in range(1, side + 1) if side % scale == 0 and (side // scale) ** 2 <= MOST_NATIVE)


def _check_grid(place: str, config: SmolVLMVisionConfig, scale: int) -> None:
    side = config.image_size // config.patch_size
    fits = [number for number in range(1, side + 1) if side % number == 0]
    if scale not in fits:
        raise ProspectError(
            f"--scale-factor {scale}: {place} has {side} x {side} patches, expected one of "
            f"{', '.join(map(str, fits))}, which divide {side}"
        )


def _config(words: TextPart, tokenizer: Any, vision: SmolVLMVisionConfig, scale: int) -> SmolVLMConfig:
    """The config of the whole; every id is said in it and in the text model's, as neither has SmolVLM's defaults."""
    model = words.model
    rows = max(model.get_input_embeddings().weight.shape[0], -(-len(tokenizer) // ROWS) * ROWS)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    text = copy.deepcopy(model.config)
    for name, value in {"vocab_size": rows, "tie_word_embeddings": tied, **ids}.items():
        setattr(text, name, value)
    return SmolVLMConfig(
        vision_config=vision.to_dict(),
        text_config={name: value for name, value in text.to_dict().items() if name not in OF_THE_FILE},
        scale_factor=scale,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=tied,
        **ids,
    )


def _joined(config: SmolVLMConfig, words: TextPart, tower: VisionPart | None, known: int, place: str) -> Any:
    """The model of the parts; what is new is drawn from the global random state."""
    dtype, text = words.model.dtype, words.model.base_model
    with torch.device("meta"):
        model: Any = SmolVLMForConditionalGeneration(config)
    if tower is None:
        model.model.vision_model = SmolVLMVisionTransformer._from_config(config.vision_config)
    else:
        _fill(model.model.vision_model, tower, place)
    rows = config.text_config.vocab_size
    embeddings, head = _with_rows(text.embed_tokens.weight, known, rows), words.model.lm_head.weight
    text.embed_tokens.weight, text.embed_tokens.num_embeddings = embeddings, rows
    model.model.text_model = text
    model.lm_head.weight = embeddings if config.tie_word_embeddings else _with_rows(head, known, rows)
    projection = model.model.connector.modality_projection.proj
    projection.weight = nn.Parameter(_drawn(projection, model.model.vision_model.post_layernorm, text.embed_tokens))
    model.to(dtype)
    return model


def _fill(model: nn.Module, tower: VisionPart, place: str) -> None:
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tower.tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ProspectError(
                f"{place}: its vision tower's {name}: found {_shape(found.get(name))}, by config.json expected "
                f"{_shape(expected.get(name))}; copy or download it again"
            )
    model.load_state_dict(tower.tensors, assign=True)
    check_finite(model, place)


def _shape(shape: torch.Size | None) -> str:
    return "none" if shape is None else " x ".join(map(str, shape))


def _with_rows(weight: Tensor, known: int, rows: int) -> nn.Parameter:
    """`weight` (V, D) with `rows` rows, those after the `known` ones their mean: spare rows were never trained."""
    weight = weight.detach()
    mean = weight[:known].float().mean(0, keepdim=True).to(weight.dtype)
    return nn.Parameter(torch.cat([weight[:known], mean.expand(rows - known, -1)]))


@torch.no_grad()
def _drawn(projection: nn.Linear, norm: nn.LayerNorm, embeddings: nn.Embedding) -> Tensor:
    """The connector's weight (D, inputs): its outputs have the mean square of the embeddings, as its inputs, which come
    out of a layer norm, have that of the norm's scale and shift."""
    inputs = float(norm.weight.float().square().mean() + norm.bias.float().square().mean())
    words = embeddings(torch.arange(embeddings.num_embeddings)).float().square().mean()  # some families scale them
    spread = sqrt(float(words) / (projection.in_features * inputs))
    return torch.randn(projection.out_features, projection.in_features) * spread


def _write(model: Any, tokenizer: Any, settings: ProspectSettings, out: Path) -> None:
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with writing(partial, out):
        partial.mkdir(parents=True)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        size = model.config.vision_config.image_size
        image_processor(size, settings.image_mean, settings.image_std).save_pretrained(partial)
        partial.rename(out)


def _told(config: SmolVLMConfig, words: TextPart, settings: ProspectSettings) -> str:
    text, vision = config.text_config, config.vision_config
    return (
        f"{text.model_type} of {text.num_hidden_layers} layers, {text.hidden_size} wide ({words.name}); a tower of "
        f"{vision.num_hidden_layers} layers, {vision.image_size} px ({settings.extra['parts']['vision']}); "
        f"{settings.tokens_per_frame} tokens a frame natively; {len(settings.new_tokens)} new tokens"
    )
