"""Folders of files that are complete or absent, and the local one: partial file, fsync, rename (`remote.py` has the
other kind).
"""

import fcntl
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from pipeline.errors import ProspectError

PARTIAL = ".partial"  # suffix of files that are being written


def plain_name(name: str) -> str:
    """Give back a name that stays in its folder.

    Raises:
        ProspectError: it is a path, or no name.
    """
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ProspectError(f"{name!r}: found a path, expected the plain name of a file or folder")
    return name


def beginning(path: Path, size: int) -> bytes:
    """The first bytes of a file, which tell what made it; of no file, none."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(size)


class Folder(Protocol):
    """A folder of files that are complete or absent."""

    def __truediv__(self, name: str) -> "Folder": ...

    def names(self) -> list[str]:
        """List its files and folders, sorted; empty where there is no such folder. Partial files are not listed."""

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""

    def size(self, name: str) -> int | None:
        """Give the size of a file in bytes; None when it is not there."""

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Read a whole file; raises ProspectError where it has more than `limit` bytes."""

    def open(self, name: str, limit: int | None = None) -> AbstractContextManager[IO[bytes]]:
        """Open a file to read it from its beginning; raises ProspectError where it is not there.

        `limit`: most bytes that a remote file may have.
        """

    def new_file(self, name: str) -> AbstractContextManager[Path]:
        """Give a local path to write; the file gets its name when the block ends without an error."""

    def delete(self, name: str) -> None: ...

    def remove(self) -> None:
        """Remove the folder and all in it, if it is there."""


@dataclass(frozen=True, slots=True)
class LocalFolder:
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> "LocalFolder":
        return LocalFolder(self.path / plain_name(name))

    def names(self) -> list[str]:
        if not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if not p.name.endswith(PARTIAL))

    def has(self, name: str) -> bool:
        return (self.path / plain_name(name)).is_file()

    def size(self, name: str) -> int | None:
        path = self.path / plain_name(name)
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str, limit: int | None = None) -> bytes:
        path = self.path / plain_name(name)
        if limit is not None and (size := path.stat().st_size) > limit:
            raise ProspectError(f"{path}: found {size} bytes, expected at most {limit}")
        return path.read_bytes()

    def open(self, name: str, limit: int | None = None) -> IO[bytes]:
        try:
            return (self.path / plain_name(name)).open("rb")
        except FileNotFoundError:
            raise ProspectError(f"{self.path / name}: no such file") from None

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        self.path.mkdir(parents=True, exist_ok=True)
        # by process: a worker that outlives its killed parent has its own
        partial = self.path / f"{plain_name(name)}.{os.getpid()}{PARTIAL}"
        try:
            with naming(partial), _held(partial):
                for other in self.path.glob(f"{glob.escape(name)}.*{PARTIAL}"):
                    if other != partial:
                        _remove_left(other)
                yield partial
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
                partial.replace(self.path / name)
        finally:
            partial.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        (self.path / plain_name(name)).unlink()

    def remove(self) -> None:
        if self.path.exists():
            shutil.rmtree(self.path)

    def remove_partials(self) -> None:
        """Remove what a killed run left half-written."""
        for path in self.path.glob(f"*{PARTIAL}"):
            path.unlink(missing_ok=True)

    def remove_abandoned(self) -> None:
        """Remove the half-written files of processes that are no more, where others may be writing."""
        for path in self.path.glob(f"*.[0-9]*{PARTIAL}"):
            _remove_left(path)


@contextmanager
def _held(partial: Path) -> Iterator[None]:
    """A new file, locked as long as its process lives and writes it; whoever finds one unlocked may remove it."""
    file = _locked(partial)
    while not (partial.exists() and os.path.samestat(partial.stat(), os.fstat(file))):  # was taken for a left one
        os.close(file)
        file = _locked(partial)
    try:
        yield
    finally:
        os.close(file)


def _locked(partial: Path) -> int:
    file = os.open(partial, os.O_CREAT | os.O_RDWR, 0o666)
    with suppress(OSError):  # a file system without locks: what is left stays
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def _remove_left(partial: Path) -> None:
    """Remove what a killed process left half-written."""
    with suppress(OSError):  # gone, at work, or no locks
        file = os.open(partial, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()
        finally:
            os.close(file)


def is_url(place: str | Path) -> bool:
    return isinstance(place, str) and "://" in place


def write_bytes(folder: Folder, name: str, data: bytes) -> None:
    """Write a whole small file."""
    with folder.new_file(name) as path:
        path.write_bytes(data)


def sha256_in(folder: Folder, name: str, limit: int | None = None) -> str:
    """Give the sha256 of a file, read piece by piece; `limit`: most bytes that a remote one may have."""
    digest = hashlib.sha256()
    with folder.open(name, limit) as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole small local file: complete or absent, whatever happens."""
    write_bytes(LocalFolder(path.parent), path.name, data)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Encode a record for people too: indented, UTF-8, a lone surrogate in the input as JSON escapes it."""
    text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
    return text.encode(errors="backslashreplace")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a small local JSON file, whole or not at all."""
    write_atomically(path, json_bytes(value))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make errors of a full disk name the file that was written; by themselves they do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from None
        raise
