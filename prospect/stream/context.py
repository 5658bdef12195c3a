"""What the model has in its context while a stream goes on, and what is kept of it when it is full.

A context is full before a frame when used + tokens_per_frame + reserve > max_seq_len, the rule by which training cuts a
clip into parts (`layout.cut_parts`). Then it starts over, by policy, from

- `state_carry` a fresh prompt whose Current Progress is what the model's memory carries, the tracked state or a summary
  (ProAssist's summarize-and-drop): the only policy that training shows;
- `drop_all` the prompt as the stream began: nothing is carried;
- `drop_middle` the prompt, what came before the first frame and the first user line (where it fits), then the last
  whole frames with all that stands at them: up to 512 tokens as in ProAssist, half the room at most. They are run
  through the model again, so positions follow each other, which ProAssist's joined caches do not;
- `slide` a fresh prompt with the state as it was before the first frame that is kept, then the last whole frames with
  all that stands at them, half the room at most: a text that training shows. These are not run through the model again:
  what it made of them is moved behind the prompt (`prospect/model/moved.py`), and still knows what they saw.

Only `drop_middle` remembers features; the others hold nothing but the cache. D hidden, K tokens a frame.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.layout import Tokens
from prospect.model.moved import Mover
from prospect.model.steps import Append, Seen, Steps, StreamCache
from prospect.model.writing import Generated

Policy = Literal["state_carry", "drop_middle", "drop_all", "slide"]
POLICIES: tuple[Policy, ...] = ("state_carry", "drop_middle", "drop_all", "slide")
KEEP_TOKENS = 512


class Block(NamedTuple):
    ids: Sequence[int]
    features: Tensor | None = None  # (K, D), of a frame


class Begun(NamedTuple):
    """Where a frame begins in the context, and the Current Progress of a prompt that would stand before it."""

    place: int
    progress: str


class Context:
    """A KV cache of one stream; whole blocks come into it by `append`, and as the model writes them.

    What is appended waits until the model is asked for something: it goes through it in one forward.
    """

    def __init__(
        self,
        new_cache: Callable[[], StreamCache],
        tokens: Tokens,
        prompt: Callable[[str], str],
        progress: str,
        turns: Sequence[Turn],
        policy: Policy,
        max_seq_len: int,
        mover: Mover | None = None,
    ) -> None:
        """
        Args:
            new_cache: gives an empty cache, in place of the one before.
            prompt: text of the prompt with a text of Current Progress, "" for none.
            progress: of the first prompt.
            turns: from before the first frame.
            mover: of the model's keys, for `slide`.

        Raises:
            ProspectError: prompt and turns are longer than the window; the model has not run over them then, whose time
                and memory grow with them.
        """
        self._new_cache, self.tokens, self.policy = new_cache, tokens, policy
        self._prompt_text, self._start = prompt, progress
        first, before = self._prompt(progress), [tokens.turn(turn).ids for turn in turns]
        if (used := len(first) + sum(map(len, before))) > max_seq_len:
            raise ProspectError(
                f"the task: its steps and the turns before the first frame take {used} tokens, more than max_seq_len "
                f"{max_seq_len}; shorten it, or raise max_seq_len"
            )
        self._head = [Block(first), *map(Block, before)]  # drop_middle starts over from these
        self._has_user_line = False
        self._groups: list[list[Block]] = []  # drop_middle: the blocks of each frame
        self._mover, self._begun = mover, list[Begun]()  # slide: each frame
        self.computed_tokens = 0  # that went through the model since `take_computed`
        self._waiting: list[Block] = []
        self._begin(self._head)

    @property
    def used(self) -> int:
        return self.cache.get_seq_length() + _length(self._waiting)

    def restart(self, progress: str, room: int) -> Steps[None]:
        """Start over by the policy; at most `room` tokens are kept (a frame and the reserve have to fit after them).

        Args:
            progress: what `state_carry` carries.
        """
        if self.policy == "slide":
            yield from self._slide(progress, room)
        elif self.policy == "state_carry":
            self._begin([Block(self._prompt(progress))])
        elif self.policy == "drop_all":
            self._begin([Block(self._prompt(self._start))])
        else:
            if _length(self._head) > room and self._has_user_line:
                self._head.pop()  # the user's line, which alone may be too long for the beginning
                self._has_user_line = False
            kept: list[list[Block]] = []
            half = (room - _length(self._head)) // 2  # at most, or it would be full again at once
            left = min(KEEP_TOKENS, half)
            for group in reversed(self._groups):
                left -= _length(group)
                if left < 0:
                    break
                kept.insert(0, group)
            self._groups = kept
            self._begin([*self._head, *(block for group in kept for block in group)])

    def begin_again(self, progress: str) -> None:
        """Start over from a fresh prompt with `progress`, whatever the policy: as if the stream began here."""
        self._start, self._has_user_line = progress, False
        self._head, self._groups, self._begun = [Block(self._prompt(progress))], [], []
        self._begin(self._head)

    def next_frame(self, progress: str) -> None:
        """Let what is appended from here on stand at a new frame, before which `progress` holds."""
        if self.policy == "drop_middle":
            self._groups.append([])
        elif self.policy == "slide" and not (self._begun and self._begun[-1].place == self.used):
            self._begun.append(Begun(self.used, progress))

    def append(self, ids: Sequence[int], features: Tensor | None = None, *, is_user_line: bool = False) -> None:
        """Append a block; `features` (K, D) of a frame block."""
        block = Block(ids, features)
        self._waiting.append(block)
        if is_user_line and not self._has_user_line:
            self._has_user_line = True
            self._head.append(block)
        else:
            self._remember(block)

    def run(self) -> Steps[None]:
        """Put what waits through the model."""
        if self._waiting:
            frames = [block.features for block in self._waiting if block.features is not None]
            ids = [token for block in self._waiting for token in block.ids]
            self._waiting = []
            self.computed_tokens += len(ids)
            self._seen: Seen = yield Append(self.cache, ids, torch.cat(frames) if frames else None)

    def written(self, block: Generated) -> None:
        """Note that the model has put `block` into the cache itself."""
        self._remember(Block(block.ids))
        self.computed_tokens += len(block.ids)
        self._seen = block.seen

    def take_back(self, block: Generated) -> None:
        """Remove `block`, which the model has just put into the cache: it was never said."""
        self.cache.crop(-len(block.ids))
        self.computed_tokens += len(block.ids)

    def decide(self) -> Steps[tuple[float, float]]:
        """Give the probabilities that a dst_update block and an assistant block come next."""
        yield from self.run()
        return self._seen.decide()

    def take_computed(self) -> int:
        """Count the tokens that went through the model since the last call."""
        computed, self.computed_tokens = self.computed_tokens, 0
        return computed

    def prompt_length(self, progress: str) -> int:
        """Count the tokens of a prompt with this progress."""
        return len(self._prompt(progress))

    def _slide(self, progress: str, room: int) -> Steps[None]:
        """Put the prompt through the model, and move what is kept behind it; without any the prompt waits."""
        assert self._mover
        end = begin = self.used
        prompt = following = self._prompt(progress)
        kept: list[Begun] = []
        for begun in reversed(self._begun):
            if begun.progress != progress:
                progress, following = begun.progress, self._prompt(begun.progress)
            if end - begun.place > (room - len(following)) // 2:  # at most, or it would be full again at once
                break
            begin, prompt = begun.place, following
            kept.insert(0, begun)
        moved = self._mover.moved(self.cache.tail(end - begin), begin, len(prompt)) if begin < end else []
        self._begun = [begun._replace(place=begun.place - begin + len(prompt)) for begun in kept]
        self._begin([Block(prompt)])
        if moved:
            seen = self._seen
            yield from self.run()
            self.cache.join(moved)
            self._seen = seen  # of the last token, which is still the last

    def _prompt(self, progress: str) -> list[int]:
        return self.tokens.prompt(self._prompt_text(progress)).ids

    def _begin(self, blocks: Sequence[Block]) -> None:
        self.cache, self._waiting = self._new_cache(), [*blocks]

    def _remember(self, block: Block) -> None:
        if self.policy == "drop_middle":
            self._groups[-1].append(block)


def _length(blocks: Sequence[Block]) -> int:
    """In tokens."""
    return sum(len(block.ids) for block in blocks)
