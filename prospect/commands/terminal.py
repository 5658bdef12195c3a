"""What a command shows on the terminal beside its results: errors as one clear message, progress, a run, a board.

Nothing below `prospect/commands/` prints; this module alone knows a terminal.
"""

import errno
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip
from rich.progress import Progress as Bars
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from pipeline.errors import InvalidInput, ProspectError
from pipeline.progress import Progress

UNSAFE = re.compile(  # what a terminal obeys, or what hides and reorders the text around it
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str, line_breaks: bool = False) -> str:
    """Write what a terminal would obey as it stands in Python and JSON (`\\x1b`), line breaks on demand.

    Everything that a command prints goes through here: texts, ids, paths and messages come from data.
    """
    shown = UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return shown.replace("\n", "\\n") if line_breaks else shown


class SafeConsole(Console):
    """A console whose text does nothing to the terminal but stand there; rich's own styles and movements stay."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)  # here, so that its width is right

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            is_plain = segment.control or not UNSAFE.search(segment.text)
            yield segment if is_plain else Segment(visible(segment.text), segment.style)


console = SafeConsole(markup=False)  # paths and texts of users are printed as they are
aside = SafeConsole(markup=False, stderr=True)  # beside JSON
SHORT_LOSSES = {"lm_loss": "lm", "dst_gen_loss": "dst", "dst_binary_loss": "update?", "speak_binary_loss": "speak?"}

EXTRAS = {  # packages that commands need beyond the base install
    "train": ("accelerate", "peft", "safetensors", "tensorboard", "tokenizers", "torch", "torchao", "transformers"),
    "evaluate": ("jinja2", "markupsafe", "pycocoevalcap", "scipy", "sentence_transformers"),
    "pages": ("starlette", "uvicorn", "websockets"),
    "ray": ("ray",),
    "remote": ("aiohttp", "fsspec", "s3fs"),
    "video": ("av",),
}
FIXES = {  # of errors of the operating system
    errno.ENOSPC: "free some space, then run the same command again: what was finished is kept",
    errno.EDQUOT: "free some space, then run the same command again: what was finished is kept",
    errno.EACCES: "choose a folder that you may write to, e.g. with --out",
    errno.EROFS: "choose a folder that you may write to, e.g. with --out",
}


_interrupted: list[KeyboardInterrupt] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers send it."""


@contextmanager
def clear_errors() -> Iterator[None]:
    """What a user can cause becomes one message and exit code 1; anything else is our bug and keeps its traceback."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _interrupt)
    _interrupted.clear()
    _print_any_text()
    try:
        yield
    except InvalidInput as error:
        _print_problems(error)
        raise typer.Exit(1) from None
    except ProspectError as error:
        _fail(str(error))
    except BrokenPipeError:  # e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(141) from None
    except OSError as error:
        fix = FIXES.get(error.errno or 0)
        _fail(f"{error}; {fix}" if fix else str(error))
    except ModuleNotFoundError as error:
        extra = next((extra for extra, names in EXTRAS.items() if error.name in names), None)
        if extra is None:
            raise
        fix = f"pip install 'prospect-vlm[{extra}]' (in a checkout: pip install -c constraints.txt -e '.[{extra}]')"
        _fail(f"this command needs the package {error.name}, found none; install it with: {fix}")
    except KeyboardInterrupt as error:
        what, code = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
        message = f"{what}; what was finished is kept: run the same command again (train: with --resume) to go on"
        SafeConsole(stderr=True).print(message, soft_wrap=True)
        raise typer.Exit(code) from None


def _print_any_text() -> None:
    """Let a letter that the terminal's encoding lacks be printed as an escape: it ends no command, and no stream."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress bar behind a plain function, so that the stages know no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if _interrupted:  # but not stopped: a __del__, or C++ that imports, swallows what is raised in it
                raise _interrupted[0]
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)

        yield show


@contextmanager
def show_live(view: RenderableType) -> Iterator[Callable[[], None]]:
    """Keep `view` on the terminal, drawn anew when the function given is called; elsewhere do nothing."""
    if not console.is_terminal:
        yield lambda: None
        return
    with Live(view, console=console, refresh_per_second=8, transient=False) as live:
        yield lambda: live.update(view)


class RunWatcher:
    """Shows a training run: on a terminal a bar, elsewhere a line a log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        columns = (BarColumn(bar_width=16), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        losses = TextColumn("{task.fields[now]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
        self._bars = Bars(*columns, losses, console=console, transient=True)
        self._task: TaskID | None = None

    def tell(self, line: str) -> None:
        tell(line)

    def begin(self, step: int, max_steps: int) -> None:
        self._last, self._max_steps = (step, self._clock()), max_steps
        if console.is_terminal:
            self._task = self._bars.add_task("", total=max_steps, completed=step, now="")
            self._bars.start()

    def step(self, step: int) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=step)

    def log(self, step: int, losses: Mapping[str, float]) -> None:
        parts = [f"{SHORT_LOSSES[name]} {value:.3f}" for name, value in losses.items() if name in SHORT_LOSSES]
        told = f"loss {losses['loss']:.4f}" + (f" ({', '.join(parts)})" if parts else "")
        if self._task is not None:
            self._bars.update(self._task, now=told)
            return
        before, then = self._last
        now = self._clock()
        rate = (step - before) / max(now - then, 1e-9)
        self._last = step, now
        left = timedelta(seconds=round((self._max_steps - step) / rate)) if rate else "?"
        tell(f"step {step}/{self._max_steps}: {told}, {rate:.3g} steps/s, {left} left")

    def end(self) -> None:
        if self._task is not None:
            self._bars.stop()


def tell(line: str) -> None:
    """Print a line as it is: folded by the terminal, not by us, and no second one in it."""
    console.print(visible(line, line_breaks=True), soft_wrap=True, highlight=False)


def print_json(value: Any, one_line: bool = False) -> None:
    """Print JSON for programs; what has no JSON form (a path) as text."""
    is_unicode = sys.stdout.encoding.lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not is_unicode, indent=None if one_line else 2, default=str)
    print(UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], text))  # JSON escapes: the same values


def _interrupt(signum: int, frame: object) -> NoReturn:
    interrupted = Terminated() if signum == signal.SIGTERM else KeyboardInterrupt()
    _interrupted.append(interrupted)

    def swallowed(it: "sys.UnraisableHookArgs") -> None:
        """It was raised in a __del__, or in C code that cannot fail: raised again, a moment later."""
        if it.exc_value is interrupted:
            signal.signal(signal.SIGALRM, lambda *_: _interrupt(signum, None))
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            sys.__unraisablehook__(it)

    sys.unraisablehook = swallowed
    raise interrupted


def _fail(message: str) -> NoReturn:
    SafeConsole(stderr=True).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    raise typer.Exit(1) from None


def _print_problems(error: InvalidInput) -> None:
    stderr = SafeConsole(stderr=True)
    if stderr.is_terminal:
        names = ("file", "clip", "turn", "field", "found", "expected")
        table = Table(*(Column(name, overflow="fold") for name in names), title=f"Problems {error.place}")
        for problem in error.problems:
            row = (problem.file, problem.clip, problem.turn, problem.field, problem.found, problem.expected)
            table.add_row(*map(escape, row))
        stderr.print(table)
    else:  # a log: one line each
        for problem in error.problems:
            stderr.print(escape(visible(str(problem), line_breaks=True)), soft_wrap=True, highlight=False)
    stderr.print(f"[bold red]error:[/] {escape(error.fix)}", soft_wrap=True, highlight=False)
