"""report.html of an evaluation: one file that opens offline. It begins with a sentence and the worst clip's timeline.

The page (static/report/) holds the metrics, what is said of them, and a block of JSON for each clip; a timeline is
drawn when its clip is chosen (`#clip=ID` in the address chooses one). Clips are written one by one, so memory does not
grow with their number.
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.annotations.clips import ACTIVE_ROLES, Clip
from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder
from prospect.evaluation.events import (
    SpeechEvent,
    UpdateEvent,
    predicted_speech,
    predicted_updates,
    reference_speech,
    states_by_frame,
)
from prospect.evaluation.judge_scores import JUDGED, read_judge
from prospect.evaluation.matching import match_window
from prospect.evaluation.mistakes import EventError, speech_errors, update_errors
from prospect.evaluation.pages.sentence import sentence
from prospect.evaluation.pages.tables import HEADLINES, SPREADS, spread
from prospect.evaluation.predictions import ClipPrediction
from prospect.pages.html import one_file
from prospect.pages.pictures import Shape, data_url, shown_jpeg
from prospect.pages.storyboard import evenly
from prospect.runs import run_of

MARK = "PROSPECT evaluation"  # in the title
CLIP_BEGINS = '<script type="application/json" id="clip-'  # a line of the page
NUM_THUMBS, THUMB_HEIGHT, EVENT_HEIGHT, THUMB_QUALITY = 64, 72, 144, 60  # pixels; frames with an event open larger
STYLES = ("timeline.css", "frames.css", "desk.css", "report/report.css")
COMMIT_DIGITS = 12

# Gives the shape in which a clip's video is shown (None: its pictures' own), and frames as stored JPEG or PNG bytes.
Images = Callable[[Clip, Sequence[int]], tuple[Shape | None, Iterable[bytes]]]


def write_report(
    path: Path, metrics: Mapping[str, Any], predictions: Iterable[ClipPrediction], images: Images | None
) -> None:
    """Write the page, whole or not at all.

    Args:
        metrics: what metrics.json holds; its "clips" are those of `predictions`, in the same order.
        images: of a clip; None: no pictures.
    """
    _write_page(path, metrics, (clip_block(prediction, images) for prediction in predictions))


def renew_report(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write a page again with other metrics of the same clips, whole or not at all; its timelines stay as they are.

    Raises:
        ProspectError: it is no such page.
    """
    with path.open(encoding="utf-8") as page:
        _write_page(path, metrics, _clips_of(page, path, len(metrics["clips"])))


def _clips_of(page: Iterable[str], path: Path, count: int) -> Iterator[dict[str, Any]]:
    """Read the clips of a page back, one by one."""
    number = 0
    for line in page:
        if line.startswith(CLIP_BEGINS):
            yield json.loads(line.partition(">")[2].rpartition("</script>")[0])
            number += 1
    if number != count:
        raise ProspectError(f"{path}: found {number} clips in it, expected {count}; run prospect evaluate again")


def _write_page(path: Path, metrics: Mapping[str, Any], clips: Iterable[dict[str, Any]]) -> None:
    about = _about(metrics, path)
    title = " · ".join(one for one in (MARK, about["run"], about["where"], *about["facts"][:2]) if one)
    blocks = ((f"clip-{number}", clip) for number, clip in enumerate(clips))
    data = [("about", about), ("metrics", {"notes": [], **metrics})]
    page = one_file(title, "report/main.js", STYLES, chain(data, blocks))
    with LocalFolder(path.parent).new_file(path.name) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(page)


