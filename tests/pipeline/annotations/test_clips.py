import json

import pytest

from pipeline.annotations.clips import Step, Turn, in_sequence_order, prompt_text, read_raw_clips
from pipeline.errors import ProspectError


def test_prompt_is_the_designs():
    steps = (Step("S1", "Take it"), Step("S2", "Put it"))
    plain = "You are a proactive assistant helping with task completion.\n\nTask Steps:\n- S1: Take it\n- S2: Put it"
    assert prompt_text(steps, {"S1": "not_started", "S2": "not_started"}) == plain
    progress = "\n\nCurrent Progress: S1:completed, S2:in_progress"
    assert prompt_text(steps, {"S1": "completed", "S2": "in_progress"}) == plain + progress


def test_turns_stand_at_their_last_frame_with_context_first():
    dst = Turn("dst_update", "S1->start", 3, 5)
    user = Turn("user", "hi", 4, 5)
    says = Turn("assistant", "yes", 3, 5)
    late = Turn("user", "hm", 6, 6)
    system = Turn("system", "be kind", None, None)
    early = Turn("system", "also", 0, 1)
    assert in_sequence_order([dst, system, user, says, early, late], start_frame=2) == (
        system,
        early,
        user,
        dst,
        says,
        late,
    )


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
        ("a.jsonl", '{"a": 1}\n{"b"', r"a\.jsonl line 2 column 5: not valid JSON"),
        ("a.json", "", r"a\.json line 1 column 1: not valid JSON"),
        ("a.json", '[{"a": 1}', r"a\.json line 1 column 10: not valid JSON"),
        ("a.jsonl", '{"a": 1}\n{"b": \n', r"a\.jsonl line 2 column 7: not valid JSON"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl line 1 column 1: not valid JSON \(maximum recursion"),
        ("a.jsonl", "1" * 5000, r"a\.jsonl line 1 column 1: not valid JSON \(Exceeds the limit"),
        ("a.json", '[{"a": 99999999999999999999}]', r"a\.json line 1 column \d+: .* 64 bits"),
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
    with pytest.raises(ProspectError, match=rf"a\.json line {place + 2} column 15: not valid JSON \(lexical error"):
        list(read_raw_clips(tmp_path / "a.json"))


def test_a_file_cut_short_is_named_with_its_end(tmp_path):
    (tmp_path / "a.json").write_text("[\n" + '{"video_uid": "a"},\n' * 9000 + '{"video_uid": "b')
    with pytest.raises(ProspectError, match=r"a\.json line 9002 column 17: not valid JSON"):
        list(read_raw_clips(tmp_path / "a.json"))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_bytes_that_are_not_utf8_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(
        b'{"a": "x"}\n{"a": "\xff"}' if name == "a.jsonl" else b'[{"a": "x"},\n{"a": "\xff"}]'
    )
    with pytest.raises(ProspectError, match=rf"{name} line 2 column \d+: not valid JSON") as caught:
        list(read_raw_clips(tmp_path / name))
    assert "b'" not in str(caught.value)
