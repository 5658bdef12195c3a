import json
import os
import tracemalloc

import pytest

from pipeline.annotations import json_files
from pipeline.annotations.json_files import read_raw_clips, repeated_keys
from pipeline.errors import ProspectError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '[{"video_uid": "a"}, {"video_uid": "b"}]'),
        ("a.jsonl", '{"video_uid": "a"}\n\n{"video_uid": "b"}\n'),
        ("a.json", '\ufeff \n[{"video_uid": "a"}, {"video_uid": "b"}]'),
    ],
)
def test_arrays_and_lines_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [clip["video_uid"] for clip in read_raw_clips(tmp_path / name)] == ["a", "b"]


def test_a_single_object_is_one_clip_and_numbers_keep_their_type(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"fps": 2, "time": 1.5}')
    (clip,) = read_raw_clips(path)
    assert json.dumps(clip) == '{"fps": 2, "time": 1.5}'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '[{"a": 1},\n {"b": }]', r"a\.json line 2 column 8: not valid JSON"),
        ("a.json", '[{"a": 1}\n {"b": 2}]', r"a\.json line 2 column 2: not valid JSON \(expecting ','"),
        ("a.json", '{"a": 1}\n{"b": 2}', r"a\.json line 2 column 1: .*one object a line is \.jsonl"),
        ("a.json", '[{"a": 1},]', r"a\.json line 1 column 11: not valid JSON \(Expecting value"),
        ("a.json", "7", r"a\.json line 1 column 1: not valid JSON \(an array of clips or one clip expected"),
        ("a.jsonl", '{"a": 1}\n{"b"', r"a\.jsonl line 2 column 5: not valid JSON"),
        ("a.json", "", r"a\.json line 1 column 1: not valid JSON"),
        ("a.json", '[{"a": 1}', r"a\.json line 1 column 10: not valid JSON"),
        ("a.jsonl", '{"a": 1}\n{"b": \n', r"a\.jsonl line 2 column 7: not valid JSON"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl line 1 column 1: not valid JSON \(nested deeper"),
        ("a.json", "[" * 100_000, r"a\.json line 1 column 2: not valid JSON \(nested deeper than 100 arrays"),
        ("a.json", "[" + "[" * 101 + "]" * 101 + "]", r"a\.json line 1 column 2: not valid JSON \(nested deeper"),
        ("a.jsonl", '{"a": ' * 101 + "1" + "}" * 101, r"a\.jsonl line 1 column 1: not valid JSON \(nested deeper"),
        ("a.json", '[{"a": ' + "1" * 6000 + "}]", r"a\.json line 1 column 2: not valid JSON \(Exceeds the limit"),
        ("a.jsonl", "1" * 5000, r"a\.jsonl line 1 column 1: not valid JSON \(Exceeds the limit"),
    ],
)
def test_broken_json_is_named_with_its_place(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ProspectError, match=message):
        list(read_raw_clips(tmp_path / name))


@pytest.mark.parametrize("place", [10, 1500, 2999])
def test_a_mistake_far_into_a_large_file_is_named_with_its_place(tmp_path, place):
    lines = ['{"video_uid": "' + "x" * 100 + '"},'] * 3000
    lines[place] = '{"video_uid": x},'
    (tmp_path / "a.json").write_text("[\n" + "\n".join(lines) + "\n{}]")
    with pytest.raises(ProspectError, match=rf"a\.json line {place + 2} column 15: not valid JSON \(Expecting value"):
        list(read_raw_clips(tmp_path / "a.json"))


