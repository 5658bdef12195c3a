import base64
import io
import json
import re
import weakref

import pytest
from PIL import Image

from pipeline.annotations.clips import Turn
from prospect.evaluation.pages.html import write_report
from prospect.evaluation.predictions import ClipPrediction
from prospect.stream.records import Action, FrameRecord
from tests.helpers.fakes import jpeg, make_clip

EVIL = "</script><b>bold & </b>"


def predict(clip, actions=()):
    """A prediction of a clip; actions: frame -> blocks."""
    records = [
        FrameRecord(f, 0.25, 0.5, tuple(dict(actions).get(f, ())), 0.0, 0.0, 10, 2, f == 3, 0.1)
        for f in range(clip.start_frame, clip.end_frame + 1)
    ]
    return ClipPrediction(clip, tuple(records), {})


def event(at, text, *errors, due=None):
    return {"at": at, "text": text, "errors": list(errors), "due": due}


def say(text):
    return Action("assistant", text, 0.1, 0.9)


CLIP = make_clip(
    [Turn("user", EVIL, 0, 1), Turn("dst_update", "S1->start", 2, 4), Turn("assistant", "Go on.", 2, 4)], frames=(0, 9)
)
PREDICTION = predict(CLIP, {5: (Action("dst_update", "S1->start", 0.9, 0.1), say(EVIL))})


def metrics(predictions, values=None, interval=(0.1, 0.9)):
    values = values or {"dst_update_f1": 0.5, "missed": 3, "other": None}
    row = {"metrics": values, "intervals": {"dst_update_f1": interval}}
    return {
        "checkpoint": "<c>", "num_clips": len(predictions), "num_frames": 10, "embedder": "e", "notes": ["<n>"],
        "settings": {"update_threshold": 0.5, "speak_threshold": 0.4},
        "rows": {"model": {"all": row, "datasets": {"toy": row}}, "always_silent": {"all": row, "datasets": {"toy": row}}},
        "clips": [{"id": one.clip.id, "metrics": values} for one in predictions],
    }  # fmt: skip


def pictures(shape=None):
    return lambda clip, frames: (shape, [jpeg(f) for f in frames])


def report(tmp_path, predictions, images=None, **options) -> tuple[str, dict]:
    path = tmp_path / "report.html"
    write_report(path, metrics(predictions, **options), predictions, images)
    page = path.read_text()
    blocks = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', page, re.S)
    return page, {name: json.loads(text) for name, text in blocks}


def test_every_clip_and_metric_is_in_the_page(tmp_path):
    other = predict(make_clip((), frames=(5, 6), clip_id="w-c000"))
    _, blocks = report(tmp_path, [PREDICTION, other])
    assert set(blocks) == {"about", "metrics", "clip-0", "clip-1"}
    assert [clip["id"] for clip in blocks["metrics"]["clips"]] == ["v-c000", "w-c000"]
    about = blocks["about"]
    assert about["headlines"] == ["dst_update_f1"] and about["others"] == ["missed", "other"]
    assert about["whole"] == ["missed"]


def test_the_title_names_run_dataset_split_date_and_commit(tmp_path):
    given = metrics([PREDICTION]) | {
        "made": {"date": "2026-11-27", "commit": 40 * "a"},
        "data": ["s/toy/val", "t/toy/test"],
    }
    write_report(tmp_path / "report.html", given, [PREDICTION], None)
    page = (tmp_path / "report.html").read_text()
    expected = f"PROSPECT evaluation · &lt;c&gt; · toy val, toy test · 2026-11-27 · commit {12 * 'a'}"
    assert f"<title>{expected}</title>" in page


def test_a_run_is_named_as_its_folder_is(tmp_path):
    checkpoint = tmp_path / "my-run" / "checkpoints" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (tmp_path / "my-run" / "config.yaml").touch()
    write_report(tmp_path / "report.html", metrics([PREDICTION]) | {"checkpoint": str(checkpoint)}, [PREDICTION], None)
    assert "<title>PROSPECT evaluation · my-run · 1 clips" in (tmp_path / "report.html").read_text()


def test_a_timeline_has_curves_states_events_and_texts_by_place_in_the_stream(tmp_path):
    _, blocks = report(tmp_path, [PREDICTION])
    clip = blocks["clip-0"]
    assert clip["p_update"] == [0.25] * 10 and clip["p_speak"] == [0.5] * 10 and clip["restarts"] == [3]
    first, second = clip["steps"]
    assert first["reference"] == [[0, 4, "not_started"], [4, 10, "in_progress"]]
    assert first["prediction"] == [[0, 5, "not_started"], [5, 10, "in_progress"]]
    assert second["reference"] == second["prediction"] == [[0, 10, "not_started"]]
    assert clip["reference_updates"] == [event(4, "S1->start")]
    assert clip["predicted_updates"] == [event(5, "S1->start", "late", due=4)]
    assert clip["reference_speech"] == [event(4, "Go on.")]
    assert clip["predicted_speech"] == [event(5, EVIL, "late", due=4)]
    assert clip["lines"] == [{**event(1, EVIL), "role": "user"}]
    assert clip["thumbs"] == []


