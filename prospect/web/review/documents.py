"""Annotation files that are open for review: read, changed in memory, written back.

A file is read when it is first shown, and its sha256 kept. Changes make drafts of one entry; nothing is written before
`save`. It writes the whole file anew, complete or not at all, with the text of that entry alone replaced; before the
first time the file as it was is kept beside it (`NAME.orig`). A file that changed on disk meanwhile is not written
over. Undo goes back beyond a save: every draft is told by the entry's text when it was opened.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from pipeline.annotations.clips import SPLITS
from pipeline.annotations.edits import Draft, draft_of
from pipeline.annotations.files import annotated, annotation_file
from pipeline.annotations.json_files import DECODER, read_raw_clips
from pipeline.annotations.json_text import Place, entries, margin_of, with_entry
from pipeline.errors import ProspectError
from pipeline.io.frame_store import FrameFile, find_frames_file, open_frames, search_roots
from pipeline.io.records import read_whole
from pipeline.io.storage import LocalFolder, write_atomically
from pipeline.spans.edits import spans_draft
from prospect.web.answers import Conflict

Kind = Literal["clips", "spans"]
MOST_DRAFTS = 500  # of an entry, for undo
KEPT = ".orig"  # the file as it was before the first save
BOM = "\ufeff"


@dataclass(slots=True)
class Entry:
    """A clip (or a video's spans) being worked on."""

    base: str  # its text when it was opened: what its drafts are told by
    on_disk: str  # its text in the file now
    margin: str  # the space before its first line
    drafts: list[Draft]
    saved: Draft  # the one that `on_disk` is
    at: int = 0  # the draft that is shown
    revision: int = 0  # grows with every change: whoever shows an older one has to look again

    @property
    def draft(self) -> Draft:
        return self.drafts[self.at]

    @property
    def text(self) -> str:
        """The shown draft as it is to stand in the file."""
        return self.draft.text(self.base, self.margin) if self.at else self.base

    @property
    def is_changed(self) -> bool:
        return self.draft is not self.saved


@dataclass(slots=True)
class AnnotationFile:
    """An annotation file, as it was when it was last read or written."""

    path: Path
    dataset: str
    kind: Kind
    digest: bytes = b""
    text: str = ""
    places: list[Place] = field(default_factory=list)  # of its entries in `text`
    open: dict[int, Entry] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.name

    def raw(self, index: int) -> Any:
        """The record of an entry as it stands in the file."""
        return DECODER.decode(self.text[slice(*self.places[index])])


class Documents:
    """All files that a review may read and write. One change at a time."""

    def __init__(self, data_root: Path, dataset: str | None = None, frames_root: Path | None = None) -> None:
        """
        Raises:
            ProspectError: there is no annotation under `data_root`.
        """
        self.data_root, self.frames_root = data_root, frames_root
        self._lock = RLock()
        self._files: dict[tuple[str, str], AnnotationFile] = {}
        for path, kind in [*_spans_files(data_root, dataset), *_clips_files(data_root, dataset)]:
            found = AnnotationFile(path.resolve(), path.parent.name, kind)
            self._files[found.dataset, path.name] = found
        if not self._files:
            annotated(data_root, dataset, None)  # tells what is missing

    @property
    def files(self) -> list[AnnotationFile]:
        return [self._files[key] for key in sorted(self._files, key=_in_order)]

    def file(self, dataset: str, name: str) -> AnnotationFile:
        """Give a file, read if it was not yet.

        Raises:
            ProspectError: it is none of the review's, or no JSON.
        """
        with self._lock:
            found = self._files.get((dataset, name))
            if found is None:
                raise ProspectError(f"{dataset}/{name}: no such annotation file here")
            if not found.digest:
                _read(found)
            return found

    def entry(self, file: AnnotationFile, index: int) -> Entry:
        """Open an entry, or give it as it was opened."""
        with self._lock:
            if not 0 <= index < len(file.places):
                raise ProspectError(f"{file.name}: found entry {index}, expected one of {len(file.places)}")
            if index not in file.open:
                text, raw = file.text[slice(*file.places[index])], file.raw(index)
                if not isinstance(raw, dict):
                    raise ProspectError(f"{file.name} entry {index}: found no object, expected a clip; mend it by hand")
                draft = draft_of(raw) if file.kind == "clips" else spans_draft(raw)
                file.open[index] = Entry(text, text, margin_of(file.text, file.places[index][0]), [draft], draft)
            return file.open[index]

    @contextmanager
    def changing(self, file: AnnotationFile, index: int, revision: int) -> Iterator[Entry]:
        """Give an entry to change; nobody else changes anything meanwhile.

        Raises:
            Conflict: it was changed since it was of this revision.
        """
        with self._lock:
            entry = self.entry(file, index)
            if entry.revision != revision:
                raise Conflict("this was changed in another tab meanwhile; what you see now is the newest")
            yield entry

    def change(self, file: AnnotationFile, index: int, revision: int, make: Callable[[Draft], Draft]) -> None:
        """Make a new draft of an entry; what was undone before is gone."""
        with self.changing(file, index, revision) as entry:
            draft = make(entry.draft)
            entry.drafts[entry.at + 1 :] = [draft]
            if len(entry.drafts) > MOST_DRAFTS:
                del entry.drafts[1]  # the first stays: it is the file's
            entry.at = len(entry.drafts) - 1
            entry.revision += 1

    def step(self, file: AnnotationFile, index: int, revision: int, by: Literal[-1, 1]) -> None:
        """Undo (-1) or redo (1); at either end nothing happens."""
        with self.changing(file, index, revision) as entry:
            if 0 <= entry.at + by < len(entry.drafts):
                entry.at += by
                entry.revision += 1

    def save(self, file: AnnotationFile, index: int, revision: int) -> None:
        """Write an entry's draft into its file.

        Raises:
            Conflict: the file changed on disk since it was read; nothing is written.
            ProspectError: it cannot be written; nothing is lost here.
        """
        with self.changing(file, index, revision) as entry:
            if _digest(_data(file.path)) != file.digest:
                raise Conflict(
                    f"{file.name} changed on disk since it was opened, so nothing was saved; your changes are kept "
                    "here. Reload reads it again; where this entry is the same in it, your changes go on"
                )
            start, end = file.places[index]
            written = entry.text
            self._write(file, file.text[:start] + written + file.text[end:])
            entry.on_disk, entry.saved = written, entry.draft
            entry.revision += 1

    def reload(self, file: AnnotationFile, drop: tuple[int, int] | None = None) -> None:
        """Read a file again that changed on disk; entries that are the same in it go on with their changes.

        Args:
            drop: index and revision of an entry whose changes may go.

        Raises:
            Conflict: an entry with changes was changed on disk too.
        """
        with self._lock:
            fresh = AnnotationFile(file.path, file.dataset, file.kind)
            _read(fresh)
            texts = [fresh.text[slice(*place)] for place in fresh.places]
            kept: dict[int, Entry] = {}
            for index, entry in file.open.items():
                entry.revision += 1
                same = index if index < len(texts) and texts[index] == entry.on_disk else None
                if same is None and texts.count(entry.on_disk) == 1:
                    same = texts.index(entry.on_disk)
                if same is not None:
                    kept[same] = entry
                elif entry.is_changed and (drop is None or drop[0] != index):
                    raise Conflict(
                        f"entry {index} of {file.name} changed here and on disk; undo what changed here, or drop it"
                    )
            file.digest, file.text, file.places, file.open = fresh.digest, fresh.text, fresh.places, kept

    def append(self, dataset: str, split: str, raw: dict[str, Any]) -> tuple[AnnotationFile, int]:
        """Add an entry to the annotation file of a split, which is made where there is none; gives its place."""
        with self._lock:
            folder = self.data_root / dataset
            made = next(
                (
                    one
                    for one in self._files.values()
                    if one.dataset == dataset and one.kind == "clips" and one.name.startswith(f"{split}_")
                ),
                None,
            )
            if made is None:
                path = folder / f"{split}_training.json"
                made = AnnotationFile(path.resolve(), dataset, "clips")
                _creating(path, partial(write_atomically, path, with_entry("[]", raw).encode()))
                self._files[dataset, path.name] = made
                _read(made)
                return made, 0
            self.file(dataset, made.name)
            if _digest(_data(made.path)) != made.digest:
                raise Conflict(
                    f"{made.name} changed on disk since it was opened; press Reload, then drop the video again"
                )
            self._write(made, _with_one_more(made, raw))
            return made, len(made.places) - 1

    def frames(self, file: AnnotationFile, frames_file: str) -> FrameFile:
        """Open the frames that an entry names.

        Raises:
            ProspectError: they are nowhere.
        """
        return open_frames(find_frames_file(frames_file, self.roots(file.dataset)))

    def roots(self, dataset: str) -> list[Path]:
        return search_roots(self.frames_root, self.data_root, dataset)

    @property
    def unsaved(self) -> list[str]:
        """Name the entries that were changed and not saved."""
        with self._lock:
            return [
                f"{file.dataset}/{file.name} entry {index}"
                for file in self.files for index, entry in sorted(file.open.items()) if entry.is_changed
            ]  # fmt: skip

    def _write(self, file: AnnotationFile, text: str) -> None:
        kept = file.path.with_name(file.path.name + KEPT)
        data = text.encode(errors="surrogatepass")

        def write() -> None:
            if not kept.exists():
                write_atomically(kept, _data(file.path))
            with LocalFolder(file.path.parent).new_file(file.path.name) as partial_file:
                partial_file.write_bytes(data)
                shutil.copymode(file.path, partial_file)

        _creating(file.path, write)
        file.digest, file.text = _digest(data), text
        file.places = entries(_without_bom(text), _is_lines(file.path))


def _creating(path: Path, write: Callable[[], None]) -> None:
    """Write, or say in one sentence why it cannot be."""
    try:
        write()
    except OSError as error:
        raise ProspectError(
            f"{path.name} cannot be saved ({error.strerror or error}); nothing is lost here: make {path.parent} "
            "writable, or free some space, and save again"
        ) from None


def _with_one_more(file: AnnotationFile, raw: dict[str, Any]) -> str:
    if _is_lines(file.path):
        ending = "" if not file.text or file.text.endswith("\n") else "\n"
        return file.text + ending + _one_line(raw) + "\n"
    if not file.text.lstrip(BOM + " \t\r\n").startswith("["):
        raise ProspectError(f"{file.name} holds one clip, and no array that another could be added to; put it into [ ]")
    mark = BOM if file.text.startswith(BOM) else ""
    return mark + with_entry(file.text.removeprefix(BOM), raw)


def _one_line(raw: dict[str, Any]) -> str:
    return with_entry("[]", raw).strip().removeprefix("[").removesuffix("]")


def _read(file: AnnotationFile) -> None:
    """Read a file and find its entries.

    Raises:
        ProspectError: it is no JSON (with line and column), too large, or gone.
    """
    data = _data(file.path)
    for _ in read_raw_clips(file.path):  # checked, and told, as everywhere
        pass
    file.digest = _digest(data)
    file.text = data.decode()
    file.places = entries(_without_bom(file.text), _is_lines(file.path))


def _without_bom(text: str) -> str:
    """The same text, with a space for its mark: places stay."""
    return " " + text[1:] if text.startswith(BOM) else text


def _data(path: Path) -> bytes:
    return read_whole(path, "check that it is still there")


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _is_lines(path: Path) -> bool:
    return path.suffix == ".jsonl"


def _clips_files(data_root: Path, dataset: str | None) -> list[tuple[Path, Kind]]:
    if not any(_spans_files(data_root, dataset)):
        pairs = annotated(data_root, dataset, None)
    else:
        try:
            pairs = annotated(data_root, dataset, None)
        except ProspectError:  # spans alone
            pairs = []
    return [(annotation_file(data_root, name, split), "clips") for name, split in pairs]


def _spans_files(data_root: Path, dataset: str | None) -> list[tuple[Path, Kind]]:
    if not data_root.is_dir():
        return []
    folders = [data_root / dataset] if dataset else sorted(path for path in data_root.iterdir() if path.is_dir())
    return [(path, "spans") for folder in folders for path in sorted(folder.glob("*spans.jsonl"))]


def _in_order(key: tuple[str, str]) -> tuple[str, bool, int, str]:
    dataset, name = key
    split = next((number for number, split in enumerate(SPLITS) if name.startswith(split)), len(SPLITS))
    return dataset, "spans" in name, split, name
