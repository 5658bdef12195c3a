"""Streams the clips of evaluation splits into prediction files: one a clip, complete or absent, so that an interrupted
evaluation goes on where it was. A file made of other annotations is made again. Where torchrun started several
processes, each streams and writes its share; `spread.py` has workers that stream, and one process that writes.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import torch

from pipeline.annotations.clips import Clip
from pipeline.errors import ProspectError
from pipeline.io.records import differences
from pipeline.io.storage import LocalFolder, is_url, write_json
from pipeline.progress import Progress
from pipeline.shards.sample import clip_key
from prospect.data.decode import blind_frames, decode_frame
from prospect.data.images import StoredImages
from prospect.data.index import Split, clip_starts, clips_of, read_split
from prospect.data.shard_cache import ShardCache
from prospect.evaluation.one_pass import forced_clip
from prospect.evaluation.predictions import ClipPrediction, read_prediction, write_prediction
from prospect.evaluation.replay import Row, clip_steps, encoded, stream_clip
from prospect.layout import LAYOUT_VERSION
from prospect.model.hub import checkpoint_folder, checkpoint_name
from prospect.model.lora import base_of, is_adapter
from prospect.model.side_by_side import Slot, together
from prospect.model.steps import Steps
from prospect.stream.records import FrameRecord
from prospect.stream.streamer import Streamer

SETTINGS = "settings.json"  # in the output folder: what the predictions there depend on
NOT_OURS = f"found files, but no {SETTINGS} of an evaluation; move the folder away, or pass another --out"
A_LINK = (
    "found a link, expected a folder, as what it leads to is not this evaluation's; remove it, or pass another --out"
)
ENDS_BYTES = 1 << 20  # of a weights file, at either end, that tell it from another


@dataclass(frozen=True, slots=True)
class Places:
    """Where an evaluation finds what it reads."""

    splits: tuple[str, ...]  # split folders of build-shards (or their URLs), OUT/DATASET/SPLIT
    data_root: Path = Path("data")  # frames files are looked for under it
    frames_root: Path | None = None  # searched first
    cache: ShardCache | None = None  # of remote shards


@dataclass(frozen=True, slots=True)
class EvaluatedClip:
    """A clip to stream, and where its frames are."""

    clip: Clip
    images: StoredImages
    rows: tuple[int, int]  # its index rows

    @property
    def file_name(self) -> str:
        return f"{clip_key(self.clip)}.json"

    def stored(self, frames: Sequence[int]) -> Iterator[bytes]:
        """Give JPEG or PNG bytes of some frames."""
        return self.images.read(self.rows, self.clip.frames_file, frames)

    def shown(self, frames: Sequence[int]) -> tuple[tuple[int, int] | None, Iterator[bytes]]:
        """Give the shape (height, width) in which the video is shown, where it is told, and what `stored` gives."""
        return self.images.shape(self.clip.frames_file), self.stored(frames)

    def pixels(self, size: int, blind: bool) -> Iterator[torch.Tensor]:
        """Give uint8 (3, S, S) of each frame, decoded when it is asked for."""
        frames = range(self.clip.start_frame, self.clip.end_frame + 1)
        if blind:
            grey = torch.from_numpy(blind_frames(1, size)[0])
            yield from (grey for _ in frames)
            return
        for frame, data in zip(frames, self.stored(frames), strict=True):
            where = f"clip {self.clip.id!r} ({self.clip.frames_file}) frame {frame}"
            yield torch.from_numpy(decode_frame(data, size, where))


Streamed: TypeAlias = Iterator[tuple[EvaluatedClip, tuple[FrameRecord, ...]]]  # in the order in which they end
Stream: TypeAlias = Callable[[Sequence[EvaluatedClip], Row], Streamed]


def open_clips(places: Places, video_ids: Sequence[str] | None, limit: int | None) -> list[EvaluatedClip]:
    """List the clips of `places`, see `clips_to_stream`.

    Raises:
        ProspectError: bad shards or ids, the same clip twice, or no clip at all.
    """
    splits = [open_place(place, places.data_root, places.cache) for place in places.splits]

    def images(split: Split) -> StoredImages:
        return StoredImages(split, places.frames_root, places.data_root)

    clips = clips_to_stream(splits, images, video_ids, limit)
    if not clips:
        raise ProspectError(f"{', '.join(places.splits)}: found no clips, expected some to evaluate")
    return clips


def open_place(place: str, data_root: Path, cache: ShardCache | None) -> Split:
    """Open the split whose folder (or URL) is `place`, OUT/DATASET/SPLIT.

    Raises:
        ProspectError: it is no such folder, or no finished build.
    """
    shards, _, rest = place.rstrip("/").rpartition("/")
    shards, _, dataset = shards.rpartition("/")
    if not dataset or not rest:
        raise ProspectError(f"{place}: expected a split folder of build-shards, OUT/DATASET/SPLIT")
    return read_split(shards if is_url(shards) else Path(shards), dataset, rest, data_root, cache)


def clips_to_stream(
    splits: Sequence[Split],
    images: Callable[[Split], StoredImages],
    video_ids: Sequence[str] | None = None,
    limit: int | None = None,
) -> list[EvaluatedClip]:
    """List the clips of `splits`, in order; `video_ids` keeps those videos (or clips), `limit` the first so many.

    Raises:
        ProspectError: a video id that no clip has, or two clips of the same dataset and id.
    """
    clips = [
        EvaluatedClip(clip, images(split), rows)
        for split in splits
        for clip, rows in zip(clips_of(split.index), pairwise(clip_starts(split.index)), strict=True)
    ]
    if video_ids:
        known = {name for one in clips for name in (one.clip.video_uid, one.clip.id)}
        if unknown := [name for name in video_ids if name not in known]:
            raise ProspectError(
                f"--video-ids: found {', '.join(unknown)}, expected videos (or clips) of the split, such as "
                f"{', '.join(sorted(known)[:3])}"
            )
        clips = [one for one in clips if one.clip.video_uid in video_ids or one.clip.id in video_ids]
    clips = clips[:limit]
    counts = Counter(one.file_name for one in clips)
    if twice := [one.clip for one in clips if counts[one.file_name] > 1]:
        raise ProspectError(
            f"{', '.join(str(split.folder) for split in splits)}: found clip {twice[0].id!r} of dataset "
            f"{twice[0].dataset!r} twice, expected each once, as it has one prediction file; name each split once"
        )
    return clips


def prepare_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Make the output folder, or check that what is in it was made with the same settings.

    Raises:
        ProspectError: it holds predictions of other settings (names both values), or files without settings.
    """
    path = folder / SETTINGS
    if folder.is_symlink():
        raise ProspectError(f"{folder}: {A_LINK}")
    if LocalFolder(folder).names():
        there = _settings(path)
        if there is None:
            raise ProspectError(f"{folder}: {NOT_OURS}")
        if other := differences(there, settings):
            raise ProspectError(
                f"{folder}: holds predictions made otherwise ({'; '.join(other)}); pass --overwrite, or another --out"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)


