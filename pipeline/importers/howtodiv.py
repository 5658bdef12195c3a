"""HowToDIV's dialogues (https://github.com/google/howtodiv), a folder or the zip, to spans and dialogues.

Turn k's interval shows the work on instruction k-1, and its lines tell of that as done and ask what is next: so the
user's line stands at the interval's end and the expert's answer right after; turn 1 asks how to begin, and stands at
its interval's start. The last instruction, "Done", is no step. An instruction that mends what went wrong before it
("**previously user ...**") is further work on the step before: in the list of steps it would tell of the mistake
before it is made. The sessions of one video (concise, regular) have the same steps and intervals, and are dialogues of
one record. The lists of the splits are of sessions, and have videos in several: by default each video is in the one of
its splits that tests most.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, is_zipfile
from zlib import error as ZlibError

from pipeline.annotations.clips import SPLITS
from pipeline.errors import ProspectError
from pipeline.importers.howtodiv_sessions import Session, Unusable, parse_session
from pipeline.importers.outputs import Tally, write_dataset
from pipeline.importers.recognize import refuse_other
from pipeline.spans.records import Dialogue, Line, NamedStep, Span, VideoSpans

NAME = "howtodiv"
_EXPECTED = "HowToDIVDataset.zip, or its folder"
_LISTS = {split: f"{split}_ids.txt" for split in SPLITS}
_MENDS = re.compile(r"\*\*[^*]*\*\*\s*(\S.*)")  # "**previously user dropped tea bag** Discard tea bag and ..."
_GATHERING = "Ingredients needed"  # EgoPER's first step: HowToDIV halved the time before the first work for it
_MAX_BYTES = 1 << 20  # of a file; sessions have a few thousand


@dataclass(frozen=True, slots=True)
class Place:
    """What a session's path tells."""

    file: str  # in the dataset's folder
    video: str
    task: str
    kind: str | None  # EgoPER: concise_followsteps, regular_followsteps or usererror


def import_howtodiv(
    source: Path, out: Path, keep_shared: bool = False, force: bool = False
) -> tuple[list[Path], Tally]:
    """Write OUT/{split}_spans.jsonl and OUT/{split}_dialogues.jsonl; returns them, and what was read and left out.

    Args:
        source: HowToDIVDataset.zip, or the folder that was in it.
        keep_shared: sessions stay where the lists have them, those of a video that a split of more test has too.

    Raises:
        ProspectError: another source's files, none of this one's, or files in the way.
    """
    tally = Tally()
    texts = dict(_texts(source, tally))
    chosen = {
        "/".join(PurePosixPath(line.strip()).parts[1:]): split  # the lists have another name for the top folder
        for split, name in _LISTS.items()
        for line in texts.get(name, "").splitlines()
    }
    spans: dict[str, dict[str, VideoSpans]] = {split: {} for split in SPLITS}
    dialogues: dict[str, list[Dialogue]] = {split: [] for split in SPLITS}
    for split, place, session in _split(_sessions(texts, tally), chosen, keep_shared, tally):
        record = _record(place, session)
        if spans[split].get(record.video, record) != record:
            record = record.model_copy(update={"video": f"{place.video}-{place.kind}"})
            why = f"sessions with other steps than their video has, a video of their own (give {place.video}'s frames)"
            tally.leave_out(why, record.video)
        spans[split][record.video] = record
        dialogues[split].append(_dialogue(place, session, record.video, tally))
    if not any(dialogues.values()):
        raise tally.nothing_left(source) if tally.left_out else refuse_other(source, NAME, _EXPECTED)
    for name in sorted(chosen.keys() - texts.keys()):
        tally.leave_out("sessions of the lists that are not there", name)
    _count(spans, dialogues, tally)
    made = {split: list(records.values()) for split, records in spans.items()}
    inputs = [source] if source.is_file() else []
    return write_dataset(out, made, dialogues, force, importer=NAME, inputs=inputs), tally


def _texts(source: Path, tally: Tally) -> Iterator[tuple[str, str]]:
    """Text files by their path in the dataset's folder."""
    for name, content in _in_zip(source, tally) if source.is_file() else _in_folder(source, tally):
        try:
            yield name, content.decode("utf-8-sig")
        except UnicodeDecodeError:
            tally.leave_out("files that are no UTF-8, left out", name)


def _in_folder(source: Path, tally: Tally) -> Iterator[tuple[str, bytes]]:
    top = next((path.parent for path in sorted(source.rglob(_LISTS["train"]))), None)
    if top is None:
        raise refuse_other(source, NAME, _EXPECTED)
    for path in sorted(top.rglob("*.txt")):
        name = path.relative_to(top).as_posix()
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            tally.leave_out("files of over 1 MiB, left out", name)
        elif not path.name.startswith("._"):
            yield name, path.read_bytes()


