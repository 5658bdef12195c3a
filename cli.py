"""The `prospect` command: one thin function per command. Heavy imports stand inside the commands that need them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.errors import InvalidInput, ProspectError
from pipeline.progress import progress_bar

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console()
TOY_ROOT = Path("data/toy")

Split = Literal["train", "val", "test"]
DataRoot = Annotated[Path, typer.Option(help="Folder of datasets; the default is the toy world, made when absent.")]


@contextmanager
def clear_errors() -> Iterator[None]:
    """What a user can cause becomes one message and exit code 1; anything else is our bug and keeps its traceback."""
    try:
        yield
    except InvalidInput as error:
        _print_problems(error)
        raise typer.Exit(1) from None
    except (ProspectError, OSError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; what was finished is kept, run the same command again to go on")
        raise typer.Exit(130) from None


@app.command()
def make_toy(
    out: Annotated[Path, typer.Option(help="Where the dataset folder `toyworld` goes.")] = TOY_ROOT,
    seed: int = 0,
    clips: Annotated[int, typer.Option(min=1, help="Training clips; val and test get 2/15 of it each.")] = 300,
    preset: Annotated[
        Literal["standard", "hard"], typer.Option(help="hard: step ids by position in the prompt's list.")
    ] = "standard",
) -> None:
    """Render the toy world: annotated assembly clips and their frames, in the formats of real data."""
    from pipeline.toyworld.make import make_toy, num_clips

    with clear_errors():
        if (out / "toyworld").exists():
            console.print(f"{out}/toyworld is there already; nothing to do (remove it to make it again)")
            return
        total, done = sum(num_clips(clips).values()), 0
        with progress_bar(console) as show:

            def on_clip() -> None:
                nonlocal done
                done += 1
                show("rendering clips", done, total)

            counts = make_toy(out, seed=seed, clips=clips, preset=preset, on_clip=on_clip)
        console.print(f"{out}/toyworld: " + ", ".join(f"{n} {split} clips" for split, n in counts.items()))


@app.command()
def build_shards(
    split: Annotated[Split, typer.Option()],
    data_root: DataRoot = TOY_ROOT,
    dataset: Annotated[str | None, typer.Option(help="Default: every dataset that has the split.")] = None,
    frames_root: Annotated[Path | None, typer.Option(help="Searched first for the clips' Arrow files.")] = None,
    out: Path = Path("shards"),
    workers: Annotated[int, typer.Option(min=1, help="Processes that write shards.")] = 2,
    embed_frames: Annotated[bool, typer.Option(help="Copy the frames into the shards.")] = False,
    max_silent_frames: Annotated[int, typer.Option(min=1, help="Longest run of silent frames in one sample.")] = 32,
    max_shard_mb: Annotated[int, typer.Option(min=1)] = 256,
    max_shard_samples: Annotated[int, typer.Option(min=1)] = 4096,
    on_invalid: Annotated[
        Literal["error", "skip"], typer.Option(help="What to do about clips with problems.")
    ] = "error",
    force: Annotated[bool, typer.Option(help="Build again over another build.")] = False,
) -> None:
    """Offline stage: clips to per-turn samples in webdataset tar shards. Needs no GPU and no torch."""
    from pipeline.build import build_split
    from pipeline.plan import Options, datasets

    options = Options(
        max_silent_frames=max_silent_frames,
        embed_frames=embed_frames,
        max_shard_bytes=max_shard_mb * 1024 * 1024,
        max_shard_samples=max_shard_samples,
        on_invalid=on_invalid,
    )
    with clear_errors():
        _ensure_toy(data_root)
        if not data_root.is_dir():
            raise ProspectError(f"data root {data_root}: no such folder; pass --data-root with your datasets' folder")
        names = [dataset] if dataset else datasets(data_root, split)
        if not names:
            raise ProspectError(
                f"{data_root}: no dataset has a {split}_training.json; expected DATASET/{split}_training.json"
            )
        for name in names:
            with progress_bar(console) as show:
                build = build_split(
                    data_root,
                    name,
                    split,
                    out,
                    frames_root=frames_root,
                    options=options,
                    workers=workers,
                    force=force,
                    progress=show,
                )
            _print_build(build.folder, build.manifest, build.up_to_date)


@app.command()
def inspect_shard(
    path: Annotated[Path, typer.Argument(help="A shard (.tar) or a split folder.")],
    key: Annotated[str | None, typer.Option(help="One whole sample: its key, or the beginning or end of it.")] = None,
    frames: Annotated[Path | None, typer.Option(help="Draw the sample's frames into this PNG (needs --key).")] = None,
    data_root: DataRoot = TOY_ROOT,
    frames_root: Annotated[Path | None, typer.Option(help="Searched first for the clips' Arrow files.")] = None,
) -> None:
    """Look at what is in a shard."""
    from prospect.report import inspect

    with clear_errors():
        paths = inspect.shards_at(path)
        if key is None:
            if frames is not None:
                raise ProspectError("--frames: draws one sample; pass its --key too")
            wide = Console(width=None if console.is_terminal else 200)
            wide.print(inspect.sample_table(paths))
            return
        sample, images = inspect.find_sample(paths, key)
        console.print_json(data=inspect.sample_json(sample))
        if frames is not None:
            inspect.contact_sheet(sample, images, frames, frames_root=frames_root, data_root=data_root)
            console.print(f"{len(sample.frames)} frames drawn into {frames}", soft_wrap=True)


def _ensure_toy(data_root: Path) -> None:
    """The default data root is made when absent; any other has to be there."""
    if data_root == TOY_ROOT and not (data_root / "toyworld").exists():
        make_toy(out=data_root, seed=0, clips=300, preset="standard")


def _print_build(folder: Path, manifest: dict[str, Any], up_to_date: bool) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in manifest["kinds"].items())
    note = "nothing to do, already built: " if up_to_date else ""
    console.print(
        f"{note}{folder}: {manifest['num_clips']} clips, {manifest['num_samples']} samples ({kinds}) in "
        f"{len(manifest['shards'])} shard{'s' if len(manifest['shards']) != 1 else ''}",
        soft_wrap=True,
    )
    if manifest["skipped"]:
        reasons = ", ".join(f"{name} {count}" for name, count in manifest["skipped_by_field"].items())
        console.print(f"  left out {len(manifest['skipped'])} clips with problems ({reasons}); listed in manifest.json")


def _print_problems(error: InvalidInput) -> None:
    stderr = Console(stderr=True)
    if stderr.is_terminal:
        table = Table("file", "clip", "turn", "field", "found", "expected", title="Problems in the input")
        for problem in error.problems:
            row = (problem.file, problem.clip, problem.turn, problem.field, problem.found, problem.expected)
            table.add_row(*map(escape, row))
        stderr.print(table)
    else:  # a log: one line each
        for problem in error.problems:
            stderr.print(escape(str(problem)), soft_wrap=True, highlight=False)
    stderr.print(f"[bold red]error:[/] nothing was written: {escape(error.fix)}", soft_wrap=True)


if __name__ == "__main__":
    app()
