"""Plays a source through a streamer, as fast as it goes or in real time, and tells whoever watches of every frame.

In real time frame i is there i / fps seconds after the first was; its decisions are due before the next is there. Where
the model is slower than the frames come, `lag_s` says how far behind it is; frames are dropped only where that is asked
for, and then counted.
"""

import json
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from pipeline.annotations.clips import Turn
from pipeline.annotations.dst import State
from prospect.data.decode import decode_frame
from prospect.model.early import EarlyVision
from prospect.stream.lines import Lines
from prospect.stream.newest import Arrival, newest, paced
from prospect.stream.records import FrameRecord
from prospect.stream.sources import SourceFrame, ahead
from prospect.stream.streamer import Streamer
from prospect.stream.task import Task

FORMAT = "prospect.stream/1"


@dataclass(frozen=True, slots=True)
class Steered:
    """What a person changed before a frame."""

    corrected: Mapping[str, State] = field(default_factory=dict)  # step -> the state that it has
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Played:
    """One frame that was streamed."""

    record: FrameRecord
    time_s: float  # since the first frame, by its number
    lines: tuple[Turn, ...]  # user and system turns that came with it
    image: SourceFrame
    state: dict[str, str]  # of every step, after it
    latency_s: float  # from when it was there (real time) or taken up, to its last decision
    lag_s: float  # how late it was taken up
    notes: tuple[str, ...]  # to the user, of lines that the model cannot hear, and what was changed
    dropped: int  # frames between the one before and this one
    corrected: Mapping[str, State] = field(default_factory=dict)  # by a person, before it


@dataclass(slots=True)
class Summary:
    """Figures of a stream. A latency is kept of every frame, for exact quantiles: 4 bytes, 0.7 MB a day."""

    fps: float
    realtime: bool
    drop_late: bool = False
    silent_s: "array[float]" = field(default_factory=lambda: array("f"))  # latencies
    acting_s: "array[float]" = field(default_factory=lambda: array("f"))
    missed: int = 0  # deadlines
    restarts: int = 0
    dropped: int = 0
    seconds: float = 0.0
    most_lag_s: float = 0.0

    def add(self, played: Played) -> None:
        (self.acting_s if played.record.actions else self.silent_s).append(played.latency_s)
        self.missed += self.realtime and played.latency_s > 1 / self.fps
        self.restarts += played.record.is_restart
        self.dropped += played.dropped
        self.most_lag_s = max(self.most_lag_s, played.lag_s)

    def text(self) -> str:
        count = len(self.silent_s) + len(self.acting_s)
        rate = count / self.seconds if self.seconds else 0.0
        latencies = [
            f"{name} {1000 * np.quantile(values, 0.5):.1f}/{1000 * np.quantile(values, 0.95):.1f} ms"
            for name, values in (("silent", self.silent_s), ("acting", self.acting_s))
            if len(values)
        ]
        told = f"{count} frames in {self.seconds:.1f} s: {rate:.1f} frames/s ({rate / self.fps:.1f}x real time); "
        told += f"latency p50/p95 {', '.join(latencies) or '-'}; {self.restarts} context restarts"
        if self.realtime:
            told += f"; {self.missed} missed deadlines, at most {self.most_lag_s:.1f} s behind"
        if self.drop_late:
            told += f"; {self.dropped} late frames dropped of {count + self.dropped}"
        return told


def play(
    streamer: Streamer,
    frames: Iterable[SourceFrame],
    task: Task,
    lines: Lines,
    fps: float,
    *,
    realtime: bool = False,
    drop_late: bool = False,
    steer: Callable[[], Steered] = Steered,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Played]:
    """Give each frame once it is decided.

    Args:
        realtime: pace the frames at `fps`; else they come as the source gives them.
        drop_late: take the newest frame that is there, and leave out those before it.
        steer: is called before each frame, between which thresholds and states may be changed (`steering.py`).

    Raises:
        ProspectError: the source breaks off, or a frame cannot be decoded.
    """
    size: int = streamer.model.config.vision_config.image_size
    vision = EarlyVision(streamer.model)

    def begin(frame: SourceFrame) -> Callable[[], torch.Tensor]:
        pixels = torch.from_numpy(decode_frame(frame.data, size, frame.where))
        return vision.begin(pixels[None])

    before = [turn for turn in task.turns if turn.end_frame is None or turn.end_frame < task.first_frame]
    streamer.start(task.steps, task.state, before, fps=fps, goal=task.goal, progress=task.progress)
    if drop_late:
        of_now = newest(paced(frames, fps, clock, sleep) if realtime else frames, clock)
        arrivals: Iterator[Begun] = ((arrival, begin(arrival.item)) for arrival in of_now)
    else:
        arrivals = _every(frames, begin, fps if realtime else None, clock, sleep)
    expected = 0
    for arrival, take in arrivals:
        taken = clock()
        number, frame = arrival.number, task.first_frame + arrival.number
        steered = steer()
        heard = lines.heard(frame, streamer.length, streamer.settings.reserve)
        record = streamer.step(frame, take()[0], heard.turns)
        yield Played(
            record=record,
            time_s=number / fps,
            lines=heard.turns,
            image=arrival.item,
            state=dict[str, str](streamer.state),
            latency_s=clock() - arrival.there_s,
            lag_s=max(taken - arrival.there_s, 0.0),
            notes=(*steered.notes, *heard.notes),
            dropped=number - expected,
            corrected=steered.corrected,
        )
        expected = number + 1


Begun = tuple[Arrival[SourceFrame], Callable[[], torch.Tensor]]  # what gives its features, (1, K, D)


def _every(
    frames: Iterable[SourceFrame],
    begin: Callable[[SourceFrame], Callable[[], torch.Tensor]],
    pace: float | None,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[Begun]:
    """Each frame, begun ahead; with a `pace` of frames a second no sooner than it is due."""
    began = 0.0
    for number, (image, take) in enumerate(ahead(lambda: ((frame, begin(frame)) for frame in frames))):
        there = clock()
        if number == 0:
            began = there
        elif pace:
            there = began + number / pace
            if (wait := there - clock()) > 0:
                sleep(wait)
        yield Arrival(number, image, there), take


class RunFile:
    """`--out`: JSON lines, a header and then a record a frame, on disk as soon as it is decided."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = path.open("w", encoding="utf-8")
        self._write({"format": FORMAT, **header})

    def add(self, played: Played) -> None:
        lines = [{"role": turn.role, "text": turn.text} for turn in played.lines]
        about = {"time_s": played.time_s, "dropped": played.dropped, "lines": lines, "notes": list(played.notes)}
        if played.corrected:
            about["corrected"] = dict(played.corrected)
        self._write({**about, **asdict(played.record), "state": played.state})

    def close(self) -> None:
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        self._file.flush()
