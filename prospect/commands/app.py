"""The `prospect` command: its groups of commands, one thin function each. Heavy imports stand inside the commands."""

from importlib.metadata import version
from typing import Annotated

import typer

from prospect.commands import annotating, data, importing, judging, pages, reporting, shards, training, watching

ABOUT = "Train vision-language models to be proactive assistants for procedural tasks."

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=ABOUT)
for group in (data, annotating, reporting, shards, training, watching, judging, pages):
    app.add_typer(group.app)
app.add_typer(importing.imports, name="import")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"prospect {version('prospect-vlm')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version.")] = (
        False
    ),
) -> None:
    pass
