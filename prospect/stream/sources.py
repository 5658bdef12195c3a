"""Where a stream's frames, task and user lines come from.

Frames are JPEG or PNG bytes, as frames files hold them: a video is read by the importer that makes frames files, so
that the model meets the pixels that it was trained on.
"""

import io
import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeVar

import yaml

from pipeline.clips import Clip, Step, Turn, read_raw_clips
from pipeline.dst import STEP_ID, State
from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.frame_store import open_frames
from pipeline.importers.video import Settings, jpegs_of
from pipeline.validate import check_clip
from prospect.layout import state_after

Item = TypeVar("Item")
IMAGES = (".jpg", ".jpeg", ".png")
ONE_LINE = re.compile(r"[^\r\n]+")  # a step's name, as in annotations


@dataclass(frozen=True, slots=True)
class SourceFrame:
    data: bytes  # JPEG or PNG
    where: str  # file (and frame), for messages
    aspect: float | None = None  # width / height as filmed, where `data` was made square; None: that of `data`


@dataclass(frozen=True, slots=True)
class Task:
    """What is being done: steps with their states at the beginning, and turns at known frames."""

    steps: tuple[Step, ...] = ()
    state: dict[str, State] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()  # system and user turns
    first_frame: int = 0
    last_frame: int | None = None  # inclusive; None: to the source's end
    fps: float = 2  # of the clip; of any other task the default


def frames_of(source: Path, fps: float, size: int, first: int, last: int | None) -> Iterator[SourceFrame]:
    """The frames first..last (inclusive; the source's end, if that is before) of a video, an .arrow file or a folder.

    Args:
        fps: at which a video is sampled; other sources have the frames that they have.
        size: pixels a side that a video's frames are made to.

    Raises:
        ProspectError: no such source, nothing in it, or it breaks off; frames before that are given.
    """
    if source.is_dir():
        paths = sorted((p for p in source.iterdir() if p.suffix.lower() in IMAGES), key=_natural)
        if not paths:
            raise ProspectError(f"{source}: found no images, expected files of {', '.join(IMAGES)}")
        _check_reaches(source, len(paths), first)
        numbers = range(len(paths))[first : None if last is None else last + 1]
        yield from (SourceFrame(paths[number].read_bytes(), f"{paths[number]}, frame {number}") for number in numbers)
    elif not source.is_file():
        raise ProspectError(f"{source}: no such file or folder, expected a video, an .arrow file or a folder of images")
    elif source.suffix == ".arrow":
        frames = open_frames(source)
        _check_reaches(source, len(frames), first)
        numbers = range(len(frames))[first : None if last is None else last + 1]
        yield from (SourceFrame(frames.read(number), f"{source} frame {number}") for number in numbers)
    else:
        yield from _of_video(source, Settings(fps, size), first, last)


def task_of(steps: Path | None, clip: str | None, start: int | None, end: int | None) -> Task:
    """The task that the options name; `start` and `end` (inclusive) outdo the clip's frames.

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
    return replace(task, first_frame=first, last_frame=last)


def task_of_steps(path: Path) -> Task:
    """A task that has not begun, from a list of `{id, name}` (.json, .yaml) or of lines `S1: name`.

    Raises:
        ProspectError: not such a file, an id twice, or a name of several lines.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix in (".json", ".yaml", ".yml"):
            found = [(str(step["id"]), str(step["name"] or "").strip()) for step in yaml.safe_load(text)]
        else:
            pairs = [line.partition(":") for line in text.splitlines() if line.strip()]
            found = [(one.strip(), name.strip()) for one, _, name in pairs]
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ProspectError(f"{path}: cannot be read ({reason}), expected a list of id and name") from None
    ids = [one for one, _ in found]
    bad = next(
        (
            one
            for one, name in found
            if not STEP_ID.fullmatch(one) or not ONE_LINE.fullmatch(name) or ids.count(one) > 1
        ),
        None,
    )
    if bad is not None or not found:
        raise ProspectError(
            f"{path}: found step {bad!r}, expected unique ids with names of one line, such as `S1: Attach the wheel`"
        )
    return Task(tuple(Step(*step) for step in found), dict.fromkeys(ids, "not_started"))


def task_of_clip(place: str, start: int | None = None) -> Task:
    """The task, user lines and frames of an annotated clip: FILE, or FILE#PLACE (from 0) or FILE#ID.

    Args:
        start: the first frame, if it is not the clip's.

    Raises:
        ProspectError: no such file or clip, or one with problems.
    """
    name, _, wanted = place.partition("#")
    path = Path(name)
    if not path.is_file():
        raise ProspectError(f"{name}: no such file, expected an annotation file, then #PLACE or #ID of a clip")
    for number, raw in enumerate(read_raw_clips(path)):
        if isinstance(raw, dict):
            clip, problems = check_clip(raw, index=number, file=name, dataset=path.parent.name, open_frames=None)
        else:
            clip, problems = None, [Problem(name, f"clip {number}", "", "clip", type(raw).__name__, "a JSON object")]
        if clip and wanted in ("", str(number), clip.id):
            return _task(clip, clip.start_frame if start is None else start)
        if not clip and wanted in ("", str(number)):
            raise InvalidInput(problems, "correct the clip, or name another with #PLACE or #ID")
    raise ProspectError(f"{name}: found no clip {wanted!r}, expected its place (from 0) or its id")


