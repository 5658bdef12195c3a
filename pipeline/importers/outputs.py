"""What importers of spans and dialogues share: their files, whole or not at all, and the tally of what was left out.

`OUT/{split}_spans.jsonl` and `OUT/{split}_dialogues.jsonl` get their names together, or none does. Each record says
which importer made it, so that `--force` writes over an import, but neither over annotation that was made since
(`prospect annotate`, an editor), nor over anything else.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from pipeline.errors import InvalidInput, Problem, ProspectError
from pipeline.io.storage import LocalFolder
from pipeline.spans.records import Dialogue, VideoSpans, problems_of, problems_of_dialogue

Made = TypeVar("Made", VideoSpans, Dialogue)


@dataclass(slots=True)
class Tally:
    """What an import read and made, in numbers, and what it left out, by name."""

    counts: Counter[str] = field(default_factory=Counter)
    left_out: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # why -> names of items

    def leave_out(self, why: str, name: str) -> None:
        self.left_out[why].append(name)

    def lines(self) -> list[str]:
        """Give it as text: a line for each count, then one for each reason, with what was left out for it."""
        return [f"{count} {what}" for what, count in self.counts.items()] + self._reasons()

    def nothing_left(self, source: Path) -> ProspectError:
        """Make the error for a source of which all was left out."""
        return ProspectError(f"{source}: found nothing that can be used: {'; '.join(self._reasons())}")

    def _reasons(self) -> list[str]:
        return [f"{len(names)} {why}: {', '.join(names)}" for why, names in self.left_out.items()]


def write_dataset(
    out: Path,
    spans: Mapping[str, Sequence[VideoSpans]],
    dialogues: Mapping[str, Sequence[Dialogue]],
    force: bool,
    *,
    importer: str,
    inputs: Iterable[Path] = (),
) -> list[Path]:
    """Write OUT/{split}_spans.jsonl and OUT/{split}_dialogues.jsonl for the splits named; returns the files written.

    Each record gets `importer` into its provenance (a dialogue into `about`). A split without records has no file; of
    an earlier import, it is removed.

    Args:
        importer: its name in `prospect import NAME`.
        force: write over what an import made.
        inputs: files that the records come from; never written over.

    Raises:
        InvalidInput: some records are wrong, each mistake by its video; nothing was written.
        ProspectError: there are no records, or files are in the way.
    """
    made_spans = {
        f"{split}_spans.jsonl": [
            record.model_copy(update={"provenance": {"importer": importer, **record.provenance}}) for record in records
        ]
        for split, records in spans.items()
    }
    made_dialogues = {
        f"{split}_dialogues.jsonl": [
            record.model_copy(update={"about": {"importer": importer, **record.about}}) for record in records
        ]
        for split, records in dialogues.items()
    }
    problems: list[Problem] = []
    for name, videos in made_spans.items():
        problems += _problems(name, videos, problems_of, lambda record: record.video)
    for name, said in made_dialogues.items():
        problems += _problems(name, said, problems_of_dialogue, lambda record: f"{record.video}/{record.id}")
    if problems:
        raise InvalidInput(problems, "nothing was written: correct what was imported, then import again")
    files: dict[str, Sequence[BaseModel]] = {**made_spans, **made_dialogues}
    if not any(files.values()):
        raise ProspectError(f"{out}: found nothing to write, expected at least one video or dialogue")
    _make_way(out, files, force, inputs)
    is_new = not out.exists()
    try:
        with ExitStack() as targets:  # all files get their names, or none
            for name, records in files.items():
                if records:
                    path = targets.enter_context(LocalFolder(out).new_file(name))
                    with path.open("w", encoding="utf-8") as lines:
                        lines.writelines(record.model_dump_json() + "\n" for record in records)
    except BaseException:
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        raise
    for name, records in files.items():
        if not records:
            (out / name).unlink(missing_ok=True)
    return [out / name for name, records in files.items() if records]


def _problems(
    file: str,
    records: Iterable[Made],
    check: Callable[[Made, str], list[Problem]],
    identity: Callable[[Made], str],
) -> list[Problem]:
    problems: list[Problem] = []
    seen: set[str] = set()
    for record in records:
        problems += check(record, file)
        name = identity(record)
        if name in seen:
            problems.append(Problem(file, f"video {record.video!r}", "", "record", repr(name), "each one once"))
        seen.add(name)
    return problems


def _make_way(out: Path, names: Iterable[str], force: bool, inputs: Iterable[Path]) -> None:
    there = [path for name in names if (path := out / name).exists() or path.is_symlink()]
    read = [path for path in inputs if path.exists()]
    for path in there:
        if any(path.exists() and path.samefile(file) for file in read):
            raise ProspectError(f"{path}: is one of the files to be read; pass another --out")
        if not _is_imported(path):
            raise ProspectError(f"{path}: is there, and no import made it; pass another --out, or remove it")
        if not force:
            raise ProspectError(f"{path}: is there already; pass --force to write over it, or another --out")


def _is_imported(path: Path) -> bool:
    """Whether an import made this file: all its records say so, and none was annotated or mended since."""
    if not path.is_file() or path.is_symlink():
        return False
    about = {"prospect.spans/1": "provenance", "prospect.dialogues/1": "about"}
    try:
        with path.open(encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
        made_by = [record[about[record["format"]]] for record in records]
        return all("importer" in made and "annotate" not in made and "edited" not in made for made in made_by)
    except (ValueError, RecursionError, KeyError, TypeError):
        return False
