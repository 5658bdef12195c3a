"""Commands that build shards and look into them: build-shards, inspect-shard, audit."""

import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.annotations.filters import parse_filter, told
from pipeline.annotations.ranges import ranges_line
from pipeline.errors import InvalidInput, ProspectError
from pipeline.io.remote import shown
from prospect.commands.options import (
    CORES,
    ConfigName,
    DataRoot,
    Dataset,
    EngineName,
    FramesRoot,
    Json,
    RayAddress,
    Set,
    SplitName,
    Workers,
    open_engine,
    read_blueprint,
)  # fmt: skip
from prospect.commands.terminal import aside, clear_errors, console, print_json, progress_bar, tell

if TYPE_CHECKING:
    from pipeline.shards.manifest import Manifest
    from pipeline.shards.reader import ShardFile
    from pipeline.shards.sample import TurnSample

    Found = tuple[TurnSample, list[bytes], list[TurnSample]]  # of `find_sample`

app = typer.Typer()
Kind = Literal["dst_update", "assistant", "silent"]
ROWS = 40  # of inspect-shard's table, unless asked for


@app.command()
def build_shards(
    split: Annotated[SplitName, typer.Option()],
    data_root: DataRoot = Path("data"),
    dataset: Dataset = None,
    frames_root: FramesRoot = None,
    out: Annotated[str, typer.Option(help="Folder, or a URL such as s3://bucket/shards.")] = "shards",
    engine: EngineName = "local",
    workers: Workers = CORES,
    ray_address: RayAddress = None,
    embed_frames: Annotated[bool, typer.Option(help="Copy the frames into the shards.")] = False,
    max_silent_frames: Annotated[int, typer.Option(min=1, help="Longest run of silent frames in one sample.")] = 32,
    max_event_frames: Annotated[
        int, typer.Option(min=1, help="Frames of an update's or utterance's sample: the last of its range.")
    ] = 8,
    max_shard_mb: Annotated[int, typer.Option(min=1)] = 256,
    max_shard_samples: Annotated[int, typer.Option(min=1)] = 4096,
    on_invalid: Annotated[
        Literal["error", "skip"], typer.Option(help="What to do about clips with problems.")
    ] = "error",
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out clips that do not meet KEY OP VALUE, OP one of = != < <= > >=: 'quality>=8', "
            "'user_type!=no_talk'; may be repeated."
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Build again over another build.")] = False,
    verify: Annotated[bool, typer.Option(help="Read inputs again, whatever their modification times say.")] = False,
) -> None:
    """Make turn shards of clips: the offline stage.

    Per-turn samples in webdataset tar shards, an index and a manifest. Needs no GPU and no torch.
    """
    from pipeline.annotations.files import annotated
    from pipeline.shards.build import build_split
    from pipeline.shards.scan import Options

    with clear_errors():
        options = Options(
            max_silent_frames=max_silent_frames,
            max_event_frames=max_event_frames,
            embed_frames=embed_frames,
            max_shard_bytes=max_shard_mb * 1024 * 1024,
            max_shard_samples=max_shard_samples,
            on_invalid=on_invalid,
            where=tuple(parse_filter(text).text for text in where or ()),
        )
        with open_engine(engine, workers, ray_address) as running:
            for name, _ in annotated(data_root, dataset, split):
                with progress_bar() as show, _skip_command():
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
def inspect_shard(
    path: Annotated[str, typer.Argument(help="A shard (.tar) or a split folder, or the URL of one.")],
    key: Annotated[
        str | None,
        typer.Option(help="One whole sample: its number in the list, its key, or the beginning or end of it."),
    ] = None,
    clip: Annotated[str | None, typer.Option(help="Of the list: clips whose id has this text.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Of the list: samples of this kind.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help=f"Of the list: the first so many; default {ROWS}, with --json all.")
    ] = None,
    frames: Annotated[Path | None, typer.Option(help="Draw the sample's frames into this PNG (needs --key).")] = None,
    storyboard: Annotated[
        Path | None, typer.Option(help="Draw the whole clip of the sample into this PNG (needs --key).")
    ] = None,
    tokens: Annotated[
        bool, typer.Option(help="The tokens that the model will see, and what is learned (--key, --config).")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="With --tokens: write them as a page into this file.")] = None,
    stats: Annotated[bool, typer.Option(help="Counts and distributions over all samples.")] = False,
    verify: Annotated[bool, typer.Option(help="Check every checksum, count, key and frame reference.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For programs: JSON, one line a sample.")] = False,
    config: Annotated[
        str | None, typer.Option(help="With --tokens: whose tokenizer and layout; a file or a packaged name.")
    ] = None,
    set_: Set = None,
    data_root: DataRoot = Path("data"),
    frames_root: FramesRoot = None,
) -> None:
    """Look at what is in a shard."""
    from pipeline.shards.reader import find_sample, shards_at
    from prospect.looking import shard

    with clear_errors():
        drawn = {"frames": frames is not None, "storyboard": storyboard is not None}
        _check_inspect_options(key, config, **drawn, tokens=tokens, stats=stats, verify=verify)
        if html is not None and not tokens:
            raise ProspectError(f"--html {html}: is the page of a sample's tokens; pass --tokens too")
        shards = shards_at(path)
        if stats:
            from prospect.looking.stats import statistics, statistics_view

            numbers = statistics(shards)
            print_json(numbers) if json else console.print(statistics_view(numbers))
        elif verify:
            _verify(shards, path, frames_root, data_root, json)
        elif key is None and json:
            for row in shard.sample_rows(shards, clip, kind, limit):
                print_json(row, one_line=True)
        elif key is None:
            console.print(shard.sample_table(shards, clip, kind, ROWS if limit is None else limit))
        else:
            found = find_sample(shards, key)
            _show_sample(found, shards[0].name, json, config if tokens else None, set_, html)
            roots = shard.frame_roots(shards[0], frames_root, data_root)
            _draw_sample(found, shards, frames, storyboard, roots, json)


