"""Keys moved to other positions, so that what a stream has seen is kept without being run through the model again.

Rotary positions are rotations: the key that a layer made at position p is R(p) k, and R(q - p) R(p) k = R(q) k is the
one that it would have made at q. A scale that the rotary embedding puts on keys (`attention_scaling`) is in them
already. Values know no position. Both stay what they were computed of: hidden states that saw all that stood before.

T tokens, W width of a head, D hidden.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from pipeline.errors import ProspectError
from prospect.model.steps import Layers
from prospect.model.text import slides

STATIC = ("default", "linear", "llama3", "yarn")  # rope types whose frequencies no length changes
CLOSE = 0.05  # of a key's norm: bfloat16 stays well below, another way to rotate is far above


class CannotMove(ProspectError):
    """The keys of this model cannot be moved."""


class MovableCache(DynamicCache):
    """transformers' cache of one sequence, of which the end can be taken and put elsewhere."""

    def tail(self, count: int) -> Layers:
        return [(layer.keys[0, :, -count:], layer.values[0, :, -count:]) for layer in self.layers]

    def join(self, layers: Layers) -> None:
        for number, (keys, values) in enumerate(layers):
            self.update(keys[None], values[None], number)


class Mover:
    """Moves keys of one text model."""

    def __init__(self, text: Any) -> None:
        """
        Raises:
            CannotMove: positions are told in another way than by a fixed rotation of the halves of each key, or a layer
                sees a window alone.
        """
        self._rotary, name = text.rotary_emb, text.config.model_type
        kind = getattr(self._rotary, "rope_type", "default")
        if kind not in STATIC:
            raise _cannot(name, f"found rope type {kind}, expected one of {', '.join(STATIC)}")
        if slides(text.config):
            raise _cannot(name, "found layers with sliding windows, expected full attention in all")
        self._turns = self._turning(text)  # by layer; False: it knows no positions

    def moved(self, layers: Layers, begin: int, to: int) -> Layers:
        """Give keys and values of tokens that stood at `begin` and on as they are at `to` and on."""
        cos, sin = self._turn(begin, to, layers[0][0].shape[1])
        return [
            (rotated(keys, cos, sin) if turns else keys, values)
            for (keys, values), turns in zip(layers, self._turns, strict=True)
        ]

    def _turn(self, begin: int, to: int, count: int) -> tuple[Tensor, Tensor]:
        """Cos and sin (T, W) of what moves `count` tokens from `begin` and on to `to` and on."""
        angles = (self._angles(to, count) - self._angles(begin, count)).repeat(1, 2)
        return angles.cos().float(), angles.sin().float()

    def _angles(self, first: int, count: int) -> Tensor:
        """(T, W / 2), rounded as the layers take them: their differences are then exact, however long the stream."""
        frequencies = self._rotary.inv_freq.float()
        places = torch.arange(first, first + count, device=frequencies.device)[:, None]
        return (places.float() * frequencies).double()

    @torch.no_grad()
    def _turning(self, text: Any) -> list[bool]:
        """Whether each layer rotates its keys; a token at two places shows it.

        Raises:
            CannotMove: a layer does so in a way of its own.
        """
        near, far = _keys_at(text, 3), _keys_at(text, 100)
        width = 2 * self._rotary.inv_freq.numel()
        if near[0][0].shape[-1] != width:
            found = f"found keys {near[0][0].shape[-1]} wide of which {width} are rotated, expected all"
            raise _cannot(text.config.model_type, found)
        cos, sin = self._turn(3, 100, 1)
        turning = []
        for number, ((here, _), (there, _)) in enumerate(zip(near, far, strict=True)):
            turning.append(_is_close(rotated(here, cos, sin), there))
            if not turning[-1] and not _is_close(here, there):
                found = f"layer {number}: found positions told in a way of its own, expected halves of keys rotated"
                raise _cannot(text.config.model_type, found)
        return turning


def rotated(keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate keys (heads, T, W), as transformers' apply_rotary_pos_emb does, by cos and sin (T, W); in float32."""
    exact = keys.float()
    first, second = exact.chunk(2, -1)
    return (exact * cos + torch.cat((-second, first), -1) * sin).to(keys.dtype)


class _Caught:
    """What a layer takes for its cache: remembers its keys."""

    def __init__(self) -> None:
        self.layers: Layers = []

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.layers.append((keys[0], values[0]))
        return keys, values


def _keys_at(text: Any, place: int) -> Layers:
    """What each layer makes of one and the same hidden state at a position."""
    hidden = torch.arange(text.config.hidden_size, device=text.device).cos().to(text.dtype)[None, None]  # (1, 1, D)
    position_ids = torch.tensor([[place]], device=text.device)
    position_embeddings = text.rotary_emb(hidden, position_ids)
    caught = _Caught()
    for layer in text.layers:
        layer(
            hidden,
            attention_mask=None,
            position_ids=position_ids,
            past_key_values=caught,
            use_cache=True,
            position_embeddings=position_embeddings,
        )
    return caught.layers


def _is_close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).float().norm() <= CLOSE * other.float().norm())


def _cannot(name: str, found: str) -> CannotMove:
    return CannotMove(f"--context slide: the text model {name}: {found}; pass another --context, such as state_carry")
