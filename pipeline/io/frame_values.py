"""What stands in the column of a frames file: raw images, structs that hold them, or base64 text, as binary values.

Nothing is copied: Arrow's view types (polars writes them) stay views, text becomes binary as it lies.
"""

import base64
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ProspectError
from pipeline.io.arrow_file import ArrowFile

COLUMNS = ("frame", "frames", "image", "images")
BINARY_OF = {
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}
URL_SAFE, SPACE = bytes.maketrans(b"-_", b"+/"), b" \t\r\n"


def column_name(file: ArrowFile) -> str:
    """Name the column of images; raises ProspectError where there is none, or two."""
    names = file.names
    name = next((column for column in COLUMNS if column in names), None)
    if name is None or names.count(name) > 1:
        found = ", ".join(name if name.isprintable() else repr(name) for name in names[:20]) or "none"
        raise ProspectError(f"{file.path}: found columns {found[:400]}, expected one of {', '.join(COLUMNS)}")
    return name


def image_values(file: ArrowFile) -> pa.ChunkedArray:
    """Give the column of images as binary, large_binary or binary_view values.

    Raises:
        ProspectError: there is none, it is damaged, or holds something else.
    """
    name = column_name(file)
    column = file.read([name])[name]
    kind = column.type
    try:
        column.validate(full=not is_text(kind))  # full: also that every offset lies in the file
        if is_text(kind):
            column = column.cast(BINARY_OF[kind])  # not a copy
            column.validate(full=True)
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            column = _bytes_of(file.path, column)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise ProspectError(f"{file.path}: its column {name!r} is damaged ({reason}); write the file again") from None
    if column.type not in BINARY_OF.values():
        raise ProspectError(
            f"{file.path}: column {name!r} is {kind}, expected base64 text, bytes, or a struct with 'bytes' of bytes"
        )
    return column


def is_text(kind: pa.DataType) -> bool:
    """Say whether values of this type are base64."""
    return kind in BINARY_OF


def _bytes_of(path: Path, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The field `bytes` of HF's structs.

    Raises:
        ProspectError: they hold paths in place of bytes.
    """
    values = pc.struct_field(column, "bytes")
    if column.type.get_field_index("path") >= 0 and values.null_count == len(values) > 0:
        paths = pc.struct_field(column, "path").drop_null()
        if len(paths):
            raise ProspectError(
                f"{path}: its images are paths alone (the first {str(paths[0])[:80]!r}), expected the images' bytes; "
                "embed them, with datasets: `dataset.with_format('arrow').map(datasets.table.embed_table_storage, "
                "batched=True)`"
            )
    return values


def lengths_of(values: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Count the bytes of each value, 0 of a null; Arrow has no kernel for those of views."""
    if values.type != pa.binary_view():
        return np.asarray(pc.fill_null(pc.binary_length(values), 0), np.int64)
    lengths = [np.zeros(0, np.int64)]
    for chunk in values.chunks:
        end = chunk.offset + len(chunk)
        views = np.frombuffer(chunk.buffers()[1], np.int32, 4 * end).reshape(end, 4)  # a view's length stands first
        found = views[chunk.offset :, 0].astype(np.int64)
        lengths.append(np.where(np.asarray(chunk.is_valid()), found, 0))
    return np.concatenate(lengths)


def from_base64(text: bytes) -> bytes:
    """Decode base64 text: plain, else with line breaks, URL-safe, without padding, or as a data URI.

    Raises:
        ValueError: it is none of these.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        if text.startswith(b"data:"):
            head, _, text = text.partition(b",")
            if not head.endswith(b";base64"):
                raise ValueError("a data URI without ';base64,'") from None
        text = text.translate(URL_SAFE, SPACE)
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
