"""Commands that read others' annotation into clips, or into spans and dialogues: prospect import SOURCE."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import ProspectError
from prospect.commands.options import SplitName
from prospect.commands.terminal import clear_errors, tell

if TYPE_CHECKING:
    from pipeline.importers.outputs import Tally

imports = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read other projects' annotation.")
NewDataset = Annotated[Path, typer.Option("--out", help="DATA_ROOT/NAME: the folder of the new dataset.")]
OverImport = Annotated[bool, typer.Option("--force", help="Write over annotations that an earlier import made.")]
Split = Annotated[
    SplitName | None, typer.Option(help="Of what names none; default: the one that each file's name says.")
]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Name of the dataset; default: the folder's.")]


@imports.command("proassist")
def import_proassist(
    files: Annotated[list[Path], typer.Argument(help="ProAssist's prepared .jsonl files.")],
    out: NewDataset,
    split: Split = None,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out dialogues of a lower quality (0 to 10), and those without one.")
    ] = None,
    force: OverImport = False,
) -> None:
    """Read ProAssist's prepared dialogues.

    Speech with steps, without DST updates.
    """
    from pipeline.importers.proassist import import_proassist

    with clear_errors():
        for name, counts in import_proassist(files, out, split, force, min_score).items():
            tell(
                f"{out}/{name}_training.jsonl: "
                + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
            )


@imports.command("captaincook4d")
def import_captaincook4d(
    source: Annotated[Path, typer.Argument(help="A checkout of CaptainCook4D/annotations.")],
    out: NewDataset,
    splits: Annotated[str, typer.Option(help="Name of a file in its data_splits.")] = "recordings_data_split_combined",
    force: OverImport = False,
) -> None:
    """Read CaptainCook4D's step times.

    Spans, with errors and steps not performed; no dialogue.
    """
    from pipeline.importers.captaincook4d import import_captaincook4d

    with clear_errors():
        _tell_import(*import_captaincook4d(source, out, splits, force))


@imports.command("howtodiv")
def import_howtodiv(
    source: Annotated[Path, typer.Argument(help="HowToDIVDataset.zip, or the folder that was in it.")],
    out: NewDataset,
    keep_shared: Annotated[
        bool,
        typer.Option(
            "--keep-shared", help="Keep a video's sessions in each split that lists one; no shards are built."
        ),
    ] = False,
    force: OverImport = False,
) -> None:
    """Read HowToDIV's sessions.

    Spans, and the dialogues of user and expert.
    """
    from pipeline.importers.howtodiv import import_howtodiv

    with clear_errors():
        _tell_import(*import_howtodiv(source, out, keep_shared, force))


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
        _tell_import(
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
        _tell_import(*import_assembly101_mistakes(files, out, split=split, dataset=dataset, videos=videos, force=force))


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
        _tell_import(*import_proassist_generated(files, out, split=split, dataset=dataset, force=force))


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
        _tell_import(*import_fork(files, out, split=split, dataset=dataset, force=force))


def _tell_import(files: Sequence[Path], tally: "Tally") -> None:
    for line in tally.lines():
        tell(line)
    tell("written: " + ", ".join(map(str, files)))
