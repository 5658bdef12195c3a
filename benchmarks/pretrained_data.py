"""The data of benchmarks/pretrained.py: the hard toy world, and the real dialogues that two datasets have for the public.

Of the dialogues nothing can be seen: their videos are not public, so a frames file has one grey picture as often as the
video has frames. At half a frame a second, few utterances fall on one frame, and a dialogue takes some 700 tokens.
"""

import argparse
import io
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from PIL import Image

from pipeline.annotations.clips import Clip
from pipeline.annotations.dst import parse_updates
from pipeline.annotations.json_files import read_raw_clips
from pipeline.importers.howtodiv import import_howtodiv
from pipeline.importers.proassist import import_proassist
from pipeline.importers.proassist_generated import import_proassist_generated
from pipeline.io.storage import LocalFolder
from pipeline.shards.build import build_split
from pipeline.spans.dataset import project
from pipeline.spans.records import read_dialogues, read_spans
from pipeline.toyworld.make import DATASET, make_toy
from prospect.layout import state_after

FPS = 0.5  # of the real dialogues
HOWTODIV, PROASSIST = "howtodiv", "proassist"
VALIDATED = {HOWTODIV: "val", PROASSIST: "test"}  # the names tell one from the other in a run's metrics


def make_hard(folder: Path, clips: int) -> None:
    """Make FOLDER/data and FOLDER/shards of the hard toy world, unless they are there."""
    if not (folder / "data" / DATASET).exists():
        make_toy(folder / "data", clips=clips, preset="hard")
    for split in ("train", "val"):
        build_split(folder / "data", DATASET, split, folder / "shards")


def make_real(folder: Path, options: argparse.Namespace) -> list[str]:
    """Make FOLDER/data and FOLDER/shards of the dialogues that were given, unless they are there; lists the datasets."""
    made = []
    if options.howtodiv:
        _make_howtodiv(folder / "data" / HOWTODIV, options.howtodiv)
        made.append(HOWTODIV)
    if options.generated and options.prepared:
        _make_proassist(folder / "data" / PROASSIST, options.generated, options.prepared)
        made.append(PROASSIST)
    for dataset in made:
        for split in ("train", VALIDATED[dataset]):
            build_split(folder / "data", dataset, split, folder / "shards")
    return made


def _make_howtodiv(folder: Path, source: Path) -> None:
    """By its own lists of the splits."""
    import_howtodiv(source, folder, force=True)
    for split in ("train", "val"):
        _project(folder, split)


def _make_proassist(folder: Path, generated: list[Path], prepared: list[Path]) -> None:
    """Training: generated dialogues, of no states. Measured: the prepared ones, of other videos."""
    import_proassist_generated(generated, folder, split="train", force=True)
    _project(folder, "train")
    import_proassist(prepared, folder, split="test", force=True)
    lengths: dict[str, int] = defaultdict(int)
    for clip in read_raw_clips(folder / "test_training.jsonl"):
        lengths[clip["frames_file"]] = max(lengths[clip["frames_file"]], clip["end_frame_idx"] + 1)
    for name, length in lengths.items():
        _write_frames(folder / name, length)


def _project(folder: Path, split: str) -> None:
    """Make clips of a split's spans and dialogues, whose videos are as long as what is known of them."""
    lengths = {
        record.video: max([record.duration_s or 0, *(span.end_s for span in record.spans)])
        for record in read_spans(folder / f"{split}_spans.jsonl")
    }
    for dialogue in read_dialogues(folder / f"{split}_dialogues.jsonl"):
        lengths[dialogue.video] = max([lengths[dialogue.video], *(line.start_s or 0 for line in dialogue.lines)])
    frames = folder / "frames"
    for video, seconds in lengths.items():
        _write_frames(frames / f"{video}.arrow", math.floor(seconds * FPS) + 2)
    spans, dialogues = (folder / f"{split}_{kind}.jsonl" for kind in ("spans", "dialogues"))
    project(spans, folder, dialogues=dialogues, frames_root=frames, fps=FPS, split=split, force=True)


def _write_frames(path: Path, count: int) -> None:
    if path.exists():
        return
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (100, 100, 100)).save(picture, "JPEG")
    table = pa.table({"frame": [picture.getvalue()] * count})
    with LocalFolder(path.parent).new_file(path.name) as partial, pa.ipc.new_stream(str(partial), table.schema) as writer:
        writer.write_table(table)


def chance_of_starts(clips: Iterable[Clip]) -> float:
    """Give how often a guess among the steps that were not started yet is right where one is."""
    chances = []
    for clip in clips:
        state = clip.state
        for turn in clip.turns:
            if turn.role == "dst_update" and any(u.transition == "start" for u in parse_updates(turn.text)):
                chances.append(1 / sum(value == "not_started" for value in state.values()))
            state = state_after(state, [turn])
    return sum(chances) / len(chances)
