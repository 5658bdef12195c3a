import io
import os
import re
import shutil
import signal
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from pipeline.errors import ProspectError
from pipeline.io.frame_store import find_frames_file, open_frames
from pipeline.io.storage import LocalFolder
from pipeline.shards.expand import expand
from pipeline.shards.reader import ShardFile, read_samples, shards_at
from prospect.config import DataConfig, NegativeRate
from prospect.data import collate as collate_module
from prospect.data.collate import collate
from prospect.data.decode import decode_frame, decode_into
from prospect.data.index import clips_of, read_split
from prospect.data.loader import MicroBatches, make_loader
from prospect.data.negatives import is_kept, jitter_of
from prospect.data.order import Request
from prospect.data.reader import Item, Readers, Sampling, SequenceReader
from prospect.data.sequences import SCHEMA, sequence_table, table_fingerprint
from prospect.layout import IGNORE, Tokens
from tests.helpers.fakes import jpeg, replace_in_index
from tests.helpers.readers import reader


def test_clips_are_rebuilt_from_the_index_as_from_the_shards(root):
    split = read_split(root / "plain", "x", "train", root / "data")
    clips = list(clips_of(split.index))
    ends = [i for i, after in enumerate([*split.index["sample_idx"][1:], 0]) if after == 0]
    assert [split.sample(row).clip for row in ends] == clips and len(clips) == 3
    assert [s.key for clip in clips for s in expand(clip, 4, 8)] == split.index["key"].to_list()


def test_clip_packing_plans_one_sequence_a_clip_and_loads_each_frame_once(root, tokenizer, monkeypatch):
    decoded = []

    def count(out, data, where):
        decoded.append(where)
        decode_into(out, data, where)

    monkeypatch.setattr(collate_module, "decode_into", count)
    packed = reader(root, tokenizer)
    assert len(packed) == 3
    item = packed.read(Request(1, 0, 0))
    assert item.sequence.frames == list(range(2, 20)) and not decoded, "not before the batch is put together"
    frames = collate([item], 0, 32)["frames"]
    assert len(decoded) == 18 == len(set(decoded))
    assert frames.shape == (18, 3, 32, 32) and frames.dtype == torch.uint8
    assert np.array_equal(frames[3], decode_frame(jpeg(20 + 5), 32, "")), "frame 5 of the second video"


@pytest.mark.parametrize("packing", ["clip", "turn"])
def test_embedded_frames_and_arrow_files_give_the_same_items(root, tokenizer, packing):
    plain, embedded = (reader(root, tokenizer, shards, packing=packing) for shards in ("plain", "embedded"))
    for i in range(len(plain)):
        one, two = plain.read(Request(i, 0, 0)), embedded.read(Request(i, 0, 0))
        assert one.sequence == two.sequence and one.images == two.images


def test_turn_packing_never_decodes_unsampled_frames(root, tokenizer, monkeypatch):
    decoded = []

    def count(out, data, where):
        decoded.append(where)
        decode_into(out, data, where)

    monkeypatch.setattr(collate_module, "decode_into", count)
    sampling = Sampling(NegativeRate(start=0.4), seed=7, max_steps=10)
    turns = reader(root, tokenizer, packing="turn", sampling=sampling)
    expected = 0
    for i, row in enumerate(turns.split.index.iter_rows(named=True)):
        collate([turns.read(Request(i, 2, 0))], 0, 32)
        frames = range(row["start_frame"], row["end_frame"] + 1)
        kept = [f for f in frames if row["kind"] != "silent" or is_kept(7, 2, row["clip_id"], f, 0.4)]
        expected += len(kept)
    assert len(decoded) == expected < turns.split.index["num_frames"].sum()


def test_turn_packing_knows_what_follows_at_the_same_frame(root, tokenizer):
    turns = reader(root, tokenizer, packing="turn")
    following = dict(zip(turns.split.index["target"], turns.table["following"], strict=True))
    assert following["S1->start"] == "assistant" and following["Well begun."] is None


