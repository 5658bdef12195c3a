"""The commands about models: `prospect train`, `compare`, `stream`, `evaluate`, `calibrate`; cli.py has the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from pipeline.errors import ProspectError
from pipeline.terminal import clear_errors, progress_bar

if TYPE_CHECKING:
    from prospect.evaluation.evaluate import Places

app = typer.Typer()
console = Console(markup=False)
TOY_CONFIG = Path(__file__).parents[1] / "configs" / "toy.yaml"

SetOption = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, e.g. train.learning_rate=1e-4.")]
CheckpointOption = Annotated[str, typer.Option(help="A checkpoint's folder, a run's (its last one), or a hub id.")]
PolicyOption = Annotated[
    Literal["state_carry", "drop_middle", "drop_all"] | None,
    typer.Option(help="What is kept when the context is full; default state_carry."),
]
UpdateThreshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="Default: as calibrated, else 0.5. Likewise --speak-threshold.")
]
SpeakThreshold = Annotated[float | None, typer.Option(min=0, max=1)]
Split = Literal["train", "val", "test"]
DataOption = Annotated[
    list[str] | None, typer.Option(help="Split folders, OUT/DATASET/SPLIT; default: the run's own datasets.")
]
DataRoot = Annotated[Path | None, typer.Option(help="Where frames files are looked for; default: the run's.")]
FramesRoot = Annotated[Path | None, typer.Option(help="Searched first for frames files.")]
VideoIds = Annotated[list[str] | None, typer.Option(help="Of these videos (or clips) alone; may be repeated.")]
Limit = Annotated[int | None, typer.Option(min=1, help="The first so many clips.")]
Overwrite = Annotated[bool, typer.Option(help="Stream again over another evaluation's predictions.")]


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="One of configs/, or your own.")] = TOY_CONFIG,
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option(help="Go on from the run's last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Start over: removes the run of the same name.")] = False,
) -> None:
    """Train a model on shards; everything goes to runs/NAME."""
    from prospect.config import load_config

    with clear_errors():
        settings = load_config(config, set_ or [])
        from prospect.report.compare import comparison
        from prospect.train.run import train as run_training

        run = run_training(settings, console, resume=resume, overwrite=overwrite)
        if not run.is_main:  # another rank prints
            return
        if run.up_to_date:
            console.print(f"nothing to do: {run.folder} is finished; --overwrite starts it over")
        if settings.data.eval_splits:
            console.print(comparison([run.folder], settings.data.eval_splits[-1]))
        places = f"metrics: {run.folder}/metrics.json, curves: tensorboard --logdir {run.folder.parent}"
        console.print(places)


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="One of configs/, or your own.")] = TOY_CONFIG,
    set_: SetOption = None,
    gpu_gb: Annotated[float | None, typer.Option(min=1, help="Default: the GPU that is here, else 24.")] = None,
) -> None:
    """Tell what a run will ask for before it is started: parameters, memory, window, steps. Refuses what cannot fit."""
    from prospect.config import load_config

    with clear_errors():
        settings = load_config(config, set_ or [])
        from prospect.train.plan import plan_run, plan_table

        found = plan_run(settings, gpu_gb)
        Console(width=None if console.is_terminal else 110).print(plan_table(found))
        if found.problems:
            raise ProspectError("\n".join(f"{config}: {problem}" for problem in found.problems))


@app.command()
def cache_features(
    config: Annotated[Path, typer.Option(help="That of the run; data.features names the folder.")] = TOY_CONFIG,
    set_: SetOption = None,
) -> None:
    """Encode each frame once, for a frozen vision tower and connector; training then decodes no image."""
    from prospect.config import load_config

    with clear_errors():
        settings = load_config(config, set_ or [])
        from prospect.train.cache_features import run_cache_features

        with progress_bar(console) as show:
            store, made, kept = run_cache_features(settings, show)
        size = (made + kept) * store.row_bytes / 1e9
        told = (
            f"{store.folder}: {made} frames encoded, {kept} there already; {size:.2f} GB, {store.row_bytes} B a frame"
        )
        console.print(told, soft_wrap=True)


@app.command()
def compare(
    runs: Annotated[list[Path] | None, typer.Argument(help="Run folders; default: the finished ones of runs/.")] = None,
    split: Annotated[Split, typer.Option()] = "test",
) -> None:
    """One table of the metrics of several finished runs, beside the untrained model and the baselines."""
    from prospect.report.compare import comparison, finished_runs

    with clear_errors():
        console.print(comparison(runs or finished_runs(Path("runs")), split))


@app.command()
def stream(
    source: Annotated[Path, typer.Argument(help="A video, an .arrow file, or a folder of images.")],
    checkpoint: CheckpointOption,
    steps: Annotated[Path | None, typer.Option(help="The task: a list of id and name, or lines `S1: name`.")] = None,
    clip: Annotated[
        str | None, typer.Option(help="The task, user lines and frames of an annotated clip: FILE#PLACE or FILE#ID.")
    ] = None,
    script: Annotated[
        str | None, typer.Option(help="User lines: a file of `SECONDS TEXT`, or - to type them while it plays.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.01, max=1000, help="Frames a second; default: the clip's, else 2.")
    ] = None,
    start: Annotated[
        int | None,
        typer.Option(min=0, help="First frame. Inside a clip: with the state there; earlier user lines are dropped."),
    ] = None,
    end: Annotated[int | None, typer.Option(min=0, help="Last frame (inclusive).")] = None,
    realtime: Annotated[bool, typer.Option(help="Pace the frames at --fps; else as fast as it goes.")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON lines, one a frame.")] = None,
    video: Annotated[Path | None, typer.Option(help="A film of it (.mp4), state and utterances drawn.")] = None,
    context: PolicyOption = None,
    update_threshold: UpdateThreshold = None,
    speak_threshold: SpeakThreshold = None,
    legal: Annotated[bool | None, typer.Option(help="Only transitions legal in the tracked state.")] = None,
    max_actions: Annotated[int | None, typer.Option(min=1, help="Blocks written at one frame; default 4.")] = None,
) -> None:
    """Watch a video, frame by frame, with a trained model: a live board of state and speech."""
    with clear_errors():
        from prospect.stream.live import Outputs, stream_live
        from prospect.stream.sources import task_of

        task = task_of(steps, clip, start, end)
        if not task.steps:
            console.print("note: no --steps and no --clip: a task without steps, speech alone")
        settings = {
            "context": context, "update_threshold": update_threshold, "speak_threshold": speak_threshold,
            "legal": legal, "max_actions": max_actions,
        }  # fmt: skip
        outputs = Outputs(console, out, video)
        rate = task.fps if fps is None else fps
        told = stream_live(source, checkpoint, task, script, rate, realtime, outputs, settings)
        console.print(told, soft_wrap=True, highlight=False)


@app.command()
def evaluate(
    checkpoint: CheckpointOption,
    split: Split = "test",
    data: DataOption = None,
    data_root: DataRoot = None,
    frames_root: FramesRoot = None,
    out: Annotated[Path | None, typer.Option(help="Default: RUN/evaluation/SPLIT.")] = None,
    rows: Annotated[str, typer.Option(help="Beside the model and always-silent: any of these.")] = (
        "blind,text_only,oracle_state"
    ),
    context: Annotated[
        Literal["state_carry", "drop_middle", "drop_all", "all"] | None,
        typer.Option(help="What is kept when the context is full (default state_carry); all: compare the three."),
    ] = None,
    video_ids: VideoIds = None,
    limit: Limit = None,
    update_threshold: UpdateThreshold = None,
    speak_threshold: SpeakThreshold = None,
    legal: Annotated[bool | None, typer.Option(help="Only transitions legal in the tracked state.")] = None,
    max_actions: Annotated[int | None, typer.Option(min=1, help="Blocks written at one frame; default 4.")] = None,
    max_seq_len: Annotated[int | None, typer.Option(min=64, help="Window; default: that of training.")] = None,
    scorer: Annotated[
        Literal["prospect", "proassist"], typer.Option(help="proassist: ProAssist's own functions beside ours.")
    ] = "prospect",
    embedding: Annotated[
        str | None, typer.Option(help="Sentence embedding model; all-minilm is the packaged one.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Stream every clip of a split, frame by frame, and measure: ProAssist's metrics and the state's."""
    with clear_errors():
        from prospect.evaluation.evaluate import ProspectEvaluator, evaluate_contexts
        from prospect.report.evaluation_table import context_table, evaluation_tables

        wide = Console(width=None if console.is_terminal else 150)
        places, folder = _places(checkpoint, split, data, data_root, frames_root, out)
        settings: dict[str, Any] = {
            "update_threshold": update_threshold,
            "speak_threshold": speak_threshold,
            "legal": legal,
            "max_actions": max_actions,
            "max_seq_len": max_seq_len,
        }
        common: dict[str, Any] = {
            "video_ids": video_ids, "limit": limit, "scorer": scorer, "embedding": embedding, "overwrite": overwrite,
            "tell": _tell,
        }  # fmt: skip
        with progress_bar(console) as show:
            if context == "all":
                compared = evaluate_contexts(checkpoint, places, folder, progress=show, **common, **settings)
                if compared:
                    wide.print(context_table(compared))
                    console.print(f"metrics and reports: {folder}/POLICY", soft_wrap=True)
                return
            evaluator = ProspectEvaluator(
                checkpoint, places, out=folder, rows=_rows(rows), progress=show, **common, context=context, **settings
            )
            metrics = evaluator.evaluate()
        if metrics:  # else another rank prints
            for table in evaluation_tables(metrics):
                wide.print(table)
            for note in metrics["notes"]:
                console.print(f"note: {note}", soft_wrap=True)
            console.print(f"metrics: {folder}/metrics.json, report: {folder}/report.html", soft_wrap=True)


