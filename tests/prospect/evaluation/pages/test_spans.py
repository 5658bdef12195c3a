"""The page of spans: what stands where, and that no text is more than text."""

import re
from html import unescape

import pytest

from pipeline.spans.blocks import Block
from pipeline.spans.quality import Annotation, assess, quality_record
from pipeline.spans.records import Dialogue, Line, NamedStep
from prospect.evaluation.pages.spans import clock, timeline, write_spans_page
from tests.helpers.spans import spans_of

EVIL = "</script><script>alert(1)</script>\" onfocus='x' & {{ 7 * 7 }}"
LONG = 96 * "x"


def dialogue(*lines: tuple, **about) -> Dialogue:
    return Dialogue(
        video="v", dataset="d", lines=tuple(Line(role=r, text=t, start_s=s, end_s=e) for r, t, s, e in lines), **about
    )


def laid_out(*annotations: Annotation, blocks=(), dialogues=()):
    return timeline(assess(annotations)[0], annotations, blocks, dialogues)


def page_of(tmp_path, annotations, blocks=(), dialogues=()) -> str:
    assessed = assess(annotations)
    shown = [timeline(one, annotations, blocks, dialogues) for one in assessed]
    write_spans_page(tmp_path / "report.html", quality_record(annotations, assessed), shown, len(assessed))
    return (tmp_path / "report.html").read_text()


def lanes(made) -> dict[str, list[list[str]]]:
    return {lane.name: [[item.label for item in row] for row in lane.rows] for lane in made.lanes}


@pytest.mark.parametrize(
    ("time_s", "text"), [(0, "0:00.0"), (59.96, "1:00.0"), (75.25, "1:15.2"), (3599.99, "1:00:00.0"), (3661.5, "1:01:01.5")]
)  # fmt: skip
def test_a_time_is_told_as_a_clock_has_it(time_s, text):
    assert clock(time_s) == text


def test_a_video_has_lanes_of_its_blocks_its_dialogues_and_its_annotations():
    human = Annotation("human", [spans_of("v", ("S1", 0, 10), ("S2", 10, 20))])
    align = Annotation("align", [spans_of("v", ("S2", 12, 22, {"method": "align"}))])
    blocks = [Block(start_s=0, end_s=9, text="A hand."), Block(start_s=4, end_s=12, text="A cup.")]
    said = dialogue(("system", "Help.", None, None), ("user", "How?", 3, None), ("assistant", "So.", 4, 6))
    made = laid_out(human, align, blocks=blocks, dialogues=[said])
    assert lanes(made) == {
        "blocks": [["A hand."], ["A cup."]], "dialogue": [["How?", "So."]], "human": [["S1", "S2"]], "align": [["S2"]],
    }  # fmt: skip


def test_what_overlaps_stands_in_rows_below_each_other_and_the_first_free_row_is_taken():
    video = spans_of("v", ("S1", 0, 10), ("S2", 5, 30), ("S3", 10, 12), ("S1", 40, 40), ("S2", 40, 40))
    assert lanes(laid_out(Annotation("x", [video])))["x"] == [["S1", "S3", "S1"], ["S2", "S2"]]


def test_a_step_has_one_colour_in_every_annotation_and_its_times_beside_its_name():
    a = spans_of("v", ("S1", 0, 10), ("S2", 75.5, 90, {"outcome": "error"}), ("S1", 20, 30), not_performed=("S3",))
    b = spans_of("v", ("S2", 1, 2))
    made = laid_out(Annotation("a", [a]), Annotation("b", [b]))
    assert [(step.id, hue, list(when)) for step, hue, when in made.steps] == [
        ("S1", 0, ["0:00.0 to 0:10.0, 0:20.0 to 0:30.0", "–"]),
        ("S2", 138, ["1:15.5 to 1:30.0 (error)", "0:01.0 to 0:02.0"]),
        ("S3", 275, ["not performed", "–"]),
    ]
    hues = {(item.label, item.hue) for lane in made.lanes for row in lane.rows for item in row}
    assert hues == {("S1", 0), ("S2", 138)}


def test_the_axis_is_as_long_as_the_video_or_as_what_is_in_it():
    assert laid_out(Annotation("x", [spans_of("v", ("S1", 0, 10))])).length_s == 100
    assert laid_out(Annotation("x", [spans_of("v", ("S1", 0, 10), duration_s=None)])).length_s == 10
    assert laid_out(Annotation("x", [spans_of("v", duration_s=None)])).length_s == 1


def test_a_span_says_all_that_is_known_of_it(tmp_path):
    about = {"method": "align", "confidence": 0.25, "flags": ("low_margin", "moment"), "outcome": "error"}
    page = page_of(tmp_path, [Annotation("x", [spans_of("v", ("S1", 25, 75.5, about))])])
    (item,) = re.findall(r"<button[^>]*class=\"item[^>]*>", page)
    text = "S1 do 1\n0:25.0 to 1:15.5 (50.5 s)\nerror, method align, confidence 0.25\nflag: low_margin\nflag: moment"
    assert f'title="{text}" aria-label="{text}"' in item
    assert 'class="item span error"' in item and 'style="--from:25.000%;width:50.500%;--hue:0"' in item


def test_no_text_of_data_is_more_than_text(tmp_path):
    step = NamedStep(id="S1", name=EVIL)
    about = {"method": EVIL, "flags": (EVIL,)}
    video = spans_of("v", ("S1", 0, 10, about), not_performed=()).model_copy(update={"video": EVIL, "steps": (step,)})
    said = dialogue(("user", EVIL, 1, None), id=EVIL)
    blocks = [Block(start_s=0, end_s=9, text=EVIL)]
    page = page_of(tmp_path, [Annotation(EVIL, [video])], blocks, [said])
    assert "alert(1)</script>" not in page and page.count("<script") == page.count("</script>") == 1
    assert re.search(r"onfocus=['\"]", page) is None and "49" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    assert unescape(page).count(EVIL) > 10


def test_the_page_loads_nothing_from_elsewhere(tmp_path):
    page = page_of(tmp_path, [Annotation("x", [spans_of("v", ("S1", 0, 1))])])
    assert re.findall(r"(?:src|href)=\"(?!#)|url\(|@import|https?://", page) == []


def test_long_names_and_videos_without_spans_are_shown(tmp_path):
    seen = spans_of("w", ("S1", 0, 1), steps=1)
    page = page_of(tmp_path, [Annotation("human", [spans_of(LONG), seen]), Annotation("align", [seen])])
    assert f'<a href="#video-0">{LONG}</a> <small>3</small>' in page and "human: no spans" in page
    assert "3 steps without times · not compared: no other annotation has this video with the same steps" in page
    assert "Videos, most to look at first" in page


def test_one_annotation_has_nothing_to_agree_with(tmp_path):
    page = page_of(tmp_path, [Annotation("x", [spans_of("v", ("S1", 0, 1))])])
    assert "<h2>Agreement</h2>" not in page and "not compared" not in page
