"""The one token layout (docs/design.md §5): the only place that knows the order of tokens and where labels sit.

A sequence is blocks, each tokenized by itself and concatenated, so that streaming inference, which appends block by
block, meets exactly the training ids. Training (`clip_sequence`, `turn_layout.py`) and streaming (`Tokens`,
`cut_parts`) share everything here.

    prompt | system turns from before the first frame | for each frame: user/system turns, <image> x K, active blocks

A DECISION POSITION is the last token of a frame block or of a dst_update/assistant block; there the model says, by two
heads or by the logits of three tokens, what block comes next. LM targets are a block's text and <end_of_utterance>, not
its header.

T tokens of a sequence, K tokens a frame.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Literal

from tokenizers import Tokenizer

from pipeline.annotations.clips import ACTIVE_ROLES, Clip, Role, Turn, prompt_text
from pipeline.annotations.dst import State, apply_updates, parse_updates
from pipeline.errors import ProspectError

LAYOUT_VERSION = 2  # part of every plan's fingerprint: raise it when ids, labels or cuts change
IGNORE = -100
CONTEXT, LM_TARGET, DST_TARGET = 0, 1, 2  # values of `target_kind`
HEADERS: dict[Role, str] = {"system": "System:", "user": "User:", "assistant": "Assistant:", "dst_update": "DST:"}
FrameWrap = Literal["none", "smolvlm"]
Decision = tuple[int, int]  # (should_update_dst, when_to_speak)
SILENT: Decision = (0, 0)
SILENCE = "<|im_end|>"  # of decisions by tokens: in no sequence, but in every SmolVLM's vocabulary


@dataclass(frozen=True, slots=True)
class Block:
    """Token ids of one block; ids[target_start:target_end] is what the LM learns where the block is a target."""

    ids: list[int]
    target_start: int = 0
    target_end: int = 0


class Tokens:
    """Text to blocks, with one tokenizer. Special tokens in data are split: `<image>` in an utterance stays text."""

    def __init__(self, tokenizer: Any, tokens_per_frame: int, frame_wrap: FrameWrap = "none") -> None:
        """`tokenizer` is a transformers fast tokenizer with SmolVLM's special tokens."""
        text = tokenizer.backend_tokenizer.to_str()
        self.digest = hashlib.sha256(text.encode()).hexdigest()  # of the tokenizer
        self._backend: Tokenizer = Tokenizer.from_str(text)
        self._backend.encode_special_tokens = True
        self._backend.no_truncation()
        self._backend.no_padding()
        self.tokens_per_frame = tokens_per_frame
        self.image = self._special("<image>")
        self.end_of_utterance = self._special("<end_of_utterance>")
        self._start = self._special("<|im_start|>")
        self.newline = self.encode("\n")
        self._headers = {role: self.encode(header) for role, header in HEADERS.items()}
        frame = [self.image] * tokens_per_frame
        if frame_wrap == "smolvlm":
            around = self._special("<fake_token_around_image>")
            frame = [around, self._special("<global-img>"), *frame, around]
        self.frame = Block(frame)

    def encode(self, text: str) -> list[int]:
        """Give the ids of plain text; nothing in it can become a special token."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def header(self, role: Role) -> list[int]:
        return self._headers[role]

    def decision_tokens(self, dst: bool) -> tuple[int, ...]:
        """Give the tokens by which a model decides that has no heads (`model.decide: tokens`): the first of DST's
        header and of Assistant's, and SILENCE; without `dst` the last two.

        Raises:
            ProspectError: the tokenizer lacks SILENCE, or begins two of them alike.
        """
        roles: tuple[Role, ...] = ("dst_update", "assistant") if dst else ("assistant",)
        tokens = (*(self._headers[role][0] for role in roles), self._special(SILENCE))
        if len({*tokens}) < len(tokens):
            raise ProspectError(
                f"model.decide: found a tokenizer that begins {' and '.join(HEADERS[role] for role in roles)} with the "
                f"same token ({tokens[0]}), expected two that differ; use model.decide=heads"
            )
        return tokens

    def prompt(self, text: str) -> Block:
        return Block([self._start, *self.closed(self._headers["system"], self.encode(f" {text}"))])

    def turn(self, turn: Turn) -> Block:
        header = self._headers[turn.role]
        ids = self.closed(header, self._body(turn))
        return Block(ids, len(header), len(ids) - len(self.newline))

    def closed(self, header: Sequence[int], body: Sequence[int]) -> list[int]:
        """Give the ids of a whole block."""
        return [*header, *body, self.end_of_utterance, *self.newline]

    def _body(self, turn: Turn) -> list[int]:
        if turn.role != "dst_update":
            return self.encode(f" {turn.text}")
        ids: list[int] = []
        for update in parse_updates(turn.text):  # piece by piece, as constrained generation puts them together
            ids += ([*self.encode(",")] if ids else []) + self.encode(f" {update}")
        return ids

    def _special(self, token: str) -> int:
        token_id = self._backend.token_to_id(token)
        if token_id is None:
            raise ProspectError(f"tokenizer: found no special token {token!r}, expected SmolVLM's; use its tokenizer")
        return int(token_id)


@dataclass(frozen=True, slots=True)
class FrameGroup:
    """A frame with everything that stands at it; never divided between two parts."""

    frame: int
    before: tuple[Turn, ...]  # user and system turns: context in front of the frame's tokens
    after: tuple[Turn, ...]  # dst_update and assistant turns, in file order
    is_silent: bool  # nothing is due: no active turn stands here, or within the margin after it
    is_early: bool = False  # `after` was moved here from the next frame: context, neither announced nor learned
    is_done: bool = False  # what stood here was moved to the frame before: silence is due


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a clip that is one sequence in `clip` packing."""

    first_frame: int
    last_frame: int  # inclusive
    state: tuple[State, ...]  # tracked up to the part, one a step: the prompt's Current Progress
    num_tokens: int