@app.command()
def calibrate(
    checkpoint: CheckpointOption,
    split: Split = "val",
    data: DataOption = None,
    data_root: DataRoot = None,
    frames_root: FramesRoot = None,
    out: Annotated[Path | None, typer.Option(help="Default: RUN/calibration/SPLIT.")] = None,
    video_ids: VideoIds = None,
    limit: Limit = None,
    confirm: Annotated[int, typer.Option(min=1, help="How many of the best pairs are streamed.")] = 5,
    overwrite: Overwrite = False,
) -> None:
    """Find the thresholds of both heads on a validation split, and store them with the checkpoint."""
    with clear_errors():
        from prospect.evaluation.calibrate import calibrate_checkpoint, calibration_table

        places, folder = _places(checkpoint, split, data, data_root, frames_root, out, "calibration")
        with progress_bar(console) as show:
            found = calibrate_checkpoint(
                checkpoint, places, folder, video_ids=video_ids, limit=limit, confirm=confirm, overwrite=overwrite,
                progress=show, tell=_tell,
            )  # fmt: skip
        console.print(calibration_table(found))
        console.print(f"stored: {found.stored}, reliability diagram: {folder}/reliability.html", soft_wrap=True)


@app.command()
def export(
    checkpoint: CheckpointOption,
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    merge: Annotated[bool, typer.Option(help="LoRA: into whole SmolVLM weights, beside the heads.")] = False,
) -> None:
    """Write a checkpoint's weights, tokenizer and image processor to a folder, without the run's state."""
    with clear_errors():
        from prospect.model.export import export as export_checkpoint
        from prospect.stream.load import find_checkpoint

        console.print(f"{out}: {export_checkpoint(Path(find_checkpoint(checkpoint)), out, merge)}", soft_wrap=True)