@app.command()
def audit(
    config: ConfigName,
    split: Annotated[SplitName, typer.Option()] = "train",
    set_: Set = None,
    json: Json = False,
) -> None:
    """Check every label that a run would train.

    Labels, targets and states of a split, against the annotations.
    """
    from prospect.looking.audit import audit_record, audit_run, audit_table

    with clear_errors():
        settings, blueprint = read_blueprint(config, set_)
        problems, count = [], 0
        for dataset in settings.data.datasets:
            with progress_bar() as show:
                audited = audit_run(settings, blueprint, dataset, split, show)
            print_json(audit_record(audited, dataset, split)) if json else console.print(
                audit_table(audited, dataset, split)
            )
            problems += audited.first_violations()
            count += sum(map(len, audited.violations.values()))
        if problems:
            raise InvalidInput(problems, f"{count} violations, the first of each check above", f"in the {split} split")


@contextmanager
def _skip_command() -> Iterator[None]:
    """End problems in the input with the command that leaves the clips out: this one, and the option."""
    try:
        yield
    except InvalidInput as error:
        again = shown(shlex.join(["prospect", *sys.argv[1:], "--on-invalid", "skip"]))
        raise InvalidInput(error.problems, f"{error.fix}: {again}", error.place) from None


def _check_inspect_options(key: str | None, config: str | None, **given: bool) -> None:
    """One question at a time; --frames, --storyboard and --tokens are about one sample."""
    for name in ("frames", "storyboard", "tokens"):
        if given[name] and key is None:
            raise ProspectError(f"--{name}: shows one sample; pass its --key too")
    if given["tokens"] and config is None:
        raise ProspectError("--tokens: pass --config too: whose tokenizer and layout (a file, or a name such as toy)")
    asked = [f"--{name}" for name in ("stats", "verify") if given[name]] + (["--key"] if key else [])
    if len(asked) > 1:
        raise ProspectError(f"{' and '.join(asked)}: pass one of them")


