"""Commands that make spans and dialogues of others' annotation: import table, assembly101-mistakes, ..."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ProspectError
from prospect.commands.data import NewDataset, OverImport, tell_import
from prospect.commands.data import imports as imports
from prospect.commands.options import SplitName
from prospect.commands.terminal import clear_errors

Split = Annotated[
    SplitName | None, typer.Option(help="Of what names none; default: the one that each file's name says.")
]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Name of the dataset; default: the folder's.")]


@imports.command("table")
def import_table(
    files: Annotated[
        list[Path], typer.Argument(help="Tables (.csv, .tsv, .jsonl), ELAN's .eaf, Label Studio's .json.")
    ],
    out: NewDataset,
    split: Split = None,
    dataset: DatasetName = None,
    steps: Annotated[Path | None, typer.Option(help="The steps of every video, a name a line.")] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.01, max=1000, help="Of the videos, for Label Studio's frame numbers.")
    ] = None,
    tier: Annotated[list[str] | None, typer.Option(help="ELAN's tier of steps; may be repeated.")] = None,
    user_tier: Annotated[list[str] | None, typer.Option(help="A tier of what the user says; may be repeated.")] = None,
    assistant_tier: Annotated[list[str] | None, typer.Option(help="Likewise, of the assistant.")] = None,
    force: OverImport = False,
) -> None:
    """Read tables of step times.

    Rows of video, step, start_s, end_s, or of what was said: video, text, role, start_s.
    """
    from pipeline.importers.elan import Tiers
    from pipeline.importers.rows import LineRole
    from pipeline.importers.table import import_table

    speech: dict[str, LineRole] = dict.fromkeys(user_tier or [], "user")
    with clear_errors():
        for name in assistant_tier or []:
            if name in speech:
                raise ProspectError(f"--user-tier and --assistant-tier {name}: a tier is of one speaker")
            speech[name] = "assistant"
        tiers = Tiers(tuple(tier or ()), speech)
        tell_import(
            *import_table(files, out, split=split, dataset=dataset, steps=steps, fps=fps, tiers=tiers, force=force)
        )


@imports.command("assembly101-mistakes")
def import_assembly101_mistakes(
    files: Annotated[list[Path], typer.Argument(help="The csv files, or a folder of them.")],
    out: NewDataset,
    split: Split = None,
    dataset: DatasetName = None,
    videos: Annotated[
        Path | None, typer.Option(help="A table of your videos: video and, optional, duration_s and split.")
    ] = None,
    force: OverImport = False,
) -> None:
    """Read Assembly101's mistakes.

    Spans of attached parts, undone where they are detached again.
    """
    from pipeline.importers.assembly101 import import_assembly101_mistakes

    with clear_errors():
        tell_import(*import_assembly101_mistakes(files, out, split=split, dataset=dataset, videos=videos, force=force))


@imports.command("proassist-generated")
def import_proassist_generated(
    files: Annotated[list[Path], typer.Argument(help="ProAssist's generated_dialogs/SPLIT_filtered.json files.")],
    out: NewDataset,
    split: Split = None,
    dataset: DatasetName = None,
    force: OverImport = False,
) -> None:
    """Read ProAssist's generated dialogues.

    Dialogues and steps; what was described when is kept for prospect annotate.
    """
    from pipeline.importers.proassist_generated import import_proassist_generated

    with clear_errors():
        tell_import(*import_proassist_generated(files, out, split=split, dataset=dataset, force=force))


@imports.command("prospect-fork")
def import_fork(
    files: Annotated[list[Path], typer.Argument(help="SPLIT_training.json or SPLIT.json of the fork.")],
    out: NewDataset,
    split: Split = None,
    dataset: DatasetName = None,
    force: OverImport = False,
) -> None:
    """Read DST clips of ProAssist's fork.

    By their times; its frames and the states of its split clips are not used.
    """
    from pipeline.importers.fork import import_fork

    with clear_errors():
        tell_import(*import_fork(files, out, split=split, dataset=dataset, force=force))
