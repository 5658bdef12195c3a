import pytest

from prospect.web.browse.numbers import distribution
from tests.helpers.browse import library_of


def test_a_split_in_numbers(world):
    record = library_of(world.data).numbers["x/train"].record()
    assert (record["clips"], record["frames"], record["seconds"]) == (2, 36, 18.0)
    assert (record["updates"], record["utterances"]) == (3, 1)
    assert record["silence"] == pytest.approx(1 - 2 / 36)  # v1 has events at 6 and 12, v2 none
    assert record["steps"] == [{"step": "Take it", "counts": [1, 1, 0]}, {"step": "Put it", "counts": [1, 0, 0]}]
    assert record["transitions"] == ["start", "complete", "reset"]
    assert {entry["word"]: entry["count"] for entry in record["words"]} == {"well": 1, "begun": 1}
    lengths, gaps, words = record["plots"]
    assert (lengths["count"], lengths["numbers"]["median"]) == (2, 9.0)
    assert (gaps["count"], gaps["numbers"]["mean"]) == (1, 3.0)  # frames 6 to 12, two a second
    assert (words["count"], words["numbers"]["most"]) == (1, 2)


def test_what_training_never_shows(world):
    numbers = library_of(world.data).numbers
    steps, pairs, sets = numbers["x/test"].unseen(numbers["x/train"])
    assert (steps["unseen"], steps["total"], steps["listed"]) == (1, 2, [{"steps": ["Turn it"], "count": 2}])
    assert (pairs["unseen"], pairs["total"], pairs["listed"]) == (1, 1, [{"steps": ["Turn it", "Take it"], "count": 1}])
    assert (sets["unseen"], sets["total"]) == (1, 1)
    assert [entry["unseen"] for entry in numbers["x/test"].unseen(numbers["x/test"])] == [0, 0, 0]


@pytest.mark.parametrize(
    "values",
    [[1.0], [0.5, 0.5], [3, 4, 4, 9], [0.1 * n for n in range(100)], [1e6, 1e6 + 1], [0.0], [1e9 / 3] * 2, [129.5]],
)
def test_every_value_is_in_one_bin(values):
    plot = distribution(values)
    assert sum(entry["count"] for entry in plot["bins"]) == len(values) == plot["count"]
    assert all(a["to"] == b["from"] for a, b in zip(plot["bins"], plot["bins"][1:], strict=False))
    assert len(plot["bins"]) <= 16


def test_whole_numbers_have_whole_bins():
    assert distribution([3, 4, 4, 9])["bins"][0] == {"from": 0.0, "to": 1.0, "count": 0}
    assert distribution([]) == {"count": 0, "numbers": {}, "bins": []}