def script_lines(path: Path) -> list[tuple[float, str]]:
    """(seconds, text) of a script of lines `3.5 What is next?`, in order of time.

    Raises:
        ProspectError: a line has no time or no text; names it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ProspectError(f"{path}: cannot be read ({error}), expected lines such as `3.5 What is next?`") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s+(\S.*)", line)
            if not match:
                raise ProspectError(
                    f"{path} line {number}: found {line!r}, expected seconds and text: `3.5 What is next?`"
                )
            found.append((float(match[1]), match[2].rstrip()))
    return sorted(found, key=lambda line: line[0])  # lines of one time in the script's order


class Lines:
    """User and system turns by frame: of a clip or a script, known beforehand, and typed ones, which go to the next."""

    def __init__(self, turns: Sequence[Turn], script: Sequence[tuple[float, str]], fps: float, first: int) -> None:
        placed = [(turn.end_frame, turn) for turn in turns if turn.end_frame is not None and turn.end_frame >= first]
        self._turns, self._script, self._fps, self._first = placed, list(script), fps, first
        self._typed: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen(self, stream: IO[str]) -> None:
        """Take lines from `stream` as they are typed, without waiting for any."""
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what is no text in the terminal's encoding ends no stream

        def read() -> None:
            for line in stream:
                if line.strip():
                    self._typed.put(line.strip())

        threading.Thread(target=read, daemon=True).start()

    @property
    def script_left(self) -> int:
        """Lines of the script that no frame has had yet."""
        return len(self._script)

    def at(self, frame: int) -> list[Turn]:
        """What comes with `frame`: everything due since the frame before."""
        here = [turn for end, turn in self._turns if end <= frame]
        self._turns = self._turns[len(here) :]
        while self._script and self._script[0][0] <= (frame - self._first) / self._fps:
            here.append(Turn("user", self._script.pop(0)[1], frame, frame))
        while not self._typed.empty():
            here.append(Turn("user", self._typed.get(), frame, frame))
        return here


def ahead(make: Callable[[], Iterator[Item]], depth: int = 4) -> Iterator[Item]:
    """The items of an iterator that runs in a thread of its own, at most `depth` ahead; its errors come in order."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in make():
                if not put("item", item):
                    return
            put("end", None)
        except Exception as error:  # raised again where the frame is asked for
            put("error", error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()


def _of_video(source: Path, settings: Settings, first: int, last: int | None) -> Iterator[SourceFrame]:
    import av

    av.logging.set_level(av.logging.PANIC)
    count = 0
    try:
        aspect = _aspect(source)
        for number, jpeg in enumerate(jpegs_of(source, settings)):
            if last is not None and number > last:
                return
            count = number + 1
            if number >= first:
                yield SourceFrame(jpeg, f"{source} frame {number}", aspect)
    except (av.FFmpegError, ProspectError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else error
        place = f"after frame {count - 1}" if count else "at its beginning"
        raise ProspectError(f"{source}: breaks off {place} ({reason}), expected a whole video") from None
    _check_reaches(source, count, first)


def _aspect(video: Path) -> float | None:
    """Width / height of a video as it is shown: upright, of square pixels."""
    import av

    with av.open(str(video)) as container:
        stream = next(iter(container.streams.video), None)
        frame = next(container.decode(stream), None) if stream else None
        if stream is None or frame is None:
            return None
        aspect = float(frame.width * (stream.sample_aspect_ratio or 1) / frame.height)
        return 1 / aspect if frame.rotation % 180 else aspect


def _check_reaches(source: Path, count: int, first: int) -> None:
    if count <= first:
        raise ProspectError(f"{source}: found {count} frames, expected more than {first}")


def _task(clip: Clip, first: int) -> Task:
    before = [turn for turn in clip.turns if turn.end_frame is not None and turn.end_frame < first]
    turns = [turn for turn in clip.turns if turn.role == "system" or (turn.role == "user" and turn not in before)]
    return Task(clip.steps, state_after(clip.state, before), tuple(turns), first, clip.end_frame, clip.fps)


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """frame2 before frame10."""
    pieces = re.split(r"(\d+)", path.name)
    return [(0, int(piece)) if piece.isdigit() else (1, piece) for piece in pieces]
