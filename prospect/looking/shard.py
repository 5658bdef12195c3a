"""What is in a shard: a table of its samples, one sample whole, and sheets of its frames and of a whole clip."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.annotations.clips import Clip
from pipeline.annotations.dst import State
from pipeline.errors import ProspectError
from pipeline.io.frame_store import FrameFile, find_frames_file, open_frames, search_roots
from pipeline.io.images import ERRORS, check_header
from pipeline.io.storage import LocalFolder, beginning
from pipeline.shards.manifest import MANIFEST, read_manifest
from pipeline.shards.reader import ShardFile, read_samples
from pipeline.shards.sample import TurnSample, encode, rebuild_clip
from prospect.pages.sheet import draw_sheet
from prospect.pages.storyboard import MOST_SHOTS, Shot, event_of, storyboard

PNG_START = b"\x89PNG\r\n\x1a\n"


def sample_rows(
    shards: Sequence[ShardFile], clip: str | None = None, kind: str | None = None, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """Give number, key, kind, labels, frames and target of each sample, in order.

    Args:
        clip: of clips whose id has this text.
        kind: of this kind.
        limit: the first so many; 0 or None: all.
    """
    samples = ((shard, sample) for shard in shards for sample, _ in read_samples(shard))
    rows = (
        {
            "number": number,
            "shard": shard.name,
            "clip": sample.clip.id,
            "key": sample.key,
            "kind": sample.kind,
            **sample.labels,
            "start_frame": sample.start_frame,
            "end_frame": sample.end_frame,
            "target": sample.target.text if sample.target else None,
        }
        for number, (shard, sample) in enumerate(samples)
        if (clip is None or clip in sample.clip.id) and kind in (None, sample.kind)
    )
    yield from islice(rows, limit or None)


def sample_table(
    shards: Sequence[ShardFile], clip: str | None = None, kind: str | None = None, limit: int | None = None
) -> Group:
    """Put `sample_rows` under the ids of their clips; `--key` takes the number at the left, or a key."""
    every = sample_rows(shards, clip, kind)
    rows = list(islice(every, limit or None))
    count = len(rows) + (_rest(shards, len(rows)) if clip is kind is None else sum(1 for _ in every))
    width = len(f"#{rows[-1]['number'] if rows else 0}")
    parts: list[RenderableType] = []
    for name, of_clip in groupby(rows, key=itemgetter("clip")):
        table = Table(box=None, show_header=not parts, padding=(0, 1, 0, 0), expand=True)
        for heading, size in (("#", width), ("kind", 10), ("update", 6), ("speak", 5), ("frames", 13)):
            table.add_column(heading, width=size, no_wrap=True)
        table.add_column("target", ratio=1, overflow="fold")
        for row in of_clip:
            frames = f"{row['start_frame']}..{row['end_frame']}"
            labels = str(row["should_update_dst"]), str(row["when_to_speak"])
            table.add_row(f"#{row['number']}", row["kind"], *labels, frames, Text(row["target"] or ""))
        parts += [Text(name, "bold", overflow="fold"), table]
    told = (
        f"{count} samples" if len(rows) == count else f"the first {len(rows)} of {count} samples; --limit 0 lists all"
    )
    return Group(*parts, Text(f"{told} in {', '.join(map(str, shards[:3]))}{' ...' if len(shards) > 3 else ''}", "dim"))


def _rest(shards: Sequence[ShardFile], seen: int) -> int:
    """How many samples follow the first `seen`: by the manifest, where the shards are those of a finished build."""
    folder = shards[0].folder
    if folder.has(MANIFEST):
        counts = {shard.name: shard.samples for shard in read_manifest(folder).shards}
        if all(shard.name in counts for shard in shards):
            return sum(counts[shard.name] for shard in shards) - seen
    return sum(1 for shard in shards for _ in read_samples(shard)) - seen


def sample_json(sample: TurnSample) -> dict[str, Any]:
    """The sample's record as it stands in the shard."""
    record: dict[str, Any] = json.loads(encode(sample))
    return record


def frame_roots(shard: ShardFile, frames_root: Path | None, data_root: Path | None) -> list[Path]:
    """Where the frames files of a shard's clips may lie: as its build searched."""
    return search_roots(frames_root, data_root, shard.dataset)


