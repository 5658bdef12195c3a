"""Filters of clips by what is known of them: KEY OP VALUE, e.g. quality>=8 or user_type!=no_talk.

KEY is a key of a clip's `metadata`, else of the clip itself; `a.b` is the key b of what stands under a. VALUE is JSON
(a number, true, null, "text"), or a text as it is. A clip has under KEY a value, or a list, all of whose values have to
meet the filter, or nothing (no such key, null, an empty list), which is null to = and !=, and in no order.
"""

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from pipeline.annotations.report import short
from pipeline.errors import ProspectError

Value = str | bool | int | float | None
MOST_KEYS, ENOUGH_KEYS = 40, 1000  # told, and collected, where a filter's key is in no clip

_FORM = re.compile(r"\s*([^\s=!<>\"]+)\s*(!=|<=|>=|=|<|>)\s*([^\s=!<>].*?)\s*", re.DOTALL)
_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What clips have to meet."""

    key: str
    op: str  # one of = != < <= > >=
    value: Value
    text: str  # the filter as given, without spaces around OP

    def values_in(self, clip: Mapping[str, Any]) -> list[Value]:
        """Give what an annotated clip has under the key; nothing: [].

        Raises:
            ValueError: it cannot be compared with; the message is what was found.
        """
        found = _under(clip.get("metadata"), self.key)
        found = _under(clip, self.key) if found is None else found
        values = found if isinstance(found, list) else [] if found is None else [found]
        for value in values:
            if not (_is_number(value) if self.op in _ORDER else isinstance(value, Value)):
                raise ValueError(short(value))
        return values

    def is_met(self, values: Sequence[Value]) -> bool:
        """Whether what `values_in` gave meets it."""
        if self.op in _ORDER:
            return bool(values) and all(_ORDER[self.op](value, self.value) for value in values)
        return all(_is_same(value, self.value) == (self.op == "=") for value in values or [None])

    @property
    def comparable(self) -> str:
        """What the values of clips have to be."""
        return "a number" if self.op in _ORDER else "a text, a number, true, false, or a list of such"


def parse_filter(text: str) -> Filter:
    """Read KEY OP VALUE.

    Raises:
        ProspectError: it has another form, or puts in order what is no number.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise ProspectError(
            f"--where {text!r}: expected KEY OP VALUE with OP one of = != < <= > >=, e.g. 'quality>=8' or "
            "'user_type!=no_talk' (in quotes, as a shell reads < and > itself)"
        )
    key, op, given = form.groups()
    value = _value_of(given, text)
    if op in _ORDER and not _is_number(value):
        raise ProspectError(f"--where {text!r}: found {short(value)} after {op}, expected a number")
    return Filter(key, op, value, f"{key}{op}{given}")


class Told(Protocol):
    """What is told of a filter: an `Effect`, or the manifest's record of it."""

    @property
    def where(self) -> str: ...

    @property
    def left_out(self) -> int: ...

    @property
    def without(self) -> int: ...


@dataclass(slots=True)
class Effect:
    """What a filter does to clips, whatever others do: a clip that several leave out counts in each."""

    where: str
    left_out: int = 0
    without: int = 0  # of those left out, how many have nothing under its key
    num_with: int = 0  # of all, how many have something under it


@dataclass(frozen=True, slots=True)
class Judgement:
    """What filters say of a clip; each tuple is in their order."""

    has: tuple[bool, ...] = ()  # whether there is something under the key
    meets: tuple[bool, ...] = ()  # what cannot be compared with leaves no clip out: it is a mistake
    mistakes: tuple[tuple[str, str, str], ...] = ()  # key, what was found, what was expected

    @property
    def is_kept(self) -> bool:
        return all(self.meets)


def judge(clip: Mapping[str, Any], filters: Sequence[Filter]) -> Judgement:
    """Hold an annotated clip against filters."""
    has, meets, mistakes = [], [], []
    for one in filters:
        try:
            values = one.values_in(clip)
            has.append(bool(values))
            meets.append(one.is_met(values))
        except ValueError as error:
            has.append(True)
            meets.append(True)
            mistakes.append((one.key, str(error), f"{one.comparable}, for --where {one.text}"))
    return Judgement(tuple(has), tuple(meets), tuple(mistakes))


class Effects:
    """What filters did to the clips of a split."""

    def __init__(self, filters: Iterable[Filter]) -> None:
        self.each = [Effect(one.text) for one in filters]
        self.num_left_out = 0  # clips, by one filter or several
        self.num_clips = 0  # judged

    def add(self, judgement: Judgement) -> None:
        self.num_clips += 1
        self.num_left_out += not judgement.is_kept
        for effect, has, meets in zip(self.each, judgement.has, judgement.meets, strict=True):
            effect.num_with += has
            effect.left_out += not meets
            effect.without += not meets and not has

    def unknown(self) -> list[str]:
        """List the filters whose key no clip has."""
        return [effect.where for effect in self.each if self.num_clips and not effect.num_with]


def told(effects: Iterable[Told]) -> str:
    """Give a line for people: each filter, how many clips it leaves out, and how many of these have nothing there."""
    return ", ".join(
        f"{one.where} {one.left_out}" + (f" ({one.without} without it)" if one.without else "") for one in effects
    )


def keys_of(clips: Iterable[Any]) -> str:
    """Tell the keys of clips' metadata under which values stand, those of records in it last."""
    keys = set[str]()
    for clip in clips:
        metadata = clip.get("metadata") if isinstance(clip, dict) else None
        keys.update(_keys(metadata) if isinstance(metadata, dict) else ())
        if len(keys) > ENOUGH_KEYS:
            break
    known = sorted(keys, key=lambda key: (key.count("."), key))
    return ", ".join(known[:MOST_KEYS]) + (", ..." if len(known) > MOST_KEYS else "")


def _keys(record: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{before}{key}.")
        elif value is not None and value != [] and all(isinstance(one, Value) for one in _listed(value)):
            yield f"{before}{key}"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _under(value: Any, key: str) -> Any:
    """What stands under a dotted key; a key that has dots itself is found as it is."""
    if not isinstance(value, dict):
        return None
    if key in value:
        return value[key]
    first, _, rest = key.partition(".")
    return _under(value.get(first), rest) if rest else None


def _value_of(given: str, text: str) -> Value:
    """The value that stands after OP in `text`."""
    try:
        value = json.loads(given, parse_constant=_refuse)
    except (ValueError, RecursionError):
        if given[0] not in '"[{' and not _reads_as_number(given):
            return given
        expected = 'a value as JSON writes it, e.g. 0.5 or "text", or a plain text'
        raise ProspectError(f"--where {text!r}: found {given!r}, expected {expected}") from None
    if isinstance(value, (list, dict)) or (isinstance(value, float) and not math.isfinite(value)):
        raise ProspectError(f"--where {text!r}: found {given!r}, expected one value, a number in bounds or a text")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and infinities, which are no JSON


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_same(value: Value, other: Value) -> bool:
    """Equal, and of one kind: true is not 1."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)
