"""What a person sees of a run, on a terminal and off one, and what a program reads."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
import typer
from rich.table import Table
from rich.text import Text

from pipeline.errors import InvalidInput, Problem, ProspectError
from prospect.commands import terminal
from prospect.commands.app import app
from prospect.commands.terminal import RunWatcher, SafeConsole, clear_errors, print_json, show_live, tell
from tests.helpers.command import run


@pytest.fixture
def console(monkeypatch):
    """A console in place of the command's: off a terminal, or of so many columns on one."""

    def use(is_terminal: bool, width: int = 80) -> io.StringIO:
        out = io.StringIO()
        made = SafeConsole(file=out, force_terminal=is_terminal, width=width, markup=False)
        monkeypatch.setattr(terminal, "console", made)
        return out

    return use


def test_off_a_terminal_a_run_is_a_line_a_log(console):
    out = console(is_terminal=False)
    times = iter([0.0, 5.0, 7.0])
    watcher = RunWatcher(clock=lambda: next(times))
    watcher.begin(20, 60)
    for step in (21, 22):
        watcher.step(step)
    watcher.log(30, {"loss": 2.5, "lm_loss": 1.0, "dst_gen_loss": 1.5})
    watcher.log(40, {"loss": 2.0})
    watcher.end()
    assert out.getvalue().splitlines() == [
        "step 30/60: loss 2.5000 (lm 1.000, dst 1.500), 2 steps/s, 0:00:15 left",
        "step 40/60: loss 2.0000, 5 steps/s, 0:00:04 left",
    ]


def test_on_a_terminal_a_run_is_one_line_with_what_is_left(console):
    """At 80 columns: the losses give way, the count and the time do not."""
    out = console(is_terminal=True)
    watcher = RunWatcher()
    watcher.begin(0, 900)
    watcher.step(450)
    watcher.log(450, {"loss": 2.5, "lm_loss": 1.0, "dst_gen_loss": 1.5, "dst_binary_loss": 0.1})
    watcher.end()
    shown = out.getvalue()
    assert "450/900" in shown and "loss 2.50" in shown and "0:00:00" in shown
    assert "step 450/900" not in shown


def test_a_live_view_is_drawn_on_a_terminal_alone(console):
    out = console(is_terminal=False)
    with show_live("a board") as refresh:
        refresh()
    assert out.getvalue() == ""
    out = console(is_terminal=True)
    with show_live("a board") as refresh:
        refresh()
    assert "a board" in out.getvalue()


def test_json_for_programs_has_paths_as_text(capsys):
    print_json({"folder": Path("a") / "b", "text": "é"})
    assert json.loads(capsys.readouterr().out) == {"folder": "a/b", "text": "é"}


HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9bd\x85e\u202ef\u2066g\u200fh\u2028i\rj\x7fk\udc80l"
SHOWN = r"a\x1b[2Jb\x1b]0;title\x07c\x9bd\x85e\u202ef\u2066g\u200fh\u2028i\rj\x7fk\udc80l"


def table_of(text):
    table = Table("key", box=None)
    table.add_row(text)
    return table


@pytest.mark.parametrize("is_terminal", [False, True])
def test_nothing_of_data_reaches_a_terminal_but_as_text(console, is_terminal):
    """attack.md 11: escapes that clear the screen, set its title, or turn a line round, in text of whatever kind."""
    out = console(is_terminal, width=200)
    tell(HOSTILE)
    for renderable in (HOSTILE, table_of(HOSTILE)):
        terminal.console.print(renderable, highlight=False)
    assert out.getvalue().count(SHOWN) == 3
    with show_live(HOSTILE) as refresh:
        refresh()
    for renderable in (Text(HOSTILE), table_of(Text(HOSTILE))):
        terminal.console.print(renderable)
    ours = re.sub(r"\x1b\[[0-9;?]*[A-KSTfhlmnsu]", "", out.getvalue())  # colours and the live view's movements
    assert [c for c in ours if not c.isprintable() and c not in "\n\r"] == []
    assert "\x1b[2J" not in out.getvalue() and "\\x1b[2J" in ours
    assert is_terminal or "\x1b" not in out.getvalue()


def test_a_line_break_in_data_makes_no_line_of_its_own(console, capsys):
    """A newline in a state's key forged a line of the log."""
    out = console(is_terminal=False)
    tell("step 1\nerror: all is lost")
    assert out.getvalue() == "step 1\\nerror: all is lost\n"
    problem = Problem("f.json", "clip 0", "", "dst_state.S1\nf.json clip 1", "'x'", "a step")
    with pytest.raises(typer.Exit), clear_errors():
        raise InvalidInput([problem], "correct it")
    assert capsys.readouterr().err == (
        "f.json clip 0: dst_state.S1\\nf.json clip 1: found 'x', expected a step\nerror: correct it\n"
    )


def test_an_error_is_text_alone(capsys):
    with pytest.raises(typer.Exit), clear_errors():
        raise ProspectError(f"{HOSTILE}: [bold]no such file[/]")
    assert capsys.readouterr().err == f"error: {SHOWN}: [bold]no such file[/]\n"


def test_json_for_programs_has_the_same_values_and_nothing_that_a_terminal_obeys(capsys):
    print_json({"text": HOSTILE, "é": "日本"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"text": HOSTILE, "é": "日本"} and "日本" in out
    assert out.isprintable() is False and all(c.isprintable() or c == "\n" for c in out)


def commands(app) -> list[str]:
    groups = [group.typer_instance for group in app.registered_groups if not isinstance(group.name, str)]
    return [
        command.name or command.callback.__name__.replace("_", "-")
        for group in groups
        for command in group.registered_commands
    ]


def test_no_option_is_cut_at_80_columns(tmp_path):
    names = commands(app)
    assert len(names) > 12
    for name in names:
        shown = run(tmp_path, name, "--help", columns=80).stdout
        assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown
        assert not [line for line in shown.splitlines() if line.startswith("  --") and "..." in line]


def test_the_version_is_told(tmp_path):
    assert run(tmp_path, "--version").stdout.startswith("prospect 0.")


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"caf\\xe9 \\u505a"), ("utf-8", "café 做".encode())])
def test_a_letter_that_the_terminal_lacks_ends_no_command(monkeypatch, encoding, shown):
    """A user's line, a path, a step's name; JSON stays JSON."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(terminal.signal, "signal", lambda number, handler: None)  # the test's own stay
    with pytest.raises(typer.Exit), clear_errors():
        tell("café 做")
        print_json({"name": "café 做"}, one_line=True)
        raise ProspectError("café 做: no such file")
    out.flush()
    err.flush()
    line, record = out.buffer.getvalue().splitlines()
    assert line == shown and json.loads(record) == {"name": "café 做"}
    assert err.buffer.getvalue() == b"error: " + shown + b": no such file\n"
