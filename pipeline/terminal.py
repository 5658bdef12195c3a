"""What a command shows on the terminal beside its results: errors as one clear message, and progress."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.errors import InvalidInput, ProspectError

EXTRAS = {  # packages that commands need beyond the base install
    "train": ("accelerate", "peft", "safetensors", "tensorboard", "tokenizers", "torch", "torchao", "transformers"),
    "evaluate": ("plotly", "pycocoevalcap", "scipy", "sentence_transformers"),
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
        fix = f"pip install -c constraints.txt -e '.[{extra}]'"
        _fail(f"this command needs the package {error.name}, found none; install it with: {fix}")
    except KeyboardInterrupt as error:
        what, code = ("terminated", 143) if isinstance(error, Terminated) else ("interrupted", 130)
        message = f"{what}; what was finished is kept: run the same command again (train: with --resume) to go on"
        Console(stderr=True).print(message, soft_wrap=True)
        raise typer.Exit(code) from None


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """A rich progress bar behind a plain function (stage, done, total), so that the stages know no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if _interrupted:  # but not stopped: a __del__, or C++ that imports, swallows what is raised in it
                raise _interrupted[0]
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        yield show


def _interrupt(signum: int, frame: object) -> NoReturn:
    interrupted = Terminated() if signum == signal.SIGTERM else KeyboardInterrupt()
    _interrupted.append(interrupted)
    sys.unraisablehook = lambda it: None if it.exc_value is interrupted else sys.__unraisablehook__(it)
    raise interrupted


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    raise typer.Exit(1) from None


def _print_problems(error: InvalidInput) -> None:
    stderr = Console(stderr=True)
    if stderr.is_terminal:
        table = Table("file", "clip", "turn", "field", "found", "expected", title=f"Problems {error.place}")
        for problem in error.problems:
            row = (problem.file, problem.clip, problem.turn, problem.field, problem.found, problem.expected)
            table.add_row(*map(escape, row))
        stderr.print(table)
    else:  # a log: one line each
        for problem in error.problems:
            stderr.print(escape(str(problem)), soft_wrap=True, highlight=False)
    stderr.print(f"[bold red]error:[/] {escape(error.fix)}", soft_wrap=True, highlight=False)
