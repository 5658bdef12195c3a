"""Data, shards and a run to browse, small enough to count by hand."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.annotations.clips import SPLITS
from pipeline.annotations.validate import check_clip
from pipeline.shards.build import build_split
from pipeline.shards.sample import clip_key, key_of
from prospect.evaluation.predictions import ClipPrediction, write_prediction
from prospect.stream.records import Action
from prospect.web.browse.library import Library, open_library
from prospect.web.browse.paths import recognize
from prospect.web.browse.shell import make_browse, sections
from prospect.web.browse.tokens import TokenViews
from tests.helpers.fakes import raw_clip, write_frames, write_root
from tests.helpers.predictions import record

NEW = {  # of the test split: a step that training has not, and another order
    "dst": [{"id": "S1", "name": "Turn it"}, {"id": "S2", "name": "Take it"}],
    "conversation": [
        {"role": "DST_UPDATE", "content": [{"id": "S1", "transition": "start"}], "start_frame": 5, "end_frame": 6},
        {"role": "assistant", "content": "Turn it twice.", "start_frame": 5, "end_frame": 6},
        {"role": "DST_UPDATE", "content": [{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "start"}],
         "start_frame": 11, "end_frame": 12},
    ],
}  # fmt: skip
SAID = {  # what was predicted of v3, by frame: a wrong step, and an utterance long after the one that was due
    6: (Action("dst_update", "S2->start", 0.9, 0.1),),
    19: (Action("assistant", "Well done.", 0.1, 0.9),),
}


@dataclass(frozen=True, slots=True)
class World:
    """x/train has the clips v1 and v2, x/test has v3; a run streamed v3."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "r"

    @property
    def every(self) -> list[Path]:
        return [self.data, self.shards, self.run]

    def key(self, video: str) -> str:
        return key_of("x", f"{video}-c000")


def make_world(folder: Path) -> World:
    world = World(folder)
    second = raw_clip(video_uid="v2", frames_file="frames/v2.arrow", conversation=raw_clip()["conversation"][:2])
    write_root(world.data, [raw_clip(), second])
    test = raw_clip(video_uid="v3", frames_file="frames/v3.arrow", goal="Fix the clock", **NEW)
    write_root(world.data, [test], split="test")
    for video in ("v1", "v2", "v3"):
        (world.data / "x" / "frames" / f"{video}.arrow").unlink(missing_ok=True)
        write_frames(world.data / "x" / "frames" / f"{video}.arrow", 20)
    for split in SPLITS[::2]:
        build_split(world.data, "x", split, world.shards)
    world.run.mkdir(parents=True)
    config = f"name: r\ndata: {{dataset: x, root: {world.data}, shards: {world.shards}}}\nmodel: {{preset: toy, tokens_per_frame: native}}\n"
    (world.run / "config.yaml").write_text(config)
    clip, _ = check_clip(test, index=0, file="", dataset="x", open_frames=None)
    assert clip is not None
    frames = tuple(record(frame, SAID.get(frame, ())) for frame in range(clip.start_frame, clip.end_frame + 1))
    predictions = world.run / "evaluation" / "test" / "predictions" / "model"
    predictions.mkdir(parents=True)
    write_prediction(predictions / f"{clip_key(clip)}.json", ClipPrediction(clip, frames, {"memory": "dst"}))
    return world


def library_of(*paths: Path, **more: Any) -> Library:
    return open_library(recognize(paths), **more)


def sections_of(*paths: Path, config: str | None = None) -> list[Any]:
    given = recognize(paths)
    return sections(open_library(given), TokenViews(given, config))


def browse_of(*paths: Path) -> Any:
    """For `served`: the pages of these paths."""
    listed = sections_of(*paths)
    return lambda address: make_browse(listed, address)
