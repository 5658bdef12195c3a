"""`prospect make-toy`: the toy world as a dataset in the formats of real data (docs/design.md §2 and §3).

Every split has seeds and combinations of steps of its own. The folder appears only complete.
"""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from pipeline.annotations.clips import SPLITS
from pipeline.annotations.dst import STATES
from pipeline.errors import ProspectError
from pipeline.toyworld.rendering import draw_light, render
from pipeline.toyworld.wording import GOALS, SYSTEM, VERBS, say
from pipeline.toyworld.world import COLOURS, LEAD, Episode, draw_episode

DATASET = "toyworld"
FPS = 2
TWO_PARTS = 0.15  # share of clips that are one part of a video in two


def num_clips(clips: int) -> dict[str, int]:
    """Count clips by split, for `clips` of training."""
    others = max(8, round(clips * 40 / 300))
    return {"train": clips, "val": others, "test": others}


def make_toy(
    out: Path,
    *,
    seed: int = 0,
    clips: int = 300,
    preset: Literal["standard", "hard"] = "standard",
    on_clip: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Write OUT/toyworld; the same arguments give the same bytes. Returns the number of clips by split.

    Args:
        preset: `standard` has an id for each colour (S1 red, S2 green, ...); `hard` numbers the steps by their place in
            the prompt's list, which is in any order, so that the prompt has to be read.

    Raises:
        ProspectError: OUT/toyworld exists.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = out / f".{DATASET}.lock"
    try:
        with FileLock(lock, timeout=0):
            try:
                return _make(out / DATASET, out / f".{DATASET}.partial", seed, clips, preset == "hard", on_clip)
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        raise ProspectError(f"{out}: another make-toy is writing here; wait for it, or pass another --out") from None


def _make(
    folder: Path, partial: Path, seed: int, clips: int, hard: bool, on_clip: Callable[[], None]
) -> dict[str, int]:
    """Under the lock: what a killed run left goes, and the folder appears only complete."""
    if folder.exists():
        raise ProspectError(f"{folder}: is there already; remove it, or pass another --out")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "frames").mkdir(parents=True)
    counts = num_clips(clips)
    for split in SPLITS:
        records = []
        for record in _split(partial / "frames", seed, split, counts[split], hard):
            records.append(record)
            on_clip()
        text = json.dumps(records, indent=1)
        (partial / f"{split}_training.json").write_text(text, encoding="utf-8")
    partial.replace(folder)
    return counts


def _split(frames: Path, seed: int, split: str, count: int, hard: bool) -> Iterator[dict[str, Any]]:
    made, video = 0, 0
    while made < count:
        rng = np.random.default_rng((seed, SPLITS.index(split), video))
        two_parts = count - made >= 2 and rng.random() < TWO_PARTS / (2 - TWO_PARTS)
        episode, starts = draw_episode(rng, split, hard=hard, two_parts=two_parts)
        uid = f"toy-{split}-{seed}-{video:05d}"
        _write_frames(frames / f"{uid}.arrow", rng, episode)
        conversation = Conversation(rng, episode, hard)
        for index, (first, end) in enumerate(zip(starts, [*starts[1:], len(episode.scenes)], strict=True)):
            yield conversation.clip(uid, index, first, end - 1)
        made, video = made + len(starts), video + 1


def _write_frames(path: Path, rng: np.random.Generator, episode: Episode) -> None:
    light = draw_light(rng, len(episode.scenes))
    images = [base64.b64encode(render(rng, episode, light, f)).decode() for f in range(len(episode.scenes))]
    table = pa.table({"frame": images})
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


