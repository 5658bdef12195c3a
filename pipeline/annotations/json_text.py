"""Change values inside the text of a JSON file: what did not change keeps its bytes, what is new is written as its
neighbours are.

A person's file is their own: indented by one or by four, a turn a line, escaped or not, `1.50` or `1.5`. So nothing is
parsed and dumped as a whole. An object's text is walked member by member, a changed value is put in place of the old
one, and only new values are written, in the style found around them: on one line or indented, with those separators.
Order and unknown keys stay. `json.loads` of the result gives the new value (a property test).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from pipeline.annotations.json_files import DECODER, SPACE

TEXT = r'"(?:[^"\\]|\\.)*"'
COLON = re.compile(rf"{TEXT}([ \t]*:[ \t]*)(?=[^ \t])")  # after a key
COMMA = re.compile(rf"(?:{TEXT}|[\w.+-]+|[\]}}])([ \t]*,[ \t]*)(?=[^ \t\r\n])")  # after a value, on its line
ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")
Place = tuple[int, int]  # of a value in a text: first character, and the one after the last


@dataclass(frozen=True, slots=True)
class Member:
    """A key of an object and its value, as places in a text."""

    key: Place
    value: Place


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a new list: what it was in the old one, if it was there, and what it is now."""

    origin: int | None
    value: Any


@dataclass(frozen=True, slots=True)
class Style:
    """How the values of an entry are written, but for their indent."""

    comma: str  # between values on one line
    colon: str
    newline: str
    is_ascii: bool  # other letters are written as escapes

    def text(self, value: Any, indent: str | None, margin: str = "") -> str:
        """Write a value.

        Args:
            indent: one level of it; None: all on one line.
            margin: what stands before the value on its line, where it takes several.
        """
        separators = (self.comma if indent is None else ",", self.colon)
        text = json.dumps(value, ensure_ascii=self.is_ascii, indent=indent, separators=separators)
        return text.replace("\n", self.newline + margin)  # a string has none: they are escaped


def entries(text: str, is_lines: bool) -> list[Place]:
    """Find the entries of an annotation file's text (array, single object, or JSON lines) that is valid JSON."""
    if not is_lines:
        start = _after_space(text, 0)
        return elements(text, start) if text[start] == "[" else [(start, _end(text, start))]
    found, at = [], 0
    for line in text.split("\n"):  # no other character ends a line of JSON
        if line.strip():
            found.append((at + len(line) - len(line.lstrip()), at + len(line.rstrip())))
        at += len(line) + 1
    return found


def elements(text: str, at: int) -> list[Place]:
    """Find the elements of the array that begins at `at`."""
    found: list[Place] = []
    at = _after_space(text, at + 1)
    while text[at] != "]":
        end = _end(text, at)
        found.append((at, end))
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return found