def _tell(line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False)


def _rows(named: str) -> Any:
    from prospect.evaluation.evaluate import ROWS

    wanted = [row.strip() for row in named.split(",") if row.strip()]
    if unknown := [row for row in wanted if row not in ROWS]:
        raise ProspectError(f"--rows: found {', '.join(unknown)}, expected any of {', '.join(ROWS)}, or nothing")
    return wanted


def _places(
    checkpoint: str,
    split: str,
    data: Sequence[str] | None,
    data_root: Path | None,
    frames_root: Path | None,
    out: Path | None,
    what: str = "evaluation",
) -> "tuple[Places, Path]":
    """Where the clips are and where results go: as given, else as the checkpoint's run has it.

    Raises:
        ProspectError: no --data, and the checkpoint is in no run.
    """
    from prospect.config import DataConfig, load_config
    from prospect.evaluation.evaluate import Places
    from prospect.stream.load import find_checkpoint

    folder = Path(find_checkpoint(checkpoint))
    run = folder.parent.parent if folder.parent.name == "checkpoints" else None
    config = load_config(run / "config.yaml") if run and (run / "config.yaml").is_file() else None
    if not data and not config:
        raise ProspectError(
            f"{checkpoint}: stands in no run that would say which data it was trained on; pass --data OUT/DATASET/SPLIT"
        )
    splits = tuple(data or ())
    if config and not data:
        splits = tuple(f"{config.data.shards}/{dataset}/{split}" for dataset in config.data.datasets)
    places = Places(
        splits,
        data_root or (config.data.root if config else Path("data")),
        frames_root or (config.data.frames_root if config else None),
        (config.data if config else DataConfig()).shard_cache,
    )
    return places, out or ((run or Path()) / what / split)
