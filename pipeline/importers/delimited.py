"""Tables as text, with a first line of names, by whatever delimiter a spreadsheet wrote: comma, tab, semicolon, bar."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import ProspectError
from pipeline.importers.formats import read_text

DELIMITERS = (",", "\t", ";", "|")


def delimited(file: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Give a table's lines, each with its place ("line 2"), by the names of its columns, in lower case.

    Empty lines are passed over; the last values of a line may be missing.

    Raises:
        ProspectError: it is no text, no table, or lacks one of the columns `needed`.
    """
    text = read_text(file)
    heading = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    try:
        for values in reader:
            where = f"line {reader.line_num}"
            if not any(value.strip() for value in values):
                continue
            if not names:
                names = [value.strip().lower() for value in values]
                _check(f"{file} {where}", names, needed)
                continue
            if any(value.strip() for value in values[len(names) :]):
                raise ProspectError(
                    f"{file} {where}: found {len(values)} values, expected {len(names)}, as in the first line; put "
                    f"values that contain {delimiter!r} in double quotes"
                )
            yield where, dict(zip(names, values, strict=False))
    except csv.Error as error:
        raise ProspectError(f"{file} line {reader.line_num}: cannot be read as a table ({error})") from None
    if not names:
        raise ProspectError(f"{file}: is empty, expected a first line that names columns: {', '.join(needed)}, ...")


def _check(where: str, names: Sequence[str], needed: Sequence[str]) -> None:
    if missing := [name for name in needed if name not in names]:
        found = ", ".join(name if name.isprintable() else repr(name) for name in names)
        raise ProspectError(f"{where}: found the columns {found}, expected {', '.join(missing)} too")
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise ProspectError(f"{where}: found the column {twice!r} twice, expected each once")