@dataclass(slots=True)
class TokenSequence:
    """Parallel lists over T tokens, and the frames whose features replace the <image> tokens, in order."""

    ids: list[int] = field(default_factory=list)
    target_kind: list[int] = field(default_factory=list)  # CONTEXT, LM_TARGET, DST_TARGET
    update_labels: list[int] = field(default_factory=list)  # IGNORE, 0, 1
    speak_labels: list[int] = field(default_factory=list)
    is_start_update: list[int] = field(default_factory=list)  # 1 at the targets of a dst_update that starts a step
    at_frame: list[int] = field(default_factory=list)  # 1 at the last token of a frame block
    silent_frame: list[int] = field(default_factory=list)  # at a silent frame's decision: its index; else -1
    frames: list[int] = field(default_factory=list)  # indices into the Arrow file

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, block: Block) -> None:
        """Append a block of context: no target, no decision."""
        self.ids += block.ids
        self.target_kind += [CONTEXT] * len(block.ids)
        self.update_labels += [IGNORE] * len(block.ids)
        self.speak_labels += [IGNORE] * len(block.ids)
        self.is_start_update += [0] * len(block.ids)
        self.at_frame += [0] * len(block.ids)
        self.silent_frame += [-1] * len(block.ids)

    def add_frame(self, block: Block, frame: int) -> None:
        self.add(block)
        self.at_frame[-1] = 1
        self.frames.append(frame)

    def add_target(self, block: Block, turn: Turn) -> None:
        """Append an active turn's block: its text and <end_of_utterance> are learned."""
        first, end = len(self) + block.target_start, len(self) + block.target_end
        self.add(block)
        kind = DST_TARGET if turn.role == "dst_update" else LM_TARGET
        self.target_kind[first:end] = [kind] * (end - first)
        if kind == DST_TARGET:
            is_start = any(update.transition == "start" for update in parse_updates(turn.text))
            self.is_start_update[first:end] = [int(is_start)] * (end - first)

    def decide(self, decision: Decision, silent_frame: int = -1) -> None:
        """Label the last token: what comes next."""
        self.update_labels[-1], self.speak_labels[-1] = decision
        self.silent_frame[-1] = silent_frame

    def drop_decisions(self, keep: Callable[[int], bool]) -> None:
        """Sample negatives in `clip` packing: a silent frame that is not kept stays, its decision is not learned."""
        for position, frame in enumerate(self.silent_frame):
            if frame >= 0 and not keep(frame):
                self.update_labels[position] = self.speak_labels[position] = IGNORE


def decision_before(role: Role | None) -> Decision:
    """Give what is to be said where a block of `role` is next; None: a frame, a user turn or the end comes next."""
    return int(role == "dst_update"), int(role == "assistant")


def as_learned(clip: Clip, dst: bool) -> Clip:
    """Give the clip itself; without `dst`, as a model that only speaks sees it: no dst_update turns, and no state in
    the prompt of any part."""
    if dst:
        return clip
    turns = tuple(turn for turn in clip.turns if turn.role != "dst_update")
    untouched: list[State] = ["not_started" for _ in clip.steps]
    return replace(clip, turns=turns, initial_state=tuple(untouched))


def frame_groups(clip: Clip, event_margin: int = 0) -> list[FrameGroup]:
    """Give the clip's frames in order, with the turns that stand at each."""
    before: dict[int, list[Turn]] = {}
    after: dict[int, list[Turn]] = {}
    for turn in clip.turns:
        if turn.end_frame is not None:
            (after if turn.role in ACTIVE_ROLES else before).setdefault(turn.end_frame, []).append(turn)
    unsure = just_before(after, event_margin)
    return [
        FrameGroup(f, tuple(before.get(f, ())), tuple(after.get(f, ())), f not in after and f not in unsure)
        for f in range(clip.start_frame, clip.end_frame + 1)
    ]


def just_before(events: Iterable[int], margin: int) -> set[int]:
    """The frames from which no silence is learned, as an event comes within `margin` frames."""
    return {event - by for event in events for by in range(1, margin + 1)}


