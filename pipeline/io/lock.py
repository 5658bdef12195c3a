"""One process at a time in a folder: a lock that the system lets go of when its holder ends, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import ProspectError


@contextmanager
def sole_owner(lock: Path, folder: Path, who: str, instead: str) -> Iterator[None]:
    """Hold the file `lock`, which stands for `folder`.

    Args:
        who: would hold it otherwise, in the error's words: "another build".
        instead: of waiting: "pass another --out".

    Raises:
        ProspectError: another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise ProspectError(f"{folder}: {who} is writing here; wait for it, or {instead}") from None
    try:
        yield
    finally:
        held.release()


def lock_beside(folder: Path) -> Path:
    """Name the lock of a folder that may itself be renamed or removed: it stands beside it, hidden."""
    place = folder.resolve()
    return place.with_name(f".{place.name}.lock")