def _show_sample(
    found: "Found", shard: str, json: bool, config: str | None, set_: list[str] | None, html: Path | None
) -> None:
    """Show one sample whole, or (`config`) as tokens, in the file `html` or here."""
    from prospect.looking.shard import sample_json

    sample, _, clip = found
    if config is None:
        print_json(sample_json(sample))
    else:
        from prospect.looking.token_view import (
            drawn_at_first,
            sequence_of,
            token_data,
            token_rows,
            token_view,
            write_token_page,
        )

        settings, blueprint = read_blueprint(config, set_)
        laid = sequence_of(sample, clip, blueprint.tokens, settings.data)
        is_trained = shard.startswith(f"{settings.data.train_split}-")
        data = token_data(laid, blueprint, drawn_at_first(settings, sample.clip.id) if is_trained else None)
        if json:
            print_json(token_rows(laid.sequence, blueprint.tokenizer))
        if html is not None:
            write_token_page(html, sample.key, data)
            (aside if json else console).print(f"{len(laid.sequence)} tokens written to {html}", soft_wrap=True)
        elif not json:
            console.print(token_view(data), highlight=False)


def _draw_sample(
    found: "Found",
    shards: "list[ShardFile]",
    frames: Path | None,
    storyboard: Path | None,
    roots: list[Path],
    json: bool,
) -> None:
    """Draw a sample's frames, and its whole clip, into PNGs where they are asked for."""
    from prospect.looking.shard import contact_sheet, storyboard_sheet

    sample, images, clip = found
    told = []
    if frames is not None:
        note = contact_sheet(sample, images, frames, roots)
        told += [f"{len(sample.frames)} frames drawn into {frames}", note]
    if storyboard is not None:
        note = storyboard_sheet(clip, shards, storyboard, roots)
        told += [f"clip {sample.clip.id} drawn into {storyboard}", note]
    for line in filter(None, dict.fromkeys(told)):
        (aside if json else console).print(line, soft_wrap=True, markup=False, highlight=False)


def _verify(shards: "list[ShardFile]", path: str, frames_root: Path | None, data_root: Path, json: bool) -> None:
    from pipeline.shards.verify import verify_shard, verify_split
    from prospect.looking.shard import frame_roots

    roots = frame_roots(shards[0], frames_root, data_root)
    with progress_bar() as show:
        whole = not path.endswith(".tar")
        verified = verify_split(shards[0].folder, roots, show) if whole else verify_shard(shards[0], roots)
    if json:
        counts = {"shards": verified.shards, "samples": verified.samples, "frames": verified.frames}
        print_json(counts | {"problems": [asdict(problem) for problem in verified.problems]})
        raise typer.Exit(1 if verified.problems else 0)
    about = f"{verified.shards} shards, {verified.samples} samples, {verified.frames} frames"
    if verified.problems:
        fix = f"{about} verified; build broken shards again with --force"
        if any(problem.field == "frames.file" for problem in verified.problems):
            fix += (
                f" (frames files were looked for under {frames_root or data_root}: pass --data-root or --frames-root)"
            )
        raise InvalidInput(verified.problems, fix, "in the shards")
    tell(f"{about}: no problems")


def _print_build(folder: str, manifest: "Manifest", up_to_date: bool) -> None:
    def counted(count: int, what: str) -> str:
        return f"{count} {what}{'s' if count != 1 else ''}"

    kinds = ", ".join(f"{count} {kind}" for kind, count in manifest.kinds.items())
    note = "nothing to do, already built: " if up_to_date else ""
    clips, samples = counted(manifest.num_clips, "clip"), counted(manifest.num_samples, "sample")
    tell(f"{note}{folder}: {clips}, {samples} ({kinds}) in {counted(len(manifest.shards), 'shard')}")
    tell(f"  {ranges_line(Counter(manifest.ranges))}")
    if manifest.filters:
        tell(f"  filters left out {counted(manifest.num_left_out, 'clip')}: {told(manifest.filters)}")
    if manifest.skipped:
        reasons = ", ".join(f"{name} {count}" for name, count in manifest.skipped_by_field.items())
        tell(
            f"  left out {counted(len(manifest.skipped), 'clip')} with problems ({reasons}); listed in "
            "manifest.json (once they are corrected: --force)"
        )
