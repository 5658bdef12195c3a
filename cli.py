"""The `prospect` command: one thin function per command. Heavy imports stand inside the commands that need them."""

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from pipeline.errors import InvalidInput, ProspectError
from pipeline.terminal import clear_errors, progress_bar
from prospect import commands
from prospect.commands import TOY_CONFIG, SetOption, Split

ABOUT = "Train vision-language models to be proactive assistants for procedural tasks."
if TYPE_CHECKING:
    from pipeline.engine import LocalEngine, RayEngine
    from pipeline.shard_reader import ShardFile
    from prospect.config import Config
    from prospect.model.blueprint import Blueprint

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=ABOUT)
imports = typer.Typer(no_args_is_help=True, help="Annotations of other projects to clips.")
app.add_typer(imports, name="import")
app.add_typer(commands.app)
console = Console(markup=False)  # paths and texts of users are printed as they are
CORES = os.cpu_count() or 1
TOY_ROOT = Path("data/toy")
TOY_SHARDS = Path("shards/toyworld/train")

EngineName = Annotated[Literal["local", "ray"], typer.Option(help="Worker processes here, or on a Ray cluster.")]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes (of an existing Ray cluster: all that it has).")]
RayAddress = Annotated[str | None, typer.Option(help="Of a Ray cluster; without it, --engine ray starts one here.")]
DataRoot = Annotated[Path, typer.Option(help="Folder of datasets; the default is the toy world, made when absent.")]


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
    from pipeline.toyworld.ensure import ensure_toy

    with clear_errors():
        with progress_bar(console) as show:
            counts = ensure_toy(out, show, preset=preset, seed=seed, clips=clips)
        if counts is None:
            console.print(f"nothing to do: {out}/toyworld is there already (remove it to make it again)")
        else:
            console.print(f"{out}/toyworld: " + ", ".join(f"{n} {split} clips" for split, n in counts.items()))


@app.command()
def build_shards(
    split: Annotated[Split, typer.Option()],
    data_root: DataRoot = TOY_ROOT,
    dataset: Annotated[str | None, typer.Option(help="Default: every dataset that has the split.")] = None,
    frames_root: Annotated[Path | None, typer.Option(help="Searched first for the clips' Arrow files.")] = None,
    out: Annotated[str, typer.Option(help="Folder, or a URL such as s3://bucket/shards.")] = "shards",
    engine: EngineName = "local",
    workers: Workers = CORES,
    ray_address: RayAddress = None,
    embed_frames: Annotated[bool, typer.Option(help="Copy the frames into the shards.")] = False,
    max_silent_frames: Annotated[int, typer.Option(min=1, help="Longest run of silent frames in one sample.")] = 32,
    max_shard_mb: Annotated[int, typer.Option(min=1)] = 256,
    max_shard_samples: Annotated[int, typer.Option(min=1)] = 4096,
    on_invalid: Annotated[
        Literal["error", "skip"], typer.Option(help="What to do about clips with problems.")
    ] = "error",
    force: Annotated[bool, typer.Option(help="Build again over another build.")] = False,
    verify: Annotated[bool, typer.Option(help="Read inputs again, whatever their modification times say.")] = False,
) -> None:
    """Offline stage: clips to per-turn samples in webdataset tar shards. Needs no GPU and no torch."""
    from pipeline.build import build_split
    from pipeline.plan import Options, annotated
    from pipeline.toyworld.ensure import ensure_toy

    options = Options(
        max_silent_frames=max_silent_frames,
        embed_frames=embed_frames,
        max_shard_bytes=max_shard_mb * 1024 * 1024,
        max_shard_samples=max_shard_samples,
        on_invalid=on_invalid,
    )
    with clear_errors():
        if data_root == TOY_ROOT:
            with progress_bar(console) as show:
                ensure_toy(data_root, show)
        with _engine(engine, workers, ray_address) as running:
            for name, _ in annotated(data_root, dataset, split):
                with progress_bar(console) as show, _skip_command():
                    build = build_split(
                        data_root,
                        name,
                        split,
                        out,
                        frames_root=frames_root,
                        options=options,
                        engine=running,
                        force=force,
                        verify=verify,
                        progress=show,
                    )
                _print_build(str(build.folder), build.manifest, build.up_to_date)


@app.command()
def validate(
    split: Annotated[Split | None, typer.Option(help="Default: every split.")] = None,
    data_root: DataRoot = TOY_ROOT,
    dataset: Annotated[str | None, typer.Option(help="Default: every dataset that has the split.")] = None,
    frames_root: Annotated[Path | None, typer.Option(help="Searched first for the clips' Arrow files.")] = None,
    engine: EngineName = "local",
    workers: Workers = CORES,
    ray_address: RayAddress = None,
) -> None:
    """The checks of build-shards alone: every mistake in clips and frames files, with its place."""
    from pipeline.plan import annotated, check_splits
    from pipeline.toyworld.ensure import ensure_toy

    with clear_errors():
        with progress_bar(console) as show:
            if data_root == TOY_ROOT:
                ensure_toy(data_root, show)
            with _engine(engine, workers, ray_address) as running:
                plan = check_splits(data_root, annotated(data_root, dataset, split), frames_root, running, show)
        if plan.problems:
            places = (("--data-root", data_root), ("--dataset", dataset), ("--frames-root", frames_root))
            given = [str(part) for option, value in places if value is not None for part in (option, value)]
            again = ["prospect", "build-shards", *given, "--on-invalid", "skip", "--split", split or "SPLIT"]
            fix = f"{len(plan.skipped)} of {plan.num_clips} clips affected; correct them, or leave them out: "
            raise InvalidInput(plan.problems, fix + shlex.join(again))
        console.print(f"{plan.num_clips} clips, no problems")


