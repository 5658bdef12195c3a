"""A table of spans goes out, is edited, and comes back."""

import io
from pathlib import Path

import pytest

from pipeline.errors import InvalidInput, ProspectError
from pipeline.importers.edits import COLUMNS, apply_edits, write_table
from pipeline.spans.records import NamedStep, Span, VideoSpans, read_spans, write_records
from tests.helpers.spans import spans_of

VIDEOS = [
    spans_of(
        "v",
        ("S1", 1.00049, 2.5, {"method": "align", "confidence": 0.123456, "flags": ("low_margin", "moment")}),
        ("S2", 3, 70.25, {"outcome": "error", "source": "x.csv"}),
        not_performed=("S3",),
        provenance={"importer": "table"},
    ),
    spans_of("w", ("S1", 5, 6)),
    spans_of("empty"),
]
TABLE = """\
video\tstep\tstart_s\tend_s\toutcome\tmethod\tconfidence\tflags
v\tS1 do 1\t1\t2.5\tdone\talign\t0.123\tlow_margin; moment
v\tS2 do 2\t3\t70.25\terror\thuman\t\t
w\tS1 do 1\t5\t6\tdone\thuman\t\t
"""


def written(records) -> str:
    table = io.StringIO(newline="")
    write_table(table, records)
    return table.getvalue()


@pytest.fixture
def spans(tmp_path) -> Path:
    write_records(tmp_path / "spans.jsonl", VIDEOS)
    return tmp_path / "spans.jsonl"


def edited(spans: Path, table: str, name: str = "edits.tsv"):
    (spans.parent / name).write_text(table, encoding="utf-8")
    counts = apply_edits(spans.parent / name, spans, spans.parent / "new.jsonl")
    return read_spans(spans.parent / "new.jsonl"), counts


def refusals(spans: Path, *rows: str) -> list[str]:
    table = spans.parent / "edits.tsv"
    table.write_text("".join(f"{row}\n" for row in ("\t".join(COLUMNS), *rows)))
    with pytest.raises(InvalidInput) as caught:
        apply_edits(table, spans, spans.parent / "new.jsonl")
    assert not (spans.parent / "new.jsonl").exists()
    return [str(problem) for problem in caught.value.problems]


def test_a_row_stands_for_each_span():
    assert written(VIDEOS) == TABLE


def test_a_table_that_comes_back_as_it_was_changes_nothing(spans):
    records, counts = edited(spans, TABLE)
    assert records == VIDEOS and (spans.parent / "new.jsonl").read_bytes() == spans.read_bytes()
    assert counts["unchanged"] == 3 and counts.total() == 3


def test_rows_in_another_order_and_as_a_spreadsheet_writes_them_are_as_they_were(spans):
    lines = TABLE.replace("70.25", "1:10.250").replace("\tS1 do 1\t1\t", "\tS1\t1.000\t").splitlines()
    csv = "\n".join(line.replace("\t", ",") for line in [lines[0], *reversed(lines[1:]), ",,,,,,,"])
    assert edited(spans, "\ufeff" + csv, "edits.csv")[0] == VIDEOS


def test_rows_that_were_changed_are_a_persons(spans):
    records, counts = edited(spans, TABLE.replace("\t1\t2.5\t", "\t1.25\t2.5\t").replace("low_margin; moment", "seen"))
    assert records[0].spans == (
        Span(step="S1", start_s=1.25, end_s=2.5, source="edits.tsv", flags=("seen",)),
        VIDEOS[0].spans[1],
    )
    assert records[0].provenance == {"importer": "table", "edited": "edits.tsv"} and records[1:] == VIDEOS[1:]
    assert counts["unchanged"] == 2 and counts["changed or added: human"] == 1 and counts["no longer there"] == 1


@pytest.mark.parametrize("cells", [("\talign\t", "\thuman\t"), ("0.123", "0.9"), ("; moment", "")])
def test_whatever_cell_was_changed_the_row_is_a_persons(spans, cells):
    (span, _) = edited(spans, TABLE.replace(*cells))[0][0].spans
    assert span.method == "human" and span.confidence is None and span.start_s == 1


def test_rows_that_were_added_are_a_persons_and_their_steps_were_performed(spans):
    records, _ = edited(spans, TABLE + "v\tdo 3\t80\t90\t\t\t\t\nempty\tS2\t1\t2\tundone\n")
    assert records[0].spans[2] == Span(step="S3", start_s=80, end_s=90, source="edits.tsv")
    assert records[0].not_performed == () and records[0].spans[:2] == VIDEOS[0].spans
    assert records[2].spans == (Span(step="S2", start_s=1, end_s=2, outcome="undone", source="edits.tsv"),)