def test_negative_sampling_drops_decisions_not_frames(root, tokenizer):
    sampling = Sampling(NegativeRate(start=0.5), seed=1, max_steps=10)
    whole = reader(root, tokenizer).read(Request(0, 3, 5))
    sampled = reader(root, tokenizer, sampling=sampling).read(Request(0, 3, 5))
    assert whole.sequence.ids == sampled.sequence.ids and whole.sequence.frames == sampled.sequence.frames
    for position, frame in enumerate(whole.sequence.silent_frame):
        kept = frame < 0 or is_kept(1, 3, "v0-c000", frame, 0.5)
        expected = whole.sequence.update_labels[position] if kept else IGNORE
        assert sampled.sequence.update_labels[position] == expected


def test_several_readers_are_one(root, tokenizer):
    """Three sequences of one dataset, then two of another."""
    first = reader(root, tokenizer)
    second = reader(root, tokenizer, shards="embedded")
    second = SequenceReader(second.split, second.table.tail(2), second.tokens, second.data, 32, None)
    both = Readers((first, second))
    assert len(both) == 5
    keys = [both[Request(i, 0, 0)].key for i in range(5)]
    assert [key.split("-")[0] for key in keys] == ["v0", "v1", "v2", "v1", "v2"]
    batches = make_loader(both, MicroBatches(lambda: iter([[Request(4, 0, 0), Request(0, 0, 0)]]), 1), 0, 1)
    (batch,) = batches
    assert batch["datasets"] == ["x", "x"] and [k[:2] for k in batch["keys"]] == ["v2", "v0"]


def test_jitter_moves_events_by_the_draw_of_their_clip_and_epoch(root, tokenizer):
    jitter = Sampling(NegativeRate(start=1.0), 5, 10, event_jitter=1)
    jumpy, still = reader(root, tokenizer, sampling=jitter), reader(root, tokenizer)
    places = set()
    for epoch in range(12):
        one, again = (jumpy.read(Request(0, epoch, 0)).sequence for _ in range(2))
        assert one == again, "the same for every worker, and after a resume"
        by = jitter_of(5, epoch, "v0-c000", 12, 1)
        at_frame = [i for i, here in enumerate(one.at_frame) if here]
        announced = [one.frames[n] for n, i in enumerate(at_frame) if one.update_labels[i] == 1]
        assert (12 + by in announced) == (by >= 0)
        moved = any(jitter_of(5, epoch, "v0-c000", frame, 1) for frame in (6, 12))  # where active turns stand
        assert (one == still.read(Request(0, epoch, 0)).sequence) == (not moved)
        places.add(by)
    assert places == {-1, 0, 1}


def test_blind_frames_hide_the_pixels(root, tokenizer):
    item = reader(root, tokenizer, blind=True).read(Request(0, 0, 0))
    frames = collate([item], 0, 32)["frames"]
    assert len(np.unique(frames)) == 1 and len(frames) == 18


def test_collate_pads_right_and_masks_by_length(root, tokenizer):
    turns = reader(root, tokenizer, packing="turn")
    short, long = turns.read(Request(0, 0, 0)), turns.read(Request(4, 0, 0))
    batch = collate([short, long], pad=tokenizer.eos_token_id, image_size=32)
    lengths = [len(short.sequence), len(long.sequence)]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert batch["input_ids"][0, : lengths[0]].tolist() == short.sequence.ids
    assert (batch["input_ids"][0, lengths[0] :] == tokenizer.eos_token_id).all()
    assert (batch["update_labels"][0, lengths[0] :] == IGNORE).all() and (
        batch["target_kind"][0, lengths[0] :] == 0
    ).all()
    assert batch["frames"].dtype == torch.uint8
    assert len(batch["frames"]) == (batch["input_ids"] == turns.tokens.image).sum()
    is_end = (batch["input_ids"][1] == tokenizer.eos_token_id) & (batch["target_kind"][1] > 0)
    assert is_end.sum() == 1, "<end_of_utterance> is learned though it is the pad token"


