"""Shards and indices that are not what was built, or cannot be read: each is one error that names its place."""

import shutil

import pytest

from pipeline.errors import ProspectError
from prospect.data.index import read_split
from prospect.data.order import make_order
from prospect.data.sequences import table_fingerprint
from prospect.layout import Tokens
from tests.helpers.fakes import replace_in_index
from tests.helpers.readers import reader


@pytest.fixture
def copied(root, tmp_path):
    shutil.copytree(root / "plain", tmp_path / "shards")
    shutil.copytree(root / "data", tmp_path / "data")
    return tmp_path


def opened(folder):
    return read_split(folder / "shards", "x", "train", folder / "data")


def test_a_flipped_bit_of_the_index_is_named(copied):
    path, whole = copied / "shards" / "x" / "train" / "index.parquet", opened(copied).index
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), len(data) // 20):
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(
            ProspectError, match=r"index\.parquet: found other bytes than the \d+ that were built; build"
        ):
            opened(copied)
        data[place] ^= 1
    path.write_bytes(data)
    assert opened(copied).index.equals(whole), "the last bit set back, it is read again"


def test_another_index_is_another_plan(copied, tokenizer):
    packed = reader(copied, tokenizer, "shards")
    before = table_fingerprint(packed.split, Tokens(tokenizer, 1), packed.data)
    replace_in_index(copied / "shards" / "x" / "train", "Well begun.", "Well")
    assert table_fingerprint(opened(copied), Tokens(tokenizer, 1), packed.data) != before


def test_a_shard_that_cannot_be_opened_is_named_with_its_sample(copied, tokenizer):
    packed = reader(copied, tokenizer, "shards")
    path = copied / "shards" / "x" / "train" / packed.split.index.item(0, "shard")
    path.unlink()
    path.mkdir()
    with pytest.raises(ProspectError, match=r"train-000000\.tar sample v0-.*: .* cannot be read \(Is a directory\)"):
        packed.split.sample(0)


def test_a_weight_that_never_draws_its_dataset_is_refused(copied, tokenizer):
    table = reader(copied, tokenizer, "shards").table
    with pytest.raises(ProspectError, match=r"data\.mix: 0\.1 passes over 3 sequences are none an epoch"):
        make_order([table, table], 0, 16, 1, 1, [1.0, 0.1])
