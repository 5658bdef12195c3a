"""Constrained generation of dst_update texts: which tokens may come next, so that every generated update parses.

A text is pieces, tokenized one by one as in training (docs/design.md §5): " S1->complete", ",", " S2->start", then
<end_of_utterance>. In `legal` mode a piece may be any transition that is legal in the tracked state, as the pieces
before left it; otherwise any transition of any step. Either way none comes twice, so every text ends.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

from pipeline.annotations.dst import FORWARD, State, Transition, Update, apply_updates, format_updates, legal_updates
from pipeline.errors import ProspectError

Ids = tuple[int, ...]


class UpdateConstraint:
    """What may follow the ids generated so far, after the header "DST:". Holds no position: ask with all ids."""

    def __init__(
        self,
        encode: Callable[[str], Sequence[int]],
        end_of_utterance: int,
        steps: Sequence[str],
        state: Mapping[str, State],
        legal: bool = True,
        max_tokens: int | None = None,
        transitions: Collection[Transition] = FORWARD,
    ) -> None:
        """
        Args:
            encode: text to ids, special tokens split (`prospect.layout.Tokens.encode`).
            steps: step ids, in the prompt's order.
            state: tracked state of each step.
            legal: only transitions that are legal in the tracked state.
            max_tokens: most ids of a text, <end_of_utterance> apart; None: no bound but each update once.
            transitions: those that the model has learned.

        Raises:
            ProspectError: the tokenizer gives two updates the same ids, or one the beginning of another's.
        """
        self.end_of_utterance = end_of_utterance
        self._steps, self._state, self._legal = tuple(steps), {step: state[step] for step in steps}, legal
        self._max_tokens, self._transitions = max_tokens, tuple(transitions)
        self._comma = tuple(encode(","))
        self._pieces = {u: tuple(encode(f" {u}")) for u in (Update(s, t) for s in steps for t in transitions)}
        _check_distinct(self._pieces)

    @cached_property
    def possible(self) -> bool:
        """Whether any update can be generated: False once every step is completed (or there is none, or no room)."""
        return bool(self._options([]))

    def allowed(self, ids: Sequence[int]) -> list[int]:
        """List the token ids that may follow `ids`, ascending; empty after <end_of_utterance>.

        Raises:
            ValueError: no update is possible, or `ids` is not what this constraint allows.
        """
        if not self.possible:
            raise ValueError(f"no transition is legal in state {self._state}; check `possible` first")
        _, partial, options = self._walk(ids)
        return sorted({option[len(partial)] for option in options if option[: len(partial)] == partial})

    def updates(self, ids: Sequence[int]) -> tuple[Update, ...]:
        """List the updates that `ids` complete, in order."""
        return tuple(self._walk(ids)[0])

    def text(self, ids: Sequence[int]) -> str:
        """Give the update text, e.g. "S1->complete, S2->start"."""
        return format_updates(self.updates(ids))

    def _walk(self, ids: Sequence[int]) -> tuple[list[Update], Ids, dict[Ids, Update | None]]:
        """Updates complete in `ids`, the ids after them, and what these may become (None: the end of the text)."""
        emitted: list[Update] = []
        rest, options = tuple(ids), self._options(emitted)
        while complete := next((option for option in options if rest[: len(option)] == option), None):
            update, rest = options[complete], rest[len(complete) :]
            if update is None:
                options = {}
                break
            emitted.append(update)
            options = self._options(emitted)
        if rest and not any(option[: len(rest)] == rest for option in options):
            raise ValueError(f"ids {list(ids)}: {list(rest)} follows {format_updates(emitted)!r}, which is not allowed")
        return emitted, rest, options

    def _options(self, emitted: list[Update]) -> dict[Ids, Update | None]:
        """Every continuation after `emitted`, whole. None of them is the beginning of another."""
        updates = self._fitting(self._next_updates(emitted), emitted)
        if not emitted:  # at least one update
            return {self._pieces[update]: update for update in updates}
        return {(self.end_of_utterance,): None} | {self._comma + self._pieces[update]: update for update in updates}

    def _fitting(self, updates: list[Update], emitted: list[Update]) -> list[Update]:
        """Those of `updates` that fit `max_tokens` after `emitted`."""
        if self._max_tokens is None:
            return updates
        left = self._max_tokens - sum(len(self._pieces[u]) + len(self._comma) for u in emitted)
        return [update for update in updates if len(self._pieces[update]) <= left]

    def _next_updates(self, emitted: list[Update]) -> list[Update]:
        if self._legal:
            updates = legal_updates(self._steps, apply_updates(self._state, emitted), self._transitions)
        else:
            updates = list(self._pieces)
        return [update for update in updates if update not in emitted]


def _check_distinct(pieces: Mapping[Update, Ids]) -> None:
    ordered = sorted(pieces.items(), key=lambda item: item[1])  # a beginning sorts right before what it begins
    for (one, ids), (other, longer) in pairwise(ordered):
        if longer[: len(ids)] == ids:
            raise ProspectError(
                f"tokenizer: {one} and {other} have the ids {list(ids)} and {list(longer)}, expected ids that tell "
                "them apart; use the checkpoint's own tokenizer"
            )