@pytest.mark.parametrize("workers", [0, 2])
def test_order_and_content_do_not_depend_on_workers(root, tokenizer, workers):
    packed = reader(root, tokenizer, sampling=Sampling(NegativeRate(), 0, 10))
    requests = [[Request(2, 0, 0), Request(0, 0, 0)], [Request(1, 0, 1)]]
    batches = list(make_loader(packed, MicroBatches(lambda: iter(requests), 2), pad=0, num_workers=workers))
    expected = [collate([packed.read(r) for r in rs], 0, 32) for rs in requests]
    for batch, other in zip(batches, expected, strict=True):
        assert batch["keys"] == other["keys"]
        for name, value in other.items():
            assert name in ("keys", "datasets", "errors") or torch.equal(batch[name], value)


def test_an_error_leaves_a_worker_as_it_is(root, tokenizer):
    packed = reader(root, tokenizer)
    broken = packed.split.index.with_columns(key=packed.split.index["key"].str.replace("v1", "w1"))
    object.__setattr__(packed.split, "index", broken)
    batches = make_loader(packed, MicroBatches(lambda: iter([[Request(1, 0, 0)]]), 1), pad=0, num_workers=1)
    with pytest.raises(
        ProspectError, match=r"^.*train-00000.\.tar sample w1-c000-.*: found sample v1-c000-.*, expected w1-"
    ):
        next(iter(batches))
    assert isinstance(packed[Request(0, 0, 0)], Item)


@pytest.mark.slow
def test_a_truncated_shard_is_named(root, tokenizer, tmp_path):
    packed = reader(root, tokenizer)
    object.__setattr__(packed.split, "folder", tmp_path)
    for shard in packed.split.manifest.shards:
        (tmp_path / shard.name).write_bytes(b"x" * 100)
    with pytest.raises(ProspectError, match=r"train-000000\.tar sample v0-.*: the shard ends early"):
        packed.read(Request(0, 0, 0))


@pytest.mark.parametrize("data", [b"no parquet", None])
def test_a_kept_plan_of_other_columns_is_made_again(root, tokenizer, tmp_path, data):
    settings = DataConfig(dataset="x", shards=root / "plain", root=root / "data")
    split, tokens = read_split(settings.shards, "x", "train", settings.root), Tokens(tokenizer, 1)
    expected, kept = sequence_table(split, tokens, settings), tmp_path / "plan.parquet"
    if data is None:
        expected.drop("state").write_parquet(kept)
    else:
        kept.write_bytes(data)
    assert sequence_table(split, tokens, settings, kept).equals(expected)
    assert pl.read_parquet(kept).equals(expected)


def test_plans_are_cached_under_what_they_depend_on(root, tokenizer, tmp_path):
    data = DataConfig(dataset="x", shards=root / "plain", root=root / "data")
    split, tokens = read_split(data.shards, "x", "train", data.root), Tokens(tokenizer, 1)
    plan = sequence_table(split, tokens, data, tmp_path / "plan.parquet")
    assert dict(plan.schema) == SCHEMA
    assert sequence_table(split, tokens, data, tmp_path / "plan.parquet").equals(plan)
    prints = {
        table_fingerprint(split, t, d)
        for t, d in (
            (tokens, data),
            (Tokens(tokenizer, 4), data),
            (Tokens(tokenizer, 1, "smolvlm"), data),
            (tokens, data.model_copy(update={"max_seq_len": 100})),
            (tokens, data.model_copy(update={"reserve": 100})),
            (tokens, data.model_copy(update={"packing": "turn"})),
        )
    }
    assert len(prints) == 6


def test_a_sequence_that_cannot_fit_is_refused_while_planning(root, tokenizer):
    with pytest.raises(
        ProspectError,
        match=r"sample v0-.*: takes \d+ tokens, more than data.max_seq_len 40; raise it, or use data.packing clip",
    ):
        reader(root, tokenizer, packing="turn", max_seq_len=40)