def members(text: str, at: int) -> dict[str, Member]:
    """Find the members of the object that begins at `at`; of a key that is there twice, the last."""
    found: dict[str, Member] = {}
    at = _after_space(text, at + 1)
    while text[at] != "}":
        key, end = scanstring(text, at + 1)
        value = _after_space(text, _after_space(text, end) + 1)
        value_end = _end(text, value)
        found[key] = Member((at, end), (value, value_end))
        at = _after_space(text, value_end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return found


def with_value(text: str, new: Mapping[str, Any], lists: Mapping[str, Sequence[Element]], margin: str = "") -> str:
    """Give the text of an object with the members of `new`; those that stay keep their order.

    Args:
        text: of the object alone, as it stands in its file.
        lists: of the lists in `new` whose elements are objects: where each element is from; others are written anew.
        margin: the space that its first line begins with.
    """
    return _Writer(style_of(text)).object_text(text, margin, DECODER.decode(text), new, lists)


def with_entry(text: str, value: Mapping[str, Any]) -> str:
    """Give the text of an array with one more element, in the style of the others."""
    array = text.strip()
    start = text.index(array)
    old = DECODER.decode(array)
    items = [*(Element(number, one) for number, one in enumerate(old)), Element(None, value)]
    made = _Writer(style_of(array)).list_text(array, "", items, old, None)
    return text[:start] + made + (text[start + len(array) :] or "\n")


def margin_of(text: str, at: int) -> str:
    """Give the space that the line of a value begins with, where the value is the first of its line."""
    before = text[text.rfind("\n", 0, at) + 1 : at]
    return "" if before.strip() else before


def style_of(text: str) -> Style:
    """Tell how an object or array is written, by the first colon and the first comma of its text."""
    colon = next((found[1] for found in COLON.finditer(text)), ": ")
    comma = next((found[1] for found in COMMA.finditer(text)), ", " if colon.endswith(" ") else ",")
    newline = "\r\n" if "\r\n" in text else "\n"
    return Style(comma, colon, newline, text.isascii() and ESCAPE.search(text) is not None)


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes values into their old texts. `margin` is the indent of the line on which a value begins."""

    style: Style

    def object_text(
        self, text: str, margin: str, old: Mapping[str, Any], new: Mapping[str, Any],
        lists: Mapping[str, Sequence[Element]],
    ) -> str:  # fmt: skip
        indent, places = indent_of(text, margin), members(text, 0)
        inner = margin + (indent or "")
        kept = [key for key in places if key in new]
        pieces: list[tuple[int | None, str]] = []
        for number, (key, place) in enumerate(places.items()):
            if key in new:
                value = self.value_text(text[slice(*place.value)], inner, old[key], new[key], lists.get(key), indent)
                pieces.append((number, text[place.key[0] : place.value[0]] + value))
        for key in new:
            if key not in kept:
                pieces.append(
                    (None, self.style.text(key, None) + self.style.colon + self.style.text(new[key], indent, inner))
                )
        return self.joined(text, margin, pieces, "{}", [(one.key[0], one.value[1]) for one in places.values()], indent)

    def value_text(
        self, was: str, margin: str, old: Any, new: Any, items: Sequence[Element] | None, indent: str | None
    ) -> str:
        """`indent`: of what is around it, for a value whose own text shows none."""
        if items is not None and isinstance(old, list):
            return self.list_text(was, margin, items, old, indent)
        if same(old, new):
            return was
        if isinstance(old, dict) and isinstance(new, dict) and old and new:
            return self.object_text(was, margin, old, new, {})
        shows = isinstance(old, dict | list) and old
        return self.style.text(new, indent_of(was, margin) if shows else indent, margin)

    def list_text(
        self, text: str, margin: str, items: Sequence[Element], old: Sequence[Any], around: str | None
    ) -> str:
        places = elements(text, 0)
        indent = indent_of(text, margin) if places else around
        inner = margin + (indent or "")
        texts = [text[slice(*place)] for place in places]
        pieces: list[tuple[int | None, str]] = []
        for number, item in enumerate(items):
            if item.origin is not None:
                own = self.value_text(texts[item.origin], inner, old[item.origin], item.value, None, indent)
            else:
                beside = _nearest(items, number)
                own = self.element_text(texts[beside] if beside is not None else "", inner, item.value, indent)
            pieces.append((item.origin, own))
        return self.joined(text, margin, pieces, "[]", places, indent)

    def element_text(self, like: str, margin: str, value: Any, around: str | None) -> str:
        """Write a new element as the one beside it is written, and each of its members likewise."""
        indent = indent_of(like, margin) if like[:1] == "{" and members(like, 0) else around
        if indent is None or not isinstance(value, dict):
            return self.style.text(value, indent, margin)
        inner = margin + indent
        shown = {key: like[slice(*one.value)] for key, one in members(like, 0).items()} if like[:1] == "{" else {}
        lines = []
        for key, one in value.items():
            own = (
                indent_of(shown[key], inner)
                if shown.get(key, "")[:1] in ("{", "[") and shown[key] not in ("{}", "[]")
                else indent
            )
            lines.append(self.style.text(key, None) + self.style.colon + self.style.text(one, own, inner))
        newline = self.style.newline
        return "{" + newline + inner + f",{newline}{inner}".join(lines) + newline + margin + "}"

    def joined(
        self, text: str, margin: str, pieces: Sequence[tuple[int | None, str]], brackets: str, places: Sequence[Place],
        indent: str | None,
    ) -> str:  # fmt: skip
        """Put pieces (origin, text) between brackets, with what stood between them before."""
        if not pieces:
            return brackets
        line = "" if indent is None else self.style.newline + margin + indent
        before, between, after = (
            line,
            "," + line if line else self.style.comma,
            self.style.newline + margin if line else "",
        )
        if places:
            before, after = text[1 : places[0][0]], text[places[-1][1] : -1]
        if len(places) > 1:
            between = text[places[0][1] : places[1][0]]
        made = brackets[0] + before
        for number, (origin, piece) in enumerate(pieces):
            if number:
                left = pieces[number - 1][0]
                is_old = left is not None and origin == left + 1
                made += text[places[left][1] : places[left + 1][0]] if is_old and left is not None else between
            made += piece
        return made + after + brackets[1]


def indent_of(text: str, margin: str) -> str | None:
    """Give one level of indent of the object or array `text`; None: it begins on one line."""
    space = text[1 : _after_space(text, 1)] if text else ""
    if "\n" not in space:
        return None
    inner = space.rpartition("\n")[2]
    return (inner[len(margin) :] if inner.startswith(margin) else inner) or " "


def _nearest(items: Sequence[Element], number: int) -> int | None:
    """The origin of the element nearest to a new one, one of the same role if there is some."""
    role = items[number].value.get("role") if isinstance(items[number].value, dict) else None
    known = [(place, item) for place, item in enumerate(items) if item.origin is not None]
    alike = [(place, item) for place, item in known if isinstance(item.value, dict) and item.value.get("role") == role]
    return min(alike or known, key=lambda pair: abs(pair[0] - number))[1].origin if known else None


def same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are written alike: 1, 1.0 and true are three."""
    if one is other:
        return True
    if type(one) is not type(other) and not (isinstance(one, dict) and isinstance(other, dict)):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


def _after_space(text: str, at: int) -> int:
    space = SPACE.match(text, at)
    assert space is not None
    return space.end()


def _end(text: str, at: int) -> int:
    return int(DECODER.raw_decode(text, at)[1])
