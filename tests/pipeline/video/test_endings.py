"""Nothing that is read of a video hangs: a hang is in C, holds the interpreter's lock and outlives SIGTERM, so the
reading is done by another process, which is killed when it takes too long.

The codec's own thread logs a damage while the reader closes it: with PyAV's log callback 5 of 18 hung.
"""

import fcntl
import os
import signal
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from pipeline.importers.video import extract_frames
from pipeline.importers.video_names import sources_of
from pipeline.io.engine import LocalEngine
from pipeline.video.settings import Settings
from tests.helpers.places import ROOT
from tests.helpers.videos import film, video
from tests.helpers.waiting import wait_for

READ = """
import random, sys
from pathlib import Path
from collections import Counter
from pipeline.errors import ProspectError
from pipeline.video.rows import rows_of
from pipeline.video.settings import Settings
from pipeline.video.source import file_place

def read(path, most):
    with rows_of([file_place(path)], Settings(size=32)) as rows:
        for number, _ in enumerate(rows.jpegs):
            if number == most:
                return

path, closes, damaged = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for number in range(closes):
    read(path, number % 4)
data, rng, outcomes = path.read_bytes(), random.Random(0), Counter()
for number in range(damaged):
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 40))):
        size = min(rng.choice((4, 400, 4096)), len(data) // 4)
        place = rng.randrange(len(data) - size)
        changed[place : place + size] = rng.randbytes(size)
    broken = path.with_name(f"broken{path.suffix}")
    broken.write_bytes(changed)
    try:
        read(broken, 10**9)
        outcomes["read"] += 1
    except ProspectError:
        outcomes["refused"] += 1
print(outcomes.total(), min(outcomes.values()) > 0)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """H.264 of 6 s, noise in every third picture."""
    import av

    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("videos") / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(60):
            noise = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
            pixels = noise if number % 3 == 0 else np.full_like(noise, number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read(path, closes, damaged):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", READ, str(path), str(closes), str(damaged)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)


def test_200_early_closes_and_50_damages_end(path):
    done = read(path, 200, 50)
    assert (done.stdout, done.stderr, done.returncode) == ("50 True\n", "", 0)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("v.mkv", "libx264"),
        ("v.ts", "libx264"),
        ("v.avi", "mpeg4"),
        ("v.mov", "libx265"),
        ("w.mkv", "ffv1"),
    ],
)
def test_damages_of_other_containers_end(tmp_path, name, codec):
    """With sound; whatever is refused is refused in words, and all else is read."""
    path = film(tmp_path / name, [Fraction(i, 10) for i in range(40)], (0, 4), codec, Fraction(1, 1000))
    done = read(path, 5, 50)
    assert (done.stdout, done.stderr, done.returncode) == ("50 True\n", "", 0)


def test_sigterm_ends_extraction_and_leaves_nothing_half_written(tmp_path):
    """Of two pictures, 290 s apart: 290,000 rows."""
    film(tmp_path / "v.mkv", [Fraction(0), Fraction(290)], codec="ffv1")
    out = tmp_path / "out"
    words = ["-m", "prospect", "extract-frames", tmp_path / "v.mkv", "--out", out, "--fps", "1000", "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, *words], env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: out.is_dir() and any(out.iterdir()))
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 143 and told.startswith("terminated") and list(out.iterdir()) == []


def test_what_a_killed_run_left_half_written_is_removed_by_the_next(tmp_path):
    """And what a running process writes is left alone."""
    video(tmp_path / "v.mp4", 1)
    left = [tmp_path / f"{name}.arrow.1234.partial" for name in ("v", "w")]
    kept = [tmp_path / "v.arrow.5678.partial", tmp_path / "notes.partial"]
    for path in (*left, *kept):
        path.write_text("half")
    sources = sources_of([tmp_path / "v.mp4"], "{stem}", None)
    with kept[0].open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as who writes a file holds it
        (outcome,) = extract_frames(sources, tmp_path, Settings(size=32), LocalEngine(), lambda *_: None)
    assert outcome.error == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["v.arrow", "v.mp4", *(p.name for p in kept)])
