"""What is kept of a live stream: its frames, the stream as `prospect stream --out` writes it, and, once it is over, a
draft clip and a prediction, which `prospect review OUT --predictions OUT/predictions` opens.

    OUT/live/frames/NAME.arrow        a row a frame of the source, those that the model skipped too
    OUT/live/streams/NAME.jsonl       a line a frame that the model saw, as it is decided
    OUT/live/train_training.json      the draft: what was said, and the state as it was tracked and corrected
    OUT/predictions/KEY.json          what the model alone did

While it goes on, frames are in NAME.arrow.partial, a whole batch each; the rest is made of these two files (`finish`),
at the end or, where the end never came, when `prospect live` next starts. So nothing is half-written, or lost.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import localtime, strftime
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from pipeline.annotations.clips import Clip
from pipeline.annotations.dst import MOVES, State, Transition, Update, parse_updates
from pipeline.annotations.json_text import with_entry
from pipeline.annotations.validate import check_clip
from pipeline.errors import InvalidInput, ProspectError
from pipeline.importers.video import SCHEMA
from pipeline.io.frame_store import FPS, SHAPE
from pipeline.io.images import open_image
from pipeline.io.lock import lock_beside, sole_owner
from pipeline.io.storage import PARTIAL, LocalFolder, write_atomically
from pipeline.shards.sample import clip_key
from prospect.evaluation.predictions import ClipPrediction, write_prediction
from prospect.stream.player import Played, RunFile
from prospect.stream.records import FrameRecord
from prospect.stream.sources import SourceFrame

DATASET, DRAFTS = "live", "train_training.json"
_FORWARD: tuple[Transition, ...] = ("start", "complete")
_RECORD = TypeAdapter(FrameRecord)
Made = list[tuple[int, int, Update, str]]  # of a step: frame, place there, transition, whose


@dataclass(frozen=True, slots=True)
class Place:
    """Where a recording of a name is."""

    out: Path
    name: str

    @property
    def frames(self) -> Path:
        return self.out / DATASET / "frames" / f"{self.name}.arrow"

    @property
    def partial(self) -> Path:
        return self.frames.with_name(self.frames.name + PARTIAL)

    @property
    def stream(self) -> Path:
        return self.out / DATASET / "streams" / f"{self.name}.jsonl"

    @property
    def drafts(self) -> Path:
        return self.out / DATASET / DRAFTS

    def read(self) -> "Stream":
        """Read the stream back, as far as it is whole.

        Raises:
            ProspectError: it is none.
        """
        try:
            lines = self.stream.read_bytes().split(b"\n")[:-1]  # what follows the last line break was cut
            header, *records = [json.loads(line) for line in lines] or [{}]
            frames = tuple(_RECORD.validate_python(record) for record in records)
            return Stream(header, records, frames)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ProspectError(f"{self.stream}: cannot be read ({reason}), expected a recorded stream") from None


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream as its file has it."""

    header: dict[str, Any]
    records: Sequence[dict[str, Any]]
    frames: tuple[FrameRecord, ...]  # of those that the model saw


