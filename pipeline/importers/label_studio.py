"""Label Studio's JSON export of videos with a timeline (https://labelstud.io) to rows.

A region of TimelineLabels has `ranges` of frames, both ends included, counted from 1, at the rate that the project's
Video tag has (its `frameRate`, which the export does not say: the task's own `fps`, or `--fps`). A region of Labels
over a video or its sound has `start` and `end` in seconds. Its labels are steps. A choice made for a region (Choices
with perRegion) among done, error and undone is its outcome. Other regions (boxes, texts) are left out and counted.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from pipeline.errors import Problem, ProspectError
from pipeline.importers.formats import read_text
from pipeline.importers.outputs import Tally
from pipeline.importers.rows import MOST_S, OUTCOMES, Outcome, Row

UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file


class _Range(BaseModel):
    start: float = Field(ge=0, le=1e9, allow_inf_nan=False)
    end: float = Field(ge=0, le=1e9, allow_inf_nan=False)


class _Value(BaseModel):
    ranges: list[_Range] = []
    start: float | None = Field(default=None, ge=0, le=MOST_S, allow_inf_nan=False)
    end: float | None = Field(default=None, ge=0, le=MOST_S, allow_inf_nan=False)
    timelinelabels: list[str] = []
    labels: list[str] = []
    choices: list[str] = []


class _Result(BaseModel):
    id: str = ""
    type: str = ""
    value: _Value = _Value()


class _Annotation(BaseModel):
    result: list[_Result] = []
    was_cancelled: bool = False


class _Task(BaseModel):
    data: dict[str, Any]
    annotations: list[_Annotation]


def read_label_studio(
    file: Path,
    split: Callable[[], str],
    dataset: str,
    fps: float | None,
    tally: Tally,
    problems: list[Problem],
) -> list[Row]:
    """Read an export's rows; what is wrong with them goes to `problems`.

    Raises:
        ProspectError: it is no such export.
    """
    rows: list[Row] = []
    for number, raw in enumerate(_tasks(file)):
        where = f"task {number}"
        try:
            task = _Task.model_validate(raw)
        except ValidationError as error:
            for detail in error.errors():
                field = ".".join(map(str, detail["loc"])) or "task"
                found = "nothing" if detail["type"] == "missing" else repr(detail["input"])[:80]
                problems.append(Problem(file.name, where, "", field, found, detail["msg"]))
            continue
        video = _video_of(task)
        if not video:
            expected = "a video's address, as `video` or as the only text"
            problems.append(Problem(file.name, where, "", "data", ", ".join(task.data) or "nothing", expected))
            continue
        done = [annotation for annotation in task.annotations if not annotation.was_cancelled]
        for _ in done[1:]:
            tally.leave_out("further annotations of a video, left out (the first was read)", video)
        if not done:
            tally.leave_out("videos without an annotation, left out", video)
        rate = task.data.get("fps", fps)
        for annotation in done[:1]:
            rows += _rows(
                file.name, f"{where} (video {video!r})", video, split(), dataset, annotation, rate, tally, problems
            )
    return rows


def _tasks(file: Path) -> list[Any]:
    try:
        value = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise ProspectError(f"{file}: not valid JSON ({error}), expected Label Studio's export") from None
    tasks = value if isinstance(value, list) else [value]
    if not tasks or not all(isinstance(task, dict) and {"data", "annotations"} <= task.keys() for task in tasks):
        raise ProspectError(
            f"{file}: found no tasks with `data` and `annotations`, expected Label Studio's export as JSON (not "
            "JSON-MIN), or a table as .csv, .tsv or .jsonl"
        )
    return tasks


def _video_of(task: _Task) -> str | None:
    """Name of a task's video, without folder, ending and Label Studio's mark of an upload."""
    texts = [value for value in task.data.values() if isinstance(value, str) and value.strip()]
    address = task.data.get("video", texts[0] if len(texts) == 1 else None)
    if not isinstance(address, str) or not address.isprintable():
        return None
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/video.mp4
    path = PurePosixPath(local[0] if local else unquote(parts.path))
    return UPLOAD.sub("", path.stem, count=1) if "/upload/" in address else path.stem


def _rows(
    file: str,
    where: str,
    video: str,
    split: str,
    dataset: str,
    annotation: _Annotation,
    fps: object,
    tally: Tally,
    problems: list[Problem],
) -> Iterator[Row]:
    outcomes = _outcomes(annotation)
    for number, result in enumerate(annotation.result):
        names = result.value.timelinelabels or result.value.labels
        spans = list(_spans(result, fps))
        place = f"{where} result {number}"
        if result.type == "choices" and result.id in outcomes:
            continue
        if not names or not (spans or result.value.ranges):
            tally.counts[f"regions of type {result.type or 'unknown'} without steps and times, left out"] += 1
            continue
        if not spans:
            found = "none" if fps is None else repr(fps)
            problems.append(Problem(file, place, "", "fps", found, "the videos' frames a second: pass --fps"))
            return
        for start_s, end_s in spans:
            if end_s < start_s:
                problems.append(Problem(file, place, "", "end", str(end_s), f"at least its start, {start_s}"))
                continue
            for name in filter(None, (" ".join(name.split()) for name in names)):
                yield Row(file, place, video, split, dataset, name, start_s, end_s, outcomes.get(result.id, "done"))


def _spans(result: _Result, fps: object) -> Iterator[tuple[float, float]]:
    value = result.value
    if value.start is not None and value.end is not None:
        yield value.start, value.end
    if isinstance(fps, int | float) and 0 < fps <= 1000:
        for part in value.ranges:
            yield max(part.start - 1, 0) / fps, max(part.end - 1, 0) / fps


def _outcomes(annotation: _Annotation) -> Mapping[str, Outcome]:
    """Region -> its outcome, where one was chosen."""
    chosen = {
        result.id: choice.strip().lower()
        for result in annotation.result
        if result.type == "choices"
        for choice in result.value.choices
    }
    return {region: name for region, choice in chosen.items() for name in OUTCOMES if name == choice}