def remove_folder(folder: Path) -> None:
    """Remove the output folder. It is renamed first: of one that is removed in part, nothing could be told.

    Raises:
        ProspectError: it is no folder of predictions: a link, or files of something else.
    """
    aside = folder.with_name(f".{folder.name}.removed")
    for path in (aside, folder):  # aside: from a removal that was killed
        if path.is_symlink():
            raise ProspectError(f"{path}: {A_LINK}")
        if path == folder and path.exists() and not _is_ours(path):
            raise ProspectError(f"{path}: {NOT_OURS}")
        if path.exists():
            shutil.rmtree(path.replace(aside))


def _is_ours(folder: Path) -> bool:
    """Whether an evaluation made the folder: it says with which settings, or has nothing in it."""
    return folder.is_dir() and (not LocalFolder(folder).names() or "weights" in (_settings(folder / SETTINGS) or {}))


def stream_clips(
    stream: Stream,
    clips: Sequence[EvaluatedClip],
    row: Row,
    folder: Path,
    settings: dict[str, Any],
    progress: Progress,
    rank: int = 0,
    ranks: int = 1,
) -> int:
    """Write a prediction file in `folder` for each of this rank's share of `clips`, as they end; gives how many were
    there, of other annotations (or settings), and were made again.

    Raises:
        ProspectError: as `stream` (see `streaming`), or a prediction file that is there is broken.
    """
    mine = clips[rank::ranks]
    settings = settings | {"row": row}
    again = 0
    missing = []
    progress(f"streaming ({row})", 0, len(mine))
    for one in mine:
        path = folder / one.file_name
        there = read_prediction(path) if path.is_file() else None
        if there is None or there.clip != one.clip or there.settings != settings:
            again += there is not None
            missing.append(one)
    done = len(mine) - len(missing)
    for one, frames in stream(missing, row) if missing else ():
        write_prediction(folder / one.file_name, ClipPrediction(one.clip, frames, settings))
        done += 1
        progress(f"streaming ({row})", done, len(mine))
    progress(f"streaming ({row})", len(mine), len(mine))
    return again


