"""What a cached table depends on: two that may differ never share a fingerprint."""

from dataclasses import replace

import polars as pl
import pytest

from pipeline.errors import ProspectError
from prospect.config import DataConfig
from prospect.data import sequences
from prospect.data.index import read_split
from prospect.data.sequences import cached_table, table_fingerprint
from prospect.layout import Tokens
from tests.helpers.fakes import word_tokenizer


@pytest.fixture
def planned(root, tokenizer, tmp_path):
    """Split, tokens and settings of a table."""
    data = DataConfig(dataset="x", shards=root / "plain", root=root / "data", cache=tmp_path)
    return read_split(data.shards, "x", "train", data.root), Tokens(tokenizer, 1), data


def test_the_same_shards_tokenizer_and_settings_have_one_fingerprint(planned, root, tokenizer):
    again = read_split(root / "plain", "x", "train", root / "data")
    assert table_fingerprint(*planned) == table_fingerprint(again, Tokens(tokenizer, 1), planned[2])


def test_other_bytes_of_any_shard_change_it(planned):
    split, *rest = planned
    shards = split.manifest.shards
    for number in range(len(shards)):
        other = list(shards)
        other[number] = shards[number].model_copy(update={"sha256": "0" * 64})
        changed = replace(split, manifest=split.manifest.model_copy(update={"shards": other}))
        assert table_fingerprint(changed, *rest) != table_fingerprint(*planned)


def test_another_tokenizer_with_the_same_frame_changes_it(planned):
    split, tokens, data = planned
    other = Tokens(word_tokenizer(["Other words."]), 1)
    assert other.frame == tokens.frame
    assert table_fingerprint(split, other, data) != table_fingerprint(*planned)


def test_another_version_of_the_layout_changes_it(planned, monkeypatch):
    before = table_fingerprint(*planned)
    monkeypatch.setattr(sequences, "LAYOUT_VERSION", sequences.LAYOUT_VERSION + 1)
    assert table_fingerprint(*planned) != before


def test_without_dst_it_changes_and_so_does_the_plan_that_is_cached(planned):
    *rest, data = planned
    without = data.model_copy(update={"memory": "none"})
    assert table_fingerprint(*rest, without) != table_fingerprint(*planned)
    longer, shorter = cached_table(*planned), cached_table(*rest, without)
    assert (shorter["num_tokens"] < longer["num_tokens"]).all(), "not the plan that is there"


@pytest.mark.parametrize("damage", ["columns", "types", "cut", "empty"])
def test_a_cached_table_of_other_columns_or_cut_short_is_made_again(planned, damage):
    """attack.md 15"""
    table = cached_table(*planned)
    (path,) = planned[2].tables.glob("*.parquet")
    if damage == "columns":
        table.drop("state").write_parquet(path)
    elif damage == "types":
        table.with_columns(table["row"].cast(str)).write_parquet(path)
    else:
        path.write_bytes(path.read_bytes()[: -100 if damage == "cut" else 0])
    assert cached_table(*planned).equals(table)
    assert pl.read_parquet(path).equals(table), "and is kept again"


def test_a_table_that_cannot_be_kept_is_one_line(planned, monkeypatch):
    def full(table, path):
        raise pl.exceptions.ComputeError("No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(ProspectError, match=r"parquet: cannot be written \(No space left on device\); free some space"):
        cached_table(*planned)
    assert not list(planned[2].tables.iterdir())
