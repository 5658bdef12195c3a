"""Claims: the loader streams frames near the speed of JPEG decoding, ahead of its peers, seeks in a time that does not
grow, and its workers do not grow.

    python benchmarks/stream.py [--clips 24] [--samples 50000] [--without-peers] [--only speed,resume,memory]

Frames are 384 px JPEGs of some 17 KB (benchmarks/build.py), the model's size is 384 px: decoded whole, not resized. All
in one run, in turn, best of three (litdata and energon after the others, in an environment of their own); every loader
has one worker process, and its later passes are timed, without start-up. Peers are shown with both decoders.

1. Frames a second against the floor, a bare loop on one core that decodes (and would resize) and throws the pixels
   away, and against peers. A loop that keeps the pixels of a batch is shown too: no loader does with less.
2. Time to the first batch when a run is resumed at 1%, 50% and 99% of an epoch.
3. Resident memory of a worker over 50,000 turn samples.

BENCH_DIR is where the files go.
"""

import argparse
import io
import itertools
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import simplejpeg
import torch
import webdataset
from build import write_clips, write_frames
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from pipeline.io.frame_store import open_frames
from pipeline.shards.build import build_split
from pipeline.shards.scan import Options
from prospect.config import DataConfig, NegativeRate
from prospect.data.index import read_split
from prospect.data.loader import Loader, MicroBatches, make_loader
from prospect.data.order import Request, make_order
from prospect.data.reader import Sampling, SequenceReader
from prospect.data.sequences import sequence_table
from prospect.layout import Tokens
from prospect.model.presets import toy_tokenizer
from prospect.setup import texts_of

SIZE = 384
PEERS = {"litdata": "litdata", "energon": "megatron-energon"}  # name: package
REPEAT = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--only", default="speed,resume,memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        root = Path(folder)
        write_frames(root / "frames.arrow")
        write_clips(root / "data" / "x", options.clips, root / "frames.arrow")
        for name, embed in (("plain", False), ("embedded", True)):
            build_split(root / "data", "x", "train", root / name, options=Options(embed_frames=embed))
        if "speed" in options.only:
            speed(root, not options.without_peers)
        if "resume" in options.only:
            resume(root)
        if "memory" in options.only:
            memory(root, options.samples)


def reader(root: Path, shards: str = "plain", size: int = SIZE, rate: float = 1.0, **settings: Any) -> SequenceReader:
    data = DataConfig(dataset="x", shards=root / shards, root=root / "data", max_seq_len=8192, **settings)
    split = read_split(data.shards, "x", "train", data.root)
    tokens = Tokens(toy_tokenizer(texts_of(split.index, data)), 4)
    sampling = Sampling(NegativeRate(start=rate), 0, 1)
    return SequenceReader(split, sequence_table(split, tokens, data), tokens, data, size, sampling)


def speed(root: Path, with_peers: bool) -> None:
    kept = into_a_batch()
    ways: dict[str, Callable[[], tuple[int, int]]] = {
        "floor: Pillow": lambda: floor(root, pillow),
        "floor: simplejpeg": lambda: floor(root, simplejpeg.decode_jpeg),
        "floor: simplejpeg, kept for a batch": lambda: floor(root, kept),
        "ours, clip packing, Arrow": passes(ours(reader(root), 1)),
        "ours, clip packing, embedded": passes(ours(reader(root, "embedded"), 1)),
        "ours, turn packing": passes(ours(reader(root, packing="turn"), 8)),
        "ours, turn packing, rate 0.1": passes(ours(reader(root, packing="turn", rate=0.1), 8)),
        "webdataset + Pillow": passes(plain_webdataset(root, pillow)),
        "webdataset + simplejpeg": passes(plain_webdataset(root, simplejpeg.decode_jpeg)),
        "read_all a turn + Pillow": passes(literal(root)),
    }
    best: dict[str, tuple[float, float]] = {}
    for way in ways.values():
        way()  # start-up of workers, and files into memory
    for _ in range(REPEAT):
        for name, way in ways.items():
            start = time.perf_counter()
            frames, samples = way()
            seconds = time.perf_counter() - start
            best[name] = max(best.get(name, (0.0, 0.0)), (frames / seconds, samples / seconds))
    if with_peers:
        best |= peers(root)
    fastest = max(rate for name, (rate, _) in best.items() if name.startswith("floor"))
    table = Table("", "frames/s", "of the faster floor", "turn samples/s", title="one worker process each")
    for name, (frames_s, samples_s) in best.items():
        table.add_row(name, f"{frames_s:.0f}", f"{frames_s / fastest:.2f}", f"{samples_s:.0f}" if samples_s else "")
    Console().print(table)
    print("rate 0.1: a tenth of the silent frames is learned from, the others are never decoded")


def pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def into_a_batch() -> Callable[[bytes], np.ndarray]:
    """Decodes as a batch of 259 frames wants it: into memory of its own, which no cache holds."""
    batch = np.empty((259, SIZE, SIZE, 3), np.uint8)
    places = itertools.cycle(batch)
    return lambda data: simplejpeg.decode_jpeg(data, buffer=next(places))


def floor(root: Path, decode: Callable[[bytes], np.ndarray]) -> tuple[int, int]:
    frames = open_frames(root / "frames.arrow")
    count = 1500
    for number in range(count):
        pixels = decode(frames.read(number % len(frames)))
        if pixels.shape[0] != SIZE:
            Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return count, 0


def passes(loader: Any) -> Callable[[], tuple[int, int]]:
    """One pass over a loader: frames and turn samples that arrived."""

    def run() -> tuple[int, int]:
        frames = samples = 0
        for batch in loader:
            frames += len(batch["frames"])
            samples += batch["samples"] if "samples" in batch else len(batch["keys"]) * loader.samples_each
        return frames, samples

    return run


def ours(reader: SequenceReader, batch: int) -> Loader:
    count = len(reader)
    batches = [[Request(i, 0, 0) for i in range(first, min(first + batch, count))] for first in range(0, count, batch)]
    loader = make_loader(reader, MicroBatches(lambda: iter(batches), len(batches)), 0, 1)
    loader.samples_each = int(reader.table["num_rows"][0])
    return loader


def as_batch(samples: list[list[np.ndarray]]) -> dict[str, Any]:
    frames = np.concatenate([np.stack(sample) for sample in samples]).transpose(0, 3, 1, 2)
    return {"frames": torch.from_numpy(np.ascontiguousarray(frames)), "samples": len(samples)}


def to_size(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[0] == SIZE:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def decoded(sample: dict[str, Any], decode: Callable[[bytes], np.ndarray]) -> list[np.ndarray]:
    return [to_size(decode(sample[name])) for name in sorted(sample) if name.endswith("jpg")]


def plain_webdataset(root: Path, decode: Callable[[bytes], np.ndarray]) -> Any:
    shards = sorted(str(path) for path in (root / "embedded" / "x" / "train").glob("*.tar"))
    dataset = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).map(partial(decoded, decode=decode))
    return DataLoader(
        dataset, 8, num_workers=1, collate_fn=as_batch, persistent_workers=True, multiprocessing_context="forkserver"
    )


class Literal(Dataset[Any]):
    """The plan's words taken literally: the whole Arrow file is read for every turn, every frame decoded."""

    def __init__(self, root: Path) -> None:
        index = reader(root).split.index
        self.path = str(root / "frames.arrow")
        self.ranges = index.select("start_frame", "end_frame").rows()

    def __len__(self) -> int:
        return len(self.ranges)

    def __getitem__(self, number: int) -> list[np.ndarray]:
        with pa.OSFile(self.path, "rb") as file:
            column = pa.ipc.open_stream(file).read_all()["frame"]
        first, last = self.ranges[number]
        return [to_size(pillow(column[frame].as_py())) for frame in range(first, last + 1)]


