"""A folder to publish: the pages of `prospect browse` in one document, with pictures beside it; it needs no server.

    OUT/index.html             the document; it opens from the disk
    OUT/frames/KEY/INDEX.jpg   pictures of each clip: those of its events first, others evenly between
    OUT/prospect-browse.json   says that the folder is ours

It is written beside OUT, and takes its place when it is whole; what else stands in OUT stays.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ProspectError
from pipeline.io.storage import write_json
from pipeline.progress import Progress, unwatched
from prospect.pages.html import one_file
from prospect.web.browse.clips import Clips
from prospect.web.browse.library import Library
from prospect.web.browse.shell import ENTRY, STYLES, TITLE, Section, about_all

INDEX, FRAMES, MARK = "index.html", "frames", "prospect-browse.json"
FORMAT = "prospect.browse/1"
MOST_PICTURES, HEIGHT = 120, 240  # of a clip; pixels


@dataclass(frozen=True, slots=True)
class Published:
    """What was written."""

    num_clips: int
    num_pictures: int
    size_bytes: int


def publish(
    library: Library,
    listed: Sequence[Section],
    out: Path,
    limit: int,
    force: bool = False,
    progress: Progress = unwatched,
) -> Published:
    """Write the folder, whole or not at all.

    Args:
        limit: of each split the first so many clips; numbers are still those of all.
        force: write into a folder that is not ours too; what else is in it stays.

    Raises:
        ProspectError: `out` is a file, or holds something else.
    """
    check_place(out, force)
    total = len(library.places)
    library.keep_first(limit)
    clips = next(section for section in listed if isinstance(section, Clips))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".partial", dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        pictures = {}
        for done, key in enumerate(library.places, 1):
            pictures[key] = _write_pictures(clips, key, folder / FRAMES / key)
            progress("publishing clips", done, len(library.places))
        told = f"{len(pictures)} of {total} clips are published here." if len(pictures) < total else ""
        with (folder / INDEX).open("w", encoding="utf-8", errors="replace") as file:
            data = _data(listed, {"pictures": pictures, "told": told})
            file.writelines(one_file(TITLE, ENTRY, STYLES, data, images="'self' file:"))
        write_json(folder / MARK, {"format": FORMAT})
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        _put(folder, out)
    return Published(len(pictures), sum(map(len, pictures.values())), size)


def check_place(out: Path, force: bool) -> None:
    """Refuse a place where something else is.

    Raises:
        ProspectError: says what is there.
    """
    if out.exists() and not out.is_dir():
        raise ProspectError(f"--static {out}: is there already, and no folder; name another one")
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if there and MARK not in there and not force:
        raise ProspectError(
            f"--static {out}: found {', '.join(there[:3])}, which prospect browse did not write; name another folder "
            f"(--force writes {INDEX} and {FRAMES}/ there, and leaves other files)"
        )


def _data(listed: Sequence[Section], published: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The blocks of the document; each answer under its address, as static/browse/source.js asks for it."""
    yield "published", published
    yield "about", about_all(listed)
    for section in listed:
        for place, value in section.published():
            yield json.dumps([section.name, *place], ensure_ascii=False, separators=(",", ":")), value


def _write_pictures(clips: Clips, key: str, folder: Path) -> list[int]:
    """Gives the frames that were written; none where there are no pictures."""
    frames = clips.frames_to_publish(key, MOST_PICTURES)
    if frames:
        folder.mkdir(parents=True)
    for frame in frames:
        (folder / f"{frame}.jpg").write_bytes(clips.picture(key, frame, HEIGHT))
    return frames


def _put(folder: Path, out: Path) -> None:
    """Put what was written in its place, the document last, so that a half-written folder opens nothing."""
    if not out.exists():
        folder.rename(out)
        return
    (out / INDEX).unlink(missing_ok=True)
    if (out / FRAMES).is_dir():
        shutil.rmtree(out / FRAMES)
    for name in (FRAMES, MARK, INDEX):
        if (folder / name).exists():
            (folder / name).rename(out / name)
