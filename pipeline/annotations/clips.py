"""Clips: the record that every later stage works on, and the reader of annotation files.

A `Clip` is what a sequence is laid out from, whether it comes from an annotation file (`validate.py`) or was rebuilt
from turn samples (`sample.py`). Annotation files are read clip by clip, so memory does not grow with the file.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ijson
from pydantic import TypeAdapter

from pipeline.annotations.dst import State, format_state
from pipeline.errors import ProspectError

Role = Literal["system", "user", "assistant", "dst_update"]
ACTIVE_ROLES = ("dst_update", "assistant")
READ_BYTES = 64 * 1024  # what the JSON parser reads at a time
SPLITS = ("train", "val", "test")
MAX_CLIP_FRAMES = 1_000_000  # nine hours at 30 fps; what is done frame by frame stays bounded


@dataclass(frozen=True, slots=True)
class Step:
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn. It stands at `end_frame`, the last frame of its range (both ends inclusive)."""

    role: Role
    text: str  # the utterance, or the update text ("S1->start")
    start_frame: int | None  # None: a system turn without a place, i.e. from before the first frame
    end_frame: int | None


@dataclass(frozen=True, slots=True)
class Clip:
    id: str
    dataset: str
    video_uid: str
    clip_idx: int  # 0 for the first part of a video
    fps: int | float  # frames a second
    start_frame: int  # inclusive, an index into the Arrow file
    end_frame: int  # inclusive
    frames_file: str  # as the annotation names it
    steps: tuple[Step, ...]
    initial_state: tuple[State, ...]  # one a step, before the clip's first frame
    turns: tuple[Turn, ...]  # in the order of the sequence (`in_sequence_order`)

    @property
    def state(self) -> dict[str, State]:
        """Step id -> state, before the clip."""
        return {step.id: state for step, state in zip(self.steps, self.initial_state, strict=True)}


HEADER = ("dataset", "video_uid", "clip_idx", "fps", "start_frame", "end_frame")  # what stands in a clip's records


def clip_header(clip: Clip) -> dict[str, Any]:
    """Give the fields of a clip that are plain values, for the shards' and the index's records."""
    return {name: getattr(clip, name) for name in HEADER}


def clip_from(
    header: Mapping[str, Any],
    *,
    id: str,
    frames_file: str,
    steps: Iterable[tuple[str, str]],
    initial_state: Iterable[State],
    turns: Sequence[Turn],
) -> Clip:
    """Make a clip from the values of its records; the inverse of `clip_header` and what stands beside it."""
    return Clip(
        **{name: header[name] for name in HEADER},
        id=id,
        frames_file=frames_file,
        steps=tuple(Step(*step) for step in steps),
        initial_state=tuple(initial_state),
        turns=in_sequence_order(turns, header["start_frame"]),
    )


_CLIP = TypeAdapter(Clip)


def encode_clip(clip: Clip) -> bytes:
    """Write a clip whole, as one line of JSON."""
    return _CLIP.dump_json(clip)


def decode_clip(data: bytes | Mapping[str, Any]) -> Clip:
    """Read a clip back: JSON of `encode_clip`, or the same already parsed.

    Raises:
        ValueError: it is no clip.
    """
    return _CLIP.validate_json(data) if isinstance(data, bytes) else _CLIP.validate_python(data)


def prompt_text(steps: Sequence[Step], state: dict[str, State]) -> str:
    """Give the prompt of docs/design.md §4: the steps and, where some step is touched, the progress made so far."""
    text = "You are a proactive assistant helping with task completion."
    if steps:
        text += "\n\nTask Steps:\n" + "\n".join(f"- {step.id}: {step.name}" for step in steps)
    progress = format_state((step.id for step in steps), state, touched_only=True)
    return f"{text}\n\nCurrent Progress: {progress}" if progress else text


def in_sequence_order(turns: Sequence[Turn], start_frame: int) -> tuple[Turn, ...]:
    """Sort by the frame a turn stands at; at one frame user and system turns first, otherwise in file order."""

    def place(turn: Turn) -> tuple[int, bool]:
        frame = start_frame - 1 if turn.end_frame is None else max(turn.end_frame, start_frame - 1)
        return frame, turn.role in ACTIVE_ROLES

    return tuple(sorted(turns, key=place))


def read_raw_clips(path: Path) -> Iterator[Any]:
    """Read the entries of an annotation file (array, single object, or .jsonl), one at a time, unchecked.

    Raises:
        ProspectError: the file is no JSON (with line and column).
    """
    return _read_jsonl(path) if path.suffix == ".jsonl" else _read_json(path)


def _read_jsonl(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if line.strip():
                    yield json.loads(line)
            except json.JSONDecodeError as error:
                raise _not_json(path, number, error.colno, error.msg) from None
            except UnicodeDecodeError as error:
                raise _not_json(path, number, error.start + 1, "found bytes that are not UTF-8") from None
            except (ValueError, RecursionError) as error:
                raise _not_json(path, number, 1, str(error)) from None


def _read_json(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        first = file.read(1)
        while first and first.isspace():
            first = file.read(1)
        if first not in (b"[", b"{"):
            raise _not_json(path, 1, 1, "an array of clips or one clip expected")
        start = file.seek(-1, 1)
        try:
            yield from ijson.items(file, "item" if first == b"[" else "", buf_size=READ_BYTES, use_float=True)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            said = error.args[0] if error.args else error
            reason = (said.decode(errors="replace") if isinstance(said, bytes) else str(said)).splitlines()[0]
            if "overflow" in reason:
                reason = "a number beyond what this parser holds, 64 bits; .jsonl takes larger ones"
            raise _not_json(path, *_position_of_error(path, start, file.tell()), reason) from None


def _position_of_error(path: Path, start: int, end: int) -> tuple[int, int]:
    """Line and column at which JSON from byte `start` on breaks, where reading it failed at `end` or shortly before.

    The streaming parser names no place. It is fed again: chunks up to the last, then that one byte by byte.
    """
    safe = max(start, end - 2 * READ_BYTES)
    parser = ijson.basic_parse_coro(_Sink())
    with path.open("rb") as file:
        text = file.read(start)
        line, column = text.count(b"\n") + 1, len(text) - text.rfind(b"\n") - 1
        try:
            while text := file.read(max(1, min(READ_BYTES, safe - file.tell()))):
                parser.send(text)
                newlines = text.count(b"\n")
                line += newlines
                column = len(text) - text.rfind(b"\n") - 1 if newlines else column + len(text)
        except (ijson.JSONError, UnicodeDecodeError):
            pass
    return line, column + 1


class _Sink:
    """Takes a parser's events and drops them."""

    def send(self, event: object) -> None:
        pass


def _not_json(path: Path, line: int, column: int, message: str) -> ProspectError:
    return ProspectError(
        f"{path} line {line} column {column}: not valid JSON ({message}), expected an array of clips; "
        f"check the file, e.g. with `python -m json.tool {path}`"
    )
