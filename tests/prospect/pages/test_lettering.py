"""Letters in pictures: each with a font that has it, measured, wrapped; what no font has is told."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from prospect.pages import lettering
from prospect.pages.lettering import Lettering, missing_note, printable

TWO_LETTERS = Path("tests/data").absolute()  # the folder of two-letters.ttf
CONF = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>{folders}<cachedir>{cache}</cachedir></fontconfig>"""


@pytest.fixture
def fonts(monkeypatch, tmp_path):
    """Make the machine have only the fonts of these folders."""
    if shutil.which("fc-list") is None:
        pytest.skip("no fontconfig here (Debian: apt-get install fontconfig)")

    def only(*folders: Path) -> None:
        conf = tmp_path / "fonts.conf"
        conf.write_text(CONF.format(folders="".join(f"<dir>{one}</dir>" for one in folders), cache=tmp_path / "cache"))
        monkeypatch.setenv("FONTCONFIG_FILE", str(conf))
        lettering._font_with.cache_clear()

    yield only
    lettering._font_with.cache_clear()


def drawn(letters: Lettering, text: str) -> np.ndarray:
    canvas = Image.new("L", (400, 40), 0)
    letters.draw(ImageDraw.Draw(canvas), (2, 4), text, "white")
    return np.asarray(canvas)


def test_chinese_letters_are_drawn_with_a_font_that_has_them_and_differ(fonts):
    fonts(TWO_LETTERS)
    letters = Lettering(20)
    first, second = drawn(letters, "你"), drawn(letters, "好")
    assert (first != second).any() and letters.missing == set()
    assert first[:, 4:7].max() == 255 and first[8:24, 2 + 9].max() > 0, (
        "the upright bar of 你, and the beam at its right"
    )
    both = drawn(letters, "say 你好")
    x = 2 + round(letters.width("say "))
    assert np.abs(both[:, x : x + 20].astype(int) - first[:, 2:22]).mean() < 30, "你 stands after the Latin letters"


def test_letters_that_no_font_has_are_boxes_and_told_once_with_the_package(fonts, tmp_path):
    fonts(tmp_path / "none")
    letters = Lettering(20)
    assert (drawn(letters, "你") == drawn(letters, "好")).all(), "the same box"
    drawn(letters, "你好 क x")
    assert letters.missing == {"你", "好", "क"}
    note = missing_note(letters.missing)
    assert "no font here has क 你 好 (3 letters); drawn as boxes" in note
    assert "apt-get install fontconfig fonts-noto-cjk fonts-noto-core" in note
    assert (
        missing_note({"你"}).endswith("(Debian: apt-get install fontconfig fonts-noto-cjk)") and missing_note([]) == ""
    )


def test_without_fontconfig_latin_letters_are_drawn_all_the_same(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    lettering._font_with.cache_clear()
    letters = Lettering(20)
    assert (drawn(letters, "a") != drawn(letters, "b")).any() and letters.missing == set()
    drawn(letters, "你")
    assert letters.missing == {"你"}
    lettering._font_with.cache_clear()


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow without raqm")
def test_text_from_right_to_left_begins_at_the_right_and_its_letters_are_joined():
    letters = Lettering(24)
    if letters._font("ع") is None or letters._font("א") is None:
        pytest.skip("no font with Arabic and Hebrew here (Debian: apt-get install fonts-dejavu-core)")
    alef, bet, both = drawn(letters, "א"), drawn(letters, "ב"), drawn(letters, "אב")
    columns = np.flatnonzero(both.max(0))
    right = both[:, columns[-1] - np.flatnonzero(alef.max(0)).size + 1 : columns[-1] + 1]
    assert np.abs(right.astype(int) - alef[:, alef.max(0) > 0]).mean() < 12, (
        "alef, the first letter, stands at the right"
    )
    assert (bet != alef).any()
    assert letters.width("عع") < 2 * letters.width("ع") - 1, "joined forms are narrower"


def test_text_is_wrapped_by_its_width_and_long_words_are_broken():
    letters = Lettering(16)
    text = "assembly_nusar-2021_action_both_9011-a01_9011_user_id_2021-02-01_153724__HMC_84346135_mono10bit is long"
    lines = letters.wrap(text, 200)
    assert max(map(letters.width, lines)) <= 200 and len(lines) > 3
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert letters.wrap("a b", 200) == ["a b"] and letters.wrap("", 200) == [""]
    short = letters.wrap(text, 200, most=2)
    assert short[0] == lines[0] and short[1].endswith("…") and len(short) == 2 and letters.width(short[1]) <= 200


def test_control_characters_are_left_out():
    assert printable("a\x00b\tc\u200dd\x1b[0m") == "ab c\u200dd[0m"