def test_rows_that_were_removed_are_gone(spans):
    records, counts = edited(spans, "".join(TABLE.splitlines(keepends=True)[:2]))
    assert [len(record.spans) for record in records] == [1, 0, 0] and records[0].spans[0] == VIDEOS[0].spans[0]
    assert counts["no longer there"] == 2 and counts["videos that have no spans any more"] == 1


def test_every_mistake_is_told_with_its_line(spans):
    told = refusals(
        spans,
        "u\tS1\t1\t2",
        "v\tS9\t1\t2",
        "v\tS1 do 2\tsoon\t\tlost",
        "v\tS1\t9\t8",
        "v\tS1\t1\t100.6",
        "v\tS1\t1\t100.5",
        "v\tS1\t1\t100.5",
    )
    assert told == [
        "edits.tsv line 2: video: found 'u', expected a video of spans.jsonl",
        "edits.tsv line 3 (video 'v'): step: found 'S9', expected one of 'S1', 'S2', 'S3', or its name",
        "edits.tsv line 4 (video 'v'): step: found 'S1 do 2', expected one of 'S1', 'S2', 'S3', or its name",
        "edits.tsv line 4 (video 'v'): outcome: found 'lost', expected one of done, error, undone",
        "edits.tsv line 4 (video 'v'): start_s: found 'soon', expected seconds from the video's start (75.5), mm:ss or h:mm:ss",
        "edits.tsv line 4 (video 'v'): end_s: found nothing, expected seconds from the video's start (75.5), mm:ss or h:mm:ss",
        "edits.tsv line 5 (video 'v'): end_s: found 8, expected at least its start_s, 9",
        "edits.tsv line 6 (video 'v'): end_s: found 100.6, expected at most the video's duration_s, 100",
        "edits.tsv line 8 (video 'v'): row: found another, expected each row once, as line 7 has it",
    ]


def test_equal_spans_keep_as_many_rows(spans):
    twice = [spans_of("v", ("S1", 1, 2), ("S1", 1, 2))]
    write_records(spans, twice)
    assert edited(spans, written(twice))[0] == twice


def test_names_that_a_table_could_break_on_come_back(tmp_path):
    steps = (NamedStep(id="S1", name='cut "it"\t<b>'), NamedStep(id="S2", name="S1"), NamedStep(id="S3", name="same"),
             NamedStep(id="S4", name="same"))  # fmt: skip
    spans = tuple(Span(step=step.id, start_s=1, end_s=2, flags=("a\nb", "c; d"), method="a\tb") for step in steps)
    record = VideoSpans(video=" a\nb\t" + 96 * "x", dataset="d", steps=steps, spans=spans)
    write_records(tmp_path / "spans.jsonl", [record])
    table = written([record])
    assert edited(tmp_path / "spans.jsonl", table)[0] == [record]
    (tmp_path / "new.jsonl").unlink()
    assert refusals(tmp_path / "spans.jsonl", f'" a\nb\t{96 * "x"}"\tsame\t1\t2')[0].endswith(
        "step: found 'same', expected one of 'S1', 'S2', 'S3', 'S4', or its name"
    )


def test_a_table_without_rows_or_columns_is_refused(spans):
    for table, message in (
        (TABLE.splitlines()[0], "found no row, expected one for each span that is to stay"),
        ("video\tstep\n", "expected start_s, end_s, outcome, method, confidence, flags too"),
    ):
        with pytest.raises(ProspectError, match=message):
            edited(spans, table)
    assert not (spans.parent / "new.jsonl").exists()


def test_no_file_is_written_over_unasked_and_none_that_is_read(spans):
    table = spans.parent / "edits.tsv"
    table.write_text(TABLE)
    for out in (spans, table):
        with pytest.raises(ProspectError, match="is what is read, expected another --out"):
            apply_edits(table, spans, out, force=True)
    new = spans.parent / "new.jsonl"
    new.write_text("mine")
    with pytest.raises(ProspectError, match="is there already; pass --force"):
        apply_edits(table, spans, new)
    assert new.read_text() == "mine" and spans.exists() and table.read_text() == TABLE
    with pytest.raises(ProspectError, match="found another file than one of spans"):
        apply_edits(table, spans, new, force=True)
    write_records(new, VIDEOS[:1])
    apply_edits(table, spans, new, force=True)
    assert read_spans(new) == VIDEOS
