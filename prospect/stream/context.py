"""What the model has in its context while a stream goes on, and what is kept of it when it is full.

A context is full before a frame when used + tokens_per_frame + reserve > max_seq_len, the rule by which training cuts a
clip into parts (`layout.cut_parts`). Then it starts over, by policy, from

- `state_carry` a fresh prompt whose Current Progress is what the model's memory carries, the tracked state or a summary
  (ProAssist's summarize-and-drop): the only policy that training shows;
- `drop_all` the prompt as the stream began: nothing is carried;
- `drop_middle` the prompt, what came before the first frame and the first user line (where it fits), then the last
  whole frames with all that stands at them: up to 512 tokens as in ProAssist, half the room at most. They are run
  through the model again, so positions follow each other, which ProAssist's joined caches do not.

Only `drop_middle` remembers embeddings; the others hold nothing but the cache. D hidden, K tokens a frame, T tokens.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.layout import Tokens
from prospect.model.dst_smolvlm import DSTSmolVLM, Generated

Policy = Literal["state_carry", "drop_middle", "drop_all"]
POLICIES: tuple[Policy, ...] = ("state_carry", "drop_middle", "drop_all")
KEEP_TOKENS = 512


class Context:
    """A KV cache of one stream; `append` and the generations of the model put whole blocks into it."""

    def __init__(
        self,
        model: DSTSmolVLM,
        tokens: Tokens,
        prompt: Callable[[str], str],
        progress: str,
        turns: Sequence[Turn],
        policy: Policy,
        max_seq_len: int,
    ) -> None:
        """
        Args:
            prompt: text of the prompt with a text of Current Progress, "" for none.
            progress: of the first prompt.
            turns: from before the first frame.

        Raises:
            ProspectError: prompt and turns are longer than the window; the model has not run over them then, whose time
                and memory grow with them.
        """
        self.model, self.tokens, self.policy = model, tokens, policy
        self._prompt_text, self._start = prompt, progress
        first, before = self._prompt(progress), [tokens.turn(turn).ids for turn in turns]
        if (used := len(first) + sum(map(len, before))) > max_seq_len:
            raise ProspectError(
                f"the task: its steps and the turns before the first frame take {used} tokens, more than max_seq_len "
                f"{max_seq_len}; shorten it, or raise max_seq_len"
            )
        self._head = [model.embed_block(first)]  # drop_middle starts over from these
        self._has_user_line = False
        self._groups: list[list[Tensor]] = []  # drop_middle: embeddings of the blocks of each frame
        self.computed_tokens = 0  # that went through the model since `take_computed`
        self._begin(self._head)
        for ids in before:
            embeds = model.embed_block(ids)
            self._head.append(embeds)
            self._run(embeds)

    @property
    def used(self) -> int:
        return int(self.cache.get_seq_length())

    def restart(self, progress: str, room: int) -> None:
        """Start over by the policy; at most `room` tokens are kept (a frame and the reserve have to fit after them).

        Args:
            progress: what `state_carry` carries.
        """
        if self.policy == "state_carry":
            self._begin([self.model.embed_block(self._prompt(progress))])
        elif self.policy == "drop_all":
            self._begin([self.model.embed_block(self._prompt(self._start))])
        else:
            if sum(embeds.shape[1] for embeds in self._head) > room and self._has_user_line:
                self._head.pop()  # the user's line, which alone may be too long for the beginning
                self._has_user_line = False
            head = sum(embeds.shape[1] for embeds in self._head)
            kept: list[list[Tensor]] = []
            left = min(KEEP_TOKENS, (room - head) // 2)  # half the room at most, or it would be full again at once
            for group in reversed(self._groups):
                left -= sum(embeds.shape[1] for embeds in group)
                if left < 0:
                    break
                kept.insert(0, group)
            self._groups = kept
            self._begin([*self._head, *(embeds for group in kept for embeds in group)])

    def begin_again(self, progress: str) -> None:
        """Start over from a fresh prompt with `progress`, whatever the policy: as if the stream began here."""
        self._start, self._has_user_line = progress, False
        self._head, self._groups = [self.model.embed_block(self._prompt(progress))], []
        self._begin(self._head)

    def next_frame(self) -> None:
        """Let what is appended from here on stand at a new frame."""
        if self.policy == "drop_middle":
            self._groups.append([])

    def append(self, ids: Sequence[int], features: Tensor | None = None, *, is_user_line: bool = False) -> None:
        """Append a block; `features` (K, D) of a frame block."""
        embeds = self.model.embed_block(ids, features)
        self._remember(embeds)
        if is_user_line and not self._has_user_line:
            self._has_user_line = True
            if self.policy == "drop_middle":
                self._head.append(self._groups[-1].pop())
        self._run(embeds)

    def appended(self, block: Generated) -> None:
        """Note that the model has put `block` into the cache itself."""
        if self.policy == "drop_middle":
            self._remember(self.model.embed_block(block.ids))
        self.computed_tokens += len(block.ids)
        self.hidden_last = block.hidden_last[0]

    def take_back(self, block: Generated) -> None:
        """Remove `block`, which the model has just put into the cache: it was never said."""
        self.cache.crop(-len(block.ids))
        self.computed_tokens += len(block.ids)

    def decide(self) -> tuple[float, float]:
        """Give the probabilities that a dst_update block and an assistant block come next."""
        return self.model.decide(self.hidden_last)

    def take_computed(self) -> int:
        """Count the tokens that went through the model since the last call."""
        computed, self.computed_tokens = self.computed_tokens, 0
        return computed

    def prompt_length(self, progress: str) -> int:
        """Count the tokens of a prompt with this progress."""
        return len(self._prompt(progress))

    def _prompt(self, progress: str) -> list[int]:
        return self.tokens.prompt(self._prompt_text(progress)).ids

    def _begin(self, blocks: Sequence[Tensor]) -> None:
        self.cache = self.model.new_cache()
        self._run(torch.cat(list(blocks), 1))

    def _run(self, embeds: Tensor) -> None:
        self.computed_tokens += embeds.shape[1]
        self.hidden_last = self.model.extend_embeds(embeds, self.cache)[0, -1]  # (D,)

    def _remember(self, embeds: Tensor) -> None:
        if self.policy == "drop_middle":
            self._groups[-1].append(embeds)
