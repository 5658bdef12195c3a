"""What other projects' files look like, so that the wrong importer names the right one. Cheap: the first bytes."""

import re
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

from pipeline.errors import ProspectError
from pipeline.io.storage import beginning

_READ_BYTES = 1 << 16
_LOOKS = (  # importer, what it reads, how that begins; the first that matches
    ("proassist", "ProAssist's prepared dialogues", rb'"role"\s*:\s*"frames"'),
    ("prospect-fork", "clips with DST updates, as the fork writes them", rb'"(DST_UPDATE|dst_updates|dst_state|dst)"'),
    ("proassist-generated", "ProAssist's generated dialogues", rb'"(parsed_video_anns|conversations)"\s*:'),
    ("captaincook4d", "CaptainCook4D's annotations", rb'"recording_id"\s*:[^}]*"activity_id"'),
    ("captaincook4d", "CaptainCook4D's list of videos", rb"\Arecording_id,"),
    ("howtodiv", "a dialogue of HowToDIV", rb"\A(\xef\xbb\xbf)?\s*Instructions\s*\n\s*1\. "),
    ("howtodiv", "a list of HowToDIV's sessions", rb"\A\s*HowToDIV/"),
    ("assembly101-mistakes", "Assembly101's mistakes", rb"(?m)^\d+,\d+,(attach|detach|interior),"),
    ("table", "an ELAN file", rb"<ANNOTATION_DOCUMENT"),
    ("table", "Label Studio's export", rb'"timelinelabels"\s*:|"annotations"\s*:\s*\[\s*\{[^}]*"result"\s*:'),
    ("table", "a table of step times", rb"(?i)\A(\xef\xbb\xbf)?(?!\{\"format\")[^\n]*\bvideo\b[^\n]*\b(step|text)\b"),
)
_TOLD_BY = {".json", ".jsonl", ".txt", ".csv", ".eaf", ".zip"}
_FILES = 20  # of a folder, looked at


def importer_of(source: Path) -> tuple[str, str] | None:
    """Give the importer of a file, or of a folder's files, and what they look like; None: unknown."""
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix in _TOLD_BY and path.is_file())[:_FILES]
        return next((known for path in files if (known := importer_of(path))), None)
    if source.is_file() and is_zipfile(source):
        return _importer_of_zip(source)
    start = beginning(source, _READ_BYTES)
    return next(((name, what) for name, what, looks in _LOOKS if re.search(looks, start)), None)


def refuse_other(source: Path, importer: str, expected: str) -> ProspectError:
    """Make the error for a source that `importer` cannot read, naming the importer that can, where one is known."""
    known = importer_of(source)
    if not source.exists():
        return ProspectError(f"{source}: no such file or folder, expected {expected}")
    if known and known[0] != importer:
        return ProspectError(f"{source}: found {known[1]}, expected {expected}; use prospect import {known[0]}")
    return ProspectError(f"{source}: expected {expected}, found none of it")


def _importer_of_zip(source: Path) -> tuple[str, str] | None:
    try:
        with ZipFile(source) as archive:
            is_howtodiv = any(name.endswith("_dialogue.txt") for name in archive.namelist())
    except BadZipFile:
        return None
    return ("howtodiv", "HowToDIV's archive") if is_howtodiv else None
