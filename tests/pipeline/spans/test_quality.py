"""The numbers of spans, counted by hand."""

from pathlib import Path

import pytest

from pipeline.errors import ProspectError
from pipeline.spans.quality import Annotation, assess, counts_of, named, quality_record
from tests.helpers.spans import spans_of

UNDONE, ERROR = {"outcome": "undone"}, {"outcome": "error"}


def test_a_video_is_counted_by_what_its_steps_have():
    video = spans_of(
        "v",
        ("S1", 0, 10),
        ("S2", 5, 15, ERROR),  # begins while S1 is under way
        ("S1", 20, 30, {"confidence": 0.4, "flags": ("low_margin",)}),  # S1 again
        ("S1", 25, 40),  # one stretch with the one before
        ("S3", 50, 50, {"confidence": 0.5}),
        ("S3", 60, 60, UNDONE),
        steps=6,
        not_performed=("S4",),
    )
    assert counts_of(video) == {
        "videos": 1, "videos_without_spans": 0, "steps": 6, "covered": 3, "not_performed": 1, "without_times": 2,
        "spans": 6, "error": 1, "undone": 1, "repeated": 1, "parallel": 1, "moments": 1, "flagged": 1, "doubtful": 1,
    }  # fmt: skip


def test_work_that_is_taken_back_and_done_again_is_repeated():
    assert counts_of(spans_of("v", ("S1", 0, 1), ("S1", 2, 3, UNDONE), ("S1", 4, 5)))["repeated"] == 1


def test_a_video_without_spans_has_all_its_steps_without_times():
    counts = counts_of(spans_of("v", not_performed=("S3",)))
    assert (counts["videos_without_spans"], counts["covered"], counts["without_times"]) == (1, 0, 2)


def test_durations_are_of_stretches_of_work():
    video = spans_of("v", ("S1", 0, 10), ("S1", 5, 20), ("S2", 30, 40), ("S3", 50, 80), ("S3", 90, 95, UNDONE))
    one = [Annotation("a", [video])]
    spread = quality_record(one, assess(one))["annotations"]["a"]["durations_s"]  # 20, 10, 30
    assert spread == {"least": 10.0, "p10": 12.0, "median": 20.0, "p90": 28.0, "most": 30.0}


def test_what_differs_between_annotations_is_to_look_at():
    human = [spans_of("v", ("S1", 0, 10), ("S2", 10, 20)), spans_of("w", ("S1", 0, 10), ("S2", 20, 30), ("S3", 30, 40))]
    align = [
        spans_of("v", ("S1", 1, 13, {"method": "align"}), not_performed=("S2", "S3")),
        spans_of("w", ("S1", 0, 10), ("S2", 20, 32), ("S3", 31, 40)),
    ]
    both = [Annotation("human", human), Annotation("align", align)]
    first, second = assess(both)
    # v: S1's ends and both events of S2 are apart (3), S3 has no times in the first; w: all within 2 s
    assert (first.video, dict(first.reasons)) == (
        "v",
        {"events_apart": 4, "without_times": 1, "doubtful": 0, "moments": 0},
    )
    assert (second.video, second.to_look_at, second.is_compared) == ("w", 0, True)
    (pair,) = quality_record(both, [first, second])["agreement"]
    assert pair["of"] == ["human", "align"] and pair["events"] == {"a": 10, "b": 8, "paired": 8, "within": 7}
    assert pair["boundary_difference_s"]["median"] == 0.5  # 0, 0, 0, 0, 1, 1, 2, 3
    assert pair["steps_missing_in_b"] == [{"video": "v", "step": "S2"}]


def test_of_videos_with_as_much_to_look_at_the_busier_come_first():
    calm, busy = spans_of("a", ("S1", 0, 9), steps=1), spans_of("b", ("S1", 0, 9), ("S2", 3, 5), steps=2)
    assert [one.video for one in assess([Annotation("x", [calm, busy])])] == ["b", "a"]


def test_videos_with_unlike_steps_are_not_compared():
    few, many = spans_of("v", ("S1", 0, 1), steps=1), spans_of("v", ("S1", 50, 60), steps=2)
    same = spans_of("w", ("S1", 0, 1))
    assessed = {one.video: one for one in assess([Annotation("x", [few, same]), Annotation("y", [many, same])])}
    assert not assessed["v"].is_compared and assessed["v"].reasons["events_apart"] == 0 and assessed["w"].is_compared


def test_annotations_of_other_videos_are_refused():
    with pytest.raises(ProspectError, match=r"^x and y: found no video with the same steps in both, .*'v' and 'w'"):
        assess([Annotation("x", [spans_of("v")]), Annotation("y", [spans_of("w")])])


def test_annotations_are_called_by_their_methods_and_by_their_files_where_those_are_equal():
    mine, its = spans_of("v", ("S1", 0, 1)), spans_of("v", ("S1", 0, 1), ("S2", 1, 2, {"method": "align"}))
    files = [(Path("a/s.jsonl"), [mine]), (Path("b/s.jsonl"), [its]), (Path("c/s.jsonl"), [spans_of("v")])]
    assert [one.name for one in named(files)] == ["human", "human + align", "s.jsonl"]
    assert [one.name for one in named(files[:1] * 2)] == ["human (a/s.jsonl)"] * 2


def test_the_record_has_every_video_and_what_annotations_have_in_all():
    videos = [spans_of("v", ("S1", 0, 1, {"flags": ("a", "b")})), spans_of("w", ("S1", 0, 1, {"flags": ("a",)}))]
    one = [Annotation("x", videos)]
    record = quality_record(one, assess(one))
    assert record["annotations"]["x"]["steps"] == 6 and record["annotations"]["x"]["flags"] == {"a": 2, "b": 1}
    assert record["annotations"]["x"]["confidence"]["median"] is None and record["agreement"] == []
    assert [(v["video"], v["to_look_at"], v["annotations"]["x"]["covered"]) for v in record["videos"]] == [
        ("v", 2, 1),
        ("w", 2, 1),
    ]
