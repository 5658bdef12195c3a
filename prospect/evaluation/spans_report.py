"""`prospect annotate-report`: spans files of the same videos to numbers, a page of the worst, and a table to edit.

OUT gets report.html, quality.json (what `--json` prints) and spans.tsv, all of them or none. The table has the spans of
the first file, all its videos, those with most to look at first.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.importers.edits import write_table
from pipeline.io.storage import LocalFolder, beginning
from pipeline.spans.blocks import Block, blocks_of
from pipeline.spans.quality import NUM_WORST, assess, named, quality_record
from pipeline.spans.records import Dialogue, VideoSpans, read_dialogues, read_spans
from prospect.evaluation.pages.spans import timeline, write_spans_page

PAGE, NUMBERS, TABLE = "report.html", "quality.json", "spans.tsv"
BEGINS = {PAGE: b"<title>PROSPECT spans", NUMBERS: b'"annotations"', TABLE: b"start_s"}


def report_spans(
    files: Sequence[Path], out: Path, *, dialogues: Path | None = None, force: bool = False
) -> dict[str, Any]:
    """Write OUT's files; returns what quality.json has.

    Args:
        files: spans of the same videos, a file an annotation.
        dialogues: what was said in them, for the page.
        force: write over an earlier report, and what was edited in its table.

    Raises:
        InvalidInput: mistakes in a file, all of them; nothing was written.
        ProspectError: a file cannot be read, the files are of other videos, or a report is there already.
    """
    there = [path for name in (PAGE, NUMBERS, TABLE) if (path := out / name).exists()]
    if there and not force:
        raise ProspectError(
            f"{there[0]}: is there already; pass --force to write over it (edits in {TABLE} too), or another --out"
        )
    for path in there:
        if BEGINS[path.name] not in beginning(path, 500):
            raise ProspectError(f"{path}: found a file that no report made; move it away, or pass another --out")
    twice = next(
        (path for number, path in enumerate(files) if path.resolve() in map(Path.resolve, files[:number])), None
    )
    if twice:
        raise ProspectError(f"{twice}: is given twice, expected each file once")
    read = [(path, read_spans(path)) for path in files]
    said: dict[str, list[Dialogue]] = defaultdict(list)
    for dialogue in read_dialogues(dialogues) if dialogues else []:
        said[dialogue.video].append(dialogue)
    described = _described(read)
    annotations = named(read)
    assessed = assess(annotations)
    quality = quality_record(annotations, assessed)
    place = {one.video: number for number, one in enumerate(assessed)}
    worst = [
        timeline(one, annotations, described.get(one.video, ()), said.get(one.video, ()))
        for one in assessed[:NUM_WORST]
    ]
    folder = LocalFolder(out)
    with ExitStack() as targets:  # all files get their names, or none
        page, numbers, table = (targets.enter_context(folder.new_file(name)) for name in (PAGE, NUMBERS, TABLE))
        write_spans_page(page, quality, worst, len(assessed))
        numbers.write_text(json.dumps(quality, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        with table.open("w", encoding="utf-8", newline="") as rows:
            write_table(rows, sorted(read[0][1], key=lambda record: place[record.video]))
    return quality


def _described(read: Sequence[tuple[Path, Sequence[VideoSpans]]]) -> dict[str, list[Block]]:
    """The blocks of each video, of the first file that has some."""
    problems: list[Problem] = []
    described: dict[str, list[Block]] = {}
    for path, records in read:
        for record in records:
            blocks = blocks_of(record, path.name, problems)
            if blocks:
                described.setdefault(record.video, blocks)
    if problems:
        raise InvalidInput(problems, "nothing was written: correct these records' blocks, or leave them out")
    return described
