import json
from dataclasses import replace

import pytest

from pipeline.annotations.clips import Progress, Turn
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
        "dst_state", "history", "target", "labels", "next", "trailing", "progress", "frames",
    ]  # fmt: skip
    assert list(record["clip"]) == [
        "id", "dataset", "video_uid", "clip_idx", "fps", "start_frame", "end_frame", "goal", "num_samples",
    ]  # fmt: skip
    assert record["target"] == {"role": "dst_update", "text": "S1->start", "start_frame": 3}
    assert record["labels"] == {"should_update_dst": 1, "when_to_speak": 0}
    assert record["history"] == [{"role": "user", "text": "naïve?", "start_frame": 0, "end_frame": 1}]
    assert record["dst_state"] == [["S1", "not_started"], ["S2", "not_started"]]
    assert record["frames"] == {"file": "frames/v.arrow", "indices": [3, 4]}
    assert "naïve".encode() in encode(sample)


def test_progress_texts_stand_in_the_last_sample_alone():
    clip = make_clip(TURNS, goal="Tea", progress=(Progress(-1, "Begun."), Progress(3, "One.")))
    records = [json.loads(encode(sample)) for sample in expand(clip, 4, 8)]
    assert [record["progress"] for record in records] == [[]] * (len(records) - 1) + [[[-1, "Begun."], [3, "One."]]]
    assert {record["clip"]["goal"] for record in records} == {"Tea"}


def test_key_is_readable_unique_and_short():
    clip = make_clip(clip_id="a.b/c é" + "x" * 100)
    key = expand(clip, 32, 8)[0].key
    assert key.startswith("a_b_c__xxxx") and key.endswith("-0000")
    assert len(key) == 40 + 1 + 8 + 1 + 4
    assert clip_key(clip) != clip_key(make_clip(clip_id="a.b/c é" + "x" * 99))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "shard a: found no JSON"),
        (b'{"format": "other/1"}', "shard a: format: found 'other/1', expected 'prospect.turn/3'"),
        (
            b'{"format": "prospect.turn/1"}',
            "shard a: format: found 'prospect.turn/1', expected .*; build the shards again: prospect build-shards --force",
        ),
        (b'{"format": "prospect.turn/3"}', "shard a: clip: found nothing, expected this key"),
        (b"[]", "shard a: format: found 'list', expected 'prospect.turn/3'"),
    ],
)
def test_what_is_no_sample_is_refused_by_name(data, message):
    with pytest.raises(ProspectError, match=message):
        decode(data, "shard a")


TURNS = [Turn("user", "Hi", 0, 1), Turn("dst_update", "S1->start", 2, 3), Turn("assistant", "Go.", 6, 6)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["clip"].update(id=""), "clip.id: found '', expected string"),
        (lambda r: r["clip"].update(fps=0), "clip.fps: found 0, expected greater than 0"),
        (lambda r: r["clip"].update(fps="2"), "clip.fps.* found '2', expected a valid"),
        (lambda r: r["clip"].update(end_frame=10**8), "clip.end_frame: found 100000000, expected 0 or later, by less"),
        (lambda r: r["clip"].update(start_frame=-1), "clip.start_frame: found -1, expected greater than or equal to 0"),
        (lambda r: r["clip"].update(num_samples=2), "sample_idx: found 4, expected less than clip.num_samples, 2"),
        (lambda r: r.update(sample_idx=True), "sample_idx: found True, expected a valid integer"),
        (lambda r: r.update(end_frame=10**8), "start_frame, end_frame: found '6..100000000', expected frames of the clip"),
        (lambda r: r.update(start_frame=7), "start_frame, end_frame: found '7..6'"),
        (lambda r: r.update(kind="silent"), "target.role: found 'assistant', expected that of a sample of kind silent"),
        (lambda r: r.update(target=None), "target.role: found None, expected that of a sample of kind assistant"),
        (lambda r: r["target"].update(start_frame=7), "target.start_frame: found 7, expected 0..6"),
        (lambda r: r["target"].update(text=None), "target.text: found None, expected a valid string"),
        (lambda r: r["frames"].update(indices=[]), "frames.indices: found '0 of them', expected 1, one a frame"),
        (lambda r: r["frames"].update(file=3), "frames.file: found 3, expected a valid string"),
        (lambda r: r["steps"].append(["S1", "again"]), "steps: found 'S1, S2, S1', expected ids"),
        (lambda r: r["steps"][0].append("x"), "steps.0: found list, expected"),
        (lambda r: r["initial_state"].pop(), "initial_state: found 'S1', expected the steps, S1, S2"),
        (lambda r: r["initial_state"][0].__setitem__(1, "done"), "initial_state.0.1: found 'done', expected 'not_started'"),
        (lambda r: r["dst_state"].reverse(), "dst_state: found 'S2, S1', expected the steps, S1, S2"),
        (lambda r: r["history"][1].update(text="S1->begin"), r"history.1.text: found 'S1->begin', expected updates that can"),
        (lambda r: r["history"][1].update(text="S1->complete"), r"history.1.text: found 'S1->complete', .*S1 in_progress"),
        (lambda r: r["history"][1].update(text="S9->start"), "history.1.text: found 'S9->start', .* is not one of S1, S2"),
        (lambda r: r["history"][0].update(role="boss"), "history.0.role: found 'boss', expected 'system', 'user'"),
        (lambda r: r["history"][0].update(end_frame=99), "history.0.start_frame, end_frame: found '0..99', expected frames"),
        (lambda r: r["history"][0].update(start_frame=None), "history.0.start_frame, end_frame: found 'None..1'"),
        (lambda r: r["clip"].update(goal=None), "clip.goal: found None, expected a valid string"),
        (lambda r: r.update(progress=[[10, "x"]]), r"progress: found '\[10\]', expected frames of the clip, or the one before"),
        (lambda r: r.update(progress=[[-2, "x"]]), r"progress: found '\[-2\]', expected frames of the clip"),
        (lambda r: r.update(progress=[[4, "x"], [3, "y"]]), r"progress: found '\[4, 3\]', expected .* in their order"),
        (lambda r: r.update(progress=[[4, ""]]), "progress.0.1: found '', expected string"),
        (lambda r: r.pop("progress"), "progress: found nothing, expected this key"),
        (lambda r: r.update(next="stop"), "next: found 'stop', expected 'dst_update', 'assistant'"),
        (lambda r: r.pop("trailing"), "trailing: found nothing, expected this key"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_named_with_shard_and_key(change, message):
    clip = make_clip(TURNS)
    sample = next(s for s in expand(clip, 32, 8) if s.kind == "assistant")
    record = json.loads(encode(sample))
    assert decode(json.dumps(record).encode(), "x.tar sample k") == replace(
        sample, clip=decode(encode(sample), "").clip
    )
    change(record)
    with pytest.raises(ProspectError, match=rf"^x\.tar sample k: {message}") as caught:
        decode(json.dumps(record).encode(), "x.tar sample k")
    assert "build the shards again" in str(caught.value)


def test_depth_and_surrogates_are_no_sample():
    for data in (b"[" * 100_000, b'{"format": "\\ud800"}', b"\xff"):
        with pytest.raises(ProspectError, match=r"^w: found no JSON"):
            decode(data, "w")
