"""Which videos become which frames files: folders searched, names made by a pattern, parts of one video joined."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ProspectError
from pipeline.io.storage import plain_name

SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
    ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
PLACEHOLDERS = ("stem", "parent", "grandparent", "parents")


@dataclass(frozen=True, slots=True)
class Source:
    """A frames file to be, and the videos that it is made of, one after the other."""

    name: str  # of the file, without .arrow
    videos: tuple[Path, ...]


def sources_of(given: Sequence[Path], pattern: str, groups: Path | None) -> list[Source]:
    """Name the frames file of each video, and of each video in the folders given.

    Args:
        pattern: of the names. {stem} is the file's name without its suffix, {parent} its folder, {grandparent} that
            one's, {parents} all folders below the one given, joined with `_`.
        groups: a JSON file, a list of lists of names: videos of which each list becomes one file, of its first name.

    Raises:
        ProspectError: a folder without videos, names that clash or are none, a group of videos that are not there.
    """
    sources = [Source(_named(pattern, *found), (found[0],)) for path in given for found in _videos(path)]
    by_name: dict[str, Source] = {}
    for source in sources:
        if other := by_name.get(source.name):
            raise ProspectError(
                f"{other.videos[0]} and {source.videos[0]} would both become {source.name}.arrow; name them by more "
                "than that, e.g. --name '{parent}_{stem}'"
            )
        by_name[source.name] = source
    return _joined(by_name, groups) if groups else sources


def _videos(path: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """A video, or those in a folder, each with the folders that it stands in, from the one given on."""
    if not path.is_dir():
        folders = path.parent.parts
        return [(path, tuple(name for name in folders if name not in (path.anchor, ".", "..")))]
    found = [
        Path(folder, name)
        for folder, _, names in os.walk(path)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
    ]
    if not found:
        raise ProspectError(f"{path}: found no videos in this folder, expected files of {', '.join(SUFFIXES)}")
    return [(video, video.parent.relative_to(path).parts) for video in sorted(found)]


def _named(pattern: str, video: Path, folders: tuple[str, ...]) -> str:
    """The name of a video's frames file; {parents} may be empty, and leaves no `_` behind then."""
    above = video.absolute().parent
    values = {
        "stem": video.stem,
        "parent": above.name,
        "grandparent": above.parent.name,
        "parents": "_".join(folders),
    }

    def value(match: re.Match[str]) -> str:
        if match[1] not in PLACEHOLDERS:
            expected = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise ProspectError(f"--name {pattern!r}: found {match[0]}, expected {expected}")
        return values[match[1]]

    name = re.sub(r"\{([^{}]*)\}", value, pattern if folders else pattern.replace("{parents}_", ""))
    try:
        return plain_name(name)
    except ProspectError as error:
        raise ProspectError(f"--name {pattern!r} of {video}: {error}") from None


def _joined(by_name: dict[str, Source], groups: Path) -> list[Source]:
    try:
        lists = json.loads(groups.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ProspectError(f"--groups {groups}: cannot be read ({error}), expected a JSON list of lists") from None
    if not isinstance(lists, list) or not all(isinstance(names, list) and names for names in lists):
        raise ProspectError(f"--groups {groups}: expected a JSON list of lists of names, e.g. [['a', 'b'], ['c', 'd']]")
    grouped: dict[str, str] = {}  # of each name in a group, the group's first
    for names in lists:
        for name in names:
            if not isinstance(name, str) or name not in by_name or name in grouped:
                what = "twice" if isinstance(name, str) and name in grouped else "which no video given has"
                raise ProspectError(f"--groups {groups}: found {name!r} {what}, expected names of the videos given")
            grouped[name] = names[0]
    firsts = {names[0]: names for names in lists}
    return [
        Source(name, tuple(by_name[part].videos[0] for part in firsts.get(name, [name])))
        for name in by_name
        if grouped.get(name, name) == name
    ]