def test_events_say_what_is_wrong_with_them(tmp_path):
    turns = [Turn("dst_update", "S1->start", 12, 12), Turn("dst_update", "S1->complete", 40, 40)]
    twice = (Action("dst_update", "S2->start", 0.9, 0.1), Action("dst_update", "S2->start", 0.9, 0.1))
    _, blocks = report(tmp_path, [predict(make_clip(turns, frames=(10, 49)), {12: twice, 30: twice[:1]})])
    assert blocks["clip-0"]["reference_updates"] == [event(2, "S1->start"), event(30, "S1->complete", "missed")]
    first, again, later = blocks["clip-0"]["predicted_updates"]
    assert sorted((first["errors"], again["errors"])) == [["repeated"], ["wrong_step"]]  # either may be the found one
    assert later == event(20, "S2->start", "repeated")


def test_no_clip_is_held_after_it_is_written(tmp_path):
    class Watched(ClipPrediction):  # without slots: can be watched
        pass

    written, held = [], []

    def stream():
        for one in clips:
            prediction = Watched(one.clip, long.frames, {})
            written.append(weakref.ref(prediction))
            yield prediction
            del prediction
            held.append(sum(ref() is not None for ref in written))

    long = predict(make_clip((), frames=(0, 999)))
    clips = [predict(make_clip((), frames=(0, 999), clip_id=f"v-c{number:03}")) for number in range(200)]
    write_report(tmp_path / "report.html", metrics(clips), stream(), None)
    page = (tmp_path / "report.html").read_text()
    assert page.count('<script type="application/json" id="clip-') == 200
    assert held == [1] * 200  # the one just written


def test_no_text_breaks_out_of_the_page(tmp_path):
    page, _ = report(tmp_path, [PREDICTION])
    assert EVIL not in page and "&lt;c&gt;" in page
    assert "<b>bold" not in page


def test_the_page_loads_nothing_from_elsewhere(tmp_path):
    page, _ = report(tmp_path, [PREDICTION], images=pictures())
    assert "http://" not in page and "https://" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_thumbnails_show_every_event_and_even_stretches_between(tmp_path):
    asked = []
    long = predict(make_clip([Turn("dst_update", "S1->start", 100, 101)], frames=(100, 290)), {130: [say("Go.")]})

    def images(clip, frames):
        asked.extend(frames)
        return None, [jpeg(f, 160) for f in frames]

    _, blocks = report(tmp_path, [long], images)
    thumbs = blocks["clip-0"]["thumbs"]
    assert len(thumbs) == 64 and [thumb["at"] + 100 for thumb in thumbs] == asked
    assert [thumb["at"] for thumb in thumbs if thumb["event"]] == [1, 30]
    assert asked[:5] == [101, 102, 105, 108, 111]  # 189 silent frames, 62 stretches of 3.05
    assert {(thumb["event"], thumb["width"], thumb["height"]) for thumb in thumbs} == {
        (True, 144, 144),
        (False, 72, 72),
    }
    assert thumbs[0]["source"].startswith("data:image/jpeg;base64,")


def test_more_events_than_thumbnails_are_thinned_evenly(tmp_path):
    busy = predict(make_clip((), frames=(0, 199)), {f: [say(str(f))] for f in range(0, 128)})
    _, blocks = report(tmp_path, [busy], pictures())
    assert [thumb["at"] for thumb in blocks["clip-0"]["thumbs"]] == list(range(1, 128, 2))


def test_pictures_keep_the_shape_of_the_video(tmp_path):
    out = io.BytesIO()
    Image.new("RGBA", (320, 180)).save(out, "PNG")
    one = [predict(make_clip((), frames=(0, 0)))]
    for shape, width in ((None, 128), ((100, 200), 144), ((200, 100), 36)):
        _, blocks = report(tmp_path, one, lambda clip, frames, shape=shape: (shape, [out.getvalue()]))
        (thumb,) = blocks["clip-0"]["thumbs"]
        with Image.open(io.BytesIO(base64.b64decode(thumb["source"].partition(",")[2]))) as image:
            assert (image.format, image.size) == ("JPEG", (width, 72)) == ("JPEG", (thumb["width"], thumb["height"]))


@pytest.mark.parametrize("clip", [make_clip((), frames=(0, 0)), make_clip((), frames=(0, 3), steps=0)])
def test_a_clip_of_one_frame_or_without_steps_has_a_timeline(tmp_path, clip):
    _, blocks = report(tmp_path, [predict(clip)], values={"dst_update_f1": None}, interval=None)
    assert len(blocks["clip-0"]["p_update"]) == clip.end_frame + 1
