import json

import pytest

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from pipeline.shards.expand import expand
from pipeline.shards.sample import clip_key, decode, encode
from tests.helpers.fakes import make_clip


def test_the_record_has_the_designs_keys_in_order():
    clip = make_clip([Turn("user", "naïve?", 0, 1), Turn("dst_update", "S1->start", 3, 4)], frames=(0, 6))
    _, _, sample, _ = expand(clip, 32, 8)
    record = json.loads(encode(sample))
    assert list(record) == [
        "format", "clip", "sample_idx", "kind", "start_frame", "end_frame", "prompt", "steps", "initial_state",
        "dst_state", "history", "target", "labels", "next", "trailing", "frames",
    ]  # fmt: skip
    assert list(record["clip"]) == [
        "id", "dataset", "video_uid", "clip_idx", "fps", "start_frame", "end_frame", "num_samples",
    ]  # fmt: skip
    assert record["target"] == {"role": "dst_update", "text": "S1->start", "start_frame": 3}
    assert record["labels"] == {"should_update_dst": 1, "when_to_speak": 0}
    assert record["history"] == [{"role": "user", "text": "naïve?", "start_frame": 0, "end_frame": 1}]
    assert record["dst_state"] == [["S1", "not_started"], ["S2", "not_started"]]
    assert record["frames"] == {"file": "frames/v.arrow", "indices": [3, 4]}
    assert "naïve".encode() in encode(sample)


def test_key_is_readable_unique_and_short():
    clip = make_clip(clip_id="a.b/c é" + "x" * 100)
    key = expand(clip, 32, 8)[0].key
    assert key.startswith("a_b_c__xxxx") and key.endswith("-0000")
    assert len(key) == 40 + 1 + 8 + 1 + 4
    assert clip_key(clip) != clip_key(make_clip(clip_id="a.b/c é" + "x" * 99))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "shard a: not a turn sample"),
        (b'{"format": "other/1"}', "shard a: found format 'other/1', expected 'prospect.turn/2'"),
        (
            b'{"format": "prospect.turn/1"}',
            "shard a: found format 'prospect.turn/1', expected .*; build the shards again: prospect build-shards --force",
        ),
        (b'{"format": "prospect.turn/2"}', "shard a: found no key 'clip'"),
        (b"[]", "shard a: not a turn sample"),
    ],
)
def test_what_is_no_sample_is_refused_by_name(data, message):
    with pytest.raises(ProspectError, match=message):
        decode(data, "shard a")