class Conversation:
    """Turns events into annotated clips; the state runs on from one part of a video to the next."""

    def __init__(self, rng: np.random.Generator, episode: Episode, hard: bool) -> None:
        self.rng, self.episode = rng, episode
        steps = episode.parts[: episode.num_steps]
        self.ids = [f"S{(i if hard else COLOURS.index(part.colour)) + 1}" for i, part in enumerate(steps)]
        self.verbs = [VERBS[rng.integers(len(VERBS))] for _ in steps]
        self.goal = GOALS[rng.integers(len(GOALS))]
        self.is_quiet = rng.random() < 0.2
        self.state = dict.fromkeys(self.ids, STATES[0])
        self.touched: set[str] = set()
        self.turns: list[dict[str, Any]] = []

    def clip(self, uid: str, index: int, first: int, last: int) -> dict[str, Any]:
        """The annotation of frames first..last (inclusive)."""
        self.turns = []
        initial = dict(self.state)
        self._add("system", SYSTEM[self.rng.integers(len(SYSTEM))], 0, 1) if first else self._add_system()
        greeting = first + LEAD
        self._add("user", say(self.rng, "open_quiet" if self.is_quiet else "open", goal=self.goal), first, greeting)
        self._add("assistant", say(self.rng, "greet"), first, greeting)
        remark = self._remark_frame(greeting + 1, last)
        for frame in range(greeting + 1, last + 1):
            if frame == remark:
                self._remark(frame)
            self._events(frame)
        clip: dict[str, Any] = {
            "video_uid": uid,
            "id": f"{uid}-c{index:03d}",
            "clip_idx": index,
            "dataset": DATASET,
            "fps": FPS,
            "frames_file": f"frames/{uid}.arrow",
            "start_frame_idx": first,
            "end_frame_idx": last,
            "inferred_goal": f"Assembling a {self.goal}",
            "dst": self._steps(),
            "conversation": self.turns,
        }
        if index:
            clip["initial_dst_state"] = initial
        return clip

    def _steps(self) -> list[dict[str, Any]]:
        times = {(event.part, event.kind): event.frame / FPS for event in self.episode.events}
        return [
            {
                "type": "step",
                "id": step_id,
                "start_ts": times[i, "start"],
                "end_ts": times[i, "complete"],
                "name": f"{verb} the {self.episode.parts[i].colour} {self.episode.parts[i].shape}",
            }
            for i, (step_id, verb) in enumerate(zip(self.ids, self.verbs, strict=True))
        ]

    def _events(self, frame: int) -> None:
        """The updates of a frame, then what is said about them."""
        here = [event for event in self.episode.events if event.frame == frame]
        for event in here:
            step, transition = self.ids[event.part], event.kind
            self.touched.add(step)
            self._add("DST_UPDATE", [{"id": step, "transition": transition}], frame - LEAD, frame)
            self.state[step] = STATES[1] if transition == "start" else STATES[2]
        if not here or (self.is_quiet and here[-1].kind == "start"):
            return
        part, verb = self.episode.parts[here[-1].part], self.verbs[here[-1].part]
        is_last = all(state == "completed" for state in self.state.values())
        words = {"colour": part.colour, "shape": part.shape, "verb": verb, "lower": verb.lower(), "goal": self.goal}
        text = say(self.rng, "finish" if is_last else here[-1].kind, **words)
        self._add("assistant", text, frame - LEAD, frame)

    def _remark_frame(self, first: int, last: int) -> int | None:
        """A frame outside all events' ranges at which the user says something, in some clips."""
        busy = {f for event in self.episode.events for f in range(event.frame - LEAD, event.frame + 1)}
        free = [f for f in range(first, last + 1) if f not in busy]
        return int(self.rng.choice(free)) if free and self.rng.random() < 0.5 else None

    def _remark(self, frame: int) -> None:
        """A question is answered; a remark is not."""
        if self.rng.random() < 0.6:
            done = sum(state == "completed" for state in self.state.values())
            self._add("user", say(self.rng, "ask_count"), frame, frame)
            self._add("assistant", say(self.rng, "tell_count", done=done, all=len(self.ids)), frame, frame)
        else:
            self._add("user", say(self.rng, "remark"), frame, frame)

    def _add_system(self) -> None:
        self.turns.append(
            {"role": "system", "content": SYSTEM[self.rng.integers(len(SYSTEM))], "labels": "system|generic"}
        )

    def _add(self, role: str, content: Any, first: int, last: int) -> None:
        shown = {step: state for step, state in self.state.items() if step in self.touched or state != STATES[0]}
        if role == "DST_UPDATE":
            shown = {i: self.state[i] for i in self.ids if i in shown or i == content[0]["id"]}
        turn = {"role": role, "content": content, "time": last / FPS, "start_frame": first, "end_frame": last}
        labels = "initiative|dst_update" if role == "DST_UPDATE" else f"{role}|generic"
        self.turns.append(turn | {"dst_state": shown, "labels": labels})
