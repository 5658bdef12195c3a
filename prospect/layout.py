"""The one token layout (docs/design.md §5): the only place that knows the order of tokens and where labels sit.

A sequence is blocks, each tokenized by itself and concatenated, so that streaming inference, which appends block by
block, meets exactly the training ids. Training (`clip_sequence`, `turn_layout.py`) and streaming (`Tokens`,
`cut_parts`) share everything here.

    prompt | system turns from before the first frame | for each frame: user/system turns, <image> x K, active blocks
    | where summaries are learned and the clip goes on: Progress: {text}

A DECISION POSITION is the last token of a frame block or of a dst_update/assistant block; there the model says, by two
heads or by the logits of three tokens, what block comes next. LM targets are a block's text and <end_of_utterance>, not
its header. A summary is written where the context is full, whatever is decided: no decision announces it, and none
follows.

T tokens of a sequence, K tokens a frame.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import zip_longest
from typing import Any, Literal

from tokenizers import Tokenizer

from pipeline.annotations.clips import ACTIVE_ROLES, Clip, Role, Turn, task_prompt
from pipeline.annotations.dst import State, format_state, parse_updates
from pipeline.errors import ProspectError
from prospect.carried import Memory, kept_free, state_after, summary_before

LAYOUT_VERSION = 2  # part of every plan's fingerprint: raise it when ids, labels or cuts change
IGNORE = -100
CONTEXT, LM_TARGET, DST_TARGET = 0, 1, 2  # values of `target_kind`
HEADERS: dict[Role, str] = {"system": "System:", "user": "User:", "assistant": "Assistant:", "dst_update": "DST:"}
SUMMARY_HEADER = "Progress:"
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
        self.summary_header = self.encode(SUMMARY_HEADER)
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
        return self._target(self._headers[turn.role], self._body(turn))

    def summary(self, text: str) -> Block:
        return self._target(self.summary_header, self.encode(f" {text}"))

    def _target(self, header: list[int], body: list[int]) -> Block:
        ids = self.closed(header, body)
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
    state: tuple[State, ...]  # tracked up to the part, one a step of the prompt: its Current Progress
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

    def add_target(self, block: Block, turn: Turn | None) -> None:
        """Append an active turn's block, or a summary (None): its text and <end_of_utterance> are learned."""
        first, end = len(self) + block.target_start, len(self) + block.target_end
        self.add(block)
        kind = DST_TARGET if turn and turn.role == "dst_update" else LM_TARGET
        self.target_kind[first:end] = [kind] * (end - first)
        if turn and kind == DST_TARGET:
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


def joined(sequences: Iterable[TokenSequence]) -> TokenSequence:
    """Put sequences one after another, with their labels and frames."""
    whole = TokenSequence()
    for sequence in sequences:
        for part in fields(TokenSequence):
            getattr(whole, part.name).extend(getattr(sequence, part.name))
    return whole


def decision_before(role: Role | None) -> Decision:
    """Give what is to be said where a block of `role` is next; None: a frame, a user turn or the end comes next."""
    return int(role == "dst_update"), int(role == "assistant")


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


def cut_parts(tokens: Tokens, clip: Clip, max_seq_len: int, reserve: int, memory: Memory = "dst") -> list[Part]:
    """Cut as a streamer would, without looking ahead (docs/design.md §5).

    A part ends before frame f when used + K + `kept_free` > max_seq_len; the next starts with a fresh prompt whose
    Current Progress is the state so far, or the summary that ended the part.

    Args:
        clip: as learned with `memory`.

    Raises:
        ProspectError: a frame's turns or a summary exceed the reserve, or a prompt leaves no room for a frame.
    """
    parts: list[Part] = []
    per_frame, free = len(tokens.frame.ids), kept_free(memory, reserve)
    state = start_state = clip.state
    first = clip.start_frame
    used = len(_prompt(tokens, clip, first, state).ids)
    used += sum(len(tokens.turn(turn).ids) for turn in turns_before_first_frame(clip))
    for group in frame_groups(clip):
        if used + per_frame + free > max_seq_len and group.frame > first:
            used += _summary_length(tokens, clip, group.frame, reserve) if memory == "summary" else 0
            parts.append(Part(first, group.frame - 1, tuple(start_state.values()), used))
            first, start_state = group.frame, state
            used = len(_prompt(tokens, clip, first, state).ids)
        if used + per_frame + free > max_seq_len:
            raise ProspectError(
                f"clip {clip.id!r}: the prompt and turns before frame {group.frame} take {used} tokens, a frame "
                f"{per_frame}, the reserve {free}: more than data.max_seq_len {max_seq_len}; raise it"
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


def start_prompt(tokens: Tokens, clip: Clip) -> Block:
    """Give the prompt with which a clip, as learned, begins."""
    return _prompt(tokens, clip, clip.start_frame, clip.state)


def _prompt(tokens: Tokens, clip: Clip, frame: int, state: Mapping[str, State]) -> Block:
    """The prompt of the part that begins with `frame`."""
    if not clip.progress:
        progress = format_state(state, state, touched_only=True)
    elif frame == clip.start_frame:
        progress = clip.progress[0].text
    else:
        progress = summary_before(clip, frame)
    return tokens.prompt(task_prompt(clip.steps, progress, clip.goal))


def _summary_length(tokens: Tokens, clip: Clip, frame: int, reserve: int) -> int:
    length = len(tokens.summary(summary_before(clip, frame)).ids)
    if length > reserve:
        raise ProspectError(
            f"clip {clip.id!r}: the summary before frame {frame} takes {length} tokens, more than data.reserve "
            f"{reserve}; raise data.reserve to {length} or more"
        )
    return length


def clip_sequence(
    tokens: Tokens,
    clip: Clip,
    part: Part,
    jitter: Callable[[int], int] | None = None,
    event_margin: int = 0,
    memory: Memory = "dst",
) -> TokenSequence:
    """Lay out one part of a clip (`clip` packing), every frame once, every decision labelled (sampling comes after).

    `jitter` moves events, see `jittered`; the last `event_margin` frames before an event have no label. Neither changes
    a length, hence a plan. The clip is as learned with `memory`.
    """
    state = dict(zip((step.id for step in clip.steps), part.state, strict=True))
    sequence = TokenSequence()
    sequence.add(_prompt(tokens, clip, part.first_frame, state))
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
    if memory == "summary" and part.last_frame < clip.end_frame:
        sequence.add_target(tokens.summary(summary_before(clip, part.last_frame + 1)), None)
    return sequence
