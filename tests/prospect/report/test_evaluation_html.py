import json
import re

import pytest

from pipeline.clips import Turn
from prospect.report.evaluation_html import write_report
from prospect.stream.records import Action, ClipPrediction, FrameRecord
from tests.fakes import jpeg, make_clip

EVIL = "</script><b>bold & </b>"


def predict(clip, actions=()):
    """A prediction of a clip; actions: frame -> blocks."""
    records = [
        FrameRecord(f, 0.25, 0.5, tuple(dict(actions).get(f, ())), 0.0, 0.0, 10, 2, f == 3, 0.1)
        for f in range(clip.start_frame, clip.end_frame + 1)
    ]
    return ClipPrediction(clip, tuple(records), {})


CLIP = make_clip(
    [Turn("user", EVIL, 0, 1), Turn("dst_update", "S1->start", 2, 4), Turn("assistant", "Go on.", 2, 4)], frames=(0, 9)
)
PREDICTION = predict(CLIP, {5: (Action("dst_update", "S1->start", 0.9, 0.1), Action("assistant", EVIL, 0.1, 0.9))})


def metrics(predictions, values=None, interval=(0.1, 0.9)):
    values = values or {"dst_update_f1": 0.5, "missed": 3, "other": None}
    row = {"metrics": values, "intervals": {"dst_update_f1": interval}}
    return {
        "checkpoint": "<c>", "num_clips": len(predictions), "num_frames": 10, "embedder": "e", "notes": ["<n>"],
        "settings": {"update_threshold": 0.5, "speak_threshold": 0.4},
        "rows": {"model": {"all": row, "datasets": {"toy": row}}, "always_silent": {"all": row, "datasets": {"toy": row}}},
        "clips": [{"id": one.clip.id, "metrics": values} for one in predictions],
    }  # fmt: skip


def report(tmp_path, predictions, images=None, **options) -> tuple[str, dict]:
    path = tmp_path / "report.html"
    write_report(path, metrics(predictions, **options), predictions, images)
    page = path.read_text()
    blocks = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', page, re.S)
    return page, {name: json.loads(text) for name, text in blocks}


def test_every_clip_and_metric_is_in_the_page(tmp_path):
    other = predict(make_clip((), frames=(5, 6), clip_id="w-c000"))
    page, blocks = report(tmp_path, [PREDICTION, other])
    assert set(blocks) == {"metrics", "clip-0", "clip-1"}
    assert [clip["id"] for clip in blocks["metrics"]["clips"]] == ["v-c000", "w-c000"]
    for text in ("dst_update_f1", "0.500<small>0.10 to 0.90</small>", "<td>3</td>", "always silent"):
        assert text in page


def test_a_timeline_has_curves_states_events_and_texts_by_place_in_the_stream(tmp_path):
    _, blocks = report(tmp_path, [PREDICTION])
    clip = blocks["clip-0"]
    assert clip["p_update"] == [0.25] * 10 and clip["p_speak"] == [0.5] * 10 and clip["restarts"] == [3]
    first, second = clip["steps"]
    assert first["reference"] == [[0, 4, "not_started"], [4, 10, "in_progress"]]
    assert first["prediction"] == [[0, 5, "not_started"], [5, 10, "in_progress"]]
    assert second["reference"] == second["prediction"] == [[0, 10, "not_started"]]
    assert clip["reference_updates"] == [[4, "S1->start"]] and clip["predicted_updates"] == [[5, "S1->start"]]
    assert clip["reference_speech"] == [[4, "Go on."]] and clip["predicted_speech"] == [[5, EVIL]]
    assert clip["lines"] == [[1, f"user: {EVIL}"]]


def test_no_text_breaks_out_of_the_page(tmp_path):
    page, _ = report(tmp_path, [PREDICTION])
    assert EVIL not in page and "&lt;c&gt;" in page and "note: &lt;n&gt;" in page
    assert "<b>bold" not in page


def test_the_page_loads_nothing_from_elsewhere(tmp_path):
    page, _ = report(tmp_path, [PREDICTION], images=lambda clip, frames: [jpeg(f) for f in frames])
    own = page[: page.index("plotly.js v")] + page[page.rindex('"use strict"') :]
    assert "http://" not in own and "https://" not in own
    assert not re.search(r"<(script|img|iframe)[^>]+src=|<link", page)


def test_thumbnails_are_of_even_stretches(tmp_path):
    asked = []
    long = predict(make_clip((), frames=(100, 195)))

    def images(clip, frames):
        asked.extend(frames)
        return [jpeg(f, 90) for f in frames]

    _, blocks = report(tmp_path, [long], images)
    thumbs = blocks["clip-0"]["thumbs"]
    assert len(thumbs) == 24 and asked[:3] == [102, 106, 110] and [place for place, _ in thumbs[:3]] == [0, 4, 8]
    assert all(source.startswith("data:image/jpeg;base64,") for _, source in thumbs)


@pytest.mark.parametrize("clip", [make_clip((), frames=(0, 0)), make_clip((), frames=(0, 3), steps=0)])
def test_a_clip_of_one_frame_or_without_steps_has_a_timeline(tmp_path, clip):
    _, blocks = report(tmp_path, [predict(clip)], values={"dst_update_f1": None}, interval=None)
    assert len(blocks["clip-0"]["p_update"]) == clip.end_frame + 1