def test_missing_shards_name_the_command_that_builds_them():
    with pytest.raises(
        ProspectError, match="prospect build-shards --split val --data-root data --dataset x --out nowhere"
    ):
        read_split(Path("nowhere"), "x", "val", Path("data"))


def shard_of(root: Path, key: str) -> tuple[Path, int]:
    """The shard and the place of the JSON of the clip's last sample."""
    split = read_split(root / "shards", "x", "train", root)
    row = split.index["key"].str.starts_with(key).arg_true()[-1]
    return split.folder / split.index.item(row, "shard"), split.index.item(row, "data_offsets")[0]


@pytest.fixture
def copied(root, tmp_path) -> Path:
    """Shards with frames (embedded) and without (shards), and data, to break."""
    shutil.copytree(root / "embedded", tmp_path / "embedded")
    shutil.copytree(root / "plain", tmp_path / "shards")
    shutil.copytree(root / "data", tmp_path / "data")
    open_frames.cache_clear()
    return tmp_path


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_is_named_with_shard_and_key(copied, tokenizer):
    shard, place = shard_of(copied, "v1-")
    flip(shard, place + 700)
    packed = reader(copied, tokenizer, "shards")
    with pytest.raises(
        ProspectError, match=rf"{shard.name} sample v1-c000-\w+-\d+: found other bytes than were written"
    ):
        packed.read(Request(1, 0, 0))
    assert packed.read(Request(0, 0, 0)).key.startswith("v0-")


def test_a_flipped_byte_in_an_embedded_image_is_named(copied, tokenizer):
    packed = reader(copied, tokenizer, "embedded")
    path = packed.split.folder / packed.split.index.item(0, "shard")
    flip(path, packed.split.index.item(0, "data_offsets")[1] + 300)
    with pytest.raises(ProspectError, match=r"sample v0-c000-\w+-0000: found other bytes than were written"):
        packed.read(Request(0, 0, 0))


def test_a_missing_frames_file_and_an_undecodable_image_are_named(copied, tokenizer):
    (copied / "data" / "x" / "frames" / "v2.arrow").unlink()
    packed = reader(copied, tokenizer, "shards")
    with pytest.raises(
        ProspectError, match=r"train-\d+\.tar sample v2-c000-\w+-\d+: frames file 'frames/v2.arrow' not found"
    ):
        packed.read(Request(2, 0, 0))
    table = pa.table({"frame": pa.array([b"\xff\xd8 no jpeg"] * 20, pa.binary())})
    with pa.ipc.new_stream(str(copied / "data" / "x" / "frames" / "v2.arrow"), table.schema) as writer:
        writer.write_table(table)
    error = collate([packed[Request(2, 0, 0)]], 0, 32)
    assert isinstance(error, ProspectError)
    assert re.search(r"train-\d+\.tar sample v2-c000-\w+-\d+: frame 2: cannot be decoded", str(error))
    items = [packed[Request(i, 0, 0)] for i in (0, 2, 1)]
    batch = collate(items, 0, 32, skip=True)
    assert [bool(error) for error in batch["errors"]] == [False, True, False]
    alone = [collate([item], 0, 32)["frames"] for item in (items[0], items[2])]
    assert torch.equal(batch["frames"], torch.cat(alone)), "the frames of the others stay together"


def test_an_index_that_disagrees_with_its_shard_is_named(copied, tokenizer):
    replace_in_index(copied / "shards" / "x" / "train", "Well begun.", "Well")
    packed = reader(copied, tokenizer, "shards")
    with pytest.raises(
        ProspectError, match=r"sample v0-.*: found \d+ tokens, planned \d+ from the index, which disagrees"
    ):
        packed.read(Request(0, 0, 0))


