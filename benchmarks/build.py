"""build-shards against the floor of its work: turn samples per second, and peak memory against input size.

The floor is a bare loop on one core that json-encodes the same records and appends them with tarfile, with
--embed-frames also the same images; it checks nothing, hashes nothing, writes no index and waits for no disk. Clips are
of the real clip's shape: 258 frames, 6 steps, 20 active turns, 31 samples.

    python benchmarks/build.py [--clips 6000] [--embedded-clips 480] [--large]

--large builds a 2 GB annotation file too. BENCH_DIR is where the files go (some 8 GB; 14 with --large).
"""

import argparse
import gc
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.io.engine import LocalEngine
from pipeline.io.frame_store import open_frames
from pipeline.io.storage import LocalFolder
from pipeline.shards.build import build_split
from pipeline.shards.reader import of_split, read_members
from pipeline.shards.scan import Options

EVENTS = (195, 214, 305, 371, 396, 425, 451)  # where the real clip's updates stand
METADATA = "x" * 60_000  # "any other key is kept as metadata": what makes annotation files large


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--embedded-clips", type=int, default=480)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)  # root, out, workers: in a process of its own
    arguments = parser.parse_args()
    if arguments.measure:
        _measure(*arguments.measure)
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        root = Path(folder)
        write_frames(root / "frames.arrow")
        for embed, clips in ((False, arguments.clips), (True, arguments.embedded_clips)):
            compare(root, clips, embed)
        sizes = (2, 20) if not arguments.large else (2, 20, 200)
        memory(root, [size * 165 for size in sizes])


def compare(root: Path, clips: int, embed: bool) -> None:
    """Builds with 1 and 2 workers, beside the floor; best of three each, in turn."""
    write_clips(root / "data" / "x", clips, root / "frames.arrow")
    options = Options(embed_frames=embed, max_shard_samples=2048, max_shard_bytes=64 << 20)
    build(root, options, 1)
    records = [
        (member.name, json.loads(member.data) if member.name.endswith(".json") else None)
        for shard in of_split(LocalFolder(root / "out" / "x" / "train"))
        for member in read_members(shard)
    ]
    samples = sum(record is not None for _, record in records)
    gc.collect()
    gc.freeze()  # the records that the floor needs are no burden on the builds
    frames = open_frames(root / "frames.arrow")
    seconds: dict[str, float] = {}
    for _ in range(3):
        for name, work in (
            ("floor", lambda: floor(root / "floor.tar", records, frames)),
            ("1 worker", lambda: build(root, options, 1)),
            ("2 workers", lambda: build(root, options, 2)),
        ):
            seconds[name] = min(seconds.get(name, 1e9), timed(work))
    print(f"\n{clips} clips, {samples} samples{', frames embedded' if embed else ''}: samples/s (best of 3)")
    for name, time_s in seconds.items():
        print(f"  {name:10} {samples / time_s:9.0f}   {seconds['floor'] / time_s:.2f} of the floor")
    print(f"  2 workers are {seconds['1 worker'] / seconds['2 workers']:.2f}x one")


def build(root: Path, options: Options, workers: int) -> None:
    shutil.rmtree(root / "out", ignore_errors=True)
    with LocalEngine(workers) as engine:
        build_split(root / "data", "x", "train", root / "out", options=options, engine=engine)


def floor(path: Path, records: list[tuple[str, Any]], frames: Any) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        indices = iter(())
        for name, record in records:
            if record is None:
                data = frames.read(next(indices))
            else:
                data = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
                indices = iter(record["frames"]["indices"])
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def memory(root: Path, counts: list[int]) -> None:
    """Peak resident memory of any process of a build with two workers, against input size."""
    shutil.rmtree(root / "out", ignore_errors=True)
    first = 0.0
    print("\npeak resident memory of the largest process, 2 workers")
    for count in counts:
        path = write_clips(root / "data" / "x", count, root / "frames.arrow", {"notes": METADATA})
        arguments = [sys.executable, __file__, "--measure", str(root / "data"), str(root / "out"), "2"]
        megabytes = float(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
        first = first or megabytes
        print(f"  input {path.stat().st_size / 1e6:8.0f} MB   {megabytes:6.0f} MB   {megabytes / first:.2f}x")
        shutil.rmtree(root / "out")


def _measure(data: str, out: str, workers: str) -> None:
    """Prints the peak resident megabytes of this process or, if larger, of a worker."""
    with LocalEngine(int(workers)) as engine:
        build_split(Path(data), "x", "train", Path(out), engine=engine)
        pids = [os.getpid(), *(process.pid for process in multiprocessing.active_children())]
        status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    print(max(int(text.split("VmHWM:")[1].split()[0]) for text in status) / 1000)


def write_clips(folder: Path, count: int, frames: Path, more: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train_training.json"
    with path.open("w") as file:
        for number in range(count):
            file.write("[" if number == 0 else ",\n")
            json.dump(clip(number, frames) | (more or {}), file)
        file.write("]")
    return path


def clip(number: int, frames: Path) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []

    def add(role: str, content: Any, end: int) -> None:
        turns.append({"role": role, "content": content, "start_frame": end - 2, "end_frame": end, "time": end / 2})

    add("user", "I want to assemble a toy roller with chassis, wheels, and cabin.", EVENTS[0])
    for place, frame in enumerate(EVENTS):
        if place:
            add("DST_UPDATE", [{"id": f"S{place}", "transition": "complete"}], frame)
        if place < 6:
            add("DST_UPDATE", [{"id": f"S{place + 1}", "transition": "start"}], frame)
            add(
                "assistant",
                "Now, let's screw the parts together. Take your screwdriver and screw them tightly. " * 2,
                frame,
            )
    add("assistant", "Well done, that was the last one!", EVENTS[-1])
    return {
        "video_uid": f"assembly_nusar-2021_action_both_9061-c13b_9061_user_id_2021-02-18_144655__HMC_84346135_{number}",
        "frames_file": str(frames),
        "start_frame_idx": 193,
        "end_frame_idx": 451,
        "dst": [
            {"type": "step", "id": f"S{i}", "name": f"Attach part {i} to the chassis with your hands"}
            for i in range(1, 7)
        ],
        "conversation": turns,
    }


def write_frames(path: Path) -> None:
    """452 JPEGs of 384 px and some 20 KB: smooth colour with the noise of a photograph."""
    rng = np.random.default_rng(0)
    base = np.asarray(
        Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize((384, 384), 3), np.int16
    )
    images = []
    for _ in range(452):
        out = io.BytesIO()
        noisy = np.clip(base + rng.normal(0, 9, base.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(out, "JPEG", quality=60)
        images.append(out.getvalue())
    table = pa.table({"frame": pa.array(images, pa.binary())})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=32)
    print(f"frames of {sum(map(len, images)) / len(images) / 1000:.1f} KB")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
