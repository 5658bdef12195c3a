"""What the program wrote itself, read back: a record of a type, checked like what people write, and never trusted for
its size. A record is a dataclass with `__pydantic_config__ = RECORD`.
"""

import reprlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import ProspectError

RECORD = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # of a record
MOST_BYTES = 256 << 20  # of a file that is read whole
MOST_PROBLEMS = 5  # that are told of one file
T = TypeVar("T")


class _Short(reprlib.Repr):
    maxlevel, maxstring, maxother = 2, 120, 120

    def repr_int(self, value: int, level: int) -> str:
        return repr(value) if value.bit_length() < 200 else f"an integer of {value.bit_length()} bits"  # costs a square


_short = _Short()


def shown(value: Any) -> str:
    """Give `value` as Python writes it, but no more than a line, whatever it holds."""
    text = _short.repr(value)
    return text if len(text) <= 160 else f"{text[:150]} ..."


def read_record(path: Path, kind: type[T], fix: str) -> T:
    """Read a JSON file as one record.

    Args:
        fix: what to do about a file that is none, for the error.

    Raises:
        ProspectError: it is no such record; names the fields, with what was found and expected.
    """
    return parse_record(read_whole(path, fix), kind, str(path), fix)


def parse_record(data: bytes | str, kind: type[T], place: str, fix: str) -> T:
    """Read JSON as one record; `place` names it in the error, as `read_record`."""
    try:
        key: Any = kind
        record: T = _checks(key).validate_json(data)
        return record
    except ValidationError as error:
        raise ProspectError(f"{place}: {'; '.join(problems_of(error))}; {fix}") from None


def read_whole(path: Path, fix: str, most: int = MOST_BYTES) -> bytes:
    """Read a file whole; no pipe or device, which may never end.

    Raises:
        ProspectError: it cannot be read, is no plain file, or has more than `most` bytes.
    """
    try:
        if path.exists() and not path.is_file():
            raise ProspectError(
                f"{path}: found {'a folder' if path.is_dir() else 'no plain file'}, expected a file; {fix}"
            )
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ProspectError(f"{path}: cannot be read ({error.strerror or error}); {fix}") from None
    if len(data) > most:
        raise ProspectError(f"{path}: found more than {most / 1e6:.0f} MB, expected less; {fix}")
    return data


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List what of `now` is otherwise in `there`: `name: 1 there, 2 now`."""
    return [
        f"{name}: {there.get(name)!r} there, {value!r} now" for name, value in now.items() if there.get(name) != value
    ]


def problems_of(error: ValidationError) -> list[str]:
    """List what is wrong: `field: found X, expected Y`, the first few."""
    details = error.errors(include_url=False)
    told = [problem_of(detail) for detail in details[:MOST_PROBLEMS]]
    return told + ([f"and {len(details) - MOST_PROBLEMS} more"] if len(details) > MOST_PROBLEMS else [])


def problem_of(detail: Mapping[str, Any]) -> str:
    """Tell one of pydantic's errors."""
    place = "".join(f"{part}: " for part in [".".join(map(str, detail["loc"]))[:200]] if part)
    kind, said = detail["type"], detail["msg"]
    if kind == "json_invalid":
        return f"not valid JSON ({said.removeprefix('Invalid JSON: ')})"
    if kind == "missing":
        return f"{place}found nothing, expected it"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{place}is no field"
    is_whole = kind == "value_error" and isinstance(detail["input"], Mapping | BaseModel)  # a rule about several fields
    found = "" if is_whole else f"found {shown(detail['input'])}, "
    for start in ("Input should be ", "Value error, expected "):
        if said.startswith(start):
            return f"{place}{found}expected {said.removeprefix(start)}"
    said = said.removeprefix("Value error, ")
    return f"{place}{found}{said[:1].lower()}{said[1:]}"


@cache
def _checks(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
