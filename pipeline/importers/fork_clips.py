"""The annotation author's files as they are: clips in each form, and those of older files made alike.

Older files have a record a video with `conversations`, a tree of steps (`step_id`, `timestamps`) as `dst`, and turns
with a `type` in place of a role.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)  # fmt: skip

from pipeline.annotations.records import report_errors
from pipeline.annotations.report import Report
from pipeline.errors import Problem
from pipeline.importers.formats import HALF_PAIR, has_half_pair
from pipeline.spans.records import Seconds


class _Raw(BaseModel):
    model_config = ConfigDict(extra="allow")


def _time(name: str) -> Any:
    return Field(default=None, validation_alias=AliasChoices(name, AliasPath("timestamps", name)))


class ForkStep(_Raw):
    """A step; of older files, in which `dst` is a tree, with other names."""

    id: StrictStr = Field(validation_alias=AliasChoices("id", "step_id"))
    name: StrictStr = Field(pattern=r"\S")
    start_ts: Seconds | None = _time("start_ts")
    end_ts: Seconds | None = _time("end_ts")


class ForkUpdate(_Raw):
    id: StrictStr
    transition: Literal["start", "complete"]


class ForkTurn(_Raw):
    role: StrictStr = Field(validation_alias=AliasChoices("role", "type"))
    content: list[ForkUpdate] | StrictStr
    time: Seconds | None = None


class ForkEvent(_Raw):
    frame_idx: StrictInt = Field(ge=0)
    dst_updates: list[StrictStr] = []
    response: StrictStr | None = None


class ForkClip(_Raw):
    video_uid: StrictStr = Field(pattern=r"\S")
    clip_idx: StrictInt = 0
    dst: list[ForkStep] = Field(min_length=1)
    conversation: list[ForkTurn] | None = None
    events: list[ForkEvent] | None = None
    initial_dst_state: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    fps: float = Field(default=2, gt=0, le=1000)  # the rate of its configs
    quality: Any = None
    inferred_goal: StrictStr = ""

    @field_validator("dst", mode="before")
    @classmethod
    def _steps_of_a_tree(cls, value: Any) -> Any:
        return value["steps"] if isinstance(value, dict) and "steps" in value else value


def clips_of(raw: Any) -> list[Any]:
    """Give a clip a conversation, where a record is a video's, as in older files; else the record."""
    conversations = raw.get("conversations") if isinstance(raw, dict) else None
    if not isinstance(conversations, list) or not all(isinstance(part, dict) for part in conversations):
        return [raw]
    return [
        {**raw, "conversation": part.get("conversation"), "metadata": {"user_type": part.get("user_type", "")}}
        for part in conversations
    ]


def checked_clip(file: Path, number: int, raw: Any, problems: list[Problem]) -> ForkClip | None:
    """Give a clip of the right shape, or None with its mistakes in `problems`."""
    if not isinstance(raw, dict):
        problems.append(Problem(file.name, f"clip {number}", "", "clip", type(raw).__name__, "a JSON object"))
        return None
    if has_half_pair(raw):
        problems.append(Problem(file.name, f"clip {number}", "", "clip", HALF_PAIR, "text"))
        return None
    where = f"clip {number} (video_uid {raw.get('video_uid')!r})"
    try:
        clip = ForkClip.model_validate(raw)
    except ValidationError as error:
        report = Report(file.name, where)
        report_errors(error, report)
        problems += report.problems
        return None
    if clip.conversation is None and clip.events is None:
        problems.append(Problem(file.name, where, "", "conversation, events", "neither", "turns, or events at frames"))
        return None
    return clip