@imports.command("proassist")
def import_proassist(
    files: Annotated[list[Path], typer.Argument(help="ProAssist's prepared .jsonl files.")],
    out: Annotated[Path, typer.Option(help="DATA_ROOT/NAME: the folder of the new dataset.")],
    split: Annotated[
        Split | None, typer.Option(help="Of all files; default: the one that each file's name says.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Write over annotations that an earlier import made.")] = False,
) -> None:
    """ProAssist's prepared dialogues: speech with steps, without DST updates."""
    from pipeline.importers.proassist import import_proassist

    with clear_errors():
        for name, counts in import_proassist(files, out, split, force).items():
            told = ", ".join(f"{count} {what}" for what, count in counts.items())
            console.print(f"{out}/{name}_training.jsonl: {told}", soft_wrap=True)


@app.command()
def extract_frames(
    videos: Annotated[list[Path], typer.Argument(help="Video files, in any container that FFmpeg reads.")],
    out: Annotated[Path, typer.Option(help="Folder of the frames files, VIDEO.arrow each.")],
    fps: Annotated[float, typer.Option(min=0.01, max=1000, help="Frames a second.")] = 2,
    size: Annotated[int, typer.Option(min=16, max=4096, help="Pixels a side; frames are squares.")] = 384,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEGs.")] = 90,
    workers: Workers = CORES,
    force: Annotated[bool, typer.Option(help="Make frames files again that are there.")] = False,
) -> None:
    """Videos to frames files: JPEG frames at a constant rate, in Arrow."""
    from pipeline.engine import LocalEngine
    from pipeline.importers.video import Settings, extract_frames

    with clear_errors():
        with progress_bar(console) as show, LocalEngine(workers) as engine:
            outcomes = extract_frames(videos, out, Settings(fps, size, quality), engine, show, force)
        broken = [outcome for outcome in outcomes if outcome.error]
        for outcome in outcomes:
            if not outcome.error:
                what = "there already" if outcome.kept else "written"
                console.print(f"{out / outcome.video.stem}.arrow: {outcome.rows} frames, {what}", soft_wrap=True)
        if broken:
            lines = "".join(f"\n  {outcome.video}: {outcome.error}" for outcome in broken)
            raise ProspectError(f"{len(broken)} of {len(outcomes)} videos have no frames file:{lines}")


@app.command()
def inspect_shard(
    path: Annotated[
        str, typer.Argument(help="A shard (.tar) or a split folder, or the URL of one; default: the toy world's.")
    ] = str(TOY_SHARDS),
    key: Annotated[str | None, typer.Option(help="One whole sample: its key, or the beginning or end of it.")] = None,
    frames: Annotated[Path | None, typer.Option(help="Draw the sample's frames into this PNG (needs --key).")] = None,
    tokens: Annotated[
        bool, typer.Option(help="The tokens that the model will see, and what is learned (--key).")
    ] = False,
    stats: Annotated[bool, typer.Option(help="Counts and distributions over all samples.")] = False,
    verify: Annotated[bool, typer.Option(help="Check every checksum, count, key and frame reference.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For programs: JSON, one line a sample.")] = False,
    config: Annotated[Path, typer.Option(help="With --tokens: whose tokenizer and layout.")] = TOY_CONFIG,
    set_: SetOption = None,
    data_root: DataRoot = TOY_ROOT,
    frames_root: Annotated[Path | None, typer.Option(help="Searched first for the clips' Arrow files.")] = None,
) -> None:
    """Look at what is in a shard."""
    from pipeline.shard_reader import find_sample, shards_at
    from pipeline.toyworld.ensure import ensure_toy_shards
    from prospect.report import inspect

    with clear_errors():
        _check_inspect_options(key, frames=frames is not None, tokens=tokens, stats=stats, verify=verify)
        if path == str(TOY_SHARDS):
            with progress_bar(console) as show:
                ensure_toy_shards(TOY_ROOT, Path("shards"), "standard", show)
        shards = shards_at(path)
        if stats:
            from prospect.report.stats import statistics, statistics_view

            found = statistics(shards)
            console.print_json(data=found) if json_ else console.print(statistics_view(found))
        elif verify:
            _verify(shards, path, frames_root, data_root)
        elif key is None and json_:
            for row in inspect.sample_rows(shards):
                print(json.dumps(row, ensure_ascii=False))
        elif key is None:
            wide = Console(markup=False, width=None if console.is_terminal else 200)
            wide.print(inspect.sample_table(shards))
        else:
            sample, images, clip = find_sample(shards, key)
            if tokens:
                from prospect.report.token_view import sequence_of, token_rows, token_view

                settings, blueprint = _blueprint(config, set_)
                sequence = sequence_of(sample, clip, blueprint.tokens, settings.data)
                if json_:
                    console.print_json(data=token_rows(sequence, blueprint.tokenizer))
                else:
                    console.print(token_view(sequence, blueprint.tokenizer, blueprint.tokens.image), highlight=False)
            else:
                console.print_json(data=inspect.sample_json(sample))
            if frames is not None:
                roots = inspect.frame_roots(shards[0], frames_root, data_root)
                inspect.contact_sheet(sample, images, frames, roots)
                note = Console(stderr=True) if json_ else console
                note.print(f"{len(sample.frames)} frames drawn into {frames}", soft_wrap=True)


