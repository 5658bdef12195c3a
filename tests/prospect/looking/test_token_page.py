"""The page of a sample's tokens in a browser: what is learned is told in words, and hostile text stays text."""

import pytest

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.config import DataConfig
from prospect.data.sequences import part_sequence, parts_of
from prospect.layout import Tokens
from prospect.looking.token_view import Laid, token_data, write_token_page
from prospect.setup import Blueprint
from tests.helpers.fakes import clip_texts, make_clip, word_tokenizer
from tests.helpers.web import NARROW, WIDE, overflow

HOSTILE = "</script><script>document.title='taken'</script>"
LONG_ID = "assembly_nusar-2021_action_both_9011-a01_9011_user_id_2021-02-01_153724__HMC_84346135_mono10bit"
CLIP = make_clip(
    [
        Turn("user", f"See {HOSTILE} 你好", 1, 1),
        Turn("dst_update", "S1->start", 3, 4),
        Turn("assistant", "Well begun.", 3, 4),
        Turn("assistant", HOSTILE, 6, 8),
    ],
    clip_id=f"{LONG_ID}-c000",
)


@pytest.fixture(scope="module")
def data():
    tokenizer = word_tokenizer(clip_texts(CLIP))
    blueprint = Blueprint(tokenizer, Tokens(tokenizer, 3), None)
    config = DataConfig(reserve=40)
    (part,) = parts_of(CLIP, blueprint.tokens, config)
    laid = Laid(part_sequence(CLIP, part, blueprint.tokens, config), 1, 1, "part", CLIP.id)
    return token_data(laid, blueprint, drawn=lambda frame: frame % 2 == 0)


def block(page, role, number=0):
    """The text of a block without the spaces of its layout: its tokens parted by |."""
    pieces = page.locator(f".role-{role} .tokens-flow").nth(number).locator(".token, .decision").all()
    return "|".join(piece.inner_text() for piece in pieces)


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_page_tells_in_words_what_is_learned(browser, tmp_path, data, size):
    path = tmp_path / "tokens.html"
    write_token_page(path, f"{CLIP.id}-0001", data)
    with browser.open(path.as_uri(), size) as page:
        assert page.title() == f"Tokens of {CLIP.id}-0001"
        assert overflow(page) == 0 and LONG_ID in page.locator("h1").inner_text()
        assert "10 frames of 3 × <image>; the whole clip in one part" in page.locator(".tokens-about").inner_text()
        assert block(page, "dst_update") == "DST:| S1->start|<end_of_utterance>|⏎|(0,1) speak"
        assert block(page, "frames", 1) == "|".join(
            [
                "frame 1 3 × <image>|(0,0) not drawn",
                "frame 2 3 × <image>|(0,0) silent",
                "frame 3 3 × <image>|(0,0) not drawn",
                "frame 4 3 × <image>|(1,0) update",
            ]
        )
        learned = page.locator(".role-dst_update .token.dst_gen")
        assert [piece.inner_text() for piece in learned.all()] == [" S1->start", "<end_of_utterance>"]
        colours = [
            page.locator(f".role-frames .decision.{word}").first.evaluate(
                "tag => getComputedStyle(tag).backgroundColor"
            )
            for word in ("update", "speak", "silent")
        ]
        assert len(set(colours)) == 3
        text = page.locator(".role-user .tokens-flow").inner_text()
        assert HOSTILE in text and "你好" in text


@pytest.mark.slow
def test_arrows_choose_a_token_and_tell_of_it(browser, tmp_path, data):
    path = tmp_path / "tokens.html"
    write_token_page(path, "key", data)
    with browser.open(path.as_uri()) as page:
        page.locator(".tokens-blocks").focus()
        told = page.locator(".tokens-told")
        for key in ("End", "ArrowLeft", "Home", "ArrowRight"):
            page.keyboard.press(key)
        assert 'token 1: "System:", id ' in told.inner_text() and told.inner_text().endswith(", masked")
        page.locator("[data-frame='4']").click()
        assert "frame 4, masked; decision learned here: should_update_dst 1, when_to_speak 0" in told.inner_text()
        page.locator(".role-dst_update .token.dst_gen").first.hover()
        assert "learned as DST" in told.inner_text() and '" S1->start"' in told.inner_text()


def test_a_file_that_is_no_page_is_left_alone(tmp_path, data):
    path = tmp_path / "mine.html"
    path.write_text("<!doctype html><title>mine</title>")
    with pytest.raises(ProspectError, match="is there already, and no page of tokens; name another file"):
        write_token_page(path, "key", data)
    assert path.read_text() == "<!doctype html><title>mine</title>"
    path.unlink()
    write_token_page(path, "key", data)
    write_token_page(path, "key", data)  # over a page it may write
    assert [one.name for one in tmp_path.iterdir()] == ["mine.html"]