class Recording:
    """One recording: `taking` gives it the source's frames, `add` what became of them; `close` makes the rest of it."""

    def __init__(self, out: Path, header: dict[str, Any]) -> None:
        """
        Raises:
            ProspectError: another process records there.
        """
        self._stack = ExitStack()
        self._stack.enter_context(_alone(out))
        with self._stack:
            self.place = _free_place(out)
            self._fps = float(header["fps"])
            for path in (self.place.partial, self.place.stream):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._stack.enter_context(self.place.partial.open("wb", buffering=0))
            self._stream = RunFile(self.place.stream, header)
            self._stack.callback(self._stream.close)
            self._stack = self._stack.pop_all()
        self._lock = threading.Lock()
        self._writer: Any = None
        self._rows = 0
        self._is_closed = False

    def taking(self, frames: Iterable[SourceFrame]) -> Iterator[SourceFrame]:
        """Give the frames on, each once it is kept."""
        for frame in frames:
            with self._lock:
                if self._is_closed:
                    return
                self._keep(frame)
            yield frame

    def add(self, played: Played) -> None:
        self._stream.add(played)

    def close(self) -> str | None:
        """Make the draft and the prediction; gives the recording's name, or None where nothing was streamed.

        Raises:
            ProspectError, OSError: they cannot be made; they are when `recover` is next called.
        """
        with self._stack:  # let go of the lock at last
            with self._lock:
                self._is_closed = True
                if self._writer is not None:
                    self._writer.close()
                self._file.close()
            return finish(self.place)

    def _keep(self, frame: SourceFrame) -> None:
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._file, SCHEMA.with_metadata(_about(frame, self._fps)))
        row = {"frame": frame.data, "index": self._rows, "time": self._rows / self._fps}
        self._writer.write_batch(pa.RecordBatch.from_pylist([row], schema=SCHEMA))
        self._rows += 1


def recover(out: Path) -> list[str]:
    """Make what is missing of recordings whose end never came; gives their names.

    Raises:
        ProspectError: one cannot be read, or another process records there.
    """
    places = [Place(out, path.name.removesuffix(f".arrow{PARTIAL}")) for path in _partials(out)]
    if not places:
        return []
    with _alone(out):
        return [name for place in places if (name := finish(place)) is not None]


