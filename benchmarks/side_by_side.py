"""Claim: clips streamed side by side in one process (`prospect evaluate --streams N`) give the same records as one by
one, several times faster.

    python benchmarks/side_by_side.py [--checkpoint RUN --data OUT/DATASET/SPLIT --data-root DATA] [--streams 1 4 16 1]

What `prospect evaluate` does to make prediction files is timed: frames decoded and encoded, clips streamed, files
written. Each N is run in the order given; N = 1 first and last, as the machine may be busy. Ratios are to the mean of
the runs of N = 1, by time and by this process's CPU time (on one thread what others do changes the latter less). The
frames' part, decoding and vision, is the same for every N, and timed apart: it bounds the ratio. Without a checkpoint:
the toy with random weights, whose blocks are the reference's (`--row forced`), as such a model says anything.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from pipeline.progress import unwatched
from pipeline.shards.build import build_split
from pipeline.shards.scan import Options
from pipeline.toyworld.make import make_toy
from prospect.data.images import StoredImages
from prospect.data.index import clips_of
from prospect.evaluation.predict import (
    EvaluatedClip,
    clips_to_stream,
    open_place,
    stream_clips,
    stream_record,
    streaming,
)
from prospect.evaluation.predictions import ClipPrediction, read_prediction
from prospect.evaluation.replay import Row, encoded
from prospect.model.presets import make_checkpoint
from prospect.stream.load import load_streamer


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of CPU, that `work` took."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def difference(one: Sequence[ClipPrediction], other: Sequence[ClipPrediction]) -> tuple[float, int]:
    """The largest difference of two probabilities, and how many clips were not written the same."""
    most, others = 0.0, 0
    for mine, theirs in zip(one, other, strict=True):
        written = [
            [(r.frame, r.is_restart, [(a.role, a.text) for a in r.actions]) for r in p.frames] for p in (mine, theirs)
        ]
        others += written[0] != written[1]
        for a, b in zip(mine.frames, theirs.frames, strict=True):
            most = max(most, abs(a.p_update - b.p_update), abs(a.p_speak - b.p_speak))
    return most, others


def made_toy(folder: Path) -> tuple[Path, str, Path]:
    """A checkpoint with random weights, a split folder and the data's root."""
    make_toy(folder / "data", clips=100)
    build_split(folder / "data", "toyworld", "train", folder / "shards", options=Options())
    place = f"{folder}/shards/toyworld/train"
    texts = [turn.text for clip in clips_of(open_place(place, folder / "data", None).index) for turn in clip.turns]
    return make_checkpoint("toy", folder / "toy", texts, 0), place, folder / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="a checkpoint's folder")
    parser.add_argument("--data", help="split folder of build-shards")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--row", choices=["model", "forced"], default=None)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16, 1])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, place, root = options.checkpoint, options.data, options.data_root
        if not checkpoint:
            checkpoint, place, root = made_toy(Path(folder))
        row: Row = options.row or ("model" if options.checkpoint else "forced")
        split = open_place(place, root, None)
        images = StoredImages(split, None, root)
        clips = clips_to_stream([split], lambda _: images, limit=options.clips)
        measure(str(checkpoint), clips, row, options.streams, Path(folder))


def measure(checkpoint: str, clips: Sequence[EvaluatedClip], row: Row, streams: Sequence[int], folder: Path) -> None:
    streamer = load_streamer(checkpoint)
    record, model = stream_record(checkpoint, streamer), streamer.model
    size: int = model.config.vision_config.image_size
    frames = sum(one.clip.end_frame - one.clip.start_frame + 1 for one in clips)
    print(f"{model.device}, {torch.get_num_threads()} threads; {len(clips)} clips, {frames} frames, row {row}")

    def streamed(count: int, out: Path) -> None:
        out.mkdir()
        stream_clips(streaming(streamer, count), clips, row, out, record, unwatched)

    def seen() -> None:
        for one in clips:
            for _ in encoded(streamer, one.pixels(size, False), row, model.prospect_settings.vision_chunk):
                pass

    stream_clips(streaming(streamer), clips[:1], row, folder, record, unwatched)  # warm-up
    runs, found = [], []
    for number, count in enumerate(streams):
        out = folder / f"run-{number}"
        runs.append((count, *timed(partial(streamed, count, out)), os.getloadavg()[0]))
        found.append([read_prediction(out / one.file_name) for one in clips])
    vision = timed(seen)
    alone = [run for run in runs if run[0] == 1] or runs[:1]
    wall, cpu = (sum(run[i] for run in alone) / len(alone) for i in (1, 2))
    table = Table(
        "streams",
        "frames/s",
        "ratio",
        "CPU ms a frame",
        "ratio",
        "without frames",
        "load",
        "most apart",
        "clips unlike",
    )
    for (count, seconds, of_cpu, load), predictions in zip(runs, found, strict=True):
        most, unlike = difference(predictions, found[0])
        table.add_row(
            str(count), f"{frames / seconds:.1f}", f"{wall / seconds:.2f}x", f"{1000 * of_cpu / frames:.2f}",
            f"{cpu / of_cpu:.2f}x", f"{(cpu - vision[1]) / (of_cpu - vision[1]):.2f}x", f"{load:.1f}", f"{most:.1e}",
            str(unlike),
        )  # fmt: skip
    Console(width=140).print(table)
    print(f"decoding and vision alone: {1000 * vision[1] / frames:.2f} ms of CPU a frame")


if __name__ == "__main__":
    main()
