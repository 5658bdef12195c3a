"""What is in a shard: a table of its samples, one sample whole, and a contact sheet of a sample's frames."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from pipeline.frame_store import find_frames_file, open_frames, search_roots
from pipeline.sample import TurnSample, encode
from pipeline.shard_reader import ShardFile, read_samples
from prospect.data.frames import decode_frame

TILE, CAPTION, COLUMNS = 160, 18, 8  # pixels, pixels, tiles in a row of the contact sheet


def sample_rows(shards: Sequence[ShardFile]) -> Iterator[dict[str, Any]]:
    """Key, kind, labels, frames and target of every sample."""
    for shard in shards:
        for sample, _ in read_samples(shard):
            yield {
                "shard": shard.name,
                "key": sample.key,
                "kind": sample.kind,
                **sample.labels,
                "start_frame": sample.start_frame,
                "end_frame": sample.end_frame,
                "target": sample.target.text if sample.target else None,
            }


def sample_table(shards: Sequence[ShardFile]) -> Table:
    table = Table("key", "kind", "update", "speak", "frames", "target", title=", ".join(s.name for s in shards))
    for row in sample_rows(shards):
        table.add_row(
            row["key"],
            row["kind"],
            str(row["should_update_dst"]),
            str(row["when_to_speak"]),
            f"{row['start_frame']}..{row['end_frame']}",
            row["target"] or "",
        )
    return table


def sample_json(sample: TurnSample) -> dict[str, Any]:
    """The sample's record as it stands in the shard."""
    record: dict[str, Any] = json.loads(encode(sample))
    return record


def frame_roots(shard: ShardFile, frames_root: Path | None, data_root: Path | None) -> list[Path]:
    """Where the frames files of a shard's clips may lie: as its build searched."""
    return search_roots(frames_root, data_root, shard.dataset)


def contact_sheet(sample: TurnSample, images: list[bytes], out: Path, roots: Sequence[Path]) -> None:
    """Draw the sample's frames with their numbers and labels into a PNG."""
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
    sheet.save(out, "PNG")


def _label(sample: TurnSample, frame: int) -> str:
    if sample.kind == "silent":
        return "silent 0, 0"
    if frame != sample.end_frame:
        return "-"
    return f"update {sample.labels['should_update_dst']}, speak {sample.labels['when_to_speak']}"


def _state(sample: TurnSample) -> str:
    states = zip(sample.clip.steps, sample.dst_state, strict=True)
    return ", ".join(f"{step.id}:{state}" for step, state in states) or "no steps"
