"""What a stream asks of the model: a generator that yields what is to be appended to its cache, and is sent what the
model says there. So a stream is written once, and run alone (`alone`) or beside others (`side_by_side.py`).

N rows of one forward, D hidden, K tokens a frame, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from prospect.model.decisions import checked

if TYPE_CHECKING:
    from prospect.model.dst_smolvlm import DSTSmolVLM

T = TypeVar("T")
Layers = list[tuple[Tensor, Tensor]]  # a layer: keys and values (heads, T, width) of T tokens


class StreamCache(Protocol):
    """What a stream sees of its KV cache."""

    def get_seq_length(self) -> int: ...

    def crop(self, max_length: int, /) -> None:
        """Remove the last -max_length tokens."""

    def tail(self, count: int) -> Layers:
        """Give the last `count` tokens, which outlive this cache."""

    def join(self, layers: Layers) -> None:
        """Append tokens as they were given by `tail`, their keys at the positions that follow (`moved.py`)."""


class Append(NamedTuple):
    """A wish: tokens to append to a stream's cache."""

    cache: StreamCache
    ids: Sequence[int]
    features: Tensor | None = None  # (frames * K, D): what the <image> tokens stand for


class Ends:
    """What the model says at the last token of each row of a forward; computed for all once one asks."""

    def __init__(self, model: "DSTSmolVLM", hidden: Tensor, probabilities: Tensor | None = None) -> None:
        """`hidden`: (N, D); `probabilities`: float32 (N, 2), of `DSTSmolVLM.probabilities`, where they are known."""
        self._model, self.hidden, self._probabilities = model, hidden, probabilities

    @cached_property
    def decisions(self) -> list[tuple[float, float]]:
        if self._probabilities is None:
            return self._model.decisions(self.hidden)
        return [(update, speak) for update, speak in self._probabilities.tolist()]

    @cached_property
    @torch.no_grad()
    def logits(self) -> Tensor:
        """(N, V)"""
        logits: Tensor = self._model.lm_head(self.hidden)
        return logits


class Seen(NamedTuple):
    """The answer to an `Append`: what the model says at its last token."""

    ends: Ends
    row: int

    @property
    def hidden(self) -> Tensor:
        """(D,)"""
        return self.ends.hidden[self.row]

    @property
    def logits(self) -> Tensor:
        """(V,), of the next token."""
        return self.ends.logits[self.row]

    def decide(self) -> tuple[float, float]:
        """Give the probabilities that a dst_update block and an assistant block come next.

        Raises:
            ProspectError: they are no numbers.
        """
        return checked(*self.ends.decisions[self.row])


class OwnForward(ABC):
    """A `StreamCache` that has a way of its own through the model."""

    @abstractmethod
    def append(self, wish: Append) -> Seen:
        """Append what is wished for; `wish.cache` is this one."""


Steps = Generator[Append, Seen, T]


def alone(model: "DSTSmolVLM", steps: Steps[T]) -> T:
    """Run one stream's steps, each wish by itself; gives what they return. Caches are those of `model.new_cache`,
    or go through the model in their own way."""
    try:
        wish = next(steps)
        while True:
            if isinstance(wish.cache, OwnForward):
                seen = wish.cache.append(wish)
            else:
                hidden = model.extend_embeds(model.embed_block(wish.ids, wish.features), wish.cache)[:, -1]  # (1, D)
                seen = Seen(Ends(model, hidden), 0)
            wish = steps.send(seen)
    except StopIteration as end:
        result: T = end.value
        return result
