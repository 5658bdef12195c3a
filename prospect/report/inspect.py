"""What is in a shard: a table of its samples, one sample whole, and a contact sheet of a sample's frames.

A shard is read as the tar that it is, without index or manifest, so that a single file from anywhere can be looked at.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from rich.markup import escape
from rich.table import Table

from pipeline.errors import ProspectError
from pipeline.frame_store import find_frames_file, open_frames, search_roots
from pipeline.manifest import MANIFEST, read_manifest
from pipeline.sample import TurnSample, decode, encode
from pipeline.storage import LocalFolder
from prospect.data.frames import decode_frame

TILE, CAPTION, COLUMNS = 160, 18, 8  # pixels, pixels, tiles in a row of the contact sheet


def shards_at(path: Path) -> list[Path]:
    """The shards that PATH names: itself, or those of a split folder.

    Raises:
        ProspectError: nothing there, or a folder that is no finished build.
    """
    if path.is_dir():
        if not (path / MANIFEST).is_file():
            splits = sorted(str(p.parent) for p in path.glob(f"**/{MANIFEST}"))
            there = f"; split folders below it: {', '.join(splits)}" if splits else ""
            raise ProspectError(
                f"{path}: a folder without {MANIFEST}, expected a shard (.tar) or a split folder{there}"
            )
        return [path / shard["name"] for shard in read_manifest(LocalFolder(path))["shards"]]
    if not path.is_file():
        raise ProspectError(f"{path}: no such file, expected a shard (.tar) or a split folder made by build-shards")
    return [path]


def read_shard(path: Path) -> Iterator[tuple[TurnSample, list[bytes]]]:
    """Each sample with its embedded images (none where the shard was built without).

    Raises:
        ProspectError: not a tar of turn samples, or cut short.
    """
    sample: TurnSample | None = None
    images: list[bytes] = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                file = tar.extractfile(member)
                data = file.read() if file else b""
                if member.name.endswith(".json"):
                    if sample:
                        yield sample, images
                    sample, images = decode(data, f"{path} member {member.name}"), []
                else:
                    images.append(data)
    except (tarfile.TarError, EOFError) as error:
        raise ProspectError(
            f"{path}: not a shard, or cut short ({error}), expected a tar made by build-shards"
        ) from None
    if not sample:
        raise ProspectError(f"{path}: found no turn sample, expected a shard made by build-shards")
    yield sample, images


def find_sample(paths: list[Path], key: str) -> tuple[TurnSample, list[bytes]]:
    """The sample with this key, or the only one whose key begins or ends so.

    Raises:
        ProspectError: none, or several.
    """
    found = [(s, i) for path in paths for s, i in read_shard(path) if s.key.startswith(key) or s.key.endswith(key)]
    exact = [pair for pair in found if pair[0].key == key] or found
    if len(exact) != 1:
        what = f"{len(exact)} samples ({exact[0][0].key}, {exact[1][0].key}, ...)" if exact else "no sample"
        raise ProspectError(f"{paths[0]}: --key {key!r} names {what}, expected one; the table without --key lists them")
    return exact[0]


def sample_table(paths: list[Path]) -> Table:
    """Key, kind, labels, frames and target of every sample."""
    table = Table("key", "kind", "update", "speak", "frames", "target", title=", ".join(path.name for path in paths))
    for path in paths:
        for sample, _ in read_shard(path):
            labels = sample.labels
            table.add_row(
                sample.key,
                sample.kind,
                str(labels["should_update_dst"]),
                str(labels["when_to_speak"]),
                f"{sample.start_frame}..{sample.end_frame}",
                escape(sample.target.text) if sample.target else "",
            )
    return table


def sample_json(sample: TurnSample) -> dict[str, Any]:
    """The sample's record as it stands in the shard."""
    record: dict[str, Any] = json.loads(encode(sample))
    return record


def contact_sheet(
    sample: TurnSample, images: list[bytes], out: Path, *, frames_root: Path | None, data_root: Path | None
) -> None:
    """Draw the sample's frames with their numbers and labels into a PNG."""
    if not images:
        roots = search_roots(frames_root, data_root, sample.clip.dataset)
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