def literal(root: Path) -> Any:
    return DataLoader(
        Literal(root),
        8,
        num_workers=1,
        collate_fn=as_batch,
        persistent_workers=True,
        multiprocessing_context="forkserver",
    )


def peers(root: Path) -> dict[str, tuple[float, float]]:
    """litdata and energon, in a virtual environment of their own; torchcodec's decoder where its wheel finds CUDA."""
    venv.create(root / "venv", with_pip=True)
    python = str(root / "venv" / "bin" / "python")
    constraints = Path(__file__).parents[1] / "constraints.txt"
    packages = [
        "torch==2.13.0",
        *PEERS.values(),
        "torchcodec",
        "numpy",
        "pillow",
        "pyarrow",
        "simplejpeg",
        "webdataset",
    ]
    rates: dict[str, tuple[float, float]] = {}
    if ran([python, "-m", "pip", "install", "-q", "--no-compile", "-c", str(constraints), *packages]) is None:
        return rates
    for peer in PEERS:
        script = Path(__file__).parent / "peers" / f"with_{peer}.py"
        for line in (ran([python, str(script), str(root / "frames.arrow"), str(root / peer)]) or "").splitlines():
            if line.startswith("RATE"):
                _, name, rate = line.split("\t")
                rates[name] = max(rates.get(name, (0.0, 0.0)), (float(rate), 0.0))
    return rates


def ran(command: list[str]) -> str | None:
    """What a command prints; None, and what went wrong on stderr, where it fails: the others go on."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=900).stdout
    except subprocess.SubprocessError as error:
        told = (getattr(error, "stderr", "") or "")[-500:]
        print(f"{' '.join(command[1:3])}: did not run ({error}); {told}", file=sys.stderr)
        return None


def resume(root: Path) -> None:
    """Time from the loader's making to its first batch, of two turn samples; the epoch has 1,000,000 sequences."""
    one = reader(root, packing="turn")
    many = pl.concat([one.table] * (1_000_000 // len(one) + 1)).head(1_000_000)
    one = replace(one, table=many)
    order = make_order([many], 0, 16, 2, 16)
    table = Table("resumed at", "ms to the first batch, no worker", "one worker", title="1,000,000 sequences an epoch")
    for share in (0.01, 0.5, 0.99):
        step = int(share * order.steps_per_epoch)
        best = [float("inf")] * 2
        for _ in range(REPEAT):
            for workers in (0, 1):
                start = time.perf_counter()
                steps = partial(order.micro_batches, step, order.steps_per_epoch, 2)
                loader = make_loader(one, MicroBatches(steps, 10**6), 0, workers)
                next(iter(loader))
                best[workers] = min(best[workers], time.perf_counter() - start)
        table.add_row(f"{share:.0%}", *(f"{1000 * seconds:.0f}" for seconds in best))
    Console().print(table)


def memory(root: Path, samples: int) -> None:
    """Resident memory of the one worker, turn packing at rate 0.1, frames made 32 px."""
    one = reader(root, size=32, packing="turn", rate=0.1)

    def requests() -> Iterator[list[Request]]:
        for first in range(0, samples, 8):
            yield [Request((first + i) % len(one), first // len(one), 0) for i in range(8)]

    loader = make_loader(one, MicroBatches(requests, samples // 8), 0, 1)
    found = []
    for number, _ in enumerate(loader, 1):
        if number % (samples // 80) == 0:
            (worker,) = torch.multiprocessing.active_children()
            text = Path(f"/proc/{worker.pid}/status").read_text()
            found.append(int(text.split("RssAnon:")[1].split()[0]) / 1000)
    print(
        f"worker's memory (anonymous) over {samples} samples, MB at each tenth: {' '.join(f'{mb:.0f}' for mb in found)}"
    )
    print(f"last against first: {found[-1] / found[0]:.2f}x")


if __name__ == "__main__":
    main()
