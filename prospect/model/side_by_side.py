"""Several streams through one model: what they want appended at the same time goes through it in one forward.

Each has a slot, its part of one cache. A row of a forward begins where its slot ends, so rows of any lengths and at
any positions go together: a mask lets a token see its own slot up to itself, and what stands beyond the end of a slot
(the padding of rows that were shorter) is overwritten by what comes next. A stream alone gets the same numbers, but for
rounding: sums are taken in another order.

N slots, T tokens, L the longest slot, D hidden.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.steps import Append, Ends, Layers, Seen, Steps
from prospect.model.text import windows

T = TypeVar("T")
GROWTH = 512  # tokens by which slots grow at least
SHORT = 8  # tokens: wishes up to this length share a forward


class Slot:
    """The cache of one stream, and the time that it has taken: its own, and its share of the forwards."""

    def __init__(self, slots: "Slots", number: int) -> None:
        self._slots, self._number = slots, number
        self.length = 0
        self._seconds, self._resumed = 0.0, 0.0

    def emptied(self) -> "Slot":
        self.length = 0
        return self

    def get_seq_length(self) -> int:
        return self.length

    def crop(self, max_length: int, /) -> None:
        self.length += max_length

    def tail(self, count: int) -> Layers:
        return self._slots.tail(self._number, count)

    def join(self, layers: Layers) -> None:
        self._slots.join(self._number, layers)

    def clock(self) -> float:
        """Give the seconds until now; asked for by the stream itself."""
        return self._seconds + time.perf_counter() - self._resumed

    def resume(self) -> None:
        self._resumed = time.perf_counter()

    def pause(self) -> None:
        self._seconds = self.clock()

    def pay(self, seconds: float) -> None:
        self._seconds += seconds


class Slots:
    """The keys and values of N slots, one tensor of each a layer."""

    def __init__(self, model: DSTSmolVLM, count: int, capacity: int = 0) -> None:
        """
        Args:
            capacity: tokens that each slot has room for from the beginning.

        Raises:
            ProspectError: a layer of the text model attends in a way of its own.
        """
        self._model, self.capacity = model, capacity
        self.slots = [Slot(self, number) for number in range(count)]
        self._windows = windows(model.model.text_model.config)
        self._kept: list[tuple[Tensor, Tensor]] = []  # a layer: keys, values (N, heads, capacity, width)
        self._rows, self._places, self._longest = slice(0), torch.empty(0), 0  # of the forward under way

    def append(self, wishes: Mapping[int, Append]) -> dict[int, Seen]:
        """Append to slots, by number what each wants; gives the answers, by number."""
        groups: dict[int, list[int]] = {}
        for number in sorted(wishes):
            groups.setdefault(max(len(wishes[number].ids) - 1, SHORT - 1).bit_length(), []).append(number)
        answers: dict[int, Seen] = {}
        for numbers in groups.values():
            began = time.perf_counter()
            ends = self._forward({number: wishes[number] for number in numbers})
            seconds = (time.perf_counter() - began) / len(numbers)
            for row, number in enumerate(numbers):
                answers[number] = Seen(ends, row)
                self.slots[number].pay(seconds)
        return answers

    @torch.no_grad()
    def _forward(self, wishes: Mapping[int, Append]) -> Ends:
        """One forward of the slots from the first to the last that wants something; those between are padding."""
        model, device = self._model, self._model.device
        first, end = min(wishes), max(wishes) + 1
        most = max(len(wish.ids) for wish in wishes.values())
        padding = int(model.config.image_token_id == 0)  # any token that is no frame's
        ids = [[padding] * most for _ in range(first, end)]
        for number, wish in wishes.items():
            ids[number - first][: len(wish.ids)] = wish.ids
        frames = [wish.features for wish in wishes.values() if wish.features is not None]
        lengths = [slot.length for slot in self.slots[first:end]]
        hidden = self.run(
            torch.tensor(ids, device=device),
            torch.cat(frames) if frames else None,
            torch.tensor(lengths, device=device),
            slice(first, end),
            max(lengths) + most,
        )
        rows = torch.tensor([number - first for number in wishes], device=device)
        last = torch.tensor([len(wish.ids) - 1 for wish in wishes.values()], device=device)
        for number, wish in wishes.items():
            self.slots[number].length += len(wish.ids)
        text: Any = model.model.text_model
        return Ends(model, text.norm(hidden[rows, last]))

    @torch.no_grad()
    def run(self, ids: Tensor, features: Tensor | None, begins: Tensor, rows: slice, longest: int) -> Tensor:
        """Give the hidden states (N, T, D), before the last norm, of ids (N, T) appended to the slots `rows`.

        Its shapes depend on those of what it is given and on `longest` alone, and the device is not waited for.

        Args:
            begins: int64 (N,): where the slots end.
            longest: L: what of the slots is looked at, at least to the end of the longest with what is appended.
        """
        self._make_room(longest)
        places = begins[:, None] + torch.arange(ids.shape[1], device=ids.device)  # (N, T)
        self._rows, self._places, self._longest = rows, places, longest
        at = torch.arange(longest, device=ids.device)  # (L,)
        seen = at <= places[..., None]  # (N, T, L)
        text: Any = self._model.model.text_model
        hidden = self._model.embed_rows(ids, features)  # (N, T, D)
        position_embeddings = text.rotary_emb(hidden, places)
        for layer, window in zip(text.layers, self._windows, strict=True):
            mask = seen if window is None else seen & (at > places[..., None] - window)
            hidden = layer(
                hidden,
                attention_mask=mask[:, None],
                position_ids=places,
                past_key_values=self,
                use_cache=True,
                position_embeddings=position_embeddings,
            )
        return hidden

    def tail(self, number: int, count: int) -> Layers:
        """Copy the last tokens of a slot, whose place the next forward may write over."""
        here = slice(self.slots[number].length - count, self.slots[number].length)
        return [(keys[number, :, here].clone(), values[number, :, here].clone()) for keys, values in self._kept]

    def join(self, number: int, layers: Layers) -> None:
        """Append tokens to a slot."""
        begin = self.slots[number].length
        self.slots[number].length = end = begin + layers[0][0].shape[1]
        self._make_room(end)
        for layer, new in enumerate(layers):
            keys, values = self._kept[layer]
            if keys.shape[2] < self.capacity:
                self._kept[layer] = keys, values = self._room(keys, keys), self._room(values, values)
            keys[number, :, begin:end], values[number, :, begin:end] = new

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take a layer's new keys and values (N, heads, T, width); gives what the forward sees (N, heads, L, width).

        It is what a layer of transformers asks of its cache.
        """
        if layer == len(self._kept):
            self._kept.append((self._room(keys, None), self._room(values, None)))
        elif self._kept[layer][0].shape[2] < self.capacity:
            self._kept[layer] = (self._room(keys, self._kept[layer][0]), self._room(values, self._kept[layer][1]))
        of_slots = tuple(kept[self._rows] for kept in self._kept[layer])
        for kept, new in zip(of_slots, (keys, values), strict=True):
            kept.scatter_(2, self._places[:, None, :, None].expand_as(new), new)
        return of_slots[0][:, :, : self._longest], of_slots[1][:, :, : self._longest]

    def _make_room(self, longest: int) -> None:
        if longest > self.capacity:
            self.capacity = -(-longest // GROWTH) * GROWTH

    def _room(self, like: Tensor, before: Tensor | None) -> Tensor:
        """`before` with room for `capacity` tokens. Zeros, as what is masked must still be numbers."""
        _, heads, _, width = like.shape
        room = like.new_zeros(len(self.slots), heads, self.capacity, width)
        if before is not None:
            room[:, :, : before.shape[2]] = before
        return room


def together(model: DSTSmolVLM, jobs: Iterable[Callable[[Slot], Steps[T]]], count: int) -> Iterator[T]:
    """Run jobs, `count` at a time, each in a slot; gives what they return, as they end."""
    waiting, slots = iter(jobs), Slots(model, count)
    running: dict[int, Steps[T]] = {}
    wishes: dict[int, Append] = {}
    answers: dict[int, Seen] = {}
    while True:
        for number, slot in enumerate(slots.slots):
            while number not in wishes:
                if number not in running:
                    if (job := next(waiting, None)) is None:
                        break
                    running[number] = job(slot)
                slot.resume()
                try:
                    answer = answers.pop(number, None)
                    wishes[number] = running[number].send(answer) if answer else next(running[number])
                except StopIteration as end:
                    del running[number]
                    yield end.value
                finally:
                    slot.pause()
        if not running:
            return
        answers, wishes = slots.append(wishes), {}
