"""Blocks that the model writes into its context, token by token, as steps of a stream (`steps.py`)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from prospect.layout import Tokens
from prospect.model.constrain import UpdateConstraint
from prospect.model.steps import Append, Seen, Steps, StreamCache

if TYPE_CHECKING:
    from prospect.model.dst_smolvlm import DSTSmolVLM


class Generated(NamedTuple):
    """A generated block."""

    text: str
    ids: list[int]  # of the whole block, header and end included
    seen: Seen  # at the block's last token: the next decision position


def write_update(cache: StreamCache, tokens: Tokens, constraint: UpdateConstraint) -> Steps[Generated]:
    """Append a whole dst_update block, greedily within the constraint; check `constraint.possible` first."""
    header = tokens.header("dst_update")
    ids, seen = yield from write(cache, tokens, header, constraint.allowed)
    return Generated(constraint.text(ids), tokens.closed(header, ids), seen)


def write_text(
    model: "DSTSmolVLM",
    cache: StreamCache,
    tokens: Tokens,
    tokenizer: Any,
    header: Sequence[int],
    max_new_tokens: int = 128,
) -> Steps[Generated]:
    """Append a whole block of `header` and 1 to `max_new_tokens` greedy tokens, none of them special."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    unusual = {*special, *range(len(tokenizer), model.vocab_size)}
    never = torch.tensor(sorted(unusual - {tokens.end_of_utterance}), device=model.device)

    def allowed(ids: list[int]) -> list[int] | None:
        return [tokens.end_of_utterance] if len(ids) == max_new_tokens else None

    def discouraged(ids: list[int], logits: Tensor) -> Tensor:
        logits = logits.index_fill(0, never, -torch.inf)
        if not ids:
            logits[tokens.end_of_utterance] = -torch.inf
        return logits

    ids, seen = yield from write(cache, tokens, header, allowed, discouraged)
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False).removeprefix(" ")
    return Generated(text, tokens.closed(header, ids), seen)


def write(
    cache: StreamCache,
    tokens: Tokens,
    header: Sequence[int],
    allowed: Callable[[list[int]], Sequence[int] | None],
    discouraged: Callable[[list[int], Tensor], Tensor] = lambda ids, logits: logits,
) -> Steps[tuple[list[int], Seen]]:
    """Append header, greedy tokens, <end_of_utterance>, newline; gives the ids between.

    Tokens are of those `allowed` after the ids so far (None: any, by logits (V,) as `discouraged` leaves them). Where
    one alone is allowed it is not predicted, and goes through the model together with the next.
    """
    ids: list[int] = []
    waiting = list(header)  # not in the cache yet
    while True:
        choice = allowed(ids)
        if choice is not None and len(choice) == 1:
            token = choice[0]
        else:
            seen = yield Append(cache, waiting)
            waiting = []
            logits = discouraged(ids, seen.logits)  # (V,)
            if choice is None:
                token = int(logits.argmax())
            else:
                token = choice[int(logits[torch.tensor(choice, device=logits.device)].argmax())]
        waiting.append(token)
        if token == tokens.end_of_utterance:
            break
        ids.append(token)
    return ids, (yield Append(cache, waiting + tokens.newline))
