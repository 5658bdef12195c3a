"""Arrow IPC files, opened with care: memory-mapped, and bounded before memory follows what a file claims.

Buffers that are not compressed stay in the file: they are mapped, nothing is copied. Compressed ones state what they
become; their claims are added up first, from the messages' own tables (FlatBuffers, format/Message.fbs and File.fbs of
Apache Arrow), and a file that would become more than MAX_HELD_BYTES is refused.

A file that is cut short while it is mapped ends the process when its missing pages are read (SIGBUS). Its size is
compared before each read; what is cut between that and the read itself cannot be caught.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.errors import ProspectError

MAX_HELD_BYTES = 512 * 1024 * 1024  # that the compressed buffers of one file become
MAGIC = b"ARROW1"
EXPECTED = "expected an Arrow IPC stream or file with one row a frame; write it again"
DAMAGE = (OSError, EOFError, ValueError, pa.ArrowException, struct.error)  # what reading a damaged file raises
# Slots of FlatBuffers tables, and values of a union.
MESSAGE_HEADER_TYPE, MESSAGE_HEADER, MESSAGE_BODY_LENGTH = 1, 2, 3
DICTIONARY_BATCH, RECORD_BATCH = 2, 3
DICTIONARY_DATA = 1
BATCH_BUFFERS, BATCH_COMPRESSION = 2, 3
FOOTER_DICTIONARIES, FOOTER_BATCHES = 2, 3


class ArrowFile:
    """A mapped Arrow file, its schema, and its columns when they are asked for."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ProspectError: no such file, no Arrow, or buffers that claim too much; names the file.
        """
        self.path = path
        try:
            self._source = pa.memory_map(str(path))
            self._size = self._source.size()
            self._is_file_format = self._source.read(len(MAGIC)) == MAGIC
            claimed = _claimed(path, self._is_file_format)
            self.schema: pa.Schema = self._reader().schema
            self.names: list[str] = self.schema.names
        except FileNotFoundError:
            raise ProspectError(f"{path}: no such frames file, expected an Arrow IPC file") from None
        except DAMAGE as error:
            raise self._unreadable(error) from None
        self.is_compressed = claimed > 0
        if claimed > MAX_HELD_BYTES:
            raise ProspectError(
                f"{path}: its compressed buffers become {claimed} bytes, expected at most {MAX_HELD_BYTES}, as they "
                "are held in memory; write it again without compression"
            )

    def read(self, columns: list[str]) -> pa.Table:
        """Give some columns: mapped where they are not compressed, so that nothing is copied."""
        self.check_whole()
        places = [self.schema.get_field_index(name) for name in columns]
        try:
            return self._reader(places).read_all()
        except DAMAGE as error:
            raise self._unreadable(error) from None

    def check_whole(self) -> None:
        """Raise ProspectError where the file has become shorter than it was when it was opened."""
        size = os.fstat(self._source.fileno()).st_size
        if size < self._size:
            raise ProspectError(
                f"{self.path}: was cut short while it was open, found {size} bytes, expected {self._size}; write it "
                "again"
            )

    def _reader(self, places: list[int] | None = None) -> pa.RecordBatchStreamReader | pa.RecordBatchFileReader:
        options = pa.ipc.IpcReadOptions(included_fields=places or [])
        self._source.seek(0)
        if self._is_file_format:
            return pa.ipc.open_file(self._source, options=options)
        return pa.ipc.open_stream(self._source, options=options)

    def _unreadable(self, error: Exception) -> ProspectError:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        return ProspectError(f"{self.path}: cannot be read as Arrow ({first_line}), {EXPECTED}")


def _claimed(path: Path, is_file_format: bool) -> int:
    """Count the bytes that a file's compressed buffers say they become; 0 where none is compressed.

    Tables of messages alone are read, not the bodies between them. Raises one of DAMAGE where they lead nowhere.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        places = _blocks(data) if is_file_format else _messages(data)
        return sum(_claims(data, place) for place in places)


def _blocks(data: mmap.mmap) -> Iterator[int]:
    """Where the messages of a file with a footer stand."""
    end = len(data) - 4 - len(MAGIC)
    size = _at("<i", data, end)
    if data[-len(MAGIC) :] != MAGIC or not 0 < size <= end:
        raise ValueError("its end is missing: it is cut short or was not closed")
    footer = _Table.root(data[end - size : end])
    for slot in (FOOTER_DICTIONARIES, FOOTER_BATCHES):
        for offset, *_ in footer.structs(slot, "<qiiq"):  # struct Block
            yield offset


def _messages(data: mmap.mmap) -> Iterator[int]:
    """Where the messages of a stream stand, one after the other; it ends with a message of no length, or the file."""
    place = 0
    while place < len(data) and (size := _at("<i", data, place + _prefix(data, place) - 4)) > 0:
        yield place
        start = place + _prefix(data, place)
        body = _Table.root(data[start : start + size]).number(MESSAGE_BODY_LENGTH, "<q")
        place = start + size + max(body, 0)


def _prefix(data: mmap.mmap, place: int) -> int:
    """Bytes before a message's table: its length, after a mark in files since Arrow 0.15."""
    return 8 if _at("<i", data, place) == -1 else 4


def _claims(data: mmap.mmap, place: int) -> int:
    start = place + _prefix(data, place)
    size = _at("<i", data, start - 4)
    table = _Table.root(data[start : start + max(size, 0)])
    kind = table.number(MESSAGE_HEADER_TYPE, "<B")
    if kind not in (DICTIONARY_BATCH, RECORD_BATCH):
        return 0
    batch = table.table(MESSAGE_HEADER)
    if batch and kind == DICTIONARY_BATCH:
        batch = batch.table(DICTIONARY_DATA)
    if not batch or not batch.table(BATCH_COMPRESSION):
        return 0
    claimed, body = 0, start + size
    for offset, length in batch.structs(BATCH_BUFFERS, "<qq"):  # struct Buffer
        if length:
            claimed += max(_at("<q", data, body + offset), length)  # what it becomes; -1: it is not compressed
    return claimed


class _Table:
    """A table of a FlatBuffer (https://flatbuffers.dev/internals); struct.error where it leads out of the buffer."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, _at("<I", data, 0))

    def number(self, slot: int, form: str) -> int:
        place = self._field(slot)
        return _at(form, self._data, place) if place else 0

    def table(self, slot: int) -> "_Table | None":
        place = self._field(slot)
        return _Table(self._data, place + _at("<I", self._data, place)) if place else None

    def structs(self, slot: int, form: str) -> Iterator[tuple[int, ...]]:
        """The structs of a vector; none where the table has no such field."""
        place = self._field(slot)
        if place:
            start = place + _at("<I", self._data, place)
            size = struct.calcsize(form) * _at("<I", self._data, start)
            yield from struct.iter_unpack(form, self._data[start + 4 : start + 4 + size])

    def _field(self, slot: int) -> int:
        """Where a field's value stands; 0: the table has none."""
        vtable = self._place - _at("<i", self._data, self._place)
        entry = 4 + 2 * slot
        if entry >= _at("<H", self._data, vtable):
            return 0
        offset = _at("<H", self._data, vtable + entry)
        return self._place + offset if offset else 0


def _at(form: str, data: bytes | mmap.mmap, place: int) -> int:
    if place < 0:
        raise struct.error("leads out of the buffer")
    value: int = struct.unpack_from(form, data, place)[0]
    return value
