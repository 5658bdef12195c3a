"""What a person sees of a stream: a board for a live terminal, and a line an event.

The board fits the terminal: rich cuts what is too high at the bottom, where the newest events are.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.annotations.clips import Step
from prospect.stream.player import Played
from prospect.stream.streamer import StreamSettings
from prospect.stream.task import Task

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

MARKS = {"not_started": ("○", "dim"), "in_progress": ("▶", "yellow"), "completed": ("✔", "green")}
STYLES = {
    "assistant": "green", "user": "cyan", "system": "dim", "dst_update": "magenta", "note": "yellow", "summary": "blue",
}  # fmt: skip
NAMES = {
    "assistant": "Assistant", "user": "User", "system": "System", "dst_update": "DST", "note": "Note",
    "summary": "Progress",
}  # fmt: skip
KEPT = 12  # events on the board
RATE_FRAMES = 20  # over which the board's frames/s are taken
MOST_DIGITS = 9  # of a probability
OTHER_ROWS = 8  # of the board, beside steps and events: frame, heads, gaps, foot


class Board:
    """A renderable of rich: the state after the last frame added, both heads, and the newest events."""

    def __init__(self, task: Task, settings: StreamSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._task, self._settings, self._clock = task, settings, clock
        self._events: deque[tuple[float, str, str]] = deque(maxlen=KEPT)
        self._shown_at: deque[float] = deque(maxlen=RATE_FRAMES + 1)
        self._last: Played | None = None

    def add(self, played: Played) -> list[str]:
        """Take a frame; give the lines of what happened at it."""
        self._last = played
        self._shown_at.append(self._clock())
        said: list[tuple[str, str]] = [("note", note) for note in played.notes]
        said += [("summary", played.record.summary)] if played.record.summary else []
        said += [(turn.role, turn.text) for turn in played.lines]
        said += [(action.role, action.text) for action in played.record.actions]
        self._events.extend((played.time_s, role, text) for role, text in said)
        return [event_line(played.time_s, role, text) for role, text in said]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        if self._last:
            yield self._view(self._last, console, options.max_width, console.height)

    def _view(self, played: Played, console: "Console", width: int, height: int) -> Panel:
        record, settings = played.record, self._settings
        steps, room = Table.grid(padding=(0, 1)), max(height - OTHER_ROWS, 6)
        shown = steps_shown(self._task.steps, played.state, room // 2)
        for step in shown:
            mark, style = MARKS[played.state[step.id]]
            steps.add_row(Text(mark, style), Text(step.id, style), Text(step.name, style, no_wrap=True))
        heads = Table.grid(padding=(0, 1))
        for name, p, threshold in (
            ("update", record.p_update, settings.update_threshold),
            ("speak", record.p_speak, settings.speak_threshold),
        ):
            style = "bold red" if p >= threshold else "blue"
            bar = ProgressBar(total=1.0, completed=p, width=30, complete_style=style, finished_style=style)
            shown_p, shown_threshold = shown_against(p, threshold)
            heads.add_row(name, bar, f"{shown_p}  (fires at {shown_threshold})")
        lines = [
            line
            for event in self._events
            for line in Text(event_line(*event), STYLES[event[1]]).wrap(console, width - 4)
        ]
        events = Text("\n").join(lines[-(room - len(shown)) :])
        taken = self._shown_at[-1] - self._shown_at[0]
        rate = f"{(len(self._shown_at) - 1) / taken:.1f}" if taken else "-"
        context = f"context {record.context_tokens}/{settings.max_seq_len} tokens"
        foot = f"{context}, {rate} frames/s, {1000 * played.latency_s:.0f} ms a frame, {played.lag_s:.1f} s behind"
        title = f"{clock_time(played.time_s)}  frame {record.frame}"
        return Panel(Group(steps, Text(), heads, Text(), events, Text(), Text(foot, "dim")), title=title)


def shown_against(p: float, threshold: float) -> tuple[str, str]:
    """Write a probability and the threshold that it is held against, neither rounded up: what is shown reaches the
    threshold where the head fires, and only there.

    Of .9949 and .995: `0.994` and `0.995`; of .499 and .5: `0.49` and `0.50`.
    """
    whole = Decimal(repr(threshold))
    unit = Decimal(1).scaleb(max(min(int(whole.as_tuple().exponent), -2), -MOST_DIGITS))
    return f"{Decimal(repr(p)).quantize(unit, ROUND_FLOOR):f}", f"{whole.quantize(unit):f}"


def steps_shown(steps: Sequence[Step], state: Mapping[str, str], most: int) -> Sequence[Step]:
    """Choose at most `most` steps, around the last one in progress; where there is none, around the last completed.

    Of S1..S9 with S6 in progress, at most 4: S4, S5, S6, S7.
    """
    at = [number for number, step in enumerate(steps) if state[step.id] == "in_progress"]
    at = at or [number for number, step in enumerate(steps) if state[step.id] == "completed"] or [0]
    first = max(0, min(at[-1] - most // 2, len(steps) - most))
    return steps[first : first + most]


def event_line(time_s: float, role: str, text: str) -> str:
    """Write a line like `0:07.5  DST: S2->start`"""
    return f"{clock_time(time_s)}  {NAMES[role]}: {text}"


def clock_time(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s, 1), 60)
    return f"{int(minutes)}:{seconds:04.1f}"
