"""The text model of a checkpoint: Llama's, or any whose decoder layers transformers calls as it calls Llama's.

B batch, T tokens, D hidden.
"""

from typing import Any

from torch import Tensor, arange

from pipeline.errors import ProspectError


def last_hidden(text: Any, embeds: Tensor) -> Tensor:
    """Give the last hidden states (B, T, D) of embedded tokens (B, T, D), each of which sees those before it.

    The layers one by one: the model's own forward searches for packed sequences and padding, and waits for the GPU.
    It is taken where layers need a mask: eager attention to be causal, a sliding window to end.
    """
    if text.config._attn_implementation == "eager" or _slides(text.config):
        hidden: Tensor = text(inputs_embeds=embeds, use_cache=False)[0]
        return hidden
    position_ids = arange(embeds.shape[1], device=embeds.device)[None]  # (1, T)
    position_embeddings = text.rotary_emb(embeds, position_ids)
    hidden = embeds
    for layer in text.layers:
        hidden = layer(hidden, attention_mask=None, position_ids=position_ids, position_embeddings=position_embeddings)
    normed: Tensor = text.norm(hidden)
    return normed


def windows(config: Any) -> list[int | None]:
    """List how many tokens a token sees in each layer, itself and those before it; None: all.

    Raises:
        ProspectError: a layer attends in another way.
    """
    kinds = getattr(config, "layer_types", None)
    if kinds is None:  # Mistral says it for all
        return [getattr(config, "sliding_window", None)] * config.num_hidden_layers
    if other := set(kinds) - {"full_attention", "sliding_attention"}:
        raise ProspectError(
            f"the text model: found layers of {', '.join(sorted(other))}, expected full or sliding attention; stream "
            "one clip at a time (--streams 1)"
        )
    return [None if kind == "full_attention" else config.sliding_window for kind in kinds]


def _slides(config: Any) -> bool:
    """Whether a layer sees a window of the tokens before it alone: said layer by layer, or (Mistral) for all."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return getattr(config, "sliding_window", None) is not None
    return any(kind != "full_attention" for kind in kinds)
