"""A remote folder behind a URL (s3:// and whatever else fsspec opens), and the way to either kind of folder.

A file appears under its name only complete: one upload of a finished local file, as a stream that fails half-way would
be closed, hence published, by fsspec. Reads that may succeed later are tried again.
"""

import random
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit
from urllib.request import url2pathname

from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder, is_url, plain_name

TRIES, FIRST_WAIT_S = 5, 0.5  # of remote reads; the waits add up to some 8 s
CONNECT_S, SILENT_S = 10, 20  # to connect; longest without a byte, and for an answer about a file
TRY_AGAIN_S = 40  # since the first try: later none is begun, so that a server that is silent is given up in a minute
SLOWEST = 10_000  # bytes a second, on average, of a file that is read for longer than SILENT_S
UNSTATED_BYTES = 4 << 30  # most that is taken of a file whose size neither manifest nor server says
NOT_OPENED = ("reference", "dask", "jupyter", "generic")  # fsspec's that read code, or hide another URL
T = TypeVar("T")


class TooSlow(ConnectionError):
    """A file comes, but hardly; another try may do better."""


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    url: str  # may hold credentials, and (by HTTP) a query, which every file is asked for with; never printed

    def __str__(self) -> str:
        return shown(self.url)

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(_below(self.url, name))

    def names(self) -> list[str]:
        if _is_http(self.url):
            return []  # a server's page of links is no listing, and may never end
        with _remote(self.url) as (files, path):
            try:
                entries = retried(lambda: files.ls(path, detail=True))
            except FileNotFoundError:
                return []
        return sorted(entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def has(self, name: str) -> bool:
        return self._about(name) is not None

    def size(self, name: str) -> int | None:
        about = self._about(name)
        if about is None:
            return None
        if about["size"] is not None:
            return int(about["size"])
        with self.open(name) as file:  # the server does not say
            return file.seek(0, 2)

    def read(self, name: str, limit: int | None = None) -> bytes:
        with self.open(name, limit) as file:
            return file.read()

    def fetch(self, name: str, to: Path, limit: int | None = None) -> None:
        """Copy a file to the local path `to`.

        Raises:
            ProspectError: it cannot be had in the time that a file is given, or has more than `limit` bytes.
        """
        from fsspec.callbacks import Callback

        with _remote(_below(self.url, name)) as (files, path):

            def get() -> None:
                files.get_file(path, str(to), callback=Callback(hooks={"watch": _watch(f"{self}/{name}", limit)}))

            retried(get)

    @contextmanager
    def open(self, name: str, limit: int | None = None) -> Iterator[IO[bytes]]:
        with tempfile.TemporaryDirectory(prefix="prospect-") as scratch:
            local = Path(scratch) / plain_name(name)
            self.fetch(name, local, limit)  # whole, so that a cut connection is a new try and not the reader's error
            with local.open("rb") as file:
                yield file

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="prospect-") as scratch:
            local = Path(scratch) / plain_name(name)
            yield local
            with _remote(_below(self.url, name)) as (files, path):
                files.put_file(str(local), path)

    def delete(self, name: str) -> None:
        with _remote(_below(self.url, name)) as (files, path):
            files.rm_file(path)

    def remove(self) -> None:
        with _remote(self.url) as (files, path):
            if files.exists(path):
                files.rm(path, recursive=True)

    def _about(self, name: str) -> dict[str, Any] | None:
        """What the service says of a file, its size if any; None where it is not there."""
        with _remote(_below(self.url, name)) as (files, path):
            try:
                return retried(lambda: _info(files, path))
            except FileNotFoundError:
                return None


def open_folder(place: str | Path) -> LocalFolder | RemoteFolder:
    """Open the folder that a path or a URL names (file:// is a path).

    Raises:
        ProspectError: a URL that fsspec has no file system for.
    """
    if not is_url(place):
        return LocalFolder(Path(place))
    parts = urlsplit(str(place))
    if parts.scheme == "file":
        return LocalFolder(Path(url2pathname(parts.netloc + parts.path)))
    with _remote(str(place)):
        return RemoteFolder(str(place))


