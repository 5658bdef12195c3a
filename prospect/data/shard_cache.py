"""Local copies of remote files: fetched on first use, checked by sha256, kept up to a size limit, shared by processes.

A copy is named after its content, so files of two builds under one URL are never mixed up. One process fetches a file,
the others wait for it (a lock that the system releases when its holder dies). The least recently used go first; a
reader that has a file open keeps it, as the system does.
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import IO

from filelock import FileLock

from pipeline.errors import ProspectError
from pipeline.io.remote import RemoteFolder
from pipeline.io.storage import LocalFolder, naming
from pipeline.shards.manifest import FileRecord
from prospect.config import DataConfig

COPIES = "shards"  # below the cache's folder
SHA256 = re.compile(r"[0-9a-f]{64}")
TRIES = 3  # of a file that comes with another checksum


@dataclass(frozen=True, slots=True)
class ShardCache:
    folder: Path
    limit_bytes: int

    @classmethod
    def of(cls, data: DataConfig) -> "ShardCache":
        """Make the cache that a run's settings name."""
        return cls(data.cache.expanduser(), int(data.cache_gb * 1e9))

    @contextmanager
    def open(self, remote: RemoteFolder, name: str, record: FileRecord) -> Iterator[IO[bytes]]:
        """Open the local copy of a remote file, unbuffered; `record`: what the manifest says of it.

        Raises:
            ProspectError: it cannot be fetched, or has more bytes or another checksum than the manifest says.
        """
        file: IO[bytes]
        try:
            file = self._path(record.sha256).open("rb", buffering=0)
        except FileNotFoundError:  # not fetched yet, or evicted since
            file = self._fetch(remote, name, record)
        with file:
            os.utime(file.fileno())  # used now: the last to be evicted
            yield file

    def drop(self, sha256: str) -> None:
        """Forget a copy that is damaged; it is fetched again when it is asked for."""
        self._path(sha256).unlink(missing_ok=True)

    def _path(self, sha256: str) -> Path:
        """Where the copy of a content is: by a digest, which is checked, as it may come from a server."""
        if not SHA256.fullmatch(sha256):
            raise ProspectError(f"{sha256!r}: found no sha256, expected 64 hexadecimal digits; upload the build again")
        return self.folder / COPIES / sha256

    def _fetch(self, remote: RemoteFolder, name: str, record: FileRecord) -> IO[bytes]:
        """A new copy, open: opened before it has its name, so that no other process can evict it first."""
        sha256 = record.sha256
        path = self._path(sha256)
        with self._lock(sha256):
            with suppress(FileNotFoundError):  # another process was faster
                return path.open("rb", buffering=0)
            for attempt in range(1, TRIES + 1):
                try:
                    with LocalFolder(path.parent).new_file(sha256) as partial:
                        remote.fetch(name, partial, record.bytes)
                        _check(partial, sha256)
                        file = partial.open("rb", buffering=0)
                    break
                except _OtherContent as error:
                    if attempt == TRIES:
                        raise ProspectError(
                            f"{remote}/{name}: found sha256 {error}, expected {sha256} ({TRIES} tries): it is not the "
                            "file that the manifest lists; upload the build again"
                        ) from None
        self._evict(keep=path)
        return file

    def _evict(self, keep: Path) -> None:
        """Remove the least recently used copies until the limit holds."""
        with self._lock("evict"):
            copies = []
            for path in (self.folder / COPIES).iterdir():
                if path.suffix == "" and not path.name.startswith("."):
                    with suppress(FileNotFoundError):  # dropped just now by its reader
                        status = path.stat()
                        copies.append((status.st_mtime_ns, status.st_size, path))
            total = sum(size for _, size, _ in copies)
            for _, size, path in sorted(copies):
                if total <= self.limit_bytes:
                    return
                if path != keep:
                    path.unlink(missing_ok=True)
                    total -= size
            if total > self.limit_bytes:
                warnings.warn(
                    f"{self.folder}: one file is more than data.cache_gb ({self.limit_bytes / 1e9:.2f}); it is kept, "
                    "and fetched again when another was used",
                    stacklevel=2,
                )

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        folder = self.folder / COPIES
        folder.mkdir(parents=True, exist_ok=True)
        with naming(folder), FileLock(folder / f".{name}.lock"):
            yield


class _OtherContent(Exception):
    """A file has another sha256, which is the text."""


def _check(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise _OtherContent(found)
