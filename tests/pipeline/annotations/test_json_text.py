import difflib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.annotations.json_files import DECODER
from pipeline.annotations.json_text import Element, entries, margin_of, same, with_entry, with_value

CLIP = {
    "video_uid": "v é", "fps": 2, "score": 1.0, "odd": {"b": [1, {"c": None}], "a": True},
    "conversation": [
        {"role": "user", "content": "Hello", "start_frame": 3, "end_frame": 4, "extra": [1, 2]},
        {"role": "DST_UPDATE", "content": [{"id": "S1", "transition": "start"}], "start_frame": 4, "end_frame": 6, "dst_state": {"S1": "not_started"}},
        {"role": "assistant", "content": "Ja, schön", "start_frame": 4, "end_frame": 6, "dst_state": {"S1": "in_progress"}},
    ],
}  # fmt: skip
BY_HAND = """{"video_uid": "v", "fps":  2.50, "note" : "\\u00e9",
  "conversation": [
    {"role": "user", "content": "Hi", "time": 0},
    {"role": "assistant",   "content": "Ho", "time": 4.50}   ,

    {"role": "assistant", "content": "Hu", "time": 5}
  ], "last": 1e2}"""
STYLES = [
    {"indent": 1}, {"indent": 4, "ensure_ascii": False}, {"indent": "\t"}, {}, {"ensure_ascii": False},
    {"separators": (",", ":")}, {"indent": 2, "separators": (",", ":")},
]  # fmt: skip


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]


def changed(clip, number, **values):
    turns = [Element(place, turn) for place, turn in enumerate(clip["conversation"])]
    turns[number] = Element(number, clip["conversation"][number] | values)
    return clip | {"conversation": [turn.value for turn in turns]}, {"conversation": turns}


@pytest.mark.parametrize("style", STYLES)
def test_a_changed_value_is_all_that_changes_and_reads_as_if_dumped_anew(style):
    text = json.dumps(CLIP, **style)
    new, lists = changed(CLIP, 1, end_frame=9, dst_state={"S1": "completed", "S2": "in_progress"})
    assert with_value(text, new, lists) == json.dumps(new, **style)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_new_turn_is_written_as_its_neighbours_are(style, place):
    text = json.dumps(CLIP, **style)
    turn = {"role": "DST_UPDATE", "content": [{"id": "S1", "transition": "complete"}], "start_frame": 5, "end_frame": 5}
    turns = [Element(number, one) for number, one in enumerate(CLIP["conversation"])]
    turns.insert(place, Element(None, turn))
    new = CLIP | {"conversation": [one.value for one in turns]}
    assert with_value(text, new, {"conversation": turns}) == json.dumps(new, **style)


@pytest.mark.parametrize("style", STYLES)
def test_turns_go_and_change_places(style):
    text = json.dumps(CLIP, **style)
    for order in ([2, 0, 1], [1], [], [0, 2], [2, 1]):
        turns = [Element(number, CLIP["conversation"][number]) for number in order]
        new = CLIP | {"conversation": [one.value for one in turns]}
        assert with_value(text, new, {"conversation": turns}) == json.dumps(new, **style)


@pytest.mark.parametrize("style", STYLES)
def test_members_come_and_go(style):
    text = json.dumps(CLIP, **style)
    kept = {key: value for key, value in CLIP.items() if key != "fps"}
    new = kept | {"dst": [{"id": "S1", "name": "a"}]}
    turns = [Element(number, one) for number, one in enumerate(CLIP["conversation"])]
    assert with_value(text, new, {"conversation": turns}) == json.dumps(new, **style)


