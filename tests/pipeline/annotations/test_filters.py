"""Filters of clips, by hand: how they are read, what they say of a clip, what they are counted as."""

import pytest

from pipeline.annotations.filters import Effect, Effects, Judgement, judge, keys_of, parse_filter, told
from pipeline.errors import ProspectError


@pytest.mark.parametrize(
    ("text", "key", "op", "value"),
    [
        ("quality>=8", "quality", ">=", 8),
        (" quality  >  8.5 ", "quality", ">", 8.5),
        ("confidence<1e-1", "confidence", "<", 0.1),
        ("confidence<=-1", "confidence", "<=", -1),
        ("user_type!=no_talk", "user_type", "!=", "no_talk"),
        ("user_id=07-a b", "user_id", "=", "07-a b"),
        ('user_id="7"', "user_id", "=", "7"),
        ("user_id=7", "user_id", "=", 7),
        ("has_summary=true", "has_summary", "=", True),
        ("quality!=null", "quality", "!=", None),
        ("provenance.importer=table", "provenance.importer", "=", "table"),
        ('task="a=b"', "task", "=", "a=b"),
        ("task=a>=b", "task", "=", "a>=b"),
    ],
)
def test_a_filter_is_key_operator_and_value(text, key, op, value):
    read = parse_filter(text)
    assert (read.key, read.op, read.value, type(read.value)) == (key, op, value, type(value))
    assert parse_filter(read.text) == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("quality", "expected KEY OP VALUE with OP one of = != < <= > >="),
        ("quality>=", "expected KEY OP VALUE"),
        (">=8", "expected KEY OP VALUE"),
        ("quality==8", "expected KEY OP VALUE"),
        ("quality=>8", "expected KEY OP VALUE"),
        ("quality><8", "expected KEY OP VALUE"),
        ("quality>=high", "found 'high' after >=, expected a number"),
        ("quality>=true", "found True after >=, expected a number"),
        ('quality>="8"', "found '8' after >=, expected a number"),
        ("quality>null", "found None after >, expected a number"),
        ("confidence>=.5", "found '.5', expected a value as JSON writes it, e.g. 0.5"),
        ("quality=+8", r"found '\+8', expected a value as JSON"),
        ("quality=NaN", "found 'NaN', expected a value as JSON"),
        ("quality<-Infinity", "found '-Infinity', expected a value as JSON"),
        ("quality<1e999", "found '1e999', expected one value, a number in bounds"),
        ('user_type="no_talk', "expected a value as JSON"),
        ('user_type=["a", "b"]', "expected one value"),
        ("__import__('os').system('x')", "expected KEY OP VALUE"),
    ],
)
def test_what_is_no_filter_is_refused(text, message):
    with pytest.raises(ProspectError, match=f"^--where .*: .*{message}"):
        parse_filter(text)


@pytest.mark.parametrize(
    ("text", "metadata", "meets"),
    [
        ("quality>=8", {"quality": 8}, True),
        ("quality>=8", {"quality": 7.99}, False),
        ("quality>8", {"quality": 8.0}, False),
        ("quality<=8", {"quality": 8}, True),
        ("quality<8", {"quality": float("nan")}, False),
        ("quality>=8", {}, False),
        ("quality<8", {"quality": None}, False),
        ("user_type=no_talk", {"user_type": "no_talk"}, True),
        ("user_type=no_talk", {"user_type": "No_talk"}, False),
        ("user_type!=no_talk", {"user_type": "talk_some"}, True),
        ("user_type!=no_talk", {"user_type": "no_talk"}, False),
        ("user_type!=no_talk", {}, True),
        ("user_type=no_talk", {}, False),
        ("user_type=null", {}, True),
        ("user_type!=null", {"user_type": None}, False),
        ("user_type!=null", {"user_type": "x"}, True),
        ("count=1", {"count": True}, False),
        ("count=true", {"count": True}, True),
        ("count=true", {"count": 1}, False),
        ("count=1", {"count": "1"}, False),
        ("count=1", {"count": 1.0}, True),
        ("method=human", {"method": ["human"]}, True),
        ("method=human", {"method": ["align", "human"]}, False),
        ("method!=align", {"method": ["align", "human"]}, False),
        ("method!=align", {"method": ["endpoint", "human"]}, True),
        ("method=human", {"method": []}, False),
        ("scores>=4", {"scores": [4, 5]}, True),
        ("scores>=4", {"scores": [3, 5]}, False),
        ("a.b=x", {"a": {"b": "x"}}, True),
        ("a.b=x", {"a.b": "x"}, True),
        ("a.b=x", {"a": "x"}, False),
    ],
)
def test_what_a_clip_has_is_compared_as_what_it_is(text, metadata, meets):
    assert judge({"metadata": metadata}, [parse_filter(text)]).meets == (meets,)


def test_a_key_is_the_metadatas_else_the_clips_own():
    clip = {"video_uid": "cup", "user_type": "x", "metadata": {"user_type": "y"}}
    filters = [parse_filter(text) for text in ("video_uid=cup", "user_type=y", "metadata.user_type=y", "user_type=x")]
    assert judge(clip, filters) == Judgement((True,) * 4, (True, True, True, False))
    assert judge({"metadata": "none", "user_type": "x"}, filters[1:2]) == Judgement((True,), (False,))


def test_what_cannot_be_compared_is_a_mistake_of_the_clip():
    clip = {"metadata": {"quality": "9", "about": {"a": 1}, "turns": [{"x": 1}]}}
    filters = [parse_filter(text) for text in ("quality>=8", "about=1", "turns=1", "quality=9")]
    value = "a text, a number, true, false, or a list of such"
    judged = judge(clip, filters)
    assert judged.has == (True,) * 4 and judged.meets == (True, True, True, False)
    assert judged.mistakes == (
        ("quality", "'9'", "a number, for --where quality>=8"),
        ("about", "{'a': 1}", f"{value}, for --where about=1"),
        ("turns", "{'x': 1}", f"{value}, for --where turns=1"),
    )


def test_each_filter_is_counted_whatever_the_others_do():
    filters = [parse_filter(text) for text in ("quality>=8", "user_type!=no_talk", "length<5")]
    effects = Effects(filters)
    for metadata in (
        {"quality": 9, "user_type": "talk_some"},
        {"quality": 7, "user_type": "no_talk"},
        {"user_type": "talk_some"},
        {"quality": 9},
    ):
        effects.add(judge({"metadata": metadata}, filters))
    assert effects.each == [
        Effect("quality>=8", left_out=2, without=1, num_with=3),
        Effect("user_type!=no_talk", left_out=1, without=0, num_with=3),
        Effect("length<5", left_out=4, without=4, num_with=0),
    ]
    assert (effects.num_clips, effects.num_left_out, effects.unknown()) == (4, 4, ["length<5"])
    assert told(effects.each) == "quality>=8 2 (1 without it), user_type!=no_talk 1, length<5 4 (4 without it)"


def test_the_keys_that_have_values_are_told():
    clips = [
        {"metadata": {"quality": 8, "empty": None, "method": ["human"], "none": [], "turns": [{"a": 1}]}},
        {"metadata": {"provenance": {"importer": "table", "from": {"file": "x"}}}},
        {"metadata": "text"},
        "no clip",
    ]
    assert keys_of(clips) == "method, quality, provenance.importer, provenance.from.file"
    assert keys_of([{"metadata": {f"k{number:02}": 1 for number in range(41)}}]).endswith("k38, k39, ...")