def finish(place: Place) -> str | None:
    """Make the prediction, the draft and the frames file of a recording, in this order; what is there already stays.

    Raises:
        ProspectError, OSError: something cannot be read or written; `recover` does it later.
    """
    stream, batches = place.read(), _batches(place.partial)
    rows = sum(batch.num_rows for batch in batches)
    seen = tuple(record for record in stream.frames if record.frame < rows)
    if not seen:
        for path in (place.partial, place.stream):
            path.unlink(missing_ok=True)
        return None
    raw = draft_clip(place.name, stream, seen[-1].frame)
    clip, problems = check_clip(raw, index=0, file=DRAFTS, dataset=DATASET, open_frames=None)
    if clip is None:
        raise InvalidInput(problems, f"{place.stream}: is no stream that was recorded here; move it away")
    path = place.out / "predictions" / f"{clip_key(clip)}.json"
    write_prediction(path, predicted(clip, stream.header, seen))
    _append(place.drafts, raw)
    with (
        LocalFolder(place.frames.parent).new_file(place.frames.name) as whole,
        pa.OSFile(str(whole), "wb") as file,
        pa.ipc.new_stream(file, batches[0].schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    place.partial.unlink()
    return place.name


def draft_clip(name: str, stream: Stream, last: int) -> dict[str, Any]:
    """Give the clip as an annotation file has it, with `live` in each turn: `model`, or `person`.

    What a person corrected is as the person says: updates that led to another state go, and where none led to this
    one, those that do are put at the frame of the correction.
    """
    made: dict[str, Made] = {step["id"]: [] for step in stream.header["steps"]}
    said: list[tuple[int, int, dict[str, Any]]] = []
    for record in stream.records:
        frame, places = record["frame"], count()
        if frame > last:
            break
        for line in record["lines"]:
            said.append((frame, next(places), _turn(line["role"], line["text"], frame, "person")))
        for step, state in record.get("corrected", {}).items():
            _correct(made[step], step, state, frame, places)
        for action in record["actions"]:
            if action["role"] == "assistant":
                if action["text"].strip():  # a turn has words; a model may be asked to speak, and have none
                    said.append((frame, next(places), _turn("assistant", action["text"], frame, "model")))
                continue
            for update in parse_updates(action["text"]):
                if _state(made[update.step]) in MOVES[update.transition][0]:  # else it changed nothing
                    made[update.step].append((frame, next(places), update, "model"))
    updates = [
        (frame, place, _turn("DST_UPDATE", str(update), frame, whose))
        for of_step in made.values() for frame, place, update, whose in of_step
    ]  # fmt: skip
    turns = [turn for _, _, turn in sorted([*said, *updates], key=lambda one: one[:2])]
    header = stream.header
    return {
        "video_uid": name, "clip_idx": 0, "fps": header["fps"], "frames_file": f"frames/{name}.arrow",
        "start_frame_idx": 0, "end_frame_idx": last, "dst": header["steps"], "conversation": turns,
        "live": {"source": header["source"], "checkpoint": header["checkpoint"]},
    }  # fmt: skip


def predicted(clip: Clip, header: Mapping[str, Any], seen: Sequence[FrameRecord]) -> ClipPrediction:
    """Give the prediction: a record a frame. Those that the model never saw are listed, and silent: nothing was
    computed for them (`computed_tokens` 0)."""
    records, skipped = list[FrameRecord](), list[int]()
    for record in seen:
        for frame in range(len(records), record.frame):
            skipped.append(frame)
            tokens = records[-1].context_tokens if records else 0
            records.append(FrameRecord(frame, 0.0, 0.0, (), 0.0, 0.0, tokens, 0, False, 0.0))
        records.append(record)
    settings = {"row": "live", "skipped_frames": skipped}
    settings |= {key: header[key] for key in ("checkpoint", "source", "trained_fps")} | header["settings"]
    return ClipPrediction(clip, tuple(records), settings)


def _state(made: Made, many: int | None = None) -> State:
    """The state of a step after its first updates (None: all)."""
    past = made[:many]
    return MOVES[past[-1][2].transition][1] if past else "not_started"


def _correct(made: Made, step: str, state: State, frame: int, places: Iterator[int]) -> None:
    for many in range(len(made), -1, -1):
        if _state(made, many) == state:
            del made[many:]
            return
    for transition in _FORWARD:
        if _state(made) in MOVES[transition][0] and _state(made) != state:
            made.append((frame, next(places), Update(step, transition), "person"))


def _turn(role: str, text: str, frame: int, whose: str) -> dict[str, Any]:
    return {"role": role, "content": text, "start_frame": frame, "end_frame": frame, "live": whose}


def _about(frame: SourceFrame, fps: float) -> dict[bytes, bytes]:
    """The rate, and the shape in which frames are shown."""
    with open_image(frame.data) as image:
        height, width = image.height, image.width
    shape = (height, round(height * frame.aspect) if frame.aspect else width)
    return {FPS: str(fps).encode()} | {key: str(side).encode() for key, side in zip(SHAPE, shape, strict=True)}


def _batches(path: Path) -> list[pa.RecordBatch]:
    """The whole batches of a frames file, mapped; it may have been cut anywhere."""
    batches: list[pa.RecordBatch] = []
    with suppress(OSError, EOFError, pa.ArrowInvalid), pa.ipc.open_stream(pa.memory_map(str(path))) as reader:
        for batch in reader:
            batches.append(batch)
    return batches


def _append(path: Path, raw: Mapping[str, Any]) -> None:
    """Add a clip to an annotation file, unless it is there.

    Raises:
        ProspectError: the file is no array of clips.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else "[]"
    try:
        clips = json.loads(text)
        known = {clip["video_uid"] for clip in clips}
    except (ValueError, TypeError, KeyError) as error:
        raise ProspectError(
            f"{path}: is no array of clips ({error}), so the recording {raw['video_uid']} waits; mend it, and start "
            "prospect live again"
        ) from None
    if raw["video_uid"] not in known:
        write_atomically(path, with_entry(text, raw).encode())


def _free_place(out: Path) -> Place:
    name = strftime("live-%Y%m%d-%H%M%S", localtime())
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(place for one in names if not (place := Place(out, one)).stream.exists())


def _partials(out: Path) -> list[Path]:
    return sorted((out / DATASET / "frames").glob(f"live-*.arrow{PARTIAL}"))


def _alone(out: Path) -> AbstractContextManager[None]:
    folder = out / DATASET
    return sole_owner(lock_beside(folder), folder, "another prospect live", "pass another --out")
