"""Question: what does it take to plan millions of samples, and to hand them to two workers, mapped or as a copy each?

    python benchmarks/scale.py [--samples 2000000] [--packing clip]
    python benchmarks/scale.py --samples 10000000 --mapped-only    # a copy each does not fit 24 GiB then

A toy split's index is repeated under the names of more shards, each a link to the one that was built, so that every
sample of them can be read. Listing takes its time for each sample, once (the list is cached): it is timed on the built
split, whose list is repeated as well, and the last of the repeats is listed for comparison. Measured: opening the split
(its index read and checked), reading its list from the cache, an epoch's order, and the first batch of two workers, as
it is and with the index sent to each as a pickle (the baseline of the last column). Memory: the peak of this process,
and what each worker has of its own. BENCH_DIR: where it works (some 400 bytes a sample).
"""

import argparse
import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from pipeline.io.storage import write_json
from pipeline.shards.build import build_split
from pipeline.shards.manifest import INDEX, MANIFEST, SCHEMA
from pipeline.toyworld.make import DATASET, make_toy
from prospect.config import DataConfig
from prospect.data import shared_frame
from prospect.data.index import Split, read_split
from prospect.data.loader import MicroBatches, make_loader
from prospect.data.order import Order, make_order
from prospect.data.reader import SequenceReader
from prospect.data.sequences import cached_table, sequence_table, table_fingerprint
from prospect.layout import Tokens
from prospect.model.presets import make_checkpoint

SEED, WORKERS, BATCH = 0, 2, 2


def repeat(folder: Path, samples: int) -> int:
    """Make the built split as large as `samples`, or a little larger; give how many it has."""
    manifest = json.loads((folder / MANIFEST).read_text())
    index, built = pq.read_table(folder / INDEX), manifest["shards"]
    shards: list[dict[str, Any]] = []
    with pq.ParquetWriter(folder / INDEX, SCHEMA) as writer:
        while len(shards) * len(index) < samples * len(built):
            names = {shard["name"]: f"train-{len(shards) + i:06}.tar" for i, shard in enumerate(built)}
            for shard in built:
                name = names[shard["name"]]
                if not (folder / name).exists():
                    (folder / name).symlink_to(shard["name"])
                shards.append(shard | {"name": name})
            renamed = pa.array([names[name] for name in index["shard"].to_pylist()])
            writer.write_table(index.set_column(0, "shard", renamed))
    data = (folder / INDEX).read_bytes()
    manifest["shards"], manifest["num_samples"] = shards, sum(shard["samples"] for shard in shards)
    manifest["index"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_json(folder / MANIFEST, manifest)
    return int(manifest["num_samples"])


def repeat_list(table: pl.DataFrame, built: Split, split: Split, path: Path) -> None:
    """Write the list of the repeated split, made of that of the one that was built."""
    shards = [shard.name for shard in built.manifest.shards]
    repeats = len(split.index) // len(built.index)
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.concat(
        table.with_columns(
            row=pl.col("row") + number * len(built.index),
            shard=pl.col("shard").replace_strict(
                {name: f"train-{number * len(shards) + place:06}.tar" for place, name in enumerate(shards)}
            ),
        )
        for number in range(repeats)
    ).write_parquet(path)


def check_last(table: pl.DataFrame, built: Split, split: Split, tokens: Tokens, data: DataConfig) -> None:
    """Compare the last repeat with the list of its part of the index."""
    first = len(split.index) - len(built.index)
    listed = sequence_table(replace(split, index=split.index[first:]), tokens, data)
    assert table[-len(listed) :].equals(listed.with_columns(row=pl.col("row") + first))


class Measured:
    """A table of what was timed."""

    def __init__(self, title: str) -> None:
        self.table = Table("", "seconds", "peak, GiB", "a worker's own, GiB", "ratio", title=title)

    @contextmanager
    def row(self, what: str, own: list[float] | None = None, baseline: float | None = None) -> Iterator[list[float]]:
        """Time what is done inside; the list given has the seconds afterwards."""
        seconds, start = list[float](), time.perf_counter()
        yield seconds
        seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        memory = ", ".join(f"{size:.2f}" for size in own or ())
        ratio = f"{baseline / seconds[0]:.1f}x" if baseline else ""
        self.table.add_row(what, f"{seconds[0]:.2f}", f"{peak:.1f}", memory, ratio)
        print(f"{what}: {seconds[0]:.2f} s", file=sys.stderr, flush=True)


def first_batch(reader: SequenceReader, order: Order, own: list[float]) -> None:
    """Start workers and take a batch; what each of them has in memory of its own goes into `own`, GiB."""
    loader = make_loader(reader, MicroBatches(lambda: order.micro_batches(0, 8, BATCH), 8), 0, WORKERS)
    batches = iter(loader)
    next(batches)
    sizes = [child.memory_full_info().uss / 2**30 for child in psutil.Process().children(recursive=True)]
    own += sorted(sizes)[-WORKERS:]  # the others only start processes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2_000_000)
    parser.add_argument("--mapped-only", action="store_true", help="without the baseline")
    parser.add_argument("--packing", choices=("clip", "turn"), default="clip")
    parser.add_argument("--clips", type=int, default=300, help="of the toy split that is repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        make_toy(folder / "data", clips=options.clips)
        build_split(folder / "data", DATASET, "train", folder / "shards")
        built = read_split(folder / "shards", DATASET, "train", folder / "data")
        texts = built.index["target"].drop_nulls()
        tokens = Tokens(AutoTokenizer.from_pretrained(make_checkpoint("toy", folder / "toy", list(texts), SEED)), 1)
        data = DataConfig(
            dataset=DATASET, root=folder / "data", cache=folder / "cache", max_seq_len=2048, packing=options.packing
        )
        began = time.process_time()
        listed = sequence_table(built, tokens, data)
        each = (time.process_time() - began) / len(built.index)
        samples = repeat(folder / "shards" / DATASET / "train", options.samples)
        measured = Measured(f"{samples} samples, {options.packing} packing, {WORKERS} workers")
        with measured.row("open: index read, checked"):
            split = read_split(folder / "shards", DATASET, "train", folder / "data")
        repeat_list(listed, built, split, data.tables / f"{table_fingerprint(split, tokens, data)[:32]}.parquet")
        with measured.row("its list, cached"):
            table = cached_table(split, tokens, data)
        check_last(table, built, split, tokens, data)
        with measured.row("an epoch's order"):
            order = make_order([table], SEED, data.shuffle_window, 16, 8)
            order.epoch(0)
        reader = SequenceReader(split, table, tokens, data, 64, None)
        own: list[float] = []
        with measured.row("first batch of a small split", own):  # and the workers' server is started
            rows = int(table["row"][64])
            few = SequenceReader(replace(split, index=split.index[:rows]), table[:64], tokens, data, 64, None)
            first_batch(few, make_order([few.table], SEED, data.shuffle_window, 16), own)
        sent: list[float] = []
        if not options.mapped_only:
            large, own = shared_frame.LARGE, []
            shared_frame.LARGE = sys.maxsize
            with measured.row("first batch, sent to each", own) as sent:
                first_batch(reader, order, own)
            shared_frame.LARGE = large
        own = []
        with measured.row("first batch, mapped", own, sent[0] if sent else None):
            first_batch(reader, order, own)
    print(
        f"\nlisting, once: {1e6 * each:.0f} us of CPU a sample, {samples * each:.0f} s for all (of {len(built.index)})"
    )
    Console(width=110).print(measured.table)


if __name__ == "__main__":
    main()
