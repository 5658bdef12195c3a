"""What a sample's JSON has to be before anything is made of it: types, ranges inside the clip, texts that parse.

A shard may come from anywhere, and a sample is used far from where it was read: its frames are counted out, its updates
are replayed, its states are looked up. What only says the same a second time (labels, prompt, states) is left to
`verify.py` and the auditor.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, StrictFloat, StrictInt, StrictStr, ValidationError, model_validator

from pipeline.annotations.clips import MAX_CLIP_FRAMES, Role
from pipeline.annotations.dst import STEP_ID, State, apply_updates, parse_updates
from pipeline.errors import ProspectError
from pipeline.shards.checks import Count, Frame, Mismatch, Record, Text, refusal

StepState = tuple[StrictStr, State]


class ClipRecord(Record):
    id: Text
    dataset: Text
    video_uid: Text
    clip_idx: Frame
    fps: Annotated[StrictInt | StrictFloat, Field(gt=0, le=1000)]
    start_frame: Frame
    end_frame: Frame
    goal: StrictStr
    num_samples: Annotated[Count, Field(ge=1)]


class TurnRecord(Record):
    role: Role
    text: StrictStr
    start_frame: Annotated[StrictInt, Field(le=2**31 - 1)] | None
    end_frame: Annotated[StrictInt, Field(le=2**31 - 1)] | None


class TargetRecord(Record):
    role: Literal["dst_update", "assistant"]
    text: StrictStr
    start_frame: Frame  # of the turn's range, of which the sample holds the last frames


class FramesRecord(Record):
    file: Text
    indices: list[StrictInt]


class SampleRecord(Record):
    """A sample's JSON member (shards/README.md); the order of its own checks is that of the fields."""

    clip: ClipRecord
    sample_idx: Count
    kind: Literal["dst_update", "assistant", "silent"]
    start_frame: Frame
    end_frame: Frame
    steps: list[tuple[StrictStr, StrictStr]]
    initial_state: list[StepState]
    dst_state: list[StepState]
    history: list[TurnRecord]
    target: TargetRecord | None
    next: Literal["dst_update", "assistant", "user", "system", "silent", "end"]
    trailing: list[TurnRecord]
    progress: list[tuple[StrictInt, Text]]
    frames: FramesRecord

    @model_validator(mode="after")
    def _agrees(self) -> "SampleRecord":
        self._check_frames()
        self._check_turns()
        self._check_progress()
        self._check_states()
        return self

    def _check_frames(self) -> None:
        clip = self.clip
        if not clip.start_frame <= clip.end_frame < clip.start_frame + MAX_CLIP_FRAMES:
            expected = f"{clip.start_frame} or later, by less than {MAX_CLIP_FRAMES}"
            raise Mismatch("clip.end_frame", clip.end_frame, expected)
        if self.sample_idx >= clip.num_samples:
            raise Mismatch("sample_idx", self.sample_idx, f"less than clip.num_samples, {clip.num_samples}")
        if not clip.start_frame <= self.start_frame <= self.end_frame <= clip.end_frame:
            found = f"{self.start_frame}..{self.end_frame}"
            raise Mismatch("start_frame, end_frame", found, f"frames of the clip, {clip.start_frame}..{clip.end_frame}")
        if self.target and not clip.start_frame <= self.target.start_frame <= self.start_frame:
            expected = f"{clip.start_frame}..{self.start_frame}, the clip's first frame to the sample's"
            raise Mismatch("target.start_frame", self.target.start_frame, expected)
        count = self.end_frame - self.start_frame + 1
        if len(self.frames.indices) != count:  # so that memory follows what is there, not what is claimed
            raise Mismatch("frames.indices", f"{len(self.frames.indices)} of them", f"{count}, one a frame")

    def _check_turns(self) -> None:
        if (self.target and self.target.role) != (None if self.kind == "silent" else self.kind):
            raise Mismatch("target.role", self.target and self.target.role, f"that of a sample of kind {self.kind}")
        for name, turns in (("history", self.history), ("trailing", self.trailing)):
            for place, turn in enumerate(turns):
                start, end, clip = turn.start_frame, turn.end_frame, self.clip
                if turn.role == "system" and start is None and end is None:
                    continue
                inside = start is not None and end is not None and start <= end
                if turn.role != "system":
                    inside = inside and clip.start_frame <= (start or 0) and (end or 0) <= clip.end_frame
                if not inside:
                    raise Mismatch(f"{name}.{place}.start_frame, end_frame", f"{start}..{end}", "frames of the clip")

    def _check_progress(self) -> None:
        at = [frame for frame, _ in self.progress]
        if at != sorted(at) or any(not self.clip.start_frame - 1 <= frame <= self.clip.end_frame for frame in at):
            raise Mismatch("progress", str(at[:9]), "frames of the clip, or the one before it, in their order")

    def _check_states(self) -> None:
        """States are those of the steps, and the updates can be replayed from them."""
        ids = [step for step, _ in self.steps]
        if len(set(ids)) != len(ids) or not all(map(STEP_ID.fullmatch, ids)):
            raise Mismatch("steps", ", ".join(ids), "ids of letters, digits, '_', '.' or '-', each once")
        for name, states in (("initial_state", self.initial_state), ("dst_state", self.dst_state)):
            if [step for step, _ in states] != ids:
                raise Mismatch(name, ", ".join(step for step, _ in states), f"the steps, {', '.join(ids)}")
        state = dict(self.initial_state)
        turns = [*self.history, *((self.target,) if self.target else ())]
        for place, turn in enumerate(turns):
            if turn.role == "dst_update":
                field = f"history.{place}.text" if place < len(self.history) else "target.text"
                try:
                    state = apply_updates(state, parse_updates(turn.text))
                except ValueError as error:
                    raise Mismatch(field, turn.text, f"updates that can be replayed ({error})") from None


def check_sample(record: Any, format: str, where: str) -> None:
    """Check the parsed JSON of a sample; `where` (shard and key) goes into the error.

    Raises:
        ProspectError: it is of another format, or not what a sample is.
    """
    if not isinstance(record, dict) or record.get("format") != format:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise ProspectError(
            f"{where}: format: found {found!a:.80}, expected {format!r}; build the shards again: prospect build-shards "
            "--force"
        )
    try:
        SampleRecord.model_validate(record)
    except ValidationError as error:
        raise refusal(where, error) from None
