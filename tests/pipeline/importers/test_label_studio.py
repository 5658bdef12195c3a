"""Label Studio's exports by hand: frames from 1 or seconds, names of videos, outcomes, and what is refused."""

import json

import pytest

from pipeline.errors import ProspectError
from pipeline.importers.table import import_table
from pipeline.spans.records import read_spans


def timeline(name: str, first: int, last: int, region: str = "r") -> dict:
    value = {"ranges": [{"start": first, "end": last}], "timelinelabels": [name]}
    return {"id": region, "type": "timelinelabels", "from_name": "steps", "to_name": "video", "value": value}


def task(*results: dict, video: str = "/data/upload/1/3d3ad63e-cup.mp4", **more) -> dict:
    return {"id": 1, "data": {"video": video}, "annotations": [{"result": list(results)}]} | more


def read(tmp_path, *tasks, fps: float | None = 10):
    (tmp_path / "train.json").write_text(json.dumps(list(tasks)))
    files, tally = import_table([tmp_path / "train.json"], tmp_path / "tea", fps=fps)
    return read_spans(files[0]), tally.lines()


def told(video):
    return [(span.step, span.start_s, span.end_s, span.outcome) for span in video.spans]


def test_frames_count_from_one_and_both_ends_are_the_steps(tmp_path):
    (cup,), tally = read(tmp_path, task(timeline("Boil", 1, 21), timeline("Pour", 31, 31)))
    assert (cup.video, [step.name for step in cup.steps]) == ("cup", ["Boil", "Pour"])
    assert told(cup) == [("S1", 0, 2, "done"), ("S2", 3, 3, "done")]
    assert tally[:2] == ["1 files", "2 rows"]


def test_a_task_may_have_its_own_rate_and_labels_may_be_in_seconds(tmp_path):
    spoken = {"id": "q", "type": "labels", "value": {"start": 1.25, "end": 2.5, "labels": ["Pour"]}}
    own = task(timeline("Boil", 26, 51), spoken, data={"video": "s3://films/v.1.mp4", "fps": 25})
    ((video,), _) = read(tmp_path, own, fps=None)
    assert (video.video, told(video)) == ("v.1", [("S1", 1, 2, "done"), ("S2", 1.25, 2.5, "done")])


def test_a_choice_made_for_a_region_is_its_outcome_and_other_regions_are_counted(tmp_path):
    choice = {"id": "r", "type": "choices", "value": {"choices": ["Error"]}}
    box = {"id": "b", "type": "videorectangle", "value": {"sequence": [], "labels": ["Cup"]}}
    ((cup,), tally) = read(tmp_path, task(timeline("Boil", 1, 11), choice, box))
    assert told(cup) == [("S1", 0, 1, "error")]
    assert "1 regions of type videorectangle without steps and times, left out" in tally


def test_a_second_annotators_work_and_tasks_without_any_are_told(tmp_path):
    twice = task(timeline("Boil", 1, 11))
    twice["annotations"] = [{"was_cancelled": True, "result": []}, *twice["annotations"], {"result": []}]
    ((cup,), tally) = read(tmp_path, twice, task(video="/data/local-files/?d=a/b.mp4", annotations=[]))
    assert told(cup) == [("S1", 0, 1, "done")]
    assert tally[-2:] == [
        "1 further annotations of a video, left out (the first was read): cup",
        "1 videos without an annotation, left out: b",
    ]


@pytest.mark.parametrize(
    ("content", "fps", "message"),
    [
        ([task(timeline("Boil", 1, 2))], None, "task 0 (video 'cup') result 0: fps: found none, expected the videos' frames a second: pass --fps"),
        ([task(timeline("Boil", 1, 2), data={"video": "v.mp4", "fps": "25"})], None, "fps: found '25'"),
        ([task(timeline("Boil", 9, 2))], 1, "task 0 (video 'cup') result 0: end: found 1.0, expected at least its start, 8.0"),
        ([task(timeline("Boil", -1, 2))], 1, "task 0: annotations.0.result.0.value.ranges.0.start: found -1"),
        ([task(data={"title": "a", "name": "b"})], 1, "task 0: data: found title, name, expected a video's address"),
        ([task(timeline("Boil", 1, 2), video="\ud800.mp4")], 1, "task 0: data: found video, expected a video's address"),
        ([{"id": 1, "video": "v.mp4", "steps": [{"timelinelabels": ["Boil"]}]}], 1, "found no tasks with `data` and `annotations`"),
        ([], 1, "found no tasks"),
        ("x", 1, "found no tasks"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, content, fps, message):
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(ProspectError) as caught:
        import_table([tmp_path / "train.json"], tmp_path / "tea", fps=fps)
    assert message in str(caught.value) and not (tmp_path / "tea").exists()


def test_what_is_no_json_is_refused(tmp_path):
    for text in ('{"timelinelabels": ', "[" * 100_000):
        (tmp_path / "train.json").write_text(text)
        with pytest.raises(ProspectError, match=r"train.json: not valid JSON"):
            import_table([tmp_path / "train.json"], tmp_path / "tea")
