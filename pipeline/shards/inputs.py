"""The input files of a build by sha256, so that a changed one is noticed.

Hashes are remembered by size and modification time beside the manifest: a rerun that has nothing to do rehashes
nothing. The memory is the machine's own (paths, times); manifest and shards never depend on it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import ProspectError
from pipeline.io.storage import Folder, write_bytes

CACHE = ".sources.json"


@dataclass(frozen=True, slots=True)
class Source:
    """What the manifest says of an input file."""

    name: str  # as the annotation or the user names it
    bytes: int
    sha256: str


class SourceHashes:
    """sha256 of files; those whose size and modification time are as remembered are not read again."""

    def __init__(self, folder: Folder, verify: bool = False) -> None:
        """`verify`: read every file again."""
        self._folder = folder
        self._known: dict[str, list[Any]] = {} if verify else _remembered(folder)
        self._changed = False

    def source(self, path: Path, name: str) -> Source:
        stamp, place = _stamp(path), str(path.resolve())
        if self._known.get(place, [None])[0] != stamp:
            self.remember(path, sha256_of(path), stamp)
        return Source(name, stamp[0], self._known[place][1])

    def refuse_changed(self, paths: Iterable[Path]) -> None:
        """
        Raises:
            ProspectError: a file is not what it was when its hash was taken.
        """
        for path in paths:
            if not path.is_file() or self._known[str(path.resolve())][0] != _stamp(path):
                raise ProspectError(f"{path}: was changed while it was read; run the same command again")

    def remember(self, path: Path, sha256: str, stamp: list[int]) -> None:
        """Take a file's hash; `stamp`: size and modification time when it was read."""
        self._known[str(path.resolve())] = [stamp, sha256]
        self._changed = True

    def save(self) -> None:
        if self._changed:
            write_bytes(self._folder, CACHE, json.dumps(self._known, indent=1).encode())
            self._changed = False


@dataclass(frozen=True, slots=True)
class FramesSource:
    """A frames file whose images were embedded, as it was then."""

    source: Source
    path: str
    stamp: list[int]

    @classmethod
    def of(cls, path: Path, name: str) -> "FramesSource":
        stamp = _stamp(path)
        return cls(Source(name, stamp[0], _sha256_once(path, *stamp)), str(path), stamp)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "FramesSource":
        return cls(Source(**record["source"]), record["path"], record["stamp"])

    def as_record(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def is_unchanged(self) -> bool:
        path = Path(self.path)
        return path.is_file() and _stamp(path) == self.stamp


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remembered(folder: Folder) -> dict[str, list[Any]]:
    """What an earlier build remembered; nothing where that cannot be read: it only saves time."""
    try:
        known = json.loads(folder.read(CACHE)) if folder.size(CACHE) else {}
        return {place: [list(stamp), str(sha256)] for place, (stamp, sha256) in known.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _stamp(path: Path) -> list[int]:
    """Size and modification time (ns)."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


@lru_cache(maxsize=256)
def _sha256_once(path: Path, size: int, mtime_ns: int) -> str:
    return sha256_of(path)
