"""Commands that run a trained model on streams: stream, evaluate, calibrate."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.errors import ProspectError
from prospect.commands.judging import print_judge
from prospect.commands.options import (
    Checkpoint,
    EngineName,
    FramesRoot,
    Json,
    LeastGap,
    Legal,
    Limit,
    MaxActions,
    MaxNewTokens,
    NoRepeat,
    Overwrite,
    RayAddress,
    RunDataRoot,
    ShardFolders,
    SpeakThreshold,
    SplitName,
    Streams,
    UpdateThreshold,
    VideoIds,
    Workers,
    model_engine,
    places_of,
)  # fmt: skip
from prospect.commands.terminal import clear_errors, console, print_json, progress_bar, show_live, tell
from prospect.runs import CALIBRATION, EVALUATION, METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from prospect.stream.player import Played
    from prospect.stream.streamer import StreamSettings
    from prospect.stream.task import Task

app = typer.Typer()
STDIN = "-"


@app.command()
def stream(
    source: Annotated[
        str, typer.Argument(help="A video, an .arrow file, a folder of images, a camera (/dev/video0 or 0), or a URL.")
    ],
    checkpoint: Checkpoint,
    steps: Annotated[Path | None, typer.Option(help="The task: a list of id and name, or lines `S1: name`.")] = None,
    clip: Annotated[
        str | None, typer.Option(help="The task, user lines and frames of an annotated clip: FILE#PLACE or FILE#ID.")
    ] = None,
    goal: Annotated[str | None, typer.Option(help="What the task is to come to; default: the clip's.")] = None,
    script: Annotated[
        str | None,
        typer.Option(help="User lines: a file of `SECONDS TEXT` or `M:SS TEXT`, or - to type them while it plays."),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=0.01, max=1000, help="Frames a second; default: the clip's, else as it was trained, else 2."),
    ] = None,
    start: Annotated[
        int | None,
        typer.Option(min=0, help="First frame. Inside a clip: with the state there; earlier user lines are dropped."),
    ] = None,
    end: Annotated[int | None, typer.Option(min=0, help="Last frame (inclusive).")] = None,
    follow: Annotated[
        float | None,
        typer.Option(min=0.1, help="Of a folder: wait for new images; seconds without one after which it ends."),
    ] = None,
    realtime: Annotated[bool, typer.Option(help="Pace the frames at --fps; else as fast as it goes.")] = False,
    drop: Annotated[
        Literal["none", "late"], typer.Option(help="late: skip to the newest frame where the model is behind.")
    ] = "none",
    out: Annotated[Path | None, typer.Option(help="JSON lines, one a frame.")] = None,
    video: Annotated[Path | None, typer.Option(help="A film of it (.mp4), state and utterances drawn.")] = None,
    context: Annotated[
        Literal["state_carry", "drop_middle", "drop_all", "slide"] | None,
        typer.Option(help="What is kept when the context is full; default state_carry."),
    ] = None,
    update_threshold: UpdateThreshold = None,
    speak_threshold: SpeakThreshold = None,
    legal: Legal = None,
    max_actions: MaxActions = None,
    max_new_tokens: MaxNewTokens = None,
    least_gap: LeastGap = None,
    no_repeat: NoRepeat = None,
) -> None:
    """Watch a video with a trained model, frame by frame.

    On a terminal a live board of state and speech.
    """
    with clear_errors():
        from prospect.stream.live import Outputs, stream_live
        from prospect.stream.load import Overrides
        from prospect.stream.task import task_of

        task = task_of(steps, clip, start, end, goal)
        if not task.steps:
            tell("note: no --steps and no --clip: a task without steps, speech alone")
        overrides = Overrides(
            context=context, update_threshold=update_threshold, speak_threshold=speak_threshold, legal=legal,
            max_actions=max_actions, max_new_tokens=max_new_tokens, least_gap_s=least_gap, no_repeat=no_repeat,
        )  # fmt: skip
        lines = sys.stdin if script == STDIN else Path(script) if script else None
        outputs = Outputs(_board, out, video)
        told = stream_live(
            source, checkpoint, task, lines, fps, realtime, outputs, overrides, follow, drop == "late", tell
        )
        for line in told.splitlines():
            tell(line)


@contextmanager
def _board(task: "Task", settings: "StreamSettings") -> "Iterator[Callable[[Played], None]]":
    """Show a stream: on a terminal a live board, elsewhere a line an event."""
    from prospect.stream.board import Board

    board = Board(task, settings)
    with show_live(board) as refresh:

        def show(played: "Played") -> None:
            for line in board.add(played):
                if not console.is_terminal:
                    tell(line)
            refresh()

        yield show


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    split: Annotated[SplitName, typer.Option()] = "test",
    data: ShardFolders = None,
    data_root: RunDataRoot = None,
    frames_root: FramesRoot = None,
    out: Annotated[Path | None, typer.Option(help="Default: RUN/evaluation/SPLIT.")] = None,
    rows: Annotated[str, typer.Option(help="Beside the model and always-silent: any of these.")] = (
        "blind,text_only,oracle_state"
    ),
    context: Annotated[
        Literal["state_carry", "drop_middle", "drop_all", "slide", "all"] | None,
        typer.Option(help="What is kept when the context is full (default state_carry); all: compare the four."),
    ] = None,
    video_ids: VideoIds = None,
    limit: Limit = None,
    update_threshold: UpdateThreshold = None,
    speak_threshold: SpeakThreshold = None,
    legal: Legal = None,
    max_actions: MaxActions = None,
    max_new_tokens: MaxNewTokens = None,
    least_gap: LeastGap = None,
    no_repeat: NoRepeat = None,
    max_seq_len: Annotated[int | None, typer.Option(min=64, help="Window; default: that of training.")] = None,
    scorer: Annotated[
        Literal["prospect", "proassist"], typer.Option(help="proassist: ProAssist's own functions beside ours.")
    ] = "prospect",
    embedding: Annotated[
        str | None, typer.Option(help="Sentence embedding model; all-minilm is the packaged one.")
    ] = None,
    streams: Streams = 1,
    engine: EngineName = "local",
    workers: Workers = 1,
    ray_address: RayAddress = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Stream every clip of a split, and measure.

    ProAssist's metrics and the state's; metrics.json and report.html.
    """
    with clear_errors():
        from prospect.evaluation.evaluate import ProspectEvaluator, evaluate_contexts
        from prospect.stream.load import Overrides

        places, folder = places_of(checkpoint, split, data, data_root, frames_root, out, EVALUATION)
        overrides = Overrides(
            update_threshold=update_threshold, speak_threshold=speak_threshold, legal=legal, max_actions=max_actions,
            max_new_tokens=max_new_tokens, least_gap_s=least_gap, no_repeat=no_repeat, max_seq_len=max_seq_len,
            context=None if context == "all" else context,
        )  # fmt: skip
        with model_engine(engine, workers, ray_address) as running, progress_bar() as show:
            common: dict[str, Any] = {
                "video_ids": video_ids, "limit": limit, "scorer": scorer, "embedding": embedding,
                "overwrite": overwrite, "streams": streams, "engine": running, "tell": tell, "progress": show,
                "overrides": overrides,
            }  # fmt: skip
            if context == "all":
                compared = evaluate_contexts(checkpoint, places, folder, **common)
            else:
                evaluator = ProspectEvaluator(checkpoint, places, out=folder, rows=_rows(rows), **common)
                metrics = evaluator.evaluate()
        if context == "all":
            _print_contexts(compared, folder, json)
        elif metrics:  # else another rank prints
            _print_evaluation(metrics, folder, json)