def contact_sheet(sample: TurnSample, images: Sequence[bytes], out: Path, roots: Sequence[Path]) -> str:
    """Draw the sample's frames into a PNG, with what is learned there.

    Args:
        images: its embedded images; (): its frames file is read.

    Returns:
        A note of letters that no font here has ("": all were found).

    Raises:
        ProspectError: `out` is there and is no PNG, or a frame cannot be had.
    """
    shots = [_shot(sample, frame) for frame in sample.frames]
    about = [f"{sample.kind}, frames {sample.start_frame} to {sample.end_frame} at {sample.clip.fps:g} a second"]
    labels = f"should_update_dst {sample.labels['should_update_dst']}, when_to_speak {sample.labels['when_to_speak']}"
    about += [f"at {f'frame {sample.end_frame}' if sample.target else 'each frame'}: {labels}"]
    about += [f"before: {_state(sample.clip, sample.dst_state)}"]
    embedded = dict(zip(sample.frames, images, strict=True)) if images else {}
    return _write_sheet(out, "--frames", sample.key, about, shots, sample.clip, embedded, roots)


def storyboard_sheet(
    clip: Sequence[TurnSample], shards: Sequence[ShardFile], out: Path, roots: Sequence[Path], most: int = MOST_SHOTS
) -> str:
    """Draw a whole clip (all of its samples) into a PNG: its events, and frames between them.

    Args:
        shards: in which images may be embedded.

    Returns, raises: as `contact_sheet`.
    """
    whole = rebuild_clip(clip)
    frames = whole.end_frame - whole.start_frame + 1
    about = [f"{frames} frames at {whole.fps:g} a second, {frames / whole.fps:.1f} s, {len(whole.steps)} steps"]
    about += [f"before: {_state(whole, whole.initial_state)}"]
    return _write_sheet(
        out, "--storyboard", whole.id, about, storyboard(whole, most), whole, _embedded(whole, shards), roots
    )


def _write_sheet(
    out: Path,
    option: str,
    title: str,
    about: Sequence[str],
    shots: Sequence[Shot],
    clip: Clip,
    embedded: Mapping[int, bytes],
    roots: Sequence[Path],
) -> str:
    if out.is_dir() or (out.exists() and beginning(out, 8) != PNG_START):
        raise ProspectError(f"{option} {out}: is there already, and no PNG; name another file")
    frames = _frames_of(clip, roots, needed=not embedded)

    def image_of(index: int) -> bytes:
        data = embedded[index] if embedded else frames.read(index) if frames else b""
        try:
            check_header(data)
        except ERRORS as error:
            raise ProspectError(f"{title} frame {index}: no image that can be decoded ({error})") from None
        return data

    sheet, note = draw_sheet(title, about, shots, image_of, frames.shape if frames else None)
    with LocalFolder(out.parent).new_file(out.name) as partial:
        sheet.save(partial, "PNG")
    return note


def _frames_of(clip: Clip, roots: Sequence[Path], needed: bool) -> FrameFile | None:
    """The clip's frames file; where its images are embedded it alone tells the video's shape, and may be missing."""
    try:
        return open_frames(find_frames_file(clip.frames_file, roots))
    except ProspectError:
        if needed:
            raise
        return None


def _embedded(clip: Clip, shards: Sequence[ShardFile]) -> dict[int, bytes]:
    """The images of a clip that its shard holds, by frame; none, where it was built without."""
    images: dict[int, bytes] = {}
    for shard in shards:
        for sample, members in read_samples(shard):
            if sample.clip.id == clip.id and len(members) > 1:
                images |= zip(sample.frames, (member.data for member in members[1:]), strict=True)
        if images:
            break
    return images


def _shot(sample: TurnSample, frame: int) -> Shot:
    """A frame of a sample, and what is said at it: update and speak, 1 or 0."""
    is_target = sample.target is not None and frame == sample.end_frame
    events = (event_of(sample.target, sample.clip),) if sample.target and is_target else ()
    return Shot(frame, frame / sample.clip.fps, events)


def _state(clip: Clip, states: Sequence[State]) -> str:
    told = (
        f"{step.id} {state.replace('_', ' ')} ({step.name})" for step, state in zip(clip.steps, states, strict=True)
    )
    return ", ".join(told) or "no steps"
