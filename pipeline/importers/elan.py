"""ELAN's annotation files (.eaf, https://archive.mpi.nl/tla/elan) to rows.

Each annotation of the tier of steps is a stretch of work: its value is the step. Tiers of speech are lines. Times are
milliseconds; an annotation that refers to another (REF_ANNOTATION) has its times. ELAN leaves the first TIME_ORIGIN
milliseconds of a medium out, so they are added: spans count from the video's own start.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

from pipeline.errors import Problem, ProspectError
from pipeline.importers.formats import read_text
from pipeline.importers.rows import LineRole, Row


@dataclass(frozen=True, slots=True)
class Tiers:
    """Names of tiers."""

    steps: tuple[str, ...] = ()  # none: the only tier that is not of speech and not empty
    speech: Mapping[str, LineRole] = field(default_factory=dict)  # tier -> who speaks in it


@dataclass(frozen=True, slots=True)
class _Annotation:
    id: str
    value: str
    start_ms: int | None  # None: a time slot that was not aligned
    end_ms: int | None


def read_elan(file: Path, split: str, dataset: str, tiers: Tiers, problems: list[Problem]) -> list[Row]:
    """Read a file's rows, in the order of their times; what is wrong with them goes to `problems`.

    Raises:
        ProspectError: it is no .eaf file, its times are no milliseconds, or it lacks a tier that is named.
    """
    root = _parse(file)
    video, origin_ms = _medium(root, file)
    by_tier = _annotations(root)
    rows: list[Row] = []
    for tier in _chosen(file, by_tier, tiers):
        role = tiers.speech.get(tier)
        for annotation in by_tier[tier]:
            where = f"tier {tier!r} annotation {annotation.id}"
            value = annotation.value.strip() if role else " ".join(annotation.value.split())
            if annotation.start_ms is None or annotation.end_ms is None:
                problems.append(
                    Problem(file.name, where, "", "time", "a time slot without a time", "one aligned in ELAN")
                )
            elif annotation.end_ms < annotation.start_ms:
                expected = f"at least its start, {annotation.start_ms} ms"
                problems.append(Problem(file.name, where, "", "end", f"{annotation.end_ms} ms", expected))
            elif not value:
                expected = "what is said" if role else "a step's name"
                problems.append(Problem(file.name, where, "", "ANNOTATION_VALUE", "nothing", expected))
            else:
                start_s = (annotation.start_ms + origin_ms) / 1000
                end_s = (annotation.end_ms + origin_ms) / 1000
                row = Row(file.name, where, video, split, dataset, "" if role else value, start_s, end_s)
                rows.append(replace(row, text=value, role=role) if role else row)
    return sorted(rows, key=lambda row: row.start_s or 0)


def _parse(file: Path) -> ElementTree.Element:
    text = read_text(file)
    if re.search(r"<!(?:DOCTYPE|ENTITY)", text):
        raise ProspectError(f"{file}: has a document type of its own, expected an .eaf file as ELAN saves it")
    try:
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ElementTree.ParseError as error:
        raise ProspectError(f"{file}: not valid XML ({error}), expected an .eaf file as ELAN saves it") from None
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ProspectError(f"{file}: found <{root.tag}>, expected <ANNOTATION_DOCUMENT>, as in ELAN's .eaf files")
    header = root.find("HEADER")
    units = "milliseconds" if header is None else header.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise ProspectError(f"{file}: TIME_UNITS: found {units!r}, expected 'milliseconds'; save it with a newer ELAN")
    return root


def _medium(root: ElementTree.Element, file: Path) -> tuple[str, int]:
    """Name of the video, without folder and ending, and how much of its beginning ELAN leaves out; else the file's."""
    media = [medium for medium in root.iter("MEDIA_DESCRIPTOR") if medium.get("MEDIA_URL")]
    videos = [medium for medium in media if medium.get("MIME_TYPE", "").startswith("video")]
    for medium in (videos or media)[:1]:
        name = re.split(r"[/\\]", unquote(medium.get("MEDIA_URL", "")))[-1]
        return name.rpartition(".")[0] or name, _number(medium.get("TIME_ORIGIN")) or 0
    return file.stem, 0


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,12}", text) else None


def _annotations(root: ElementTree.Element) -> dict[str, list[_Annotation]]:
    """Annotations of each tier, in the file's order."""
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    raw = {element.get("ANNOTATION_ID", ""): element for element in root.iter("ALIGNABLE_ANNOTATION")}
    refers = {
        element.get("ANNOTATION_ID", ""): element.get("ANNOTATION_REF", "") for element in root.iter("REF_ANNOTATION")
    }

    def time_of(name: str, side: str) -> int | None:
        seen: set[str] = set()
        while name in refers and name not in seen:
            seen.add(name)
            name = refers[name]
        return _number(slots.get(raw[name].get(side))) if name in raw else None

    def of_tier(tier: ElementTree.Element) -> Iterator[_Annotation]:
        for kind in ("ANNOTATION/ALIGNABLE_ANNOTATION", "ANNOTATION/REF_ANNOTATION"):
            for element in tier.iterfind(kind):
                name = element.get("ANNOTATION_ID", "")
                value = element.findtext("ANNOTATION_VALUE") or ""
                yield _Annotation(name, value, time_of(name, "TIME_SLOT_REF1"), time_of(name, "TIME_SLOT_REF2"))

    return {tier.get("TIER_ID", ""): list(of_tier(tier)) for tier in root.iter("TIER")}


def _chosen(file: Path, by_tier: Mapping[str, list[_Annotation]], tiers: Tiers) -> list[str]:
    """Tiers to read: those named, or the only one."""
    names = ", ".join(f"{name!r} ({len(annotations)} annotations)" for name, annotations in by_tier.items()) or "none"
    for name in (*tiers.steps, *tiers.speech):
        if name not in by_tier:
            raise ProspectError(f"{file}: has no tier {name!r}, expected one of its own: {names}")
    steps = tiers.steps or tuple(name for name, found in by_tier.items() if found and name not in tiers.speech)
    if len(steps) != 1 and not tiers.steps:
        raise ProspectError(f"{file}: which tier holds the steps? Its tiers: {names}; pass --tier NAME")
    return [*steps, *(name for name in tiers.speech if name not in steps)]
