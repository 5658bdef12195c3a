"""The folders of a build: the split's, and the work folder beside it while a build is under way. One builder at a time,
what was interrupted taken up, what is left over removed; nothing that builds do not make is touched.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import ProspectError
from pipeline.io.lock import sole_owner
from pipeline.io.storage import Folder, LocalFolder
from pipeline.shards import manifest as m
from pipeline.shards.inputs import CACHE


@contextmanager
def sole_builder(work: Folder) -> Iterator[Path]:
    """Holds the work folder against other builds; gives a local folder for the spool."""
    if not isinstance(work, LocalFolder):
        with tempfile.TemporaryDirectory(prefix="prospect-") as scratch:
            yield Path(scratch)
        return
    with sole_owner(work.path / "lock", work.path, "another build", "pass another --out"):
        yield work.path


def start_build(folder: Folder, work: Folder, fingerprint: str, force: bool) -> bool:
    """Take up an interrupted build of the same input and options (False), or begin one from nothing (True)."""
    if work.size("fingerprint") is not None and not folder.has(m.MANIFEST):
        begun = work.read("fingerprint").decode()
        if not force:
            refuse_other(folder, begun, fingerprint)
        if begun == fingerprint:
            for place in (folder, work):
                if isinstance(place, LocalFolder):
                    place.remove_partials()
            return False
    elif not force and folder.names():
        raise ProspectError(
            f"{folder}: found {', '.join(folder.names()[:3])} but neither a manifest nor an interrupted build; choose "
            "another --out (--force removes shards, and leaves other files)"
        )
    for name in work.names():
        if name != "lock":
            work.delete(name)
    return True


def clear_stopped(folder: Folder, work: Folder) -> None:
    """Remove what workers left half-written that were killed before they had removed it themselves."""
    for place in (folder, work):
        if isinstance(place, LocalFolder):
            place.remove_abandoned()


def refuse_other(folder: Folder, found: str, expected: str) -> None:
    if found != expected:
        raise ProspectError(
            f"{folder}: found shards of another input or other options (fingerprint {found[:12]}, expected "
            f"{expected[:12]}); pass --force to build them again, or another --out"
        )


def undo_start(work: Folder, before: set[Path]) -> None:
    """Remove the work folder, and the folders above it that this build made."""
    work.remove()
    if isinstance(work, LocalFolder):
        for folder in work.path.parents:
            if folder in before:
                break
            with suppress(OSError):
                folder.rmdir()


def folders_there(work: Folder) -> set[Path]:
    """Which of the folders that a build may have to make are there already."""
    return {p for p in (work.path, *work.path.parents) if p.exists()} if isinstance(work, LocalFolder) else set()


def remove_build(folder: Folder, split: str) -> None:
    """Remove what builds make, the manifest first, so that what is left after a kill is no finished build."""
    there = folder.names()
    ours = (m.MANIFEST, m.INDEX, CACHE)
    for name in sorted(there, key=lambda name: name != m.MANIFEST):
        if name in ours or is_shard(name, split):
            folder.delete(name)


def remove_leftovers(work: Folder) -> None:
    """The work folder of a build that was killed after its manifest stood, or with --force before anything changed."""
    if isinstance(work, LocalFolder) and not work.path.is_dir():
        return
    with suppress(ProspectError), sole_builder(work):  # not one that is at work now
        work.remove()


def is_shard(name: str, split: str) -> bool:
    return re.fullmatch(rf"{split}-\d{{6,}}\.tar", name) is not None