def test_a_file_cut_short_is_named_with_its_end(tmp_path):
    (tmp_path / "a.json").write_text("[\n" + '{"video_uid": "a"},\n' * 9000 + '{"video_uid": "b')
    with pytest.raises(ProspectError, match=r"a\.json line 9002 column 15: not valid JSON \(Unterminated string"):
        list(read_raw_clips(tmp_path / "a.json"))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_bytes_that_are_not_utf8_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(
        b'{"a": "x"}\n{"a": "\xff"}' if name == "a.jsonl" else b'[{"a": "x"},\n{"a": "\xff"}]'
    )
    with pytest.raises(ProspectError, match=rf"{name} line 2 column \d+: not valid JSON") as caught:
        list(read_raw_clips(tmp_path / name))
    assert "b'" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [NaN, Infinity, -Infinity]}', [float("nan"), float("inf"), float("-inf")]),
        ('{"a": 99999999999999999999}', 99999999999999999999),
        ('{"a": "\\ud800 x"}', "\ud800 x"),
        ('{"a": "\\ud83d\\ude00"}', "\U0001f600"),
        ('{"a": 1e999}', float("inf")),
        ("{}", None),
        ("[[]]", None),
        ("5", None),
    ],
)
def test_the_same_text_means_the_same_in_both_forms(tmp_path, name, text, value):
    """data.md 18: NaN was refused in .json alone; lone surrogates became `?` there, silently."""
    (tmp_path / name).write_text(text if name == "a.jsonl" else f"[{text}]")
    (entry,) = read_raw_clips(tmp_path / name)
    assert repr(entry) == repr({"a": value} if value is not None else json.loads(text))


def test_every_text_is_cut_anywhere_without_a_difference(tmp_path, monkeypatch):
    """What is held ends in the middle of strings, escapes, numbers, names and characters of several bytes."""
    entries = [
        {"a": 'x\\"\u00e9\U0001f600' * n, "b": [n, -1.5e-7, True, None, float("inf")], "c": {}} for n in range(9)
    ]
    text = json.dumps(entries, indent=1) + " \n"
    wrong = "Infinite".join(text.rsplit("Infinity", 1))
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "c.json").write_text(wrong)
    with pytest.raises(json.JSONDecodeError) as theirs:
        json.loads(wrong)
    (tmp_path / "b.json").write_text("\ufeff" + json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    for read_bytes in (1, 2, 3, 7, 64, 1000):
        monkeypatch.setattr(json_files, "READ_BYTES", read_bytes)
        for name in ("a.json", "b.json"):
            assert list(read_raw_clips(tmp_path / name)) == entries
        place = rf"c\.json line {theirs.value.lineno} column {theirs.value.colno}: not valid JSON"
        with pytest.raises(ProspectError, match=place):
            list(read_raw_clips(tmp_path / "c.json"))


def test_a_key_that_stands_twice_is_found_with_its_place(tmp_path):
    text = '{"a": 1, "b": [{"c": 1}, {"c": 1, "d": {"e": 1, "e": 2}}], "a": 2}'
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_text(text)
        (entry,) = read_raw_clips(tmp_path / name)
        assert sorted(repeated_keys(entry)) == [("", "a"), ("b.1.d", "e")]
    assert list(repeated_keys({"a": [{"b": 1}, {"b": 1}]})) == []


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_memory_follows_the_text_not_its_depth_or_a_missing_quote(tmp_path, monkeypatch, name):
    """attack.md 6: 80 KB of nested arrays took 3.9 GB."""
    monkeypatch.setattr(json_files, "MAX_CHARACTERS", 1 << 20)
    for text in ("[" * 80_000, '[{"a": ' * 11_000, '[{"a": "' + "x" * (4 << 20) + '"}]', '["' + "x" * (4 << 20)):
        (tmp_path / name).write_text(text)
        tracemalloc.start()
        with pytest.raises(ProspectError, match="not valid JSON"):
            list(read_raw_clips(tmp_path / name))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 << 20
    assert os.path.getsize(tmp_path / name) > 4 << 20


def test_an_array_is_read_without_holding_it(tmp_path):
    with (tmp_path / "a.json").open("w") as file:
        file.write("[" + ",".join(['{"a": "' + "x" * 1000 + '"}'] * 20_000) + "]")
    tracemalloc.start()
    assert sum(1 for _ in read_raw_clips(tmp_path / "a.json")) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20, "of 20 MB"