def test_a_file_written_by_hand_keeps_its_hand():
    clip = json.loads(BY_HAND)
    new, lists = changed(clip, 1, time=6.5)
    assert changed_lines(BY_HAND, with_value(BY_HAND, new, lists)) == [
        '-    {"role": "assistant",   "content": "Ho", "time": 4.50}   ,',
        '+    {"role": "assistant",   "content": "Ho", "time": 6.5}   ,',
    ]
    turns = [Element(number, one) for number, one in enumerate(clip["conversation"])]
    turns.insert(1, Element(None, {"role": "user", "content": "Ä", "time": 2}))
    made = with_value(BY_HAND, clip | {"conversation": [one.value for one in turns]}, {"conversation": turns})
    assert changed_lines(BY_HAND, made) == ['+    {"role": "user", "content": "\\u00c4", "time": 2},']


@pytest.mark.parametrize("style", STYLES)
def test_an_entry_of_an_array_is_indented_as_the_array_is(style):
    text = json.dumps([CLIP | {"dst": []}], **style)
    ((start, end),) = entries(text, False)
    new = CLIP | {"dst": [{"id": "S1", "name": "a"}], "more": {"a": [1]}}
    turns = [Element(number, one) for number, one in enumerate(CLIP["conversation"])]
    made = with_value(text[start:end], new, {"conversation": turns}, margin_of(text, start))
    assert json.loads(text[:start] + made + text[end:]) == [new]
    ordered = CLIP | {"dst": new["dst"], "more": new["more"]}
    assert text[:start] + made + text[end:] == json.dumps([ordered], **style)


def test_line_ends_of_windows_stay():
    text = json.dumps(CLIP, indent=1).replace("\n", "\r\n")
    new, lists = changed(CLIP, 1, dst_state={"S1": "completed", "S2": "in_progress"})
    assert with_value(text, new, lists) == json.dumps(new, indent=1).replace("\n", "\r\n")


def test_entries_of_arrays_objects_and_lines():
    assert entries('{"a": "\u2028\x0b"}\n\n{"b": 1}', True) == [(0, 11), (13, 21)]
    for text, is_lines in (('[ {"a": 1} ,\n{"b": 2}]', False), ('\n{"a": 1}\r\n\r\n  {"b": "\u2028"} \n', True)):
        found = [json.loads(text[slice(*place)]) for place in entries(text, is_lines)]
        assert [list(one) for one in found] == [["a"], ["b"]]
    assert entries(' {"a": 1}', False) == [(1, 9)]
    assert entries("[]", False) == []


@pytest.mark.parametrize("style", STYLES)
def test_an_entry_is_added_to_an_array(style):
    for clips in ([CLIP], [CLIP, CLIP]):
        text = json.dumps(clips, **style)
        assert with_entry(text, CLIP).rstrip() == json.dumps([*clips, CLIP], **style)
    assert json.loads(with_entry("[]", CLIP)) == [CLIP]
    assert with_entry("\n [1, 2]\n\n", {}) == "\n [1, 2, {}]\n\n"


def test_numbers_and_truth_are_not_the_same():
    assert not same(1, 1.0) and not same(True, 1) and same({"a": [1]}, {"a": [1]}) and same(float("nan"), float("nan"))
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
TURNS = st.dictionaries(st.sampled_from(["role", "content", "time", "x", "é"]), VALUES, max_size=4)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_whatever_changes_reads_back_and_what_stays_keeps_its_text(data):
    old = data.draw(st.lists(TURNS, max_size=4))
    head = data.draw(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=2))
    style = data.draw(st.sampled_from(STYLES))
    text = json.dumps(head | {"conversation": old}, **style)
    kept = [n for n in data.draw(st.permutations(range(len(old)))) if data.draw(st.booleans())]
    turns = [Element(n, data.draw(TURNS) if data.draw(st.booleans()) else old[n]) for n in kept]
    for turn in data.draw(st.lists(TURNS, max_size=2)):
        turns.insert(data.draw(st.integers(0, len(turns))), Element(None, turn))
    new = data.draw(st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=2)) | {
        "conversation": [one.value for one in turns]
    }
    made = with_value(text, new, {"conversation": turns})
    assert same_in_any_order(DECODER.decode(made), new)


def same_in_any_order(one, other):
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
