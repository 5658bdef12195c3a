"""Annotation files, read entry by entry: a JSON array, a single object, or .jsonl.

One parser for all of them (Python's), so that the same text means the same in each: NaN and Infinity are read, lone
surrogates are kept (the checks refuse them where they matter), integers may have up to 4,300 digits. Memory does not
grow with the file: of an array, as much text is held as its longest entry takes, at most MAX_CHARACTERS.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from pipeline.errors import ProspectError

READ_BYTES = 256 * 1024  # at a time
MAX_CHARACTERS = 32 * 1024 * 1024  # of one entry
MAX_DEPTH = 100  # of arrays and objects in each other
SPACE = re.compile(r"[ \t\r\n]*")
CUT = 16  # characters: where the text held ends, an error so close to its end may be the end's


class Repeated(dict[str, Any]):
    """An object that has a key twice. Python's parser keeps the last value, without a word."""

    key: str


def read_raw_clips(path: Path) -> Iterator[Any]:
    """Read the entries of an annotation file (array, single object, or .jsonl), one at a time, unchecked.

    Raises:
        ProspectError: the file is no JSON (with line and column), or nested too deep.
    """
    with path.open("rb") as file:
        yield from _lines(path, file) if path.suffix == ".jsonl" else _Window(path, file).entries()


def repeated_keys(value: Any) -> Iterator[tuple[str, str]]:
    """Give place ("conversation.3") and key of the objects in `value` that have a key twice."""
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        place, one = stack.pop()
        if isinstance(one, Repeated):
            yield place, one.key
        items = one.items() if isinstance(one, dict) else enumerate(one)
        stack += [
            (f"{place}.{key}" if place else str(key), inner) for key, inner in items if isinstance(inner, (dict, list))
        ]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    repeated, keys = Repeated(made), [key for key, _ in pairs]
    repeated.key = next(key for place, key in enumerate(keys) if key in keys[:place])
    return repeated


DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _lines(path: Path, file: IO[bytes]) -> Iterator[Any]:
    number = 0
    while raw := file.readline(MAX_CHARACTERS):
        number += 1
        if len(raw) == MAX_CHARACTERS:
            raise _not_json(path, number, 1, f"a line of {MAX_CHARACTERS} bytes or more")
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            if line.strip():
                value = DECODER.decode(line)
                _check_depth(value)
                yield value
        except json.JSONDecodeError as error:
            raise _not_json(path, number, error.colno, error.msg) from None
        except UnicodeDecodeError as error:
            raise _not_json(path, number, error.start + 1, "found bytes that are not UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise _not_json(path, number, 1, _reason(error)) from None


class _Window:
    """The part of a JSON file's text that is held, and where it stands in the file."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at = "", 0
        self._line, self._column = 1, 1  # of the text's first character
        self._is_last = False  # there is no more

    def entries(self) -> Iterator[Any]:
        opening = self._next()
        if opening == "{":
            yield self._value()
        elif opening == "[":
            self._at += 1
            if self._next() == "]":
                self._at += 1
            else:
                yield self._value()
                while (after := self._next()) == ",":
                    self._at += 1
                    yield self._value()
                if after != "]":
                    self._fail(self._at, "expecting ',' or ']' after an entry")
                self._at += 1
        else:
            self._fail(self._at, "an array of clips or one clip expected")
        if self._next():
            self._fail(self._at, "more text after the end; one object a line is .jsonl")

    def _next(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            space = SPACE.match(self._text, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._text) or self._is_last:
                return self._text[self._at : self._at + 1]
            self._read_on()

    def _value(self) -> Any:
        self._next()
        while True:
            problem = ""
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
                if end < len(self._text) or self._is_last:
                    _check_depth(value)
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                place, problem = error.pos, error.msg
                is_cut = problem.startswith("Unterminated string") or place > len(self._text) - CUT
                if self._is_last or not is_cut:
                    self._fail(place, problem)
            except (ValueError, RecursionError) as error:
                self._fail(self._at, _reason(error))
            if len(self._text) - self._at > MAX_CHARACTERS:
                self._fail(self._at, problem or f"an entry of more than {MAX_CHARACTERS} characters")
            self._read_on()

    def _read_on(self) -> None:
        """Hold as much again, at least READ_BYTES, and no longer what was read."""
        self._line, self._column = self._place(self._at)
        self._text, self._at = self._text[self._at :], 0
        data = self._file.read(max(READ_BYTES, len(self._text)))
        self._is_last = not data
        try:
            self._text += self._decoder.decode(data, final=self._is_last)
        except UnicodeDecodeError as error:
            self._text += error.object[: error.start].decode("utf-8-sig")
            self._fail(len(self._text), "found bytes that are not UTF-8")

    def _place(self, at: int) -> tuple[int, int]:
        """Line and column of a character of the text, both from 1."""
        newlines = self._text.count("\n", 0, at)
        if not newlines:
            return self._line, self._column + at
        return self._line + newlines, at - self._text.rfind("\n", 0, at)

    def _fail(self, at: int, reason: str) -> NoReturn:
        raise _not_json(self._path, *self._place(at), reason)


def _check_depth(value: Any) -> None:
    """Raise RecursionError where arrays and objects stand in each other deeper than later stages can take."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise RecursionError


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return f"nested deeper than {MAX_DEPTH} arrays and objects"
    return str(error).partition(";")[0]  # an integer of more digits than Python reads


def _not_json(path: Path, line: int, column: int, message: str) -> ProspectError:
    return ProspectError(
        f"{path} line {line} column {column}: not valid JSON ({message}), expected an array of clips; "
        f"check the file, e.g. with `python -m json.tool {path}`"
    )
