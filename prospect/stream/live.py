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
from prospect.stream.video_out import VideoWriter

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
    """Stream `source` to its end; the figures in one line.

    Raises:
        ProspectError: anything named is missing or broken. What was streamed until then stays in `run_file`; a video
            that is not complete is removed.
    """
    if not source.exists():
        raise ProspectError(f"{source}: no such file or folder, expected a video, an .arrow file or a folder of images")
    for output in (outputs.run_file, outputs.video):
        if output and output.exists() and output.samefile(source):
            raise ProspectError(f"{output}: is the source itself, expected another file; name another output")
    known = script_lines(Path(script)) if script and script != STDIN else []
    streamer = load_streamer(checkpoint, **settings)
    lines = Lines(task.turns, known, fps, task.first_frame)
    if script == STDIN:
        lines.listen(sys.stdin)
    frames = frames_of(source, fps, streamer.model.config.vision_config.image_size, task.first_frame, task.last_frame)
    summary = Summary(fps, realtime)
    with ExitStack() as stack:
        run_file = None
        if outputs.run_file:
            header = {
                "source": str(source), "checkpoint": find_checkpoint(checkpoint), "fps": fps,
                "settings": asdict(streamer.settings), "steps": [asdict(step) for step in task.steps],
                "state": task.state,
            }  # fmt: skip
            run_file = RunFile(outputs.run_file, header)
            stack.callback(run_file.close)
        video = stack.enter_context(VideoWriter(outputs.video, task, streamer.settings, fps)) if outputs.video else None
        board = stack.enter_context(Board(outputs.console, task, streamer.settings))
        began = time.monotonic()
        for played in play(streamer, frames, task, lines, fps, realtime=realtime):
            summary.add(played)
            board.show(played)
            if run_file:
                run_file.add(played)
            if video:
                video.add(played)
        summary.seconds = time.monotonic() - began
    return summary.text()
