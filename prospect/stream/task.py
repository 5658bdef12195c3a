"""The task of a stream: its steps and their states, and the turns that are known beforehand."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pipeline.annotations.clips import Clip, Step, Turn
from pipeline.annotations.dst import STEP_ID, State
from pipeline.annotations.json_files import read_raw_clips
from pipeline.annotations.validate import check_clip
from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.io.frame_store import open_named, search_roots
from pipeline.io.records import read_whole, shown
from pipeline.io.yaml_text import read_yaml
from prospect.carried import state_after

MOST_BYTES = 256 << 10  # of a list of steps: more than any window holds
ONE_LINE = re.compile(r"[^\r\n]+")  # a step's name, as in annotations


@dataclass(frozen=True, slots=True)
class Task:
    """What is being done: steps with their states at the beginning, and turns at known frames."""

    steps: tuple[Step, ...] = ()
    state: dict[str, State] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()  # system and user turns
    first_frame: int = 0
    last_frame: int | None = None  # inclusive; None: to the source's end
    fps: float | None = None  # of the clip; None: of any other task
    files: tuple[Path, ...] = ()  # that it was read from
    goal: str = ""
    progress: str = ""  # annotated summary of what was done before; "": none


def task_of(steps: Path | None, clip: str | None, start: int | None, end: int | None, goal: str | None = None) -> Task:
    """Give the task that the options name; `start` and `end` (inclusive) outdo the clip's frames.

    A start inside a clip has the state after the updates before it, and of the user lines those at or after it.

    Raises:
        ProspectError: both or an unreadable one, or no frame left.
    """
    if steps and clip:
        raise ProspectError("--steps and --clip: pass one of them; a clip has steps of its own")
    task = task_of_steps(steps) if steps else task_of_clip(clip, start) if clip else Task()
    first = task.first_frame if start is None else start
    last = task.last_frame if end is None else end
    if last is not None and last < first:
        raise ProspectError(f"--start {first} --end {last}: found no frame between them, expected start <= end")
    files = (steps,) if steps else (Path(clip.partition("#")[0]),) if clip else ()
    return replace(
        task, first_frame=first, last_frame=last, files=files, goal=task.goal if goal is None else goal.strip()
    )


def task_of_steps(path: Path) -> Task:
    """Read a task that has not begun, from a list of `{id, name}` (.json, .yaml) or of lines `S1: name`.

    Raises:
        ProspectError: not such a file, an id twice, or a name of several lines.
    """
    try:
        text = read_whole(path, "name another with --steps", MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProspectError(f"{path}: cannot be read ({error}), expected a list of id and name") from None
    return steps_in(text, path.suffix, str(path))


def steps_in(text: str, suffix: str = "", where: str = "the steps") -> Task:
    """Read a task from the text of such a file.

    Args:
        suffix: of the file's name; .json, .yaml and .yml are such, anything else has lines.
        where: it stands, for messages.

    Raises:
        ProspectError: as `task_of_steps`.
    """
    try:
        if suffix in (".json", ".yaml", ".yml"):
            listed = json.loads(text) if suffix == ".json" else read_yaml(text)
            steps = [(_text(step["id"]), _text(step["name"] or "").strip()) for step in listed]
        else:
            pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
            steps = [(one.strip(), name.strip()) for one, _, name in pairs]
    except ProspectError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ProspectError(f"{where}: cannot be read ({reason}), expected a list of id and name") from None
    ids, times = [one for one, _ in steps], Counter(one for one, _ in steps)
    bad = next(
        (one for one, name in steps if not STEP_ID.fullmatch(one) or not ONE_LINE.fullmatch(name) or times[one] > 1),
        None,
    )
    if bad is not None or not steps:
        raise ProspectError(
            f"{where}: found step {shown(bad)}, expected unique ids with names of one line, such as `S1: Attach the "
            "wheel`"
        )
    return Task(tuple(Step(*step) for step in steps), dict.fromkeys(ids, "not_started"))


def _text(value: object) -> str:
    """A text, or a number as it is written; of nothing else is one made."""
    if not isinstance(value, str | int | float):
        raise TypeError(f"found {shown(value)}, expected text")
    return str(value)


def task_of_clip(place: str, start: int | None = None) -> Task:
    """Read the task, user lines and frames of an annotated clip: FILE, or FILE#PLACE (from 0) or FILE#ID.

    Args:
        start: the first frame, if it is not the clip's.

    Raises:
        ProspectError: no such file or clip, or one with problems.
    """
    name, _, wanted = place.partition("#")
    path = Path(name)
    if not path.is_file():
        raise ProspectError(f"{name}: no such file, expected an annotation file, then #PLACE or #ID of a clip")
    open_frames = partial(open_named, roots=search_roots(None, path.parent.parent, path.parent.name))
    for number, raw in enumerate(read_raw_clips(path)):
        if isinstance(raw, dict):
            clip, problems = check_clip(
                raw, index=number, file=name, dataset=path.parent.name, open_frames=open_frames, look="rows"
            )
        else:
            clip, problems = None, [Problem(name, f"clip {number}", "", "clip", type(raw).__name__, "a JSON object")]
        if clip and wanted in ("", str(number), clip.id):
            return _task(clip, clip.start_frame if start is None else start)
        if not clip and wanted in ("", str(number)):
            raise InvalidInput(problems, "correct the clip, or name another with #PLACE or #ID")
    raise ProspectError(f"{name}: found no clip {wanted!r}, expected its place (from 0) or its id")


def _task(clip: Clip, first: int) -> Task:
    before = [turn for turn in clip.turns if turn.end_frame is not None and turn.end_frame < first]
    turns = [turn for turn in clip.turns if turn.role == "system" or (turn.role == "user" and turn not in before)]
    told = [progress.text for progress in clip.progress if progress.frame < first]
    return Task(
        clip.steps,
        state_after(clip.state, before),
        tuple(turns),
        first,
        clip.end_frame,
        clip.fps,
        goal=clip.goal,
        progress=told[-1] if told else "",
    )