def jittered(groups: Sequence[FrameGroup], shift: Callable[[int], int]) -> list[FrameGroup]:
    """Move the active turns of some frames' groups to a neighbour, as a head that fires early or late would.

    A late block is announced and learned where it stands now; its own frame is left without a label. An early one is
    context alone, as nothing shows it yet, and at its own frame silence is learned: it was said already. `shift` gives
    -1, 0 or 1 for a frame. Nothing is moved over a user or system turn, onto another active turn, or out of `groups`.
    """
    moved = list(groups)
    for place, group in enumerate(groups):
        by = shift(group.frame) if group.after else 0
        to = place + by
        if by == 0 or not 0 <= to < len(groups) or moved[to].after or groups[max(place, to)].before:
            continue
        early = by < 0
        moved[place] = replace(group, after=(), is_done=early)
        moved[to] = replace(moved[to], after=group.after, is_silent=False, is_early=early)
    return moved


def turns_before_first_frame(clip: Clip) -> tuple[Turn, ...]:
    """List system turns without a place in the clip, or from before it."""
    return tuple(turn for turn in clip.turns if turn.end_frame is None or turn.end_frame < clip.start_frame)


def cut_parts(tokens: Tokens, clip: Clip, max_seq_len: int, reserve: int) -> list[Part]:
    """Cut as a streamer would, without looking ahead (docs/design.md §5).

    A part ends before frame f when used + K + reserve > max_seq_len; the next starts with a fresh prompt whose Current
    Progress is the state so far.

    Raises:
        ProspectError: a frame's turns exceed the reserve, or a prompt leaves no room for a frame.
    """
    parts: list[Part] = []
    per_frame = len(tokens.frame.ids)
    state = start_state = clip.state
    first = clip.start_frame
    used = _prompt_length(tokens, clip, state)
    used += sum(len(tokens.turn(turn).ids) for turn in turns_before_first_frame(clip))
    for group in frame_groups(clip):
        if used + per_frame + reserve > max_seq_len and group.frame > first:
            parts.append(Part(first, group.frame - 1, tuple(start_state.values()), used))
            first, start_state = group.frame, state
            used = _prompt_length(tokens, clip, state)
        if used + per_frame + reserve > max_seq_len:
            raise ProspectError(
                f"clip {clip.id!r}: the prompt and turns before frame {group.frame} take {used} tokens, a frame "
                f"{per_frame}, the reserve {reserve}: more than data.max_seq_len {max_seq_len}; raise it"
            )
        length = sum(len(tokens.turn(turn).ids) for turn in (*group.before, *group.after))
        if length > reserve:
            raise ProspectError(
                f"clip {clip.id!r} frame {group.frame}: its turns take {length} tokens, more than data.reserve "
                f"{reserve}; raise data.reserve to {length} or more"
            )
        used += per_frame + length
        state = state_after(state, group.after)
    parts.append(Part(first, clip.end_frame, tuple(start_state.values()), used))
    return parts


def state_after(state: dict[str, State], turns: Iterable[Turn]) -> dict[str, State]:
    for turn in turns:
        if turn.role == "dst_update":
            state = apply_updates(state, parse_updates(turn.text))
    return state


def _prompt_length(tokens: Tokens, clip: Clip, state: dict[str, State]) -> int:
    return len(tokens.prompt(prompt_text(clip.steps, state)).ids)


def clip_sequence(
    tokens: Tokens, clip: Clip, part: Part, jitter: Callable[[int], int] | None = None, event_margin: int = 0
) -> TokenSequence:
    """Lay out one part of a clip (`clip` packing), every frame once, every decision labelled (sampling comes after).

    `jitter` moves events, see `jittered`; the last `event_margin` frames before an event have no label. Neither changes
    a length, hence a plan.
    """
    state = dict(zip((step.id for step in clip.steps), part.state, strict=True))
    sequence = TokenSequence()
    sequence.add(tokens.prompt(prompt_text(clip.steps, state)))
    if part.first_frame == clip.start_frame:
        for turn in turns_before_first_frame(clip):
            sequence.add(tokens.turn(turn))
    groups = frame_groups(clip, event_margin)[
        part.first_frame - clip.start_frame : part.last_frame - clip.start_frame + 1
    ]
    for group in jittered(groups, jitter) if jitter else groups:
        for turn in group.before:
            sequence.add(tokens.turn(turn))
        sequence.add_frame(tokens.frame, group.frame)
        if group.after and not group.is_early:
            sequence.decide(decision_before(group.after[0].role))
        elif group.is_silent:
            sequence.decide(SILENT, silent_frame=group.frame)
        elif group.is_done:
            sequence.decide(SILENT)
        for turn, following in zip_longest(group.after, [turn.role for turn in group.after[1:]]):
            if group.is_early:
                sequence.add(tokens.turn(turn))
            else:
                sequence.add_target(tokens.turn(turn), turn)
            sequence.decide(decision_before(following))
    return sequence
