"""A report of spans files: its three files, whole or none."""

import json

import pytest

from pipeline.errors import InvalidInput, ProspectError
from pipeline.spans.records import Dialogue, Line, write_records
from prospect.evaluation.spans_report import report_spans
from tests.helpers.spans import spans_of

VIDEOS = [spans_of("calm", ("S1", 0, 9), ("S2", 9, 10), ("S3", 10, 20)), spans_of("bare")]


def test_a_report_is_a_page_its_numbers_and_a_table_the_worst_first(tmp_path):
    write_records(tmp_path / "s.jsonl", [*VIDEOS, spans_of("half", ("S1", 0, 1))])
    quality = report_spans([tmp_path / "s.jsonl"], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["quality.json", "report.html", "spans.tsv"]
    assert json.loads((tmp_path / "out" / "quality.json").read_text()) == quality
    assert [video["video"] for video in quality["videos"]] == ["bare", "half", "calm"]
    rows = (tmp_path / "out" / "spans.tsv").read_text().splitlines()
    assert [row.split("\t")[:2] for row in rows[1:]] == [
        ["half", "S1 do 1"], ["calm", "S1 do 1"], ["calm", "S2 do 2"], ["calm", "S3 do 3"],
    ]  # fmt: skip


def test_twenty_videos_are_shown_and_all_are_in_the_numbers(tmp_path):
    write_records(tmp_path / "s.jsonl", [spans_of(f"v{n}") for n in range(21)])
    quality = report_spans([tmp_path / "s.jsonl"], tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<section") == 20 and "The 20 videos of 21 with most to look at" in page
    assert len(quality["videos"]) == 21


def test_blocks_are_those_of_the_first_file_that_has_some_and_dialogues_are_of_their_video(tmp_path):
    block = {"start_s": 1, "end_s": 2, "text": "A hand takes the cup."}
    write_records(tmp_path / "a.jsonl", VIDEOS)
    write_records(
        tmp_path / "b.jsonl", [spans_of("calm", ("S1", 0, 9, {"method": "b"}), provenance={"blocks": [block]})]
    )
    said = [Dialogue(video="calm", dataset="d", lines=(Line(role="user", text="What now?", start_s=3),))]
    write_records(tmp_path / "d.jsonl", said)
    report_spans([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path / "out", dialogues=tmp_path / "d.jsonl")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("A hand takes the cup.</span>") == page.count("What now?</span>") == 1


def test_mistakes_in_blocks_are_told_all_at_once_and_nothing_is_written(tmp_path):
    wrong = [{"start_s": 2, "end_s": 1, "text": "x"}]
    write_records(
        tmp_path / "s.jsonl",
        [spans_of("v", provenance={"blocks": wrong}), spans_of("w", provenance={"blocks": [{"end_s": "x"}]})],
    )
    with pytest.raises(InvalidInput) as caught:
        report_spans([tmp_path / "s.jsonl"], tmp_path / "out")
    told = [str(problem) for problem in caught.value.problems]
    assert told[0] == "s.jsonl video 'v': provenance.blocks.0.end_s: found 1.0, expected at least its start_s, 2.0"
    assert len(told) == 4 and not (tmp_path / "out").exists()


def test_a_table_that_may_have_been_edited_is_not_written_over_unasked(tmp_path):
    write_records(tmp_path / "s.jsonl", VIDEOS)
    report_spans([tmp_path / "s.jsonl"], tmp_path / "out")
    edited = "video\tstep\tstart_s\tend_s\n"
    (tmp_path / "out" / "spans.tsv").write_text(edited)
    with pytest.raises(
        ProspectError, match=r"is there already; pass --force to write over it \(edits in spans.tsv too\)"
    ):
        report_spans([tmp_path / "s.jsonl"], tmp_path / "out")
    assert (tmp_path / "out" / "spans.tsv").read_text() == edited
    report_spans([tmp_path / "s.jsonl"], tmp_path / "out", force=True)
    assert len((tmp_path / "out" / "spans.tsv").read_text()) > len(edited)


def test_a_file_is_given_once(tmp_path):
    write_records(tmp_path / "s.jsonl", VIDEOS)
    with pytest.raises(ProspectError, match="is given twice, expected each file once"):
        report_spans([tmp_path / "s.jsonl"] * 2, tmp_path / "out")


@pytest.mark.parametrize("name", ["report.html", "quality.json", "spans.tsv"])
def test_a_file_that_no_report_made_is_not_written_over(tmp_path, name):
    spans = tmp_path / "train_spans.jsonl"
    write_records(spans, VIDEOS)
    report_spans([spans], tmp_path / "out")
    report_spans([spans], tmp_path / "out", force=True)
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(ProspectError, match=rf"{name}: found a file that no report made"):
        report_spans([spans], tmp_path / "out", force=True)
    assert (tmp_path / "out" / name).read_text() == "mine"
