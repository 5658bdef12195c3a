"""report.html of spans: one file that opens offline, with the numbers of `quality.py` and videos on a time axis.

A video has a lane for the blocks that describe it, one for each dialogue, and one for each annotation. What overlaps in
a lane stands in rows of it. Places are per cent of the video's length, so that the browser lays the page out; a script
draws the axis, zooms, and shows the text of what has the focus.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.spans.blocks import Block
from pipeline.spans.quality import COUNTS, REASONS, Annotation, VideoQuality
from pipeline.spans.records import Dialogue, NamedStep, Span, VideoSpans
from prospect.evaluation.pages.templates import environment, ours

GOLDEN_ANGLE = 137.508  # degrees: hues of steps that follow each other are far apart


@dataclass(frozen=True, slots=True)
class Item:
    """Something in a lane."""

    start_s: float
    end_s: float
    label: str  # in it, as far as it has room
    title: str  # all of it
    kind: str  # class of its style
    hue: int | None = None  # degrees; None: without a colour of its own


@dataclass(frozen=True, slots=True)
class Lane:
    name: str
    rows: Sequence[Sequence[Item]]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A video as the page shows it."""

    quality: VideoQuality
    length_s: float  # of its axis
    lanes: Sequence[Lane]
    steps: Sequence[tuple[NamedStep, int, Sequence[str]]]  # a step, its hue, and when it was, of each annotation


def write_spans_page(
    path: Path,
    quality: Mapping[str, Any],
    timelines: Iterable[Timeline],
    num_videos: int,
) -> None:
    """Write the page to `path`, as it is.

    Args:
        quality: of `quality_record`.
        timelines: of the videos to show, in order.
        num_videos: how many there are in all.
    """
    page = (
        environment()
        .get_template("spans.html.jinja")
        .generate(
            quality=quality,
            counts=COUNTS,
            reasons=REASONS,
            timelines=list(timelines),
            num_videos=num_videos,
            css=ours("spans.css"),
            script=ours("spans.js"),
            clock=clock,
            percent=_percent,
        )
    )
    with path.open("w", encoding="utf-8") as file:
        file.writelines(page)


def timeline(
    quality: VideoQuality,
    annotations: Sequence[Annotation],
    blocks: Sequence[Block],
    dialogues: Sequence[Dialogue],
) -> Timeline:
    """Lay out a video: its blocks, its dialogues, and its spans in each annotation that has it."""
    records = [(one.name, record) for one in annotations for record in one.records if record.video == quality.video]
    steps = {step.id: step for _, record in reversed(records) for step in reversed(record.steps)}
    order = [*dict.fromkeys(step.id for _, record in records for step in record.steps)]
    hues = {step: round(place * GOLDEN_ANGLE) % 360 for place, step in enumerate(order)}
    lanes = [_lane("blocks", (Item(b.start_s, b.end_s, b.text, _title(b.text, b), "block") for b in blocks))]
    for number, dialogue in enumerate(dialogues, 1):
        lanes.append(_lane(_dialogue_name(dialogue, number, len(dialogues)), _lines(dialogue)))
    lanes = [lane for lane in lanes if lane.rows]
    for name, record in records:
        names = {step.id: step.name for step in record.steps}
        lanes.append(_lane(name, (_item(span, names[span.step], hues[span.step]) for span in record.spans)))
    ends = [item.end_s for lane in lanes for row in lane.rows for item in row]
    lengths = [record.duration_s for _, record in records if record.duration_s is not None]
    told = [(steps[step], hues[step], [_when(record, step) for _, record in records]) for step in order]
    return Timeline(quality, max([*ends, *lengths, 1.0]), lanes, told)


def clock(time_s: float) -> str:
    """Give a time as m:ss.s, from an hour on as h:mm:ss.s: 75.25 is 1:15.2."""
    tenths = round(time_s * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def _lane(name: str, items: Iterable[Item]) -> Lane:
    """Put each item into the first row that is free at its start."""
    rows: list[list[Item]] = []
    for item in sorted(items, key=lambda item: (item.start_s, item.end_s)):
        row = next((row for row in rows if _is_free(row, item)), None)
        if row is None:
            rows.append([item])
        else:
            row.append(item)
    return Lane(name, rows)


def _is_free(row: Sequence[Item], item: Item) -> bool:
    last = row[-1]
    return last.end_s <= item.start_s and last.start_s < item.start_s


def _item(span: Span, name: str, hue: int) -> Item:
    about = [f"{span.outcome}, method {span.method}"]
    if span.confidence is not None:
        about.append(f"confidence {span.confidence:.2f}")
    told = _title(f"{span.step} {name}", span) + "\n" + ", ".join(about)
    return Item(
        span.start_s,
        span.end_s,
        span.step,
        "\n".join([told, *(f"flag: {flag}" for flag in span.flags)]),
        f"span {span.outcome}",
        hue,
    )


def _lines(dialogue: Dialogue) -> Iterable[Item]:
    for line in dialogue.lines:
        if line.start_s is not None:
            end_s = line.start_s if line.end_s is None else line.end_s
            at = clock(line.start_s) if line.end_s is None else f"{clock(line.start_s)} to {clock(end_s)}"
            yield Item(line.start_s, end_s, line.text, f"{line.role}: {line.text}\n{at}", f"line {line.role}")


def _dialogue_name(dialogue: Dialogue, number: int, of: int) -> str:
    return f"dialogue {dialogue.id}" if dialogue.id else f"dialogue {number}" if of > 1 else "dialogue"


def _title(text: str, of: Span | Block) -> str:
    return f"{text}\n{clock(of.start_s)} to {clock(of.end_s)} ({of.end_s - of.start_s:.1f} s)"


def _when(record: VideoSpans, step: str) -> str:
    spans = sorted((span for span in record.spans if span.step == step), key=lambda span: span.start_s)
    if not spans:
        return "not performed" if step in record.not_performed else "–"
    return ", ".join(
        f"{clock(span.start_s)} to {clock(span.end_s)}" + (f" ({span.outcome})" if span.outcome != "done" else "")
        for span in spans
    )


def _percent(timeline: Timeline, time_s: float) -> str:
    return f"{100 * time_s / timeline.length_s:.3f}%"
