"""Two annotations of the same videos, compared by hand."""

import pytest

from pipeline.errors import ProspectError
from pipeline.spans.compare import compare
from pipeline.spans.records import NamedStep, Span, VideoSpans


def video(name: str, *spans: tuple, steps: int = 3) -> VideoSpans:
    return VideoSpans(
        video=name,
        dataset="d",
        steps=tuple(NamedStep(id=f"S{n}", name=f"do {n}") for n in range(1, steps + 1)),
        spans=tuple(
            Span(step=step, start_s=start, end_s=end, outcome=outcome[0] if outcome else "done")
            for step, start, end, *outcome in spans
        ),
    )


def test_events_within_reach_are_counted_and_boundaries_measured():
    a = [video("v", ("S1", 0, 10), ("S2", 10, 20))]
    b = [video("v", ("S1", 1, 12), ("S2", 15, 20.5))]
    result = compare(a, b)
    assert result.gaps_s == (1, 2, 5, 0.5)
    assert [result.within(t) for t in (0.4, 2, 5)] == [0, 3, 4]
    numbers = result.numbers(2)
    assert numbers["events"] == {"a": 4, "b": 4, "paired": 4, "within": 3}
    assert numbers["f1"] == pytest.approx(0.75)
    assert numbers["boundary_difference_s"] == {"median": 1.5, "p90": 4.1}  # of .5, 1, 2, 5


def test_steps_missing_in_each_are_named():
    result = compare([video("v", ("S1", 0, 1))], [video("v", ("S2", 0, 1), ("S1", 0, 1))])
    assert (result.missing_a, result.missing_b) == ((("v", "S2"),), ())


def test_repeated_work_is_paired_nearest_first_each_span_once():
    a = [video("v", ("S1", 0, 10), ("S1", 50, 60))]
    b = [video("v", ("S1", 49, 60), ("S1", 100, 110), ("S1", 2, 10))]
    assert compare(a, b).gaps_s == (2, 0, -1, 0)
    assert compare(a, [video("v", ("S1", 20, 30))]).gaps_s == (20, 20)  # of the first; the second has no partner


def test_work_that_is_taken_back_is_one_event_and_paired_with_its_like():
    a = [video("v", ("S1", 0, 10, "undone"))]
    assert compare(a, [video("v", ("S1", 0, 10))]).gaps_s == ()
    result = compare(a, [video("v", ("S1", 3, 11, "undone"))])
    assert (result.gaps_s, result.events_a) == ((1,), 1)


def test_videos_of_one_file_alone_and_those_with_other_steps_are_told():
    a = [video("v"), video("w"), video("x", steps=2)]
    b = [video("v"), video("x", steps=3), video("y")]
    result = compare(a, b)
    assert (result.num_videos, result.only_a, result.only_b, result.other_steps) == (1, ("w",), ("y",), ("x",))
    assert result.numbers(2)["f1"] is None  # nothing happens in it


def test_files_of_other_videos_are_not_compared():
    with pytest.raises(ProspectError, match=r"no video in both files \('v', \.\.\. in the first and 'w'"):
        compare([video("v")], [video("w")])
    with pytest.raises(ProspectError, match="the 1 videos in both files have unlike lists of steps"):
        compare([video("v")], [video("v", steps=1)])
