"""annotate-report: from spans to a page and a table, and from an edited table back to spans."""

import json

from pipeline.spans.records import read_spans, write_records
from tests.helpers.command import fail, succeed
from tests.helpers.spans import spans_of

HUMAN = [spans_of("v", ("S1", 0, 10), ("S2", 10, 20), ("S3", 20, 30))]
ALIGN = [spans_of("v", ("S1", 1, 15, {"method": "align", "confidence": 0.3}))]


def test_annotations_are_compared_mended_and_compared_again(tmp_path):
    write_records(tmp_path / "human.jsonl", HUMAN)
    write_records(tmp_path / "align.jsonl", ALIGN)
    out = succeed(tmp_path, "annotate-report", "align.jsonl", "human.jsonl", "--out", "report")
    assert (
        "align: 1 videos (0 without spans), 1 of 3 steps covered, 0 not performed, 2 without times; 1 spans (0 done "
        "wrongly, 0 taking back, 0 repeated, 0 parallel, 1 doubtful); work takes 14 s (median)\n"
    ) in out
    assert (
        "align and human: 1 videos compared, 1 of 2 and 6 events within 2 s (F1 0.250); boundaries 3 s apart (median)\n"
    ) in out
    table = tmp_path / "report" / "spans.tsv"
    table.write_text(table.read_text().replace("\t15\t", "\t11\t") + "v\tdo 2\t0:11\t0:20\n")
    out = succeed(tmp_path, "annotate-report", "align.jsonl", "--apply", table, "--out", "mended.jsonl")
    assert "mended.jsonl: 0 unchanged, 2 changed or added: human, 1 no longer there" in out
    assert [(span.step, span.method, span.end_s) for span in read_spans(tmp_path / "mended.jsonl")[0].spans] == [
        ("S1", "human", 11),
        ("S2", "human", 20),
    ]
    numbers = json.loads(
        succeed(tmp_path, "annotate-report", "mended.jsonl", "human.jsonl", "--out", "again", "--json")
    )
    assert list(numbers["annotations"]) == ["human (mended.jsonl)", "human (human.jsonl)"]
    assert numbers["agreement"][0]["events"] == {"a": 4, "b": 6, "paired": 4, "within": 4}
    told = succeed(tmp_path, "annotate-report", "align.jsonl", "--apply", table, "--out", "b.jsonl", "--json")
    assert json.loads(told)["spans"]["changed or added: human"] == 2


def test_mistakes_are_told_with_their_lines_and_nothing_is_written(tmp_path):
    write_records(tmp_path / "s.jsonl", HUMAN)
    succeed(tmp_path, "annotate-report", "s.jsonl", "--out", "report")
    table = tmp_path / "report" / "spans.tsv"
    table.write_text(table.read_text().replace("v\tS1", "w\tS1").replace("\t30\t", "\t3000\t"))
    refused = fail(tmp_path, "annotate-report", "s.jsonl", "--apply", table, "--out", "new.jsonl")
    assert "spans.tsv line 2: video: found 'w', expected a video of s.jsonl" in refused
    assert "spans.tsv line 4 (video 'v'): end_s: found 3000, expected at most the video's duration_s, 100" in refused
    assert not (tmp_path / "new.jsonl").exists()
    two = fail(tmp_path, "annotate-report", "s.jsonl", "t.jsonl", "--apply", table, "--out", "new.jsonl")
    assert "found 2 spans files, expected the one that its table is of" in two
    said = fail(tmp_path, "annotate-report", "s.jsonl", "--apply", table, "--dialogues", "d", "--out", "new.jsonl")
    assert "--dialogues: has no effect beside --apply" in said
    assert "no.jsonl: cannot be read" in fail(tmp_path, "annotate-report", "no.jsonl", "--out", "other")
