"""Tables of spans with damaged cells, rows and bytes: applied, or one clear error."""

import io
from pathlib import Path
from random import Random

from pipeline.importers.edits import apply_edits, write_table
from pipeline.spans.records import read_spans, write_records
from tests.helpers.fuzz import CASES, TEXTS, fuzz
from tests.helpers.spans import spans_of

VIDEOS = [
    spans_of("v", ("S1", 1, 2.5, {"confidence": 0.5}), ("S2", 3, 70, {"outcome": "undone", "flags": ("a", "b")})),
    spans_of("w", ("S1", 5, 6), duration_s=None),
]
CELLS = (*TEXTS, "S2", "w", "1e400", "nan", "-1", "99:99", "1e6", "999999999", '"', "\t", "\r", "\u2028", ";;")


def damaged(rng: Random) -> bytes:
    table = io.StringIO(newline="")
    write_table(table, VIDEOS)
    rows = [line.split("\t") for line in table.getvalue().splitlines()]
    for _ in range(rng.randint(1, 3)):
        row = rng.choice(rows)
        kind = rng.randrange(4)
        if kind == 0:
            rows.insert(rng.randrange(len(rows)), list(row))
        elif kind == 1 and len(row) > 1:
            del row[rng.randrange(len(row))]
        else:
            row[rng.randrange(len(row))] = rng.choice(CELLS)
    data = bytearray("\n".join("\t".join(row) for row in rows).encode())
    for _ in range(rng.choice([0, 0, 1, 3])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def test_any_damage_of_an_edited_table_is_a_clear_error_or_makes_spans_that_are_read(tmp_path: Path) -> None:
    write_records(tmp_path / "spans.jsonl", VIDEOS)

    def read(data: bytes) -> None:
        (tmp_path / "edits.tsv").write_bytes(data)
        (tmp_path / "new.jsonl").unlink(missing_ok=True)
        try:
            apply_edits(tmp_path / "edits.tsv", tmp_path / "spans.jsonl", tmp_path / "new.jsonl")
        finally:
            left = sorted(path.name for path in tmp_path.iterdir())
            assert left == ["edits.tsv", "new.jsonl", "spans.jsonl"] or left == ["edits.tsv", "spans.jsonl"]
        assert [record.video for record in read_spans(tmp_path / "new.jsonl")] == ["v", "w"]

    assert fuzz("edits", damaged, read).total() == CASES