def _about(metrics: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What is said of the metrics: of all clips, and of each."""
    rows, checkpoint = metrics["rows"], metrics["checkpoint"]
    run = run_of(Path(checkpoint))
    made = metrics.get("made", {})
    names = dict.fromkeys(name for row in rows.values() for name in row["all"]["metrics"])
    judge = read_judge(metrics["judge"], str(path), "judge again") if "judge" in metrics else None
    settings = ", ".join(f"{name} {value}" for name, value in metrics["settings"].items())
    facts = [made.get("date"), made.get("commit") and f"commit {made['commit'][:COMMIT_DIGITS]}",
             f"{metrics['num_clips']} clips, {metrics['num_frames']} frames"]  # fmt: skip
    return {
        "run": run.name if run else checkpoint,
        "where": ", ".join(" ".join(str(place).rstrip("/").split("/")[-2:]) for place in metrics.get("data", [])),
        "facts": [fact for fact in facts if fact],
        "settings": f"{checkpoint}; {settings}; embeddings {metrics['embedder']}",
        "sentence": sentence(rows["model"]["all"]["metrics"]),
        "clips": [sentence(one["metrics"]) for one in metrics["clips"]],
        "headlines": [name for name in (*HEADLINES, *JUDGED) if name in names],
        "others": [name for name in names if name not in (*HEADLINES, *JUDGED)],
        "whole": [name for name, value in rows["model"]["all"]["metrics"].items() if isinstance(value, int)],
        "judge": judge and judge.title,
        "judge_spreads": {row: {axis: spread(of_axis) for axis, of_axis in scores.all.axes.items()}
                          for row, scores in judge.rows.items()} if judge else {},
        "spreads": SPREADS,
    }  # fmt: skip


def clip_block(prediction: ClipPrediction, images: Images | None = None) -> dict[str, Any]:
    """Give what a timeline shows (static/report/lanes.js); places are frames of the stream, from 0."""
    clip, frames = prediction.clip, prediction.frames
    start, window = clip.start_frame, match_window(clip.dataset, clip.fps)
    expected, predicted = prediction.reference_updates, predicted_updates(frames)
    answers, said = reference_speech(clip), predicted_speech(frames)
    errors = [*update_errors(predicted, expected, window), *speech_errors(said, answers, window)]
    events = {
        "reference_updates": _events(start, expected, errors),
        "predicted_updates": _events(start, predicted, errors),
        "reference_speech": _events(start, answers, errors),
        "predicted_speech": _events(start, said, errors),
    }
    lines: list[dict[str, Any]] = [
        {"at": max(start if turn.end_frame is None else turn.end_frame, start) - start, "role": turn.role,
         "text": turn.text, "errors": [], "due": None}
        for turn in clip.turns
        if turn.role not in ACTIVE_ROLES
    ]  # fmt: skip
    spans = {"reference": _spans(clip, expected), "prediction": _spans(clip, predicted)}
    return {
        "fps": clip.fps,
        "start": start,
        "p_update": [round(record.p_update, 4) for record in frames],
        "p_speak": [round(record.p_speak, 4) for record in frames],
        "restarts": [record.frame - start for record in frames if record.is_restart],
        "steps": [
            {"id": step.id, "name": step.name, **{side: of_side[step.id] for side, of_side in spans.items()}}
            for step in clip.steps
        ],
        **events,
        "lines": lines,
        "thumbs": _thumbs(clip, images, {one["at"] for side in events.values() for one in side}) if images else [],
    }


def _events(
    start: int, events: Sequence[UpdateEvent | SpeechEvent], errors: Sequence[EventError]
) -> list[dict[str, Any]]:
    """Each event with the kinds of its errors, and where it was due if that is another place."""
    listed = []
    for event in events:  # by identity: two blocks at one frame may be equal
        own = [one for one in errors if one.predicted is event or (one.predicted is None and one.reference is event)]
        due = {one.reference.frame - start for one in own if one.reference} - {event.frame - start}
        listed.append(
            {
                "at": event.frame - start,
                "text": event.text if isinstance(event, SpeechEvent) else str(event.update),
                "errors": [one.kind for one in own],
                "due": due.pop() if due else None,
            }
        )
    return listed


def _spans(clip: Clip, events: Sequence[UpdateEvent]) -> dict[str, list[tuple[int, int, str]]]:
    """By step: (first, end, state) of each stretch of frames in one state."""
    states = states_by_frame(clip, events)
    spans: dict[str, list[tuple[int, int, str]]] = {}
    for step in clip.steps:
        here = [state[step.id] for state in states]
        cuts = [0, *(i for i in range(1, len(here)) if here[i] != here[i - 1]), len(here)]
        spans[step.id] = [(first, end, here[first]) for first, end in pairwise(cuts)]
    return spans


def _thumbs(clip: Clip, images: Images, events: Set[int]) -> list[dict[str, Any]]:
    """Of the places with an event, and of others evenly between them; width and height in pixels."""
    places = _thumb_places(clip.end_frame - clip.start_frame + 1, events)
    shape, stored = images(clip, [clip.start_frame + place for place in places])
    thumbs = []
    for place, data in zip(places, stored, strict=True):
        is_event = place in events
        jpeg = shown_jpeg(data, shape, EVENT_HEIGHT if is_event else THUMB_HEIGHT, THUMB_QUALITY)
        with Image.open(io.BytesIO(jpeg)) as image:
            width, height = image.size
        thumbs.append({"at": place, "width": width, "height": height, "event": is_event, "source": data_url(jpeg)})
    return thumbs


def _thumb_places(count: int, events: Set[int]) -> list[int]:
    """NUM_THUMBS places of `count` at most: events come first in line."""
    first = evenly(sorted(events), NUM_THUMBS)
    others = [place for place in range(count) if place not in events]
    return sorted([*first, *evenly(others, NUM_THUMBS - len(first))])
