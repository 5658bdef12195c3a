"""`prospect stream`: joins a source, a streamer and whatever looks on."""

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.errors import ProspectError
from prospect.stream.board import Board
from prospect.stream.load import find_checkpoint, load_streamer
from prospect.stream.player import RunFile, Summary, play
from prospect.stream.sources import Lines, Task, frames_of, script_lines
from prospect.stream.video_out import VideoWriter, check_name

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Outputs:
    console: Console
    run_file: Path | None
    video: Path | None


def stream_live(
    source: Path,
    checkpoint: str,
    task: Task,
    script: str | None,
    fps: float,
    realtime: bool,
    outputs: Outputs,
    settings: dict[str, Any],
) -> str:
    """Stream `source` to its end; the figures in one line, and in another what of the script came too late.

    Raises:
        ProspectError: anything named is missing or broken. What was streamed until then stays in `run_file`, which is
            opened with the first frame; a video that is not complete is removed.
    """
    if not source.exists():
        raise ProspectError(f"{source}: no such file or folder, expected a video, an .arrow file or a folder of images")
    _check_outputs(source, outputs)
    known = script_lines(Path(script)) if script and script != STDIN else []
    streamer = load_streamer(checkpoint, **settings)
    lines = Lines(task.turns, known, fps, task.first_frame)
    if script == STDIN:
        lines.listen(sys.stdin)
    frames = frames_of(source, fps, streamer.model.config.vision_config.image_size, task.first_frame, task.last_frame)
    header = {
        "source": str(source), "checkpoint": find_checkpoint(checkpoint), "fps": fps,
        "settings": asdict(streamer.settings), "steps": [asdict(step) for step in task.steps], "state": task.state,
    }  # fmt: skip
    summary = Summary(fps, realtime)
    run_file = None
    with ExitStack() as stack:
        video = stack.enter_context(VideoWriter(outputs.video, task, streamer.settings, fps)) if outputs.video else None
        board = stack.enter_context(Board(outputs.console, task, streamer.settings))
        began = time.monotonic()
        for played in play(streamer, frames, task, lines, fps, realtime=realtime):
            summary.add(played)
            board.show(played)
            if outputs.run_file:
                if run_file is None:
                    run_file = RunFile(outputs.run_file, header)
                    stack.callback(run_file.close)
                run_file.add(played)
            if video:
                video.add(played)
        summary.seconds = time.monotonic() - began
    told = summary.text()
    if lines.script_left:
        told += f"\nnote: lines of --script that are timed after the last frame, and were not said: {lines.script_left}"
    return told


def _check_outputs(source: Path, outputs: Outputs) -> None:
    if outputs.video:
        check_name(outputs.video)
        if outputs.run_file and outputs.run_file.resolve() == outputs.video.resolve():
            raise ProspectError(f"--out and --video: found {outputs.video} for both, expected two files; name another")
    if outputs.run_file and outputs.run_file.is_dir():
        raise ProspectError(f"--out {outputs.run_file}: found a folder, expected a file's name")
    for output in (outputs.run_file, outputs.video):
        if output and output.exists() and output.samefile(source):
            raise ProspectError(f"{output}: is the source itself, expected another file; name another output")
