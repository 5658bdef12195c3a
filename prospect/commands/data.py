"""Commands that make or check clips and frames: make-toy, project, extract-frames, validate."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.errors import InvalidInput, ProspectError
from prospect.commands.options import (
    CORES,
    DataRoot,
    Dataset,
    EngineName,
    FramesRoot,
    Json,
    RayAddress,
    SplitName,
    Workers,
    open_engine,
)  # fmt: skip
from prospect.commands.terminal import clear_errors, print_json, progress_bar, tell

app = typer.Typer()
TOY_ROOT = Path("data/toy")


@app.command()
def make_toy(
    out: Annotated[Path, typer.Option(help="Where the dataset folder `toyworld` goes.")] = TOY_ROOT,
    seed: int = 0,
    clips: Annotated[int, typer.Option(min=1, help="Training clips; val and test get 2/15 of it each.")] = 300,
    preset: Annotated[
        Literal["standard", "hard"], typer.Option(help="hard: step ids by position in the prompt's list.")
    ] = "standard",
) -> None:
    """Render the toy world, a dataset in the formats of real data.

    Annotated assembly clips and their frames, with held-out combinations and orders of steps.
    """
    from pipeline.toyworld.make import DATASET, make_toy, num_clips

    folder = out / DATASET
    with clear_errors():
        if folder.exists():
            tell(f"nothing to do: {folder} is there already (remove it to make it again)")
            return
        total, done = sum(num_clips(clips).values()), 0
        with progress_bar() as show:

            def on_clip() -> None:
                nonlocal done
                done += 1
                show("rendering clips", done, total)

            counts = make_toy(out, seed=seed, clips=clips, preset=preset, on_clip=on_clip)
        tell(f"{folder}: " + ", ".join(f"{count} {split} clips" for split, count in counts.items()))


@app.command()
def validate(
    split: Annotated[SplitName | None, typer.Option(help="Default: every split.")] = None,
    data_root: DataRoot = Path("data"),
    dataset: Dataset = None,
    frames_root: FramesRoot = None,
    engine: EngineName = "local",
    workers: Workers = CORES,
    ray_address: RayAddress = None,
    json: Json = False,
) -> None:
    """Check clips and frames files, as build-shards would.

    Every mistake is told, with its place; nothing is written.
    """
    from dataclasses import asdict

    from pipeline.annotations.files import annotated
    from pipeline.annotations.ranges import ranges_line
    from pipeline.shards.scan import check_splits

    with clear_errors():
        with progress_bar() as show, open_engine(engine, workers, ray_address) as running:
            scan = check_splits(data_root, annotated(data_root, dataset, split), frames_root, running, show)
        if json:
            about = {"clips": scan.num_clips, "clips_with_problems": len(scan.skipped), "ranges": scan.ranges}
            print_json(about | {"problems": [asdict(problem) for problem in scan.problems]})
            raise typer.Exit(1 if scan.problems else 0)
        if scan.problems:
            places = (("--data-root", data_root), ("--dataset", dataset), ("--frames-root", frames_root))
            given = [str(part) for option, value in places if value is not None for part in (option, value)]
            again = ["prospect", "build-shards", *given, "--on-invalid", "skip", "--split", split or "SPLIT"]
            fix = f"{len(scan.skipped)} of {scan.num_clips} clips affected; correct them, or leave them out: "
            raise InvalidInput(scan.problems, fix + shlex.join(again))
        tell(f"{scan.num_clips} clip{'s' if scan.num_clips != 1 else ''}, no problems")
        tell(ranges_line(scan.ranges))


@app.command()
def project(
    spans: Annotated[Path, typer.Option(help="Spans of a split, e.g. train_spans.jsonl.")],
    out: Annotated[Path, typer.Option(help="DATA_ROOT/NAME: the folder of the dataset.")],
    dialogues: Annotated[Path | None, typer.Option(help="What was said, e.g. train_dialogues.jsonl.")] = None,
    frames_root: Annotated[
        Path | None,
        typer.Option(help="Folder of VIDEO.arrow, whose rows are its length; else duration_s is."),
    ] = None,
    fps: Annotated[float, typer.Option(min=0.01, max=1000, help="Frames a second.")] = 2,
    max_clip_s: Annotated[
        float | None, typer.Option(min=1, help="Cut longer videos into clips, each with the state before it.")
    ] = None,
    split: Annotated[SplitName | None, typer.Option(help="Default: as the file's name begins.")] = None,
    force: Annotated[bool, typer.Option(help="Write over clips that an earlier projection made.")] = False,
    json: Json = False,
) -> None:
    """Make clips of spans and dialogues: states in seconds become transitions at frames.

    Free of charge: for another rate, length or split nothing is annotated again.
    """
    from pipeline.spans.dataset import project

    with clear_errors():
        path, counts = project(
            spans, out, dialogues=dialogues, frames_root=frames_root, fps=fps, max_clip_s=max_clip_s, split=split,
            force=force,
        )  # fmt: skip
        if json:
            print_json({"file": str(path), "counts": dict(counts)})
            return
        tell(f"{path}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count))


@app.command()
def extract_frames(
    videos: Annotated[
        list[Path], typer.Argument(help="Video files, in any container that FFmpeg reads, or folders of them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the frames files, NAME.arrow each.")],
    fps: Annotated[float, typer.Option(min=0.01, max=1000, help="Frames a second.")] = 2,
    size: Annotated[int, typer.Option(min=16, max=4096, help="Pixels a side; frames are squares.")] = 384,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEGs.")] = 90,
    name: Annotated[
        str,
        typer.Option(help="NAME by {stem}, {parent}, {grandparent} and {parents}, e.g. '{parent}__{stem}'."),
    ] = "{stem}",
    groups: Annotated[
        Path | None,
        typer.Option(help="A JSON list of lists of NAMEs: each list is one video in parts, named by its first."),
    ] = None,
    turn: Annotated[
        Literal["0", "90", "180", "270"], typer.Option(help="Degrees counter-clockwise, of the upright picture.")
    ] = "0",
    crop: Annotated[bool, typer.Option("--crop", help="Keep the square in the middle; else the whole is squeezed.")] = (
        False
    ),
    max_gap: Annotated[
        float, typer.Option(min=1, help="Seconds without a new picture, before a video counts as damaged.")
    ] = 300,
    allow_short: Annotated[
        bool, typer.Option("--allow-short", help="Take videos that end before the end that they state.")
    ] = False,
    workers: Workers = CORES,
    force: Annotated[bool, typer.Option(help="Make frames files again that are there.")] = False,
) -> None:
    """Make frames files (Arrow) of videos.

    JPEG frames at a constant rate.
    """
    from pipeline.importers.video import extract_frames
    from pipeline.importers.video_names import sources_of
    from pipeline.io.engine import LocalEngine
    from pipeline.video.settings import Settings

    with clear_errors():
        settings = Settings(fps, size, quality, int(turn), crop, max_gap, allow_short)
        sources = sources_of(videos, name, groups)
        with progress_bar() as show, LocalEngine(workers) as engine:
            outcomes = extract_frames(sources, out, settings, engine, show, force)
        broken = [outcome for outcome in outcomes if outcome.error]
        for outcome in outcomes:
            if not outcome.error:
                what = "there already" if outcome.kept else "written"
                note = f" (note: {outcome.note})" if outcome.note else ""
                tell(f"{out / outcome.source.name}.arrow: {outcome.rows} frames, {what}{note}")
        if broken:
            places = (" + ".join(str(video) for video in outcome.source.videos) for outcome in broken)
            lines = "".join(f"\n  {place}: {one.error}" for place, one in zip(places, broken, strict=True))
            raise ProspectError(f"{len(broken)} of {len(outcomes)} videos have no frames file:{lines}")
