"""The text model of a checkpoint: Llama's, or any whose decoder layers transformers calls as it calls Llama's.

B batch, T tokens, D hidden, N sequences.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, arange

from pipeline.errors import ProspectError


@dataclass(frozen=True, slots=True)
class Packed:
    """Where the sequences lie that follow one another in a row, without padding."""

    position_ids: Tensor  # int64 (1, T): of each token in its own sequence
    starts: Tensor  # int32 (N + 1,): where each begins, and the end
    longest: int  # tokens of the longest: known to the host


def last_hidden(text: Any, embeds: Tensor, packed: Packed | None = None) -> Tensor:
    """Give the last hidden states (B, T, D) of embedded tokens (B, T, D), each of which sees those before it; where the
    one row (B = 1) is `packed`, those of its own sequence.

    The layers one by one: the model's own forward searches for packed sequences and padding, and waits for the GPU, as
    flash attention does in each layer that is given position ids. It is taken where layers need a mask of their own:
    eager attention to be causal, a sliding window to end.
    """
    position_ids = arange(embeds.shape[1], device=embeds.device)[None] if packed is None else packed.position_ids
    kernel = text.config._attn_implementation
    if kernel == "eager" or slides(text.config):
        hidden: Tensor = text(inputs_embeds=embeds, position_ids=position_ids, use_cache=False)[0]
        return hidden
    mask: Tensor | None = None
    lengths: dict[str, Any] = {}
    if packed and kernel == "sdpa":
        mask = _own_sequence(packed.position_ids)
    elif packed:  # flash attention of sequences of several lengths
        lengths = {"cu_seq_lens_q": packed.starts, "cu_seq_lens_k": packed.starts}
        lengths |= {"max_length_q": packed.longest, "max_length_k": packed.longest}
    position_embeddings = text.rotary_emb(embeds, position_ids)
    hidden = embeds
    for layer in text.layers:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=position_embeddings, **lengths)
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


def _own_sequence(position_ids: Tensor) -> Tensor:
    """Which tokens each token (1, T) sees, bool (1, 1, T, T): those before it in its own sequence, and itself.

    Positions 0 1 2 0 1: the fourth token sees itself alone, the fifth the fourth and itself.
    """
    number = (position_ids == 0).cumsum(-1)  # (1, T): of the sequence
    is_same = number[:, None, :, None] == number[:, None, None, :]  # (1, 1, T, T)
    return is_same.tril()


def compile_layers(text: Any, backend: str = "inductor") -> None:
    """Have each layer compiled when it is first called, for any number of tokens."""
    for layer in text.layers:
        layer.compile(backend=backend, dynamic=True)


def slides(config: Any) -> bool:
    """Whether a layer sees a window of the tokens before it alone: said layer by layer, or (Mistral) for all."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return getattr(config, "sliding_window", None) is not None
    return any(kind != "full_attention" for kind in kinds)
