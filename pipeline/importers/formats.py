"""What importers of single files share: the text of a file, its split, and a word where it is another source's."""

import json
import re
from pathlib import Path
from typing import Any

from pipeline.annotations.clips import SPLITS
from pipeline.errors import ProspectError
from pipeline.importers.recognize import importer_of, refuse_other

HALF_PAIR = "half a surrogate pair (\\ud800 to \\udfff)"


def refuse_others(file: Path, importer: str, expected: str) -> None:
    """Refuse a file that another importer reads.

    Raises:
        ProspectError: it is not there, or it is another source's; the message names the importer for it.
    """
    known = importer_of(file) if file.is_file() else None
    if not file.is_file() or (known and known[0] != importer):
        raise refuse_other(file, importer, expected)


def read_text(file: Path) -> str:
    """Read a text file whole, a byte order mark left out."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ProspectError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ProspectError(f"{file}: byte {error.start} is not UTF-8, expected text; save it as UTF-8") from None


def has_half_pair(value: Any) -> bool:
    """Whether a JSON value has half a surrogate pair in it, which no file of text can hold."""
    return bool(re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)))


def split_of(file: Path, split: str | None) -> str:
    """Give the split: `split`, or else the one that the file's name says.

    Raises:
        ProspectError: it says none, or several.
    """
    said = [name for name in SPLITS if re.search(rf"(?<![a-z]){name}(?![a-z])", file.stem)]
    if split is None and len(said) != 1:
        raise ProspectError(f"{file}: its name says no split (one of {', '.join(SPLITS)}); pass --split")
    return split or said[0]
