"""Numbers of a split or a shard: kinds, frames, texts, updates, silence; and histograms of what varies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.errors import ProspectError
from pipeline.shards.index import read_index
from pipeline.shards.manifest import INDEX, MANIFEST, read_manifest
from pipeline.shards.reader import ShardFile, read_samples
from pipeline.shards.sample import KINDS

SCHEMA = {
    "clip_id": pl.String,
    "sample_idx": pl.Int64,
    "kind": pl.String,
    "start_frame": pl.Int64,
    "end_frame": pl.Int64,
    "target": pl.String,
    "target_start": pl.Int64,
    "fps": pl.Float64,
}
BINS, BAR = 8, 40  # of a histogram; characters of its longest bar


def statistics(shards: Sequence[ShardFile]) -> dict[str, Any]:
    """Give counts and distributions over all samples of `shards`.

    `frames` counts each frame of a clip once, `silent_frames` those at which nothing stands, and the ranges are those
    of `pipeline.annotations.ranges`; words are split at spaces.
    """
    samples = _samples(shards)
    clips = samples.group_by("clip_id", maintain_order=True).agg(
        frames=pl.col("end_frame").max() - pl.col("start_frame").min() + 1,
        silent=pl.col("end_frame").max()
        - pl.col("start_frame").min()
        + 1
        - pl.col("end_frame").filter(pl.col("target").is_not_null()).n_unique(),
        seconds=(pl.col("end_frame").max() - pl.col("start_frame").min() + 1) / pl.col("fps").first(),
        updates=pl.col("target").filter(pl.col("kind") == "dst_update").str.count_matches("->", literal=True).sum(),
        utterances=(pl.col("kind") == "assistant").sum(),
    )
    kinds = dict(samples["kind"].value_counts().rows())
    words = samples.filter(pl.col("kind") == "assistant")["target"].str.split(" ").list.len()
    runs = samples.filter(pl.col("kind") == "silent").select(pl.col("end_frame") - pl.col("start_frame") + 1)
    frames, silent = int(clips["frames"].sum()), int(clips["silent"].sum())
    return {
        "shards": len(shards),
        "clips": len(clips),
        "samples": len(samples),
        "kinds": {kind: int(kinds.get(kind, 0)) for kind in KINDS},
        "frames": frames,
        "silent_frames": silent,
        "silence_ratio": round(silent / frames, 4),
        **_ranges(samples),
        "seconds": round(float(clips["seconds"].sum()), 1),
        "distributions": {
            "frames a clip": _distribution(clips["frames"]),
            "updates a clip": _distribution(clips["updates"]),
            "utterances a clip": _distribution(clips["utterances"]),
            "words an utterance": _distribution(words),
            "frames a silent sample": _distribution(runs.to_series()),
        },
    }


def statistics_view(record: dict[str, Any]) -> Group:
    """Draw tables and bars for a terminal."""
    counts = Table("", "", show_header=False, box=None)
    for name in ("shards", "clips", "samples"):
        counts.add_row(name, f"{record[name]:,}")
    for kind, count in record["kinds"].items():
        counts.add_row(f"  {kind}", f"{count:,}")
    counts.add_row("frames", f"{record['frames']:,} ({record['seconds'] / 60:,.1f} minutes)")
    counts.add_row("silent frames", f"{record['silent_frames']:,} (silence ratio {record['silence_ratio']:.3f})")
    counts.add_row("events' ranges", f"{record['event_ranges']:,}")
    counts.add_row("  from the end of the one before", f"{record['contiguous_ranges']:,}")
    table = Table("", "min", "mean", "median", "p95", "max", title="distributions")
    for name, values in record["distributions"].items():
        table.add_row(name, *(f"{values[key]:g}" for key in ("min", "mean", "median", "p95", "max")))
    bars = [_histogram(name, values["histogram"]) for name, values in record["distributions"].items()]
    return Group(counts, table, *bars)


def _samples(shards: Sequence[ShardFile]) -> pl.DataFrame:
    """One row a sample: from the index of a finished split that is looked at whole, else from the shards."""
    folder = shards[0].folder
    if len(shards) > 1 and folder.has(MANIFEST):
        manifest = read_manifest(folder)
        try:
            data = folder.read(INDEX, manifest.index.bytes)
        except OSError as error:
            raise ProspectError(f"{folder}/{INDEX}: cannot be read ({error}); see --verify") from None
        index = read_index(data, f"{folder}/{INDEX}", manifest)
        fps = pl.col("clip").struct.field("fps").forward_fill().alias("fps")
        return index.with_columns(fps).select(*SCHEMA)
    rows = [
        {
            "clip_id": sample.clip.id,
            "sample_idx": sample.sample_idx,
            "kind": sample.kind,
            "start_frame": sample.start_frame,
            "end_frame": sample.end_frame,
            "target": sample.target.text if sample.target else None,
            "target_start": sample.target.start_frame if sample.target else None,
            "fps": float(sample.clip.fps),
        }
        for shard in shards
        for sample, _ in read_samples(shard)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _ranges(samples: pl.DataFrame) -> dict[str, int]:
    """How many ranges events have, and how many begin where the one before ended."""
    ranges = samples.filter(pl.col("target").is_not_null()).unique(
        ["clip_id", "target_start", "end_frame"], maintain_order=True
    )
    gap = pl.col("target_start") - pl.col("end_frame").shift().over("clip_id")
    return {"event_ranges": len(ranges), "contiguous_ranges": ranges.select(gap.is_between(0, 1).sum()).item()}


def _distribution(series: pl.Series) -> dict[str, Any]:
    values = series.to_numpy()
    if not len(values):
        return {"min": 0, "mean": 0, "median": 0, "p95": 0, "max": 0, "histogram": []}
    low, high = int(values.min()), int(values.max())
    edges = np.unique(np.linspace(low, high + 1, BINS + 1).astype(int))
    counts, _ = np.histogram(values, edges)
    return {
        "min": low,
        "mean": round(float(values.mean()), 2),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "max": high,
        "histogram": [
            {"from": int(a), "to": int(b) - 1, "count": int(n)}
            for a, b, n in zip(edges, edges[1:], counts, strict=False)
        ],
    }


def _histogram(name: str, bins: list[dict[str, int]]) -> Text:
    text = Text(f"\n{name}\n", style="bold")
    most = max((entry["count"] for entry in bins), default=0)
    for entry in bins:
        place = f"{entry['from']}..{entry['to']}" if entry["to"] > entry["from"] else str(entry["from"])
        bar = "█" * round(BAR * entry["count"] / most) if most else ""
        text.append(f"{place:>14} {bar or '▏'} {entry['count']:,}\n", style="not bold")
    return text