def streaming(streamer: Streamer, streams: int = 1) -> Stream:
    """Give what streams clips in this process, `streams` of them side by side.

    It raises ProspectError where a frame is broken, or memory is too little for so many streams.
    """
    size: int = streamer.model.config.vision_config.image_size
    chunk = streamer.model.prospect_settings.vision_chunk

    def features(one: EvaluatedClip, row: Row) -> Iterator[torch.Tensor]:
        return encoded(streamer, one.pixels(size, row == "blind"), row, chunk)

    def beside(one: EvaluatedClip, row: Row, slot: Slot) -> Steps[tuple[EvaluatedClip, tuple[FrameRecord, ...]]]:
        stream = streamer.beside(slot.emptied, slot.clock)
        return one, (yield from clip_steps(stream, one.clip, features(one, row), row))

    def stream(clips: Sequence[EvaluatedClip], row: Row) -> Streamed:
        if row == "forced" and streamer.settings.context != "slide":
            for one in clips:
                yield one, forced_clip(streamer, one.clip, features(one, row))
            return
        if streams == 1:
            for one in clips:
                yield one, tuple(stream_clip(streamer, one.clip, features(one, row), row))
            return
        try:
            yield from together(streamer.model, (partial(beside, one, row) for one in clips), min(streams, len(clips)))
        except torch.OutOfMemoryError:
            raise ProspectError(
                f"--streams {streams}: found too little memory on {streamer.model.device} for so many contexts; pass "
                "fewer"
            ) from None

    return stream


def stream_record(checkpoint: str, streamer: Streamer) -> dict[str, Any]:
    """Give what predictions depend on, besides the clips: the weights in the folder `checkpoint`, those of an adapter's
    base too, and how they are computed with, the settings of the stream, and the code's layout of tokens and version.
    """
    folders = [Path(checkpoint)]
    if is_adapter(folders[0]):
        folders.append(Path(checkpoint_folder(base_of(folders[0]))))
    return {
        "checkpoint": checkpoint_name(checkpoint),
        "weights": _weights(folders),
        "precision": str(streamer.model.dtype).removeprefix("torch."),
        "layout": LAYOUT_VERSION,
        "prospect": version("prospect-vlm"),
        **asdict(streamer.settings),
    }


def _settings(path: Path) -> dict[str, Any] | None:
    """What `prepare_folder` wrote; None: nothing of the kind."""
    try:
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return settings if isinstance(settings, dict) else None


def _weights(folders: Sequence[Path]) -> str:
    """Of checkpoints' folders: a short digest of their weight files, by size and by their ends."""
    digest = hashlib.blake2b(digest_size=8)
    for path in [path for folder in folders for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])]:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(ENDS_BYTES))
            file.seek(max(size - ENDS_BYTES, 0))
            digest.update(file.read())
    return digest.hexdigest()
