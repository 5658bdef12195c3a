"""One frame in, decisions and texts out: the model live, on the ids that it was trained on (docs/design.md §5, §9).

At a frame: start over if the context is full; the user and system lines that came with the frame; the frame; then
decide, write, decide again, until neither head fires or `max_actions` blocks are written. The update goes first where
both fire. Texts of one frame never take more than the reserve, and no summary does, for which as much again is kept
free, so the context never outgrows max_seq_len, and memory and time a frame are bounded for a stream of any length.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from pipeline.annotations.clips import Step, Turn, task_prompt
from pipeline.annotations.dst import FORWARD, State, Transition, format_state, parse_updates, state_in_words
from pipeline.errors import ProspectError
from prospect.carried import Knowledge, Memory, kept_free
from prospect.layout import Tokens
from prospect.model.constrain import UpdateConstraint
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.moved import Mover
from prospect.model.steps import Steps, StreamCache, alone
from prospect.model.writing import Generated, write_text, write_update
from prospect.stream.context import Context, Policy
from prospect.stream.records import Action, FrameRecord, tracked
from prospect.stream.restraint import Restraint

ActiveRole = Literal["dst_update", "assistant"]
ROLES: tuple[ActiveRole, ...] = ("dst_update", "assistant")


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a stream is run. `max_seq_len` and `reserve` are those of training, or the model meets other contexts."""

    max_seq_len: int = 4096  # tokens
    reserve: int = 256  # tokens kept free for the turns of one frame
    update_threshold: float = 0.5  # a head fires at this probability or more
    speak_threshold: float = 0.5
    context: Policy = "state_carry"
    max_actions: int = 4  # blocks written at one frame
    max_new_tokens: int = 128  # of an utterance
    least_gap_s: float = 0.0  # seconds between the frames of two utterances
    no_repeat: int = 0  # an utterance equal to one of the last so many is not said
    legal: bool = True  # only transitions that are legal in the tracked state
    memory: Memory = "dst"  # what the model learned to carry; without dst it only speaks
    knowledge: Knowledge = "steps"  # what it is told of the task


