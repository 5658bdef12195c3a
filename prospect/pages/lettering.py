"""Letters for pictures that are drawn (films, contact sheets): text of any script, wrapped by what it measures.

A letter is drawn with the first font that has it: the machine's sans-serif, Pillow's own, then whichever of the
machine's fonts fontconfig names. Text from right to left is ordered and joined by Pillow's layout engine (raqm).
Letters that no font has are drawn as boxes, and `missing_note` names what to install.
"""

import subprocess
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

from PIL import ImageDraw, ImageFont

Colour = str | tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
NO_LETTER = "\U0010fffe"  # in no font: drawn as a font draws what it lacks
JOINERS = "\u200c\u200d"  # not printable, but letters look otherwise with them
CJK = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH")


class Lettering:
    """Text at one size."""

    def __init__(self, size: int) -> None:
        """`size` in pixels."""
        self._fonts = [font for font in (_machine_font(size), ImageFont.load_default(size)) if font]
        self._size = size
        self._font_of: dict[str, Font | None] = {}
        self.missing: set[str] = set()  # letters that were asked for, and that no font has

    def width(self, text: str) -> float:
        """Measure a line, in pixels."""
        return sum(float(font.getlength(run)) for font, run in self._runs(text))

    def wrap(self, text: str, width: float, most: int | None = None) -> list[str]:
        """Break a text at spaces, and inside words that are wider than a line.

        Args:
            width: of a line, in pixels.
            most: so many lines at most; the last one then ends in "…".
        """
        lines = [""]
        for word in printable(text).split():
            joined = f"{lines[-1]} {word}" if lines[-1] else word
            if self.width(joined) <= width:
                lines[-1] = joined
                continue
            if lines[-1]:
                lines.append("")
            for letter in word:
                if lines[-1] and self.width(lines[-1] + letter) > width:
                    lines.append("")
                lines[-1] += letter
        if most is None or len(lines) <= most:
            return lines
        last = lines[most - 1]
        while last and self.width(f"{last}…") > width:
            last = last[:-1]
        return [*lines[: most - 1], f"{last.rstrip()}…"]

    def draw(self, draw: ImageDraw.ImageDraw, place: tuple[float, float], line: str, colour: Colour) -> None:
        """Draw one line; `place` is where it begins, and the top of its letters."""
        x, y = place
        for font, run in self._runs(line):
            draw.text((x, y + self._size), run, colour, font, anchor="ls")  # on one base line, whatever the font
            x += float(font.getlength(run))

    def _runs(self, text: str) -> list[tuple[Font, str]]:
        """A line by its fonts: in one run where one font has all of it, so that it is laid out as a whole."""
        text = printable(text)
        fonts = {letter: self._font(letter) for letter in text}
        for font in self._fonts:
            if all(_has(font, letter) for letter in text):
                return [(font, text)] if text else []
        runs: list[tuple[Font, str]] = []
        for letter in text:
            font = fonts[letter] or self._fonts[0]
            if runs and (font is runs[-1][0] or (_has(runs[-1][0], letter) and _is_neutral(letter))):
                runs[-1] = runs[-1][0], runs[-1][1] + letter
            else:
                runs.append((font, letter))
        return runs

    def _font(self, letter: str) -> Font | None:
        if letter not in self._font_of:
            font = next((font for font in self._fonts if _has(font, letter)), None)
            if font is None and (path := _font_with(letter)):
                found = ImageFont.truetype(path[0], self._size, index=path[1])
                if _has(found, letter):
                    self._fonts.append(font := found)
            if font is None:
                self.missing.add(letter)
            self._font_of[letter] = font
        return self._font_of[letter]


def printable(text: str) -> str:
    """Leave out control characters; other white space becomes a space."""
    letters = (" " if letter.isspace() else letter for letter in text)
    return "".join(letter for letter in letters if letter.isprintable() or letter in JOINERS)


def missing_note(missing: Iterable[str]) -> str:
    """Say which letters were drawn as boxes, and what to install; nothing, where there are none."""
    letters = sorted(set(missing))
    if not letters:
        return ""
    is_cjk = {any(unicodedata.name(letter, "").startswith(name) for name in CJK) for letter in letters}
    packages = [name for cjk, name in ((True, "fonts-noto-cjk"), (False, "fonts-noto-core")) if cjk in is_cjk]
    some = f"{' '.join(letters[:8])}{' ...' if len(letters) > 8 else ''}"
    return (
        f"note: no font here has {some} ({len(letters)} letter{'s' if len(letters) > 1 else ''}); drawn as boxes "
        f"(Debian: apt-get install fontconfig {' '.join(packages)})"
    )


def _is_neutral(letter: str) -> bool:
    """White space, punctuation and marks: of no script of their own."""
    return unicodedata.category(letter)[0] in "ZPM"


def _has(font: Font, letter: str) -> bool:
    return letter == " " or _mask(font, letter) != _mask(font, NO_LETTER)


@lru_cache(maxsize=4096)
def _mask(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def _machine_font(size: int) -> Font | None:
    for path, index in _listed("fc-match", "-f", "%{file}\t%{index}\n", "sans-serif:scalable=true"):
        return ImageFont.truetype(path, size, index=index)
    return None


@lru_cache(maxsize=4096)
def _font_with(letter: str) -> tuple[str, int] | None:
    """The file, and the place in it, of a font that has the letter: an upright one of usual weight, if there is one."""
    asked = f":charset={ord(letter):x}:scalable=true"
    for more in (":slant=0:weight=80", ""):
        for found in _listed("fc-list", "-f", "%{file}\t%{index}\n", asked + more):
            return found
    return None


def _listed(*command: str) -> Iterator[tuple[str, int]]:
    """The fonts that fontconfig lists; none, where it is not installed."""
    try:
        told = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return
    for line in sorted(told.decode(errors="surrogateescape").splitlines()):
        path, _, index = line.rpartition("\t")
        if path and index.isdigit():
            yield path, int(index)
