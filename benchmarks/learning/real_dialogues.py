"""HowToDIV's and ProAssist's dialogues as clips and shards, for benchmarks/learning/pretrained.py: language alone.

Their videos are not public, so a frames file has one grey picture as often as its video has frames. At half a frame a
second few utterances fall on one frame (1% of HowToDIV's, 4% of ProAssist's), and a dialogue takes some 700 tokens.
"""

import io
import math
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
from PIL import Image

from pipeline.annotations.json_files import read_raw_clips
from pipeline.importers.howtodiv import import_howtodiv
from pipeline.importers.proassist import import_proassist
from pipeline.importers.proassist_generated import import_proassist_generated
from pipeline.io.storage import LocalFolder
from pipeline.shards.build import build_split
from pipeline.spans.dataset import project
from pipeline.spans.records import read_dialogues, read_spans

FPS = 0.5
HOWTODIV, PROASSIST = "howtodiv", "proassist"
MEASURED = {HOWTODIV: "val", PROASSIST: "test"}  # the split; two names, as a run's metrics are by split


def make_dialogues(
    folder: Path, howtodiv: Path | None, generated: list[Path] | None, prepared: list[Path] | None
) -> list[str]:
    """Make FOLDER/data and FOLDER/shards of what is given; lists the datasets.

    Args:
        howtodiv: the zip or its folder; its own lists have the splits.
        generated: ProAssist's generated dialogues, to train on.
        prepared: ProAssist's prepared ones, to measure on; they should be of other videos.
    """
    made = []
    if howtodiv:
        import_howtodiv(howtodiv, folder / "data" / HOWTODIV, force=True)
        for split in ("train", "val"):
            _project(folder / "data" / HOWTODIV, split)
        made.append(HOWTODIV)
    if generated and prepared:
        import_proassist_generated(generated, folder / "data" / PROASSIST, split="train", force=True)
        _project(folder / "data" / PROASSIST, "train")
        import_proassist(prepared, folder / "data" / PROASSIST, split="test", force=True)
        _write_frames_of_clips(folder / "data" / PROASSIST, "test")
        made.append(PROASSIST)
    for dataset in made:
        for split in ("train", MEASURED[dataset]):
            build_split(folder / "data", dataset, split, folder / "shards")
    return made


def _project(folder: Path, split: str) -> None:
    """Make clips of a split's spans and dialogues, of videos as long as what is known of them."""
    spans, dialogues = (folder / f"{split}_{kind}.jsonl" for kind in ("spans", "dialogues"))
    ends = {video.video: [video.duration_s or 0, *(span.end_s for span in video.spans)] for video in read_spans(spans)}
    for dialogue in read_dialogues(dialogues):
        ends[dialogue.video] += [line.start_s or 0 for line in dialogue.lines]
    for video, seconds in ends.items():
        _write_frames(folder / "frames" / f"{video}.arrow", math.floor(max(seconds) * FPS) + 2)
    project(spans, folder, dialogues=dialogues, frames_root=folder / "frames", fps=FPS, split=split, force=True)


def _write_frames_of_clips(folder: Path, split: str) -> None:
    lengths: dict[str, int] = defaultdict(int)
    for clip in read_raw_clips(folder / f"{split}_training.jsonl"):
        lengths[clip["frames_file"]] = max(lengths[clip["frames_file"]], clip["end_frame_idx"] + 1)
    for name, length in lengths.items():
        _write_frames(folder / name, length)


def _write_frames(path: Path, count: int) -> None:
    if path.exists():
        return
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (100, 100, 100)).save(picture, "JPEG")
    table = pa.table({"frame": [picture.getvalue()] * count})
    with LocalFolder(path.parent).new_file(path.name) as partial, pa.ipc.new_stream(str(partial), table.schema) as out:
        out.write_table(table)
