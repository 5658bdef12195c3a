"""`prospect stream`: joins a source, a streamer and whatever looks on."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.errors import ProspectError
from pipeline.io.storage import beginning
from pipeline.progress import Tell, untold
from prospect.model.hub import checkpoint_folder, checkpoint_name
from prospect.stream.endless import Ending, check_source, is_endless, open_source, told_source
from prospect.stream.lines import Lines, script_lines
from prospect.stream.load import Overrides, load_streamer
from prospect.stream.player import FORMAT, Played, RunFile, Summary, play
from prospect.stream.rate import rate_note, rate_of_stream, trained_rates
from prospect.stream.streamer import StreamSettings
from prospect.stream.task import Task
from prospect.stream.video_out import VideoWriter, check_name


@dataclass(frozen=True, slots=True)
class Outputs:
    """Who looks on, and what is kept. `board` gives a function that is shown each frame."""

    board: Callable[[Task, StreamSettings], AbstractContextManager[Callable[[Played], None]]]
    run_file: Path | None
    video: Path | None


def stream_live(
    source: Path | str,
    checkpoint: str,
    task: Task,
    script: Path | IO[str] | None,
    fps: float | None,
    realtime: bool,
    outputs: Outputs,
    overrides: Overrides,
    follow_s: float | None = None,
    drop_late: bool = False,
    tell: Tell = untold,
) -> str:
    """Stream `source` to its end; the figures in one line, and in another what of the script came too late.

    Args:
        script: user lines, a file of `SECONDS TEXT`, or where they are typed while it plays.
        follow_s: of a folder: wait for new images, and end where none came for so many seconds.
        fps: None: the clip's, else that of the checkpoint's training (`rate.py`).
        drop_late: skip to the newest frame where the model is behind.
        tell: takes a line about the stream before it begins.

    Raises:
        ProspectError: anything named is missing or broken. What was streamed until then stays in `run_file`, which is
            opened with the first frame; a video that is not complete is removed.
        SourceLost: a source without an end broke off; what was streamed until then stays, the video too.
    """
    check_source(source, follow_s)
    checkpoint = checkpoint_folder(checkpoint)
    inputs = [Path(source), Path(checkpoint), *task.files, *([script] if isinstance(script, Path) else [])]
    _check_outputs(inputs, outputs)
    known = script_lines(script) if isinstance(script, Path) else []
    if drop_late and not realtime and not is_endless(source, follow_s):
        raise ProspectError("--drop late: frames of a file are all there at once, none is late; add --realtime")
    streamer = load_streamer(checkpoint, overrides)
    trained = trained_rates(checkpoint, streamer.model.prospect_settings.extra)
    fps = rate_of_stream(fps, task.fps, trained)
    if note := rate_note([fps], trained):
        tell(f"note: {note}")
    for note in unheard(streamer.settings, task):
        tell(f"note: {note}")
    lines = Lines(task.turns, known, fps, task.first_frame)
    if script and not isinstance(script, Path):
        lines.listen(script)
    size = streamer.model.config.vision_config.image_size
    frames = open_source(source, fps, size, task.first_frame, task.last_frame, follow_s)
    header = {
        "source": told_source(source), "checkpoint": checkpoint_name(checkpoint), "fps": fps, "trained_fps": trained,
        "settings": asdict(streamer.settings), "steps": [asdict(step) for step in task.steps], "state": task.state,
    }  # fmt: skip
    summary = Summary(fps, realtime, drop_late)
    ending = Ending(is_endless(source, follow_s))
    stream = play(streamer, frames, task, lines, fps, realtime=realtime, drop_late=drop_late)
    if note := _keep(stream, task, streamer.settings, outputs, header, summary, ending):
        tell(note)
    if ending.lost:
        raise ending.lost
    told = summary.text()
    if lines.left:
        told += f"\nnote: lines of --script that no frame was left for, and that were not said: {lines.left}"
    return told


def unheard(settings: StreamSettings, task: Task) -> Iterator[str]:
    """Say what of a task the model was not trained to be told, or was and is not."""
    if task.steps and settings.knowledge != "steps":
        yield f"the checkpoint was trained with data.knowledge {settings.knowledge}: it is not told the task's steps"
    if settings.knowledge == "goal" and not task.goal:
        yield "the checkpoint was trained with data.knowledge goal, and the task has none: pass --goal"


def _keep(
    stream: Iterator[Played],
    task: Task,
    settings: StreamSettings,
    outputs: Outputs,
    header: dict[str, Any],
    summary: Summary,
    ending: Ending,
) -> str:
    """Run the stream, and give each frame to whoever looks on and to what is kept of it; returns the film's note."""
    run_file = None
    with ExitStack() as stack:
        film = VideoWriter(outputs.video, task, settings, summary.fps) if outputs.video else None
        video = stack.enter_context(film) if film else None
        show = stack.enter_context(outputs.board(task, settings))
        stack.push(ending)
        began = time.monotonic()
        for played in stream:
            summary.add(played)
            show(played)
            if outputs.run_file:
                if run_file is None:
                    run_file = RunFile(outputs.run_file, header)
                    stack.callback(run_file.close)
                run_file.add(played)
            if video:
                video.add(played)
            summary.seconds, ending.has_frames = time.monotonic() - began, True
    return film.note if film else ""


def _check_outputs(inputs: Sequence[Path], outputs: Outputs) -> None:
    """Nothing that the command reads is written over, and no file that is no record of a stream.

    Raises:
        ProspectError: an output is one of the inputs, or something else is in its place.
    """
    if outputs.video:
        check_name(outputs.video)
        if outputs.run_file and outputs.run_file.resolve() == outputs.video.resolve():
            raise ProspectError(f"--out and --video: found {outputs.video} for both, expected two files; name another")
    if outputs.run_file and outputs.run_file.is_dir():
        raise ProspectError(f"--out {outputs.run_file}: found a folder, expected a file's name")
    read = [path for one in inputs for path in (one, *one.rglob("*")) if path.exists()]
    for output in (outputs.run_file, outputs.video):
        if output and output.exists() and any(output.samefile(path) for path in read):
            raise ProspectError(f"{output}: is what the command reads, expected another file; name another output")
    start = beginning(outputs.run_file, 200) if outputs.run_file else b""
    if start and FORMAT.encode() not in start:
        raise ProspectError(f"--out {outputs.run_file}: is there already, and no record of a stream; name another file")
