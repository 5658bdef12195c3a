"""What a person sees of a stream: a live board on a terminal, elsewhere a line an event."""

from collections import deque
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from prospect.stream.player import Played
from prospect.stream.sources import Task
from prospect.stream.streamer import StreamSettings

MARKS = {"not_started": ("○", "dim"), "in_progress": ("▶", "yellow"), "completed": ("✔", "green")}
STYLES = {"assistant": "green", "user": "cyan", "system": "dim", "dst_update": "magenta"}
NAMES = {"assistant": "Assistant", "user": "User", "system": "System", "dst_update": "DST"}
KEPT = 12  # events on the board


class Board:
    """Shows frames one after the other; a context manager."""

    def __init__(self, console: Console, task: Task, settings: StreamSettings) -> None:
        self._console, self._task, self._settings = console, task, settings
        self._events: deque[tuple[float, str, str]] = deque(maxlen=KEPT)
        self._live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal else None

    def __enter__(self) -> "Board":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, played: Played) -> None:
        said = [(turn.role, turn.text) for turn in played.lines]
        for role, text in [*said, *((action.role, action.text) for action in played.record.actions)]:
            self._events.append((played.time_s, role, text))
            if not self._live:
                self._console.print(event_line(played.time_s, role, text), soft_wrap=True, highlight=False)
        if self._live:
            self._live.update(self.view(played))

    def view(self, played: Played) -> Panel:
        record, settings = played.record, self._settings
        steps = Table.grid(padding=(0, 1))
        for step in self._task.steps:
            mark, style = MARKS[played.state[step.id]]
            steps.add_row(Text(mark, style), Text(step.id, style), Text(step.name, style))
        heads = Table.grid(padding=(0, 1))
        for name, p, threshold in (
            ("update", record.p_update, settings.update_threshold),
            ("speak", record.p_speak, settings.speak_threshold),
        ):
            style = "bold red" if p >= threshold else "blue"
            bar = ProgressBar(total=1.0, completed=p, width=30, complete_style=style, finished_style=style)
            heads.add_row(name, bar, f"{p:.2f}  (fires at {threshold:.2f})")
        events = Text("\n").join(Text(event_line(*event), STYLES[event[1]]) for event in self._events)
        context = f"context {record.context_tokens}/{settings.max_seq_len} tokens"
        foot = f"{context}, {1000 * played.latency_s:.0f} ms a frame, {played.lag_s:.1f} s behind"
        title = f"{clock_time(played.time_s)}  frame {record.frame}"
        return Panel(Group(steps, Text(), heads, Text(), events, Text(), Text(foot, "dim")), title=title)


def event_line(time_s: float, role: str, text: str) -> str:
    """`0:07.5  DST: S2->start`"""
    return f"{clock_time(time_s)}  {NAMES[role]}: {text}"


def clock_time(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s, 1), 60)
    return f"{int(minutes)}:{seconds:04.1f}"