@pytest.mark.parametrize("workers", [0, 1])
def test_skip_leaves_a_broken_sample_out_and_counts_it(copied, tokenizer, workers):
    (copied / "data" / "x" / "frames" / "v1.arrow").unlink()
    packed = reader(copied, tokenizer, "shards", on_error="skip")
    requests = [[Request(0, 0, 0), Request(1, 0, 0)], [Request(1, 0, 1)], [Request(2, 0, 2)]]
    told: list[str] = []
    batches = list(make_loader(packed, MicroBatches(lambda: iter(requests), 3), 0, workers, told.append))
    assert batches[0]["keys"][1] == "" and len(told) == 2 and "v1.arrow" in told[0]
    alone = collate([packed.read(Request(0, 0, 0))], 0, 32)
    assert torch.equal(batches[0]["input_ids"][:1], alone["input_ids"])
    assert torch.equal(batches[0]["frames"], alone["frames"])
    assert (batches[0]["update_labels"][1] == IGNORE).all() and batches[0]["attention_mask"][1].sum() == 1
    assert batches[1]["frames"].shape == (0, 3, 32, 32) and batches[1]["input_ids"].shape == (1, 1)
    assert not batches[1]["target_kind"].any(), "nothing is learned from it"


@pytest.mark.parametrize("after", [1, 3])
def test_a_worker_that_dies_is_one_clear_error(root, tokenizer, after):
    """attack.md 12: a raw RuntimeError. `after` so many batches."""
    packed = reader(root, tokenizer)
    requests = [[Request(0, 0, 0)]] * 9
    loader = make_loader(packed, MicroBatches(lambda: iter(requests), 9), pad=0, num_workers=1)
    batches = iter(loader)
    for _ in range(after):
        next(batches)
    (worker,) = loader._iterator._workers
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(ProspectError, match=r"a data worker died \(killed, out of memory.*data\.num_workers"):
        list(batches)


def test_an_error_of_ours_in_a_worker_keeps_its_traceback(root, tokenizer):
    packed = reader(root, tokenizer)
    loader = make_loader(packed, MicroBatches(lambda: iter([["no request"]]), 1), pad=0, num_workers=1)
    with pytest.raises(AttributeError, match="in DataLoader worker process 0"):
        list(loader)


def test_too_many_broken_samples_in_a_row_stop_the_run(copied, tokenizer):
    (copied / "data" / "x" / "frames" / "v1.arrow").unlink()
    packed = reader(copied, tokenizer, "shards", on_error="skip", max_consecutive_errors=3)
    requests = [[Request(1, 0, 0), Request(1, 0, 0)], [Request(0, 0, 1)], [Request(1, 0, 2)] * 3]
    batches = iter(make_loader(packed, MicroBatches(lambda: iter(requests), 3), 0, 0))
    next(batches), next(batches)
    with pytest.raises(ProspectError, match=r"v1\.arrow.*; broken sample number 3 in a row"):
        next(batches)


def test_no_pickle_is_loaded_and_no_shell_asked(copied, tokenizer, tmp_path, monkeypatch):
    """LESSONS: webdataset unpickles `.pyd` members and runs `pipe:` URLs."""
    mark = tmp_path / "ran"
    evil = b"cposix\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    packed = reader(copied, tokenizer, "embedded")
    shard = packed.split.folder / packed.split.index.item(0, "shard")
    with tarfile.open(shard, "a") as tar:
        for name in ("v0-c000-0000.pyd", "v0-c000-0000.pickle", "v0-c000-0000.json"):
            info = tarfile.TarInfo(name)
            info.size = len(evil)
            tar.addfile(info, io.BytesIO(evil))
    assert packed.read(Request(0, 0, 0)).key.startswith("v0-"), "members that the index does not list are not read"
    with pytest.raises(ProspectError, match="found the name 'v0-c000-0000\\.pyd', expected KEY"):
        list(read_samples(ShardFile(LocalFolder(shard.parent), shard.name)))
    for place in (f"pipe:touch {mark}", f"pipe:touch {mark} |"):
        with pytest.raises(ProspectError, match="no such file"):
            shards_at(place)
        with pytest.raises(ProspectError, match="not found"):
            find_frames_file(place, [tmp_path])
        with pytest.raises(ProspectError, match="found no finished shards"):
            read_split(Path(place), "x", "train", tmp_path)
    assert not mark.exists()
