"""Clips as people write them: the keys that are read, their types, and what is accepted in place of them.

A record with mistakes is still read: each mistake is reported, and its fields stand in with harmless values and are
named as unsound, so that the other checks go on with the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    ValidationError,
    model_validator,
)

from pipeline.annotations.report import UTF8, Report, short

Index = Annotated[StrictInt, Field(le=2**31 - 1)]


def _utf8(text: str) -> str:
    text.encode()  # a UnicodeEncodeError is a ValueError, which pydantic collects
    return text


Text = Annotated[StrictStr, AfterValidator(_utf8)]
Name = Annotated[Text, Field(min_length=1)]


class RawModel(BaseModel):
    """Keys not named are metadata."""

    model_config = ConfigDict(extra="allow", frozen=True)


class RawStep(RawModel):
    STAND_INS: ClassVar = {"id": "", "name": "unsound"}

    id: Text
    name: Annotated[Text, Field(pattern=r"^[^\r\n]*\S[^\r\n]*$")]


class RawUpdate(RawModel):
    id: Text
    transition: Text


class RawTurn(RawModel):
    STAND_INS: ClassVar = {
        "role": "", "content": "", "start_frame": None, "end_frame": None, "dst_state": None, "progress": None,
    }  # fmt: skip

    role: Text
    content: Annotated[
        Annotated[Text, Tag("text")] | Annotated[list[RawUpdate], Tag("updates")],
        Discriminator(lambda value: "updates" if isinstance(value, list) else "text"),
    ]
    start_frame: Index | None = None
    end_frame: Index | None = None
    time: Any = None  # seconds; read where there are no frames, else metadata
    end_time: Any = None
    dst_state: dict[str, Text] | None = None
    progress: Text | None = None  # what was done so far, this turn included, in words


class RawClip(RawModel):
    """A clip as annotated (docs/data-formats.md); its steps and turns are records of their own."""

    STAND_INS: ClassVar = {
        "video_uid": "unsound",
        "clip_idx": 0,
        "id": None,
        "dataset": None,
        "fps": 2,
        "frames_file": None,
        "start_frame_idx": 0,
        "end_frame_idx": 0,
        "dst": [],
        "initial_dst_state": None,
        "initial_progress": None,
        "goal": None,
        "conversation": [],
    }

    video_uid: Name
    clip_idx: Index = Field(default=0, ge=0)
    id: Name | None = None
    dataset: Name | None = None
    fps: StrictInt | StrictFloat = Field(default=2, gt=0, le=1000)
    frames_file: Name | None = None  # None: frames/VIDEO_UID.arrow
    start_frame_idx: Index = Field(default=0, ge=0)
    end_frame_idx: Index | None = Field(default=None, ge=0)  # None: the last row of the frames file
    dst: list[Any] = []
    initial_dst_state: dict[str, Text] | None = None
    initial_progress: Text | None = None
    goal: Text | None = None
    conversation: list[Any]

    @model_validator(mode="before")
    @classmethod
    def _accept_aliases(cls, data: Any) -> Any:
        """Seen in real data: `start_frame`/`end_frame` (exclusive end) on the clip, the state before the clip under
        `metadata`, and the goal under other names."""
        data = dict(data)
        if data.get("start_frame_idx") is None:
            data["start_frame_idx"] = 0 if data.get("start_frame") is None else data["start_frame"]
        if data.get("end_frame_idx") is None:
            end = data.get("end_frame")
            data["end_frame_idx"] = end - 1 if type(end) is int else end
        metadata = data.get("metadata")
        if data.get("initial_dst_state") is None and isinstance(metadata, dict):
            data["initial_dst_state"] = metadata.get("initial_dst_state")
        if data.get("goal") is None:
            of_metadata = metadata.get("task_goal") if isinstance(metadata, dict) else None
            names = [goal for goal in (data.get("inferred_goal"), of_metadata) if isinstance(goal, str)]
            data["goal"] = names[0] if names else None
        return data


Record = TypeVar("Record", RawClip, RawStep, RawTurn)


@dataclass(frozen=True, slots=True)
class Read(Generic[Record]):
    """A record, and which of its fields stand in for unsound ones."""

    record: Record
    unsound: frozenset[str]


def read_record(model: type[Record], raw: Any, report: Report, place: str = "") -> Read[Record]:
    """Check a record's types and keys; mistakes go to `report`, with `place` before their field.

    Args:
        place: of the record in the clip, e.g. "dst.3"; a turn's is the report's.
    """
    if not isinstance(raw, dict):
        report.add(place or "turn", short(raw), "an object")
        return Read(model.model_validate(model.STAND_INS), frozenset(model.STAND_INS))
    try:
        return Read(model.model_validate(raw), frozenset())
    except ValidationError as error:
        report_errors(error, report, place)
        unsound = frozenset(str(detail["loc"][0]) for detail in error.errors())
    return Read(model.model_validate(raw | {name: model.STAND_INS[name] for name in unsound}), unsound)


def report_errors(error: ValidationError, report: Report, place: str = "") -> None:
    """Add what pydantic found, in the words of this program."""
    for detail in error.errors():
        parts = [str(part) for part in detail["loc"] if part not in ("text", "updates")]
        field = ".".join([place, *parts] if place else parts)
        cause = detail.get("ctx", {}).get("error")
        if detail["type"] == "missing":
            report.add(field, "nothing", "this key")
        elif detail["type"] == "string_unicode" or isinstance(cause, UnicodeEncodeError):
            report.add(field, short(detail["input"]), UTF8)
        else:
            report.add(field, short(detail["input"]), detail["msg"][:1].lower() + detail["msg"][1:])


def clip_label(raw: Mapping[str, Any], index: int, kind: str = "clip") -> str:
    """Name a clip (or dialogue) in messages: its place in the file, and what it says it is."""
    return f"{kind} {index} (video_uid {short(raw.get('video_uid'), 200)}, clip_idx {short(raw.get('clip_idx', 0))})"


def updates_of(content: str) -> list[RawUpdate]:
    """Read an update text, "S1->complete, S2->start"; what is no transition is left to the checks."""
    pieces = [piece.strip().rpartition("->") for piece in content.split(",")]
    return [RawUpdate(id=step.strip(), transition=name.strip()) for step, _, name in pieces]
