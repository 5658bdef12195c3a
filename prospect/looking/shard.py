"""What is in a shard: a table of its samples, one sample whole, and a contact sheet of a sample's frames."""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline.errors import ProspectError
from pipeline.io.frame_store import find_frames_file, open_frames, search_roots
from pipeline.io.storage import LocalFolder, beginning
from pipeline.shards.manifest import MANIFEST, read_manifest
from pipeline.shards.reader import ShardFile, read_samples
from pipeline.shards.sample import TurnSample, encode
from prospect.data.decode import decode_frame

PNG_START = b"\x89PNG\r\n\x1a\n"
TILE, CAPTION, COLUMNS = 160, 18, 8  # pixels, pixels, tiles in a row of the contact sheet


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


def contact_sheet(sample: TurnSample, images: list[bytes], out: Path, roots: Sequence[Path]) -> None:
    """Draw the sample's frames with their numbers and labels into a PNG.

    Raises:
        ProspectError: `out` is there and is no PNG, or a frame cannot be had.
    """
    if out.exists() and beginning(out, 8) != PNG_START:
        raise ProspectError(f"--frames {out}: is there already, and no PNG; name another file")
    if not images:
        frames = open_frames(find_frames_file(sample.clip.frames_file, roots))
        images = [frames.read(index) for index in sample.frames]
    font = ImageFont.load_default(12)
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    width = max(columns * TILE, 640)
    header = (
        f"{sample.key}  {sample.kind}  before: {_state(sample)}\n{sample.target.text if sample.target else 'silence'}"
    )
    sheet = Image.new("RGB", (width, 2 * CAPTION + rows * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.multiline_text((4, 2), header, "black", font)
    for position, (index, data) in enumerate(zip(sample.frames, images, strict=True)):
        x, y = position % columns * TILE, 2 * CAPTION + position // columns * (TILE + CAPTION)
        pixels = decode_frame(data, TILE, f"{sample.key} frame {index}")
        sheet.paste(Image.fromarray(pixels.transpose(1, 2, 0)), (x, y + CAPTION))
        draw.text((x + 4, y + 2), f"frame {index}  {_label(sample, index)}", "black", font)
    with LocalFolder(out.parent).new_file(out.name) as partial:
        sheet.save(partial, "PNG")


def _label(sample: TurnSample, frame: int) -> str:
    if sample.kind == "silent":
        return "silent 0, 0"
    if frame != sample.end_frame:
        return "-"
    return f"update {sample.labels['should_update_dst']}, speak {sample.labels['when_to_speak']}"


def _state(sample: TurnSample) -> str:
    states = zip(sample.clip.steps, sample.dst_state, strict=True)
    return ", ".join(f"{step.id}:{state}" for step, state in states) or "no steps"
