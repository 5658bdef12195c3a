"""The model of a live page: one stream at a time, in a thread of its own, and what there is to see of it.

The thread never waits for a page. It leaves what happened in a bounded `Log`, from which each page takes what it has
not seen, at its own speed; and it tells `changed`, which must not block.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.errors import ProspectError
from pipeline.progress import Tell
from prospect.stream.board import event_line
from prospect.stream.lines import Lines
from prospect.stream.player import Played, Summary, play
from prospect.stream.sources import SourceFrame, frames_of
from prospect.stream.steering import Steering
from prospect.stream.streamer import Streamer
from prospect.stream.task import Task
from prospect.web.live.feed import Feed
from prospect.web.live.recording import Recording

SHOWN_S, MOST_EVENTS, MOST_LINE = (
    60.0,
    1000,
    2000,
)  # of the curves; lines of the transcript; characters of a user's line
Phase = Literal["ready", "running", "ending"]
Point = tuple[int, float, float, int, float]  # frame, both probabilities, frames dropped before it, latency in ms


@dataclass(frozen=True, slots=True)
class About:
    """What the model is; the same for all its streams."""

    checkpoint: str
    fps: float
    trained_fps: tuple[float, ...]
    out: Path  # of recordings


@dataclass(frozen=True, slots=True)
class Wish:
    """What a page asks to stream."""

    task: Task
    video: Path | None = None  # None: the camera of the page
    name: str = "camera"
    is_paced: bool = True  # of a video: at the pace of its clock, else as fast as it goes, every frame
    is_recorded: bool = False


@dataclass(slots=True)
class Log:
    """What there is to see of a stream, the newest of it."""

    number: int = 0  # of the stream, from 1; 0: there was none yet
    wish: Wish = field(default_factory=lambda: Wish(Task()))
    state: dict[str, str] = field(default_factory=dict)
    points: deque[Point] = field(default_factory=deque)
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST_EVENTS))
    num_events: int = 0
    picture: SourceFrame | None = None  # of the last frame
    last: Played | None = None
    summary: Summary | None = None

    def add(self, played: Played, fps: float) -> list[tuple[str, str]]:
        """Take a frame; gives role and text of what happened at it."""
        assert self.summary is not None
        self.summary.add(played)
        record = played.record
        self.last, self.picture, self.state = played, played.image, played.state
        self.points.append((record.frame, record.p_update, record.p_speak, played.dropped, 1000 * played.latency_s))
        while self.points[-1][0] - self.points[0][0] > SHOWN_S * fps:
            self.points.popleft()
        said = [("note", note) for note in played.notes]
        said += [(turn.role, turn.text) for turn in played.lines]
        said += [(action.role, action.text) for action in record.actions]
        for role, text in said:
            self.num_events += 1
            self.events.append(
                {"id": self.num_events, "frame": record.frame, "time_s": played.time_s, "role": role, "text": text}
            )
        return said


class Session:
    """Streams one source after the other through a model."""

    def __init__(
        self, streamer: Streamer, about: About, tell: Tell, changed: Callable[[], None] = lambda: None
    ) -> None:
        """`changed` is called from any thread whenever there is something new to see."""
        self.streamer, self.about, self.changed = streamer, about, changed
        self.log, self.phase = Log(), "ready"
        self.told: tuple[str, bool] = ("", False)  # how the last stream ended; whether something went wrong
        self.recording = ""  # its name; "": none
        self.complaint: tuple[int, str] = (0, "")  # number and text of what the last picture that was none is told
        settings = streamer.settings
        self.thresholds = {"update": settings.update_threshold, "speak": settings.speak_threshold}
        self._mentioned = ""
        self._tell, self._lock = tell, threading.RLock()
        self._thread: threading.Thread | None = None
        self._feed: Feed | None = None
        self._lines: Lines | None = None
        self._steering = Steering(streamer, {})
        self._stop = threading.Event()

    # --- what pages ask for ---------------------------------------------------------------------------------------

    def start(self, wish: Wish) -> None:
        """Begin a stream.

        Raises:
            ProspectError: one goes on, or it cannot be recorded.
        """
        about, streamer = self.about, self.streamer
        with self._lock:
            if self.phase != "ready":
                raise ProspectError("a stream goes on; stop it first")
            task, fps = wish.task, about.fps
            header = {
                "source": wish.name, "checkpoint": about.checkpoint, "fps": fps, "trained_fps": about.trained_fps,
                "settings": asdict(streamer.settings) | {f"{head}_threshold": p for head, p in self.thresholds.items()},
                "steps": [asdict(step) for step in task.steps], "state": task.state,
            }  # fmt: skip
            recording = Recording(about.out, header) if wish.is_recorded else None
            size: int = streamer.model.config.vision_config.image_size
            frames: Iterable[SourceFrame]
            if wish.video is None:
                frames = self._feed = Feed(fps, size, broken=self._complain)
            else:
                self._feed, frames = None, frames_of(wish.video, fps, size, 0, None)
            self._lines = Lines((), (), fps, 0)
            self._steering = Steering(streamer, {step.id: step.name for step in task.steps})
            for head, value in self.thresholds.items():
                self._steering.set_threshold(head, value)
            self.recording = recording.place.name if recording else ""
            is_late = wish.video is None or wish.is_paced
            self.log = Log(self.log.number + 1, wish, dict(task.state), summary=Summary(fps, is_late, is_late))
            self.phase, self.told = "running", ("", False)
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(frames, recording), name="model", daemon=True)
            self._thread.start()
        self.changed()

    def stop(self) -> None:
        """Let the stream end after its frame; what it leaves is made meanwhile."""
        with self._lock:
            if self.phase == "running":
                self.phase = "ending"
                self._stop.set()
                if self._feed:
                    self._feed.end()
        self.changed()

    def close(self) -> None:
        """End the stream, and wait until what is kept of it is whole."""
        self.stop()
        if self._thread:
            self._thread.join()

    def put(self, picture: bytes) -> None:
        """Take a picture of the camera; without a stream of one it is left out."""
        feed = self._feed
        if feed and self.phase == "running":
            feed.put(picture)

    def say(self, text: object) -> None:
        """Let the user say something.

        Raises:
            ProspectError: no stream goes on, or it is no line.
        """
        line = " ".join(text.split()) if isinstance(text, str) else ""
        if not 0 < len(line) <= MOST_LINE:
            raise ProspectError(f"found a line of {len(line)} characters, expected 1 to {MOST_LINE}")
        if self.phase != "running" or self._lines is None:
            raise ProspectError("no stream goes on that could hear it; start one first")
        self._lines.say(line)

    def correct(self, step: object, state: object) -> None:
        """Take a person's word for the state of a step, from the next frame on.

        Raises:
            ProspectError: no stream goes on, no such step, or the model tracks no state.
        """
        if self.phase != "running":
            raise ProspectError("no stream goes on whose state could be corrected; start one first")
        self._steering.correct(step, state)
        self.changed()

    def set_threshold(self, head: str, value: object) -> None:
        """Let a head fire at another probability, from the next frame on.

        Raises:
            ProspectError: it is none.
        """
        self.thresholds[head] = self._steering.set_threshold(head, value)
        self.changed()

    def mention(self, text: str) -> None:
        """Tell the terminal what a page was told, once where it is told again and again."""
        if text != self._mentioned:
            self._mentioned = text
            self._tell(f"page: {text}")

    # --- what pages see -------------------------------------------------------------------------------------------

    def view(self, stream: int, frame: int, event: int) -> dict[str, Any]:
        """Give what is new to a page that has seen stream number `stream` up to a frame and an event (ids)."""
        with self._lock:
            log = self.log
            if log.number != stream:
                frame, event = -1, 0
            return {
                "stream": log.number,
                "phase": self.phase,
                "source": log.wish.name,
                "is_camera": log.wish.video is None,
                "told": self.told[0],
                "is_wrong": self.told[1],
                "complaint": self.complaint,
                "recording": self.recording,
                "steps": [asdict(step) for step in log.wish.task.steps],
                "state": log.state,
                "waiting": self._steering.waiting if self.phase == "running" else {},
                "thresholds": self.thresholds,
                "points": [point for point in log.points if point[0] > frame],
                "events": [one for one in log.events if one["id"] > event],
                "aspect": log.picture.aspect if log.picture else None,
                "foot": self._foot(log),
            }

    def picture(self) -> tuple[int, bytes] | None:
        """Give the number of the last frame, and its picture."""
        with self._lock:
            last, picture = self.log.last, self.log.picture
        return (last.record.frame, picture.data) if last and picture else None

    def _foot(self, log: Log) -> Mapping[str, Any]:
        last, summary = log.last, log.summary
        if last is None or summary is None:
            return {}
        latencies = [point[4] for point in log.points]  # of the last minute
        return {
            "frames": len(summary.silent_s) + len(summary.acting_s),
            "p50_ms": float(np.quantile(latencies, 0.5)),
            "p95_ms": float(np.quantile(latencies, 0.95)),
            "lag_s": last.lag_s,
            "dropped": summary.dropped,
            "restarts": summary.restarts,
            "tokens": last.record.context_tokens,
            "window": self.streamer.settings.max_seq_len,
            "time_s": last.time_s,
            "repeated": self._feed.repeated if self._feed else 0,
        }

    # --- the model's thread ---------------------------------------------------------------------------------------

    def _run(self, frames: Iterable[SourceFrame], recording: Recording | None) -> None:
        told, is_wrong = "", False
        try:
            self._play(recording.taking(frames) if recording else frames, recording)
        except (ProspectError, OSError) as error:
            told, is_wrong = self._shown(str(error)), True
        except BaseException as error:
            told, is_wrong = f"prospect failed ({type(error).__name__}: {error}); its terminal says more", True
            raise
        finally:
            self._end(recording, told, is_wrong)

    def _play(self, frames: Iterable[SourceFrame], recording: Recording | None) -> None:
        log, fps = self.log, self.about.fps
        assert self._lines is not None and log.summary is not None
        is_late = log.summary.drop_late
        stream: Iterator[Played] = play(
            self.streamer, frames, log.wish.task, self._lines, fps,
            realtime=is_late and log.wish.video is not None, drop_late=is_late, steer=self._steering.apply,
        )  # fmt: skip
        began = time.monotonic()
        for played in stream:
            if recording:
                recording.add(played)
            with self._lock:
                said = log.add(played, fps)
                log.summary.seconds = time.monotonic() - began
            for role, text in said:
                self._tell(event_line(played.time_s, role, text))
            self.changed()
            if self._stop.is_set():
                break
        stream.close()  # type: ignore[attr-defined]

    def _end(self, recording: Recording | None, told: str, is_wrong: bool) -> None:
        kept = ""
        if recording:
            try:
                name = recording.close()
                kept = f"recorded as {name}" if name else "nothing was recorded"
            except (ProspectError, OSError) as error:
                kept, is_wrong = f"the recording waits for the next start of prospect live: {error}", True
        summary = self.log.summary
        figures = summary.text() if summary and (summary.silent_s or summary.acting_s) else ""
        with self._lock:
            self.recording, self.phase = "", "ready"
            self.told = ("\n".join(filter(None, (told, figures, kept))), is_wrong)
        for line in self.told[0].splitlines():
            self._tell(line)
        self.changed()

    def _shown(self, message: str) -> str:
        """A message with the name that the user knows a video by."""
        wish = self.log.wish
        return message.replace(str(wish.video), wish.name) if wish.video else message

    def _complain(self, told: str) -> None:
        self.mention(told)
        with self._lock:
            self.complaint = (self.complaint[0] + 1, told)
        self.changed()
