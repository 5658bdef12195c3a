"""report.html of an evaluation: one file that opens offline, with the metric tables and a timeline of every clip.

The page holds plotly's library, the metrics and a block of JSON for each clip; a timeline is drawn when its clip is
chosen (`#clip=ID` in the address chooses one). Clips are written one by one, so memory does not grow with their number.
"""

import base64
import html
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image
from plotly.offline import get_plotlyjs

from pipeline.clips import ACTIVE_ROLES, Clip
from pipeline.storage import LocalFolder
from prospect.report.evaluation_table import HEADLINES
from prospect.stream.records import (
    ClipPrediction,
    UpdateEvent,
    predicted_speech,
    predicted_updates,
    reference_speech,
    reference_updates,
    states_by_frame,
)

NUM_THUMBS, THUMB_HEIGHT, THUMB_QUALITY = 24, 72, 60

Images = Callable[[Clip, Sequence[int]], Iterable[bytes]]


def write_report(
    path: Path, metrics: Mapping[str, Any], predictions: Iterable[ClipPrediction], images: Images | None
) -> None:
    """Write the page, whole or not at all.

    Args:
        metrics: what metrics.json holds; its "clips" are those of `predictions`, in the same order.
        images: gives the stored JPEG or PNG bytes of some frames of a clip; None: no thumbnails.
    """
    assets = files("prospect.report") / "assets"
    with LocalFolder(path.parent).new_file(path.name) as partial, partial.open("w", encoding="utf-8") as page:
        page.write('<!doctype html><html lang="en"><head><meta charset="utf-8"><title>PROSPECT evaluation</title>')
        page.write(f"<style>{(assets / 'evaluation.css').read_text()}</style></head><body>")
        page.write(_overview(metrics))
        page.write((assets / "evaluation.html").read_text())
        page.write(_block("metrics", metrics))
        for number, prediction in enumerate(predictions):
            page.write(_block(f"clip-{number}", _clip(prediction, images)))
        page.write(f"<script>{get_plotlyjs()}</script><script>{(assets / 'evaluation.js').read_text()}</script>")
        page.write("</body></html>\n")


def _overview(metrics: Mapping[str, Any]) -> str:
    """What was evaluated, and the tables."""
    settings = ", ".join(f"{name} {value}" for name, value in metrics["settings"].items())
    about = (
        f"{metrics['num_clips']} clips, {metrics['num_frames']} frames; {settings}; embeddings {metrics['embedder']}"
    )
    notes = "".join(f'<p class="note">note: {html.escape(note)}</p>' for note in metrics.get("notes", ()))
    rows = metrics["rows"]
    tables = _table({name: row["all"] for name, row in rows.items()})
    datasets = rows["model"]["datasets"]
    for dataset in datasets if len(datasets) > 1 else ():
        of_dataset = {name: row["datasets"][dataset] for name, row in rows.items()}
        tables += f"<details><summary>{html.escape(dataset)}</summary>{_table(of_dataset)}</details>"
    return f"<h1>{html.escape(str(metrics['checkpoint']))}</h1><p class='about'>{html.escape(about)}</p>{notes}{tables}"


def _table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Headline metrics, the others folded away."""
    names = [name for row in rows.values() for name in row["metrics"]]
    others = [name for name in dict.fromkeys(names) if name not in HEADLINES]
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in rows)

    def part(chosen: Sequence[str]) -> str:
        lines = []
        for name in chosen:
            cells = (_cell(row["metrics"].get(name), row["intervals"].get(name)) for row in rows.values())
            lines.append(f"<tr><td>{html.escape(name)}</td>{''.join(cells)}</tr>")
        body = f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        return f'<div class="scroll"><table>{body}</table></div>'

    return f"{part(HEADLINES)}<details><summary>{len(others)} more metrics</summary>{part(others)}</details>"


def _cell(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "<td>–</td>"
    number = str(value) if isinstance(value, int) else f"{value:.3f}"
    if not interval or interval[0] == interval[1]:
        return f"<td>{number}</td>"
    return f"<td>{number}<small>{interval[0]:.2f} to {interval[1]:.2f}</small></td>"


def _block(name: str, record: Mapping[str, Any]) -> str:
    """JSON that no text in it can break out of."""
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>\n'


def _clip(prediction: ClipPrediction, images: Images | None) -> dict[str, Any]:
    """What a timeline shows; places are frames of the stream, from 0."""
    clip, frames = prediction.clip, prediction.frames
    start = clip.start_frame
    expected, found = reference_updates(clip), predicted_updates(frames)
    lines = [
        [max(turn.end_frame if turn.end_frame is not None else start, start) - start, f"{turn.role}: {turn.text}"]
        for turn in clip.turns
        if turn.role not in ACTIVE_ROLES
    ]
    spans = {"reference": _spans(clip, expected), "prediction": _spans(clip, found)}
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
        "reference_updates": [[event.frame - start, str(event.update)] for event in expected],
        "predicted_updates": [[event.frame - start, str(event.update)] for event in found],
        "reference_speech": [[event.frame - start, event.text] for event in reference_speech(clip)],
        "predicted_speech": [[event.frame - start, event.text] for event in predicted_speech(frames)],
        "lines": lines,
        "thumbs": _thumbs(clip, images) if images else [],
    }


def _spans(clip: Clip, events: Sequence[UpdateEvent]) -> dict[str, list[tuple[int, int, str]]]:
    """By step: (first, end, state) of each stretch of frames in one state."""
    states = states_by_frame(clip, events)
    spans: dict[str, list[tuple[int, int, str]]] = {}
    for step in clip.steps:
        here = [state[step.id] for state in states]
        cuts = [0, *(i for i in range(1, len(here)) if here[i] != here[i - 1]), len(here)]
        spans[step.id] = [(first, end, here[first]) for first, end in pairwise(cuts)]
    return spans


def _thumbs(clip: Clip, images: Images) -> list[tuple[float, str]]:
    """(place, data URI) of frames in the middle of even stretches; the place is where the stretch begins."""
    count = clip.end_frame - clip.start_frame + 1
    shown = min(NUM_THUMBS, count)
    places = [place * count / shown for place in range(shown)]
    frames = [clip.start_frame + int(place + count / shown / 2) for place in places]
    found = []
    for place, data in zip(places, images(clip, frames), strict=True):
        with Image.open(io.BytesIO(data)) as image:
            small = image.convert("RGB")
            small.thumbnail((THUMB_HEIGHT, THUMB_HEIGHT))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=THUMB_QUALITY)
        found.append((place, f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"))
    return found