class Streamer:
    """A stream through one model; `start` begins another.

    `start` and `step` run at once. `starting` and `stepping` are the same as steps, for whoever runs several streams.
    """

    def __init__(
        self,
        model: DSTSmolVLM,
        tokenizer: Any,
        tokens: Tokens,
        settings: StreamSettings,
        transitions: Sequence[Transition] = FORWARD,
    ) -> None:
        """`transitions`: those that the model was trained on, and may write.

        Raises:
            ProspectError: the context is to slide, and the keys of this model cannot be moved.
        """
        self.model, self.tokenizer, self.tokens, self.settings = model, tokenizer, tokens, settings
        self.transitions = tuple(transitions)
        self._new_cache: Callable[[], StreamCache] = model.new_cache
        self._clock: Callable[[], float] = time.perf_counter
        self._mover = Mover(model.model.text_model) if settings.context == "slide" else None

    def beside(self, new_cache: Callable[[], StreamCache], clock: Callable[[], float]) -> "Streamer":
        """Give another stream of the same settings, not begun, with a cache and time (in seconds) of its own."""
        other = copy.copy(self)
        other._new_cache, other._clock = new_cache, clock
        return other

    def start(
        self,
        steps: Sequence[Step],
        state: dict[str, State],
        turns: Sequence[Turn] = (),
        *,
        fps: float,
        goal: str = "",
        progress: str = "",
    ) -> None:
        """Begin a stream: the steps of the task, their states, and system turns from before the first frame.

        What the model was not trained to be told is left out.

        Args:
            fps: frames a second, by which `least_gap_s` is counted.
            goal: of the task.
            progress: summary of what was done before; "": the states, in words.
        """
        alone(self.model, self.starting(steps, state, turns, fps=fps, goal=goal, progress=progress))

    def starting(
        self,
        steps: Sequence[Step],
        state: dict[str, State],
        turns: Sequence[Turn] = (),
        *,
        fps: float,
        goal: str = "",
        progress: str = "",
    ) -> Steps[None]:
        """`start`, as steps."""
        settings, self.steps = self.settings, tuple(steps)
        self._restraint = Restraint(settings.least_gap_s, settings.no_repeat, fps)
        self.state: dict[str, State] = dict(state) if settings.memory == "dst" else dict.fromkeys(state, "not_started")
        self._is_first = True  # no frame yet
        self._is_corrected = False  # since the last frame
        shown = self.steps if settings.knowledge == "steps" else ()
        told = goal if settings.knowledge == "goal" else ""
        if settings.memory == "summary":
            first = progress or state_in_words({step.id: step.name for step in steps}, state)
        else:
            first = self._told_state()
        self._first_progress = first
        self._context = Context(
            self._new_cache,
            self.tokens,
            lambda progress: task_prompt(shown, progress, told),
            first,
            turns,
            settings.context,
            settings.max_seq_len,
            self._mover,
        )
        yield from self._context.run()

    def correct(self, step: str, state: State) -> None:
        """Take a person's word for the state of a step.

        The context has what led to the other state: before the next frame it starts over from a fresh prompt with the
        corrected one, as training parts begin (a restart, as where it is full), and loses the frames seen until then.

        Raises:
            ProspectError: there is no such step, or the model tracks no state.
        """
        if self.settings.memory != "dst":
            raise ProspectError("this checkpoint tracks no state, so there is none to correct: it only speaks")
        if step not in self.state:
            raise ProspectError(f"step {step!r}: found no such step, expected one of {', '.join(self.state) or 'none'}")
        self.state = {**self.state, step: state}
        self._is_corrected = True

    def step(
        self,
        frame: int,
        features: Tensor,
        lines: Sequence[Turn] = (),
        forced: Sequence[Turn] = (),
        free: Sequence[ActiveRole] = ROLES,
        summary: str = "",
    ) -> FrameRecord:
        """Take one frame.

        Args:
            frame: its number, for the record.
            features: (K, D), of `DSTSmolVLM.encode_frames`; (0, D) shows no frame at all.
            lines: user and system turns that came with the frame.
            forced: dst_update and assistant turns to write, whatever the heads say, before the model is free.
            free: which of the heads may call for a block after these.
            summary: to write where the context is full; "": the model's own.

        Raises:
            ProspectError: lines and forced blocks take more than the reserve (nothing has changed then: the frame may
                be given again with fewer), or what stands before the frame leaves no room for it.
        """
        return alone(self.model, self.stepping(frame, features, lines, forced, free, summary))

    def stepping(
        self,
        frame: int,
        features: Tensor,
        lines: Sequence[Turn] = (),
        forced: Sequence[Turn] = (),
        free: Sequence[ActiveRole] = ROLES,
        summary: str = "",
    ) -> Steps[FrameRecord]:
        """`step`, as steps."""
        began = self._clock()
        context, settings = self._context, self.settings
        frame_ids = self.tokens.frame.ids if len(features) else []
        blocks, budget = self._heard(frame, lines, forced)
        is_restart, written_summary = yield from self._make_room(frame, summary)
        context.next_frame(self._told_state())
        for ids, is_user_line in blocks:
            context.append(ids, is_user_line=is_user_line)
        if frame_ids:
            context.append(frame_ids, features)
        first = decision = yield from context.decide()
        actions: list[Action] = []
        for turn in forced:
            assert turn.role == "dst_update" or turn.role == "assistant"
            context.append(self.tokens.turn(turn).ids)
            actions.append(Action(turn.role, turn.text, *decision))
            self._track(frame, actions[-1])
            decision = yield from context.decide()
        while len(actions) < settings.max_actions and (
            written := (yield from self._write(frame, decision, free, budget))
        ):
            role, generated = written
            context.written(generated)
            budget -= len(generated.ids)
            actions.append(Action(role, generated.text, *decision))
            self._track(frame, actions[-1])
            decision = yield from context.decide()
        return FrameRecord(
            frame=frame,
            p_update=first[0],
            p_speak=first[1],
            actions=tuple(actions),
            p_update_last=decision[0],
            p_speak_last=decision[1],
            context_tokens=context.used,
            computed_tokens=context.take_computed(),
            is_restart=is_restart,
            seconds=self._clock() - began,
            summary=written_summary,
        )

    def length(self, turn: Turn) -> int:
        """Count the tokens of a turn's block; those of one frame may take `settings.reserve` together."""
        return len(self.tokens.turn(turn).ids)

    def _heard(
        self, frame: int, lines: Sequence[Turn], forced: Sequence[Turn]
    ) -> tuple[list[tuple[list[int], bool]], int]:
        """The ids of each line, with whether a user said it; how much of the reserve is left to the model, in tokens,
        once the forced blocks stand there too."""
        blocks = [(self.tokens.turn(line).ids, line.role == "user") for line in lines]
        reserve = self.settings.reserve
        budget = reserve - sum(len(ids) for ids, _ in blocks) - sum(map(self.length, forced))
        if budget < 0:
            what = "its user and system lines and the blocks to write" if forced else "its user and system lines"
            raise ProspectError(
                f"frame {frame}: {what} take {reserve - budget} tokens, more than the reserve of {reserve}; give some "
                "of them with the next frames, shorten them, or train with a larger data.reserve"
            )
        return blocks, budget

    def _make_room(self, frame: int, summary: str) -> Steps[tuple[bool, str | None]]:
        """Start the context over where it is full, or a person knew better; whether it was, and the summary that was
        written."""
        context, settings = self._context, self.settings
        per_frame, free = len(self.tokens.frame.ids), kept_free(settings.memory, settings.reserve)
        room = settings.max_seq_len - free - per_frame
        is_restart = self._is_corrected or (context.used > room and not self._is_first)
        written = None
        if self._is_corrected:
            context.begin_again(self._told_state())
        elif is_restart:
            if settings.memory == "summary" and settings.context == "state_carry":
                written = yield from self._summarize(summary, room)
            yield from context.restart(self._told_state() if written is None else written, room)
        if context.used > room:
            before = "the prompt and turns before it take" if self._is_first else "the prompt alone takes"
            raise ProspectError(
                f"frame {frame}: {before} {context.used} tokens, a frame {per_frame}, the reserve {free}: more than "
                f"max_seq_len {settings.max_seq_len}; raise it"
            )
        self._is_first = self._is_corrected = False
        return is_restart, written

    def _summarize(self, text: str, room: int) -> Steps[str]:
        """Write `text`, or else the model's own summary, into the context that is full; give it, cut where the next
        prompt with it would take more than `room` tokens."""
        context, tokens = self._context, self.tokens
        if text:
            context.append(tokens.summary(text).ids)
            yield from context.run()
        else:
            header = tokens.summary_header
            most = max(self.settings.reserve - len(tokens.closed(header, [])), 0)
            written = yield from write_text(self.model, context.cache, tokens, self.tokenizer, header, most)
            context.written(written)
            text = written.text.strip()
        while text and context.prompt_length(text) > room:
            text = text[: len(text) * 3 // 4].strip()
        return text

    def _told_state(self) -> str:
        """The tracked state as the prompt tells it; of a model that writes summaries, what its stream began with."""
        if self.settings.memory == "summary":
            return self._first_progress
        return format_state((step.id for step in self.steps), self.state, touched_only=True)

    def _write(
        self, frame: int, decision: tuple[float, float], free: Sequence[ActiveRole], budget: int
    ) -> Steps[tuple[ActiveRole, Generated] | None]:
        """The block that a decision calls for, written into the cache, within `budget` tokens; None: silence."""
        settings, cache = self.settings, self._context.cache
        if settings.memory == "dst" and "dst_update" in free and decision[0] >= settings.update_threshold:
            constraint = UpdateConstraint(
                self.tokens.encode,
                self.tokens.end_of_utterance,
                [step.id for step in self.steps],
                self.state,
                settings.legal,
                budget - len(self.tokens.closed(self.tokens.header("dst_update"), [])),
                self.transitions,
            )
            if constraint.possible:
                return "dst_update", (yield from write_update(cache, self.tokens, constraint))
        if "assistant" in free and decision[1] >= settings.speak_threshold and self._restraint.may_speak(frame):
            header = self.tokens.header("assistant")
            room = budget - len(self.tokens.closed(header, []))
            if room > 0:
                most = min(room, settings.max_new_tokens)
                utterance = yield from write_text(self.model, cache, self.tokens, self.tokenizer, header, most)
                if not self._restraint.is_repeat(utterance.text):
                    return "assistant", utterance
                self._context.take_back(utterance)
        return None

    def _track(self, frame: int, action: Action) -> None:
        if action.role == "assistant":
            self._restraint.said(frame, action.text)
        else:
            for update in parse_updates(action.text):
                self.state = tracked(self.state, update)