def _in_zip(source: Path, tally: Tally) -> Iterator[tuple[str, bytes]]:
    if not is_zipfile(source):
        raise refuse_other(source, NAME, _EXPECTED)
    try:
        with ZipFile(source) as archive:
            files = {PurePosixPath(info.filename): info for info in archive.infolist() if not info.is_dir()}
            top = next((path.parent for path in sorted(files) if path.name == _LISTS["train"]), None)
            if top is None:
                raise refuse_other(source, NAME, _EXPECTED)
            for path in sorted(path for path in files if path.suffix == ".txt" and path.is_relative_to(top)):
                name = path.relative_to(top).as_posix()
                if files[path].file_size > _MAX_BYTES:
                    tally.leave_out("files of over 1 MiB, left out", name)
                elif not path.name.startswith("._"):
                    yield name, archive.read(files[path])
    except (BadZipFile, ZlibError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ProspectError(f"{source}: cannot be unpacked ({error}), expected {_EXPECTED}") from None


def _sessions(texts: Mapping[str, str], tally: Tally) -> Iterator[tuple[Place, Session]]:
    for file, text in texts.items():
        path = PurePosixPath(file)
        if len(path.parts) == 1:
            continue  # lists
        is_egoper = len(path.parts) > 3
        if not is_egoper and not path.stem.endswith("_dialogue"):
            if path.with_stem(f"{path.stem}_dialogue").as_posix() not in texts:
                tally.leave_out("lists of steps without a dialogue, left out", file)
            continue
        task = path.parts[1]
        kind = path.parts[2].removeprefix(f"{task}_") if is_egoper else None
        try:
            session = parse_session(text)
        except Unusable as error:
            tally.leave_out(error.why, f"{file} ({error.where})" if error.where else file)
            continue
        tally.counts["sessions read"] += 1
        yield Place(file, path.stem.removesuffix("_dialogue"), task, kind), session


def _split(
    sessions: Iterable[tuple[Place, Session]], chosen: Mapping[str, str], keep_shared: bool, tally: Tally
) -> Iterator[tuple[str, Place, Session]]:
    """Sessions with their splits, without those of videos that a split of more test has too."""
    listed: list[tuple[str, Place, Session]] = []
    strictest: dict[str, str] = {}  # of each video
    for place, session in sessions:
        split = chosen.get(place.file)
        if split is None:
            tally.leave_out("sessions in no list of a split, left out", place.file)
            continue
        listed.append((split, place, session))
        strictest[place.video] = max(split, strictest.get(place.video, split), key=SPLITS.index)
    for split, place, session in listed:
        if split != strictest[place.video]:
            kept = "kept: no shards are built of both" if keep_shared else "left out"
            tally.leave_out(f"sessions in {split} of videos that {strictest[place.video]} has too, {kept}", place.file)
        if keep_shared or split == strictest[place.video]:
            yield split, place, session


def _record(place: Place, session: Session) -> VideoSpans:
    steps: list[NamedStep] = []
    shown_in: list[str] = []  # the step of each instruction
    for text in session.instructions:
        mends = _MENDS.fullmatch(text)
        if not (mends and steps):
            steps.append(NamedStep(id=f"S{len(steps) + 1}", name=mends[1] if mends else text))
        shown_in.append(steps[-1].id)
    spans = [
        Span(
            step=step,
            start_s=turn.start_s,
            end_s=turn.end_s,
            outcome="error" if turn.deviation and turn.deviation[0] == "error" else "done",
            source="HowToDIV",
            method="assumed" if step == "S1" and steps[0].name.startswith(_GATHERING) else "human",
            flags=(": ".join(turn.deviation),) if turn.deviation else (),
        )
        for turn, step in zip(session.turns[1:], shown_in, strict=False)
    ]
    about = {"source": "HowToDIV", "task": place.task}
    return VideoSpans(video=place.video, dataset=NAME, steps=tuple(steps), spans=tuple(spans), provenance=about)


def _dialogue(place: Place, session: Session, video: str, tally: Tally) -> Dialogue:
    lines: list[Line] = []
    time_s = session.turns[0].start_s
    for number, turn in enumerate(session.turns, 1):
        if number > 1 and turn.end_s < time_s:
            tally.leave_out(
                "turns of work before that of the turn before, told after it", f"{place.file} turn {number}"
            )
        elif number > 1:
            time_s = turn.end_s
        lines += turn.lines(time_s)
    about = {"task": place.task, "session": place.file, **({"user_type": place.kind} if place.kind else {})}
    return Dialogue(video=video, dataset=NAME, id=place.kind, lines=tuple(lines), about=about)


def _count(
    spans: Mapping[str, Mapping[str, VideoSpans]], dialogues: Mapping[str, list[Dialogue]], tally: Tally
) -> None:
    for split, records in spans.items():
        tally.counts[f"videos, {split}"] = len(records)
        tally.counts[f"dialogues, {split}"] = len(dialogues[split])
        for record in records.values():
            tally.counts["spans"] += len(record.spans)
            tally.counts["spans with an error"] += sum(span.outcome == "error" for span in record.spans)
        for dialogue in dialogues[split]:
            tally.counts["user lines"] += sum(line.role == "user" for line in dialogue.lines)
            tally.counts["expert lines"] += sum(line.role == "assistant" for line in dialogue.lines)