@app.command()
def audit(
    split: Annotated[Split, typer.Option()] = "train",
    config: Annotated[Path, typer.Option(help="Whose sequences are audited.")] = TOY_CONFIG,
    set_: SetOption = None,
) -> None:
    """Check every label, target and state of a split as a run would train them, against the annotations."""
    from prospect.report.audit import audit_run, audit_table

    with clear_errors():
        settings, blueprint = _blueprint(config, set_)
        problems, count = [], 0
        for dataset in settings.data.datasets:
            with progress_bar(console) as show:
                found = audit_run(settings, blueprint, dataset, split, show)
            console.print(audit_table(found, dataset, split))
            problems += found.first_violations()
            count += sum(map(len, found.violations.values()))
        if problems:
            raise InvalidInput(problems, f"{count} violations, the first of each check above", f"in the {split} split")


@contextmanager
def _skip_command() -> Iterator[None]:
    """Problems in the input end with the command that leaves the clips out: this one, and the option."""
    try:
        yield
    except InvalidInput as error:
        again = shlex.join(["prospect", *sys.argv[1:], "--on-invalid", "skip"])
        raise InvalidInput(error.problems, f"{error.fix}: {again}", error.place) from None


def _check_inspect_options(key: str | None, **given: bool) -> None:
    """One question at a time; --frames and --tokens are about one sample."""
    for name in ("frames", "tokens"):
        if given[name] and key is None:
            raise ProspectError(f"--{name}: shows one sample; pass its --key too")
    asked = [f"--{name}" for name in ("stats", "verify") if given[name]] + (["--key"] if key else [])
    if len(asked) > 1:
        raise ProspectError(f"{' and '.join(asked)}: pass one of them")


def _verify(shards: "list[ShardFile]", path: str, frames_root: Path | None, data_root: Path) -> None:
    from pipeline.verify import verify_shard, verify_split
    from prospect.report.inspect import frame_roots

    roots = frame_roots(shards[0], frames_root, data_root)
    with progress_bar(console) as show:
        whole = not path.endswith(".tar")
        verified = verify_split(shards[0].folder, roots, show) if whole else verify_shard(shards[0], roots)
    about = f"{verified.shards} shards, {verified.samples} samples, {verified.frames} frames"
    if verified.problems:
        raise InvalidInput(
            verified.problems, f"{about} verified; build broken shards again with --force", "in the shards"
        )
    console.print(f"{about}: no problems")


def _blueprint(config: Path, set_: list[str] | None) -> "tuple[Config, Blueprint]":
    """A run's settings, tokenizer and layout; the toy world is made where the config asks for it."""
    from pipeline.toyworld.ensure import ensure_toy_shards
    from prospect.config import load_config
    from prospect.model.blueprint import make_blueprint

    settings = load_config(config, set_ or [])
    data = settings.data
    if data.toy:
        with progress_bar(console) as show:
            ensure_toy_shards(data.root, Path(data.shards), data.toy, show)
    return settings, make_blueprint(settings)


def _engine(name: str, workers: int, ray_address: str | None) -> "LocalEngine | RayEngine":
    from pipeline.engine import LocalEngine, RayEngine

    if name == "ray":
        return RayEngine(workers, ray_address)
    if ray_address:
        raise ProspectError("--ray-address: has no effect without --engine ray")
    return LocalEngine(workers)


def _print_build(folder: str, manifest: dict[str, Any], up_to_date: bool) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in manifest["kinds"].items())
    note = "nothing to do, already built: " if up_to_date else ""
    console.print(
        f"{note}{folder}: {manifest['num_clips']} clips, {manifest['num_samples']} samples ({kinds}) in "
        f"{len(manifest['shards'])} shard{'s' if len(manifest['shards']) != 1 else ''}",
        soft_wrap=True,
    )
    if manifest["skipped"]:
        reasons = ", ".join(f"{name} {count}" for name, count in manifest["skipped_by_field"].items())
        console.print(
            f"  left out {len(manifest['skipped'])} clips with problems ({reasons}); listed in manifest.json (once "
            "they are corrected: --force)",
            soft_wrap=True,
        )


if __name__ == "__main__":
    app()
