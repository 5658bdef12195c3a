"""A remote folder behind a URL (s3:// and whatever else fsspec opens), and the way to either kind of folder.

A file appears under its name only complete: one upload of a finished local file, as a stream that fails half-way would
be closed, hence published, by fsspec. Reads that may succeed later are tried again.
"""

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import IO, Any, TypeVar

from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder, is_url, plain_name

TRIES, FIRST_WAIT_S = 5, 0.5  # of remote reads; the waits add up to some 8 s
NOT_OPENED = ("reference", "dask", "jupyter", "generic")  # fsspec's that read code, or hide another URL
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.url.rstrip('/')}/{plain_name(name)}")

    def names(self) -> list[str]:
        with _remote(self.url) as (files, path):
            try:
                entries = retried(lambda: files.ls(path, detail=True))
            except FileNotFoundError:
                return []
        return sorted(entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def size(self, name: str) -> int | None:
        with _remote(self.url) as (files, path):
            try:
                size: int = retried(lambda: _info(files, f"{path}/{plain_name(name)}"))["size"]
            except FileNotFoundError:
                return None
        return size

    def read(self, name: str) -> bytes:
        with _remote(self.url) as (files, path):
            data: bytes = retried(lambda: files.cat_file(f"{path}/{plain_name(name)}"))
        return data

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file to the local path `to`."""
        with _remote(f"{self.url}/{plain_name(name)}") as (files, path):
            retried(lambda: files.get_file(path, str(to)))

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryDirectory(prefix="prospect-") as scratch:
            local = Path(scratch) / plain_name(name)
            self.fetch(name, local)  # whole, so that a cut connection is a new try and not the reader's error
            with local.open("rb") as file:
                yield file

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="prospect-") as scratch:
            local = Path(scratch) / plain_name(name)
            yield local
            with _remote(self.url) as (files, path):
                files.put_file(str(local), f"{path}/{plain_name(name)}")

    def delete(self, name: str) -> None:
        with _remote(self.url) as (files, path):
            files.rm_file(f"{path}/{plain_name(name)}")

    def remove(self) -> None:
        with _remote(self.url) as (files, path):
            if files.exists(path):
                files.rm(path, recursive=True)


def open_folder(place: str | Path) -> LocalFolder | RemoteFolder:
    """Open the folder that a path or a URL names.

    Raises:
        ProspectError: a URL that fsspec has no file system for.
    """
    if not is_url(place):
        return LocalFolder(Path(place))
    with _remote(str(place)):
        return RemoteFolder(str(place))


@contextmanager
def _remote(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL, and the path in it; errors of the service name the URL.

    Listings are not cached: other processes write too.
    """
    import fsspec

    if "::" in url or url.partition("://")[0] in NOT_OPENED:
        raise ProspectError(f"{url}: chained and interpreted URLs are not opened; expected s3://, https:// or the like")
    try:
        files, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise ProspectError(
            f"{url}: cannot be opened ({error}); for s3:// and https://: pip install -c constraints.txt -e '.[remote]'"
        ) from None
    try:
        yield files, path
    except FileNotFoundError:
        raise ProspectError(f"{url}: no such file, folder or bucket") from None
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in ("aiohttp", "botocore"):
            raise
        tries = f" ({TRIES} tries)" if is_transient(error) else ""
        raise ProspectError(f"{url}: {type(error).__name__}: {error}{tries}") from None


def _info(files: Any, path: str) -> dict[str, Any]:
    """fsspec's HTTP calls a file missing whatever kept it from being seen: what did is raised."""
    try:
        info: dict[str, Any] = files.info(path)
    except FileNotFoundError as error:
        cause = error.__cause__
        if type(cause).__module__.split(".")[0] != "aiohttp" or getattr(cause, "status", None) == 404:
            raise
        assert cause is not None
        raise cause from None
    return info


def retried(read: Callable[[], T]) -> T:
    """Give what `read` gives; after a failure that may pass it is asked again, later and later."""
    for attempt in range(1, TRIES):
        try:
            return read()
        except Exception as error:
            if not is_transient(error):
                raise
            sleep(FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # several ranks do not ask at once
    return read()


def is_transient(error: Exception) -> bool:
    """Tell whether a failed read may succeed later: an overloaded server, a connection that was cut. S3's own client
    has tried again by itself before it gives an error."""
    status = getattr(error, "status", None)
    if isinstance(status, int) and status:
        return status == 429 or status >= 500
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.split(".")[0] == "aiohttp"
