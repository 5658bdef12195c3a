"""Claims: `prospect live` keeps pace with a camera for as long as it runs, leaves out what it is too slow for and
counts it, and a page that stops reading delays nothing.

    python benchmarks/live.py [--checkpoint RUN] [--minutes 10] [--others 1] [--rates 2 8 15]

The command runs in a process of its own, with a model of the toy's size and random weights unless RUN is given. Over
its WebSocket a camera of 640 x 480 sends at the stream's rate; a second page looks on, and reads; a third never reads.
The first rate is held for --minutes, with recording on; each other one for --others minutes, once without the third
page and once with it. Printed: latency from when a picture was there to the frame's last decision, as the pages are
told it, and what was dropped.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from rich.console import Console
from rich.table import Table
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

STEPS = "\n".join(f"S{number}: Do what is step {number}" for number in range(1, 7))
TEXTS = ["Now pick up the red circle.", "DST: S1->complete, S2->start", "Well done, put it down."] * 4
OPEN: dict[str, Any] = {"max_size": None, "ping_interval": None, "close_timeout": 1}
SIZE = (480, 640)  # pixels of the camera: height, width


@dataclass
class Measured:
    """What the driving page was told."""

    name: str
    points: list[list[float]] = field(default_factory=list)  # frame, update, speak, dropped before, ms
    foot: dict[str, float] = field(default_factory=dict)
    messages_read: int = 0  # by the page that looks on


def pictures(count: int = 64) -> list[bytes]:
    """A grey that moves over a texture, as JPEGs."""
    texture = np.random.default_rng(0).integers(0, 90, (*SIZE, 3), dtype=np.uint8)
    shifted = (np.roll(texture, 10 * number, 1) + np.uint8(2 * number) for number in range(count))
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=85) for pixels in shifted]


def served(stack: ExitStack, checkpoint: str, fps: float, out: Path) -> str:
    """Start the command; gives its address."""
    words = [
        "-m",
        "prospect",
        "live",
        "--checkpoint",
        checkpoint,
        "--fps",
        f"{fps:g}",
        "--port",
        "0",
        "--out",
        str(out),
    ]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=os.environ)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://(\S+)/", line):
            threading.Thread(target=process.stdout.read, daemon=True).start()  # or its pipe is full one day
            return f"ws://{found[1]}/socket"
    raise SystemExit("prospect live did not start")


def measure(checkpoint: str, fps: float, seconds: float, slow: bool, out: Path, record: bool) -> Measured:
    """Drive a stream for so many seconds."""
    measured = Measured(f"{fps:g}/s, {seconds / 60:g} min{', one never reads' if slow else ''}")
    with ExitStack() as stack:
        address = served(stack, checkpoint, fps, out)
        driver = stack.enter_context(connect(address, **OPEN))
        driver.send(json.dumps({"do": "start", "source": "camera", "steps": STEPS, "record": record}))
        watcher = stack.enter_context(connect(address, **OPEN))
        threading.Thread(target=_count, args=(watcher, measured), daemon=True).start()
        if slow:
            stack.enter_context(connect(address, **OPEN, max_queue=1))  # left open, and not read
        reader = threading.Thread(target=_read, args=(driver, measured), daemon=True)
        reader.start()
        _send(driver, fps, seconds)
        driver.send(json.dumps({"do": "stop"}))
        reader.join(60)
    return measured


def _send(driver: ClientConnection, fps: float, seconds: float) -> None:
    sent, began = pictures(), time.monotonic()
    for number in range(int(seconds * fps)):
        time.sleep(max(began + number / fps - time.monotonic(), 0))
        driver.send(sent[number % len(sent)])


def _read(driver: ClientConnection, measured: Measured) -> None:
    try:
        for message in driver:
            view = json.loads(message)
            measured.points += view.get("points", [])
            measured.foot = view.get("foot") or measured.foot
            if view.get("phase") == "ready" and measured.points:
                return
    except ConnectionClosed:
        return


def _count(watcher: ClientConnection, measured: Measured) -> None:
    try:
        for _ in watcher:
            measured.messages_read += 1
    except ConnectionClosed:
        return


def random_checkpoint(folder: Path) -> Path:
    from prospect.model.presets import make_checkpoint

    return make_checkpoint("toy", folder / "toy", TEXTS, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--others", type=float, default=1)
    parser.add_argument("--rates", type=float, nargs="+", default=[2, 8, 15])
    options = parser.parse_args()
    table = Table(
        "stream", "frames seen", "latency p50 ms", "p95 ms", "most ms", "dropped", "restarts", "late pictures"
    )
    with tempfile.TemporaryDirectory(prefix="bench-live-") as folder:
        checkpoint = options.checkpoint or random_checkpoint(Path(folder))
        first, *others = options.rates
        runs = [(first, 60 * options.minutes, True)]
        runs += [(rate, 60 * options.others, slow) for rate in others for slow in (False, True)]
        for number, (rate, seconds, slow) in enumerate(runs):
            done = measure(str(checkpoint), rate, seconds, slow, Path(folder) / "out", number == 0)
            ms, foot = [point[4] for point in done.points], done.foot
            dropped = sum(int(point[3]) for point in done.points)
            p50, p95, most = np.quantile(ms, [0.5, 0.95, 1])
            figures = [f"{p50:.1f}", f"{p95:.1f}", f"{most:.0f}", f"{dropped} of {len(ms) + dropped}"]
            table.add_row(done.name, str(len(ms)), *figures, str(foot.get("restarts")), str(foot.get("repeated")))
            print(f"{done.name}: {len(ms)} frames, p50 {p50:.1f} ms, p95 {p95:.1f} ms, {dropped} dropped", flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