def shown(text: str) -> str:
    """Give a text without what is secret in its URLs: user, password and query."""
    return re.sub(r"(\w+://)(?:[^\s/@'\"]*@)?([^\s?'\"]*)(?:\?[^\s'\",)]*?(?=[:;.]?(?:[\s'\",)]|$)))?", r"\1\2", text)


def _is_http(url: str) -> bool:
    return url.partition("://")[0] in ("http", "https")


def _below(url: str, name: str) -> str:
    """The URL of a file in a folder; by HTTP a query stays at the end."""
    if not _is_http(url):
        return f"{url.rstrip('/')}/{plain_name(name)}"
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{plain_name(name)}", fragment=""))


def parent_and_name(url: str) -> tuple[str, str]:
    """Divide the URL of a file into that of its folder and its name; by HTTP a query stays with the folder."""
    if not _is_http(url):
        above, _, name = url.rstrip("/").rpartition("/")
        return above, name
    parts = urlsplit(url)
    path, _, name = parts.path.rstrip("/").rpartition("/")
    return urlunsplit(parts._replace(path=path, fragment="")), name


def _watch(file: str, limit: int | None) -> Callable[[int | None, int], None]:
    """Look on while a file comes: not more of it than `limit` (None: than the server says), and not too slowly."""
    start = monotonic()

    def watch(size: int | None, received: int) -> None:
        most = limit if limit is not None else size or UNSTATED_BYTES
        if received > most:
            raise ProspectError(
                f"{file}: found more than {most} bytes, expected at most that many; upload the build again"
            )
        took = monotonic() - start
        if took > SILENT_S and received < SLOWEST * took:
            raise TooSlow(f"{received} bytes in {took:.0f} s")

    return watch


@contextmanager
def _remote(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL, and the path in it; errors of the service name the URL.

    Listings are not cached: other processes write too.
    """
    import fsspec

    where = shown(url)
    if "::" in url or url.partition("://")[0] in NOT_OPENED:
        raise ProspectError(
            f"{where}: chained and interpreted URLs are not opened; expected s3://, https:// or the like"
        )
    try:
        files, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **_patience(url))
    except (ImportError, ValueError) as error:
        raise ProspectError(
            f"{where}: cannot be opened ({shown(str(error))}); for s3:// and https://: pip install -c constraints.txt "
            "-e '.[remote]'"
        ) from None
    try:
        yield files, path
    except FileNotFoundError:
        raise ProspectError(f"{where}: no such file, folder or bucket") from None
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in ("aiohttp", "botocore"):
            raise
        tries = f" (tried up to {TRIES} times in {TRY_AGAIN_S} s)" if is_transient(error) else ""
        said = shown(str(error) or str(error.__cause__ or "")) or "no answer"
        if isinstance(error, TimeoutError | TooSlow):
            said += (
                f"; expected a connection within {CONNECT_S} s, no pause over {SILENT_S} s, and {SLOWEST // 1000} kB a "
                "second: try again, or copy the shards here"
            )
        raise ProspectError(f"{where}: {type(error).__name__}: {said}{tries}") from None


def _patience(url: str) -> dict[str, Any]:
    """Options of the file system: how long is waited, and that bytes come as they are (not unpacked without bound)."""
    if not _is_http(url):
        return {}  # S3's client has timeouts of its own: 5 s, 15 s
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=SILENT_S)
    return {
        "client_kwargs": {"timeout": timeout, "auto_decompress": False},
        "headers": {"Accept-Encoding": "identity"},
    }


def _info(files: Any, path: str) -> dict[str, Any]:
    """fsspec's HTTP calls a file missing whatever kept it from being seen: what did is raised."""
    options = {"timeout": SILENT_S} if files.async_impl else {}  # of fsspec's own wait
    try:
        info: dict[str, Any] = files.info(path, **options)
    except FileNotFoundError as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404:
            raise
        raise cause from None
    return info


def retried(read: Callable[[], T], clock: Callable[[], float] = monotonic) -> T:
    """Give what `read` gives; after a failure that may pass it is asked again, later and later."""
    began = clock()
    for attempt in range(1, TRIES):
        try:
            return read()
        except Exception as error:
            if not is_transient(error) or clock() - began > TRY_AGAIN_S:
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