def _print_contexts(compared: dict[str, dict[str, Any]], folder: Path, json: bool) -> None:
    from prospect.evaluation.pages.tables import context_table

    if compared and json:
        print_json(compared)
    elif compared:
        console.print(context_table(compared))
        for note in dict.fromkeys(note for metrics in compared.values() for note in metrics["notes"]):
            tell(f"note: {note}")
        tell(f"metrics and reports: {folder}/POLICY")


def _print_evaluation(metrics: dict[str, Any], folder: Path, json: bool) -> None:
    from prospect.evaluation.judge_scores import read_judge
    from prospect.evaluation.pages.tables import evaluation_tables

    if json:
        print_json(metrics)
        return
    for table in evaluation_tables(metrics):
        console.print(table)
    if "judge" in metrics:
        print_judge(read_judge(metrics["judge"], METRICS, "judge again"))
    for note in metrics["notes"]:
        tell(f"note: {note}")
    tell(f"metrics: {folder}/metrics.json, report: {folder}/report.html")


@app.command()
def calibrate(
    checkpoint: Checkpoint,
    split: Annotated[SplitName, typer.Option()] = "val",
    data: ShardFolders = None,
    data_root: RunDataRoot = None,
    frames_root: FramesRoot = None,
    out: Annotated[Path | None, typer.Option(help="Default: RUN/calibration/SPLIT.")] = None,
    video_ids: VideoIds = None,
    limit: Limit = None,
    confirm: Annotated[int, typer.Option(min=1, help="How many of the best pairs are streamed.")] = 5,
    streams: Streams = 1,
    engine: EngineName = "local",
    workers: Workers = 1,
    ray_address: RayAddress = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the thresholds of both heads on a split.

    They are stored with the checkpoint.
    """
    with clear_errors():
        from prospect.evaluation.calibrate import calibrate_checkpoint, calibration_table

        places, folder = places_of(checkpoint, split, data, data_root, frames_root, out, CALIBRATION)
        with model_engine(engine, workers, ray_address) as running, progress_bar() as show:
            calibration = calibrate_checkpoint(
                checkpoint, places, folder, video_ids=video_ids, limit=limit, confirm=confirm, overwrite=overwrite,
                streams=streams, engine=running, progress=show, tell=tell,
            )  # fmt: skip
        console.print(calibration_table(calibration))
        for note in calibration.notes:
            tell(f"note: {note}")
        tell(f"stored: {calibration.stored}, reliability diagram: {folder}/reliability.html")


def _rows(named: str) -> Any:
    from prospect.evaluation.evaluate import ROWS

    wanted = [row.strip() for row in named.split(",") if row.strip()]
    if unknown := [row for row in wanted if row not in ROWS]:
        raise ProspectError(f"--rows: found {', '.join(unknown)}, expected any of {', '.join(ROWS)}, or nothing")
    return wanted
