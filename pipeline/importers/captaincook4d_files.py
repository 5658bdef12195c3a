"""CaptainCook4D's files (https://github.com/CaptainCook4D/annotations), read and checked: recordings, recipes, lengths.

A checkout of the repository, or a folder with its files: each is found by its name, wherever it is in there. A task
graph becomes a list of steps; errors are told by another file than the steps' times, which may be absent.
"""

import csv
import heapq
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.spans.records import NamedStep, Seconds

STEPS, ERRORS, LENGTHS = "complete_step_annotations.json", "error_annotations.json", "video_information.csv"

_SECONDS = TypeAdapter[float](Seconds)
Time = Annotated[float, Field(ge=-1, le=1e6, allow_inf_nan=False)]


class Raw(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class RawError(Raw):
    tag: str
    description: str = ""


class RawStep(Raw):
    step_id: int  # of the recipe, or of all recipes: not the task graph's number
    start_time: Time  # seconds; -1: not performed
    end_time: Time
    description: Annotated[str, Field(pattern=r"\S")]  # "Verb-Description"
    has_errors: bool = False
    errors: tuple[RawError, ...] = ()  # in error_annotations.json alone
    modified_description: str | None = None  # likewise: what was done instead


class RawRecording(Raw):
    recording_id: Annotated[str, Field(pattern=r"\S")]
    activity_id: int
    activity_name: str
    person_id: int | None = None
    environment: int | None = None
    steps: tuple[RawStep, ...]


class RawErrors(Raw):
    recording_id: str
    step_annotations: tuple[RawStep, ...]


class RawGraph(Raw):
    steps: dict[int, Annotated[str, Field(pattern=r"\S")]]  # "Verb-Description", START or END
    edges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A task graph, as a list."""

    file: str
    steps: tuple[NamedStep, ...]  # S1, S2, ...: in an order in which they can be done
    nodes: tuple[int, ...]  # the graph's number of each
    places: Mapping[str, tuple[int, ...]]  # description (`description_key`) -> places in `steps`


@dataclass(frozen=True, slots=True)
class Source:
    """All that was read."""

    recordings: Mapping[str, RawRecording]
    recipes: Mapping[str, Recipe]  # by the recipe's name without spaces
    lengths_s: Mapping[str, float]
    flags: Mapping[tuple[str, int, float, float], tuple[str, ...]]  # recording, step_id, start, end -> errors
    known_as: Mapping[
        tuple[int, int], set[str]
    ]  # recipe, step_id -> descriptions (`description_key`) that its graph has


def read_source(source: Path) -> Source:
    """Read all but the splits.

    Raises:
        InvalidInput: a file is not of its form.
        ProspectError: a file is missing, or there twice; a task graph has no order.
    """
    recordings = _read(_find(source, STEPS), TypeAdapter(dict[str, RawRecording]))
    recipes = {path.stem: _recipe(path) for path in sorted(source.rglob("task_graphs/*.json"))}
    has_errors = next(iter(source.rglob(ERRORS)), None)
    annotated = _read(has_errors, TypeAdapter(tuple[RawErrors, ...])) if has_errors else ()
    flags = {
        (entry.recording_id, step.step_id, step.start_time, step.end_time): _flags(step)
        for entry in annotated
        for step in entry.step_annotations
        if step.errors or step.modified_description
    }
    known_as: dict[tuple[int, int], set[str]] = defaultdict(set)
    for recording in recordings.values():
        recipe = recipes.get(plain(recording.activity_name))
        for step in recording.steps:
            if recipe and (key := description_key(step.description)) in recipe.places:
                known_as[recording.activity_id, step.step_id].add(key)
    return Source(recordings, recipes, _lengths(_find(source, LENGTHS)), flags, known_as)


def read_splits(source: Path, name: str) -> dict[str, tuple[str, ...]]:
    """Read the recordings of each split, from data_splits/NAME.json."""
    paths = sorted(path.stem for path in source.rglob("*_data_split_*.json"))
    if name not in paths:
        raise ProspectError(
            f"--splits {name}: found {', '.join(paths) or 'no splits'} in {source}, expected one of these"
        )
    path = _find(source, f"{name}.json")
    splits = _read(path, TypeAdapter(dict[str, tuple[str, ...]]))
    if not any(splits.values()):
        others = ", ".join(other for other in paths if other != name) or "none"
        raise ProspectError(f"{path}: lists no recording; pass --splits with another ({others})")
    return splits


def step_name(description: str) -> str:
    """Give a description ("Verb-Description") as a step's name: the verb before it, unless it has the verb itself."""
    verb, dash, text = (" ".join(part.split()) for part in description.partition("-"))
    if not dash or not verb or not text or re.search(rf"\b{re.escape(verb)}\b", text, re.IGNORECASE):
        return text or verb or description
    return f"{verb} {text}"


def in_order(graph: RawGraph) -> list[int]:
    """Give the graph's steps so that each comes after those that it needs, the lowest number first where several can.

    Raises:
        CycleError: there is no such order.
    """
    sorter = TopologicalSorter[int]({node: () for node in graph.steps})
    for before, after in graph.edges:
        sorter.add(after, before)
    sorter.prepare()
    ready, order = list[int](), list[int]()
    while sorter.is_active():
        for node in sorter.get_ready():
            heapq.heappush(ready, node)
        node = heapq.heappop(ready)
        sorter.done(node)
        order.append(node)
    return [node for node in order if graph.steps.get(node) not in ("START", "END")]


def _flags(step: RawStep) -> tuple[str, ...]:
    flags = [f"{error.tag}: {error.description}" if error.description else error.tag for error in step.errors]
    return (*flags, *([f"as done: {step.modified_description}"] if step.modified_description else []))


def _recipe(path: Path) -> Recipe:
    graph = _read(path, TypeAdapter(RawGraph))
    try:
        nodes = in_order(graph)
    except CycleError as error:
        raise ProspectError(f"{path}: found a circle of steps, {error.args[1]}, expected an order") from None
    unknown = [node for node in nodes if node not in graph.steps]
    if unknown or not nodes:
        raise ProspectError(f"{path}: found edges of {unknown or 'nothing'}, expected steps that `steps` lists")
    places: dict[str, list[int]] = defaultdict(list)
    for place, node in enumerate(nodes):
        places[description_key(graph.steps[node])].append(place)
    return Recipe(
        path.name,
        tuple(NamedStep(id=f"S{n}", name=step_name(graph.steps[node])) for n, node in enumerate(nodes, 1)),
        tuple(nodes),
        {key: tuple(these) for key, these in places.items()},
    )


def _lengths(path: Path) -> dict[str, float]:
    problems: list[Problem] = []
    lengths_s: dict[str, float] = {}
    try:
        for number, row in enumerate(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()), 2):
            try:
                lengths_s[row["recording_id"]] = _SECONDS.validate_python(row["duration(sec)"])
            except (KeyError, ValidationError):
                expected = "columns recording_id and duration(sec), in seconds"
                found = f"{row.get('recording_id')!r}, {row.get('duration(sec)')!r}"
                problems.append(Problem(path.name, f"line {number}", "", "row", found, expected))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ProspectError(f"{path}: cannot be read ({error}), expected comma-separated values") from None
    if problems:
        raise InvalidInput(problems, f"nothing was written: correct {path}")
    return lengths_s


Value = TypeVar("Value")


def _read(path: Path, kind: TypeAdapter[Value]) -> Value:
    try:
        return kind.validate_json(path.read_bytes())
    except ValidationError as error:
        problems = [_problem(path, detail) for detail in error.errors()]
        raise InvalidInput(problems, f"nothing was written: correct {path}") from None


def _problem(path: Path, detail: Any) -> Problem:
    field = ".".join(map(str, detail["loc"])) or "file"
    found = "nothing" if detail["type"] == "missing" else repr(detail["input"])[:80]
    return Problem(path.name, "", "", field, found, detail["msg"])


def _find(source: Path, name: str) -> Path:
    paths = sorted(source.rglob(name))
    if len(paths) != 1:
        raise ProspectError(f"{source}: found {', '.join(map(str, paths)) or 'none'}, expected one file {name}")
    return paths[0]


def plain(name: str) -> str:
    """Give a recipe's name as its task graph's file has it."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def description_key(description: str) -> str:
    """Give what a description is compared by: its case and spaces vary."""
    return " ".join(description.lower().split())
