"""What a cached table depends on: two that may differ never share a fingerprint."""

from dataclasses import replace

import polars as pl
import pytest

from pipeline.errors import ProspectError
from pipeline.shards.build import build_split
from prospect.carried import NOTHING_YET
from prospect.config import DataConfig
from prospect.data import sequences
from prospect.data.index import clips_of, read_split
from prospect.data.sequences import cached_table, learned, no_summaries, table_fingerprint
from prospect.layout import Tokens
from tests.helpers.fakes import RAW_CLIP, make_clip, raw_clip, word_tokenizer, write_root


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


@pytest.mark.parametrize(
    "other",
    [{"memory": "summary"}, {"memory": "none", "knowledge": "goal"}, {"memory": "none", "without_knowledge": 0.5}],
)
def test_another_memory_or_knowledge_changes_it(planned, other):
    *rest, data = planned
    before = {table_fingerprint(*planned), table_fingerprint(*rest, data.model_copy(update={"memory": "none"}))}
    assert table_fingerprint(*rest, data.model_copy(update=other)) not in before


def annotated(tmp_path, clips, **settings):
    """Split, tokens and settings of clips of 18 frames of their own, in a window that cuts them."""
    write_root(tmp_path / "data", clips)
    build_split(tmp_path / "data", "x", "train", tmp_path / "shards")
    texts = ["Take it Put it Hello Be kind. Well begun. a b", "Done: Now: Take it. Make tea", NOTHING_YET, PROMPT]
    data = DataConfig(dataset="x", shards=tmp_path / "shards", root=tmp_path, cache=tmp_path, **settings)
    return read_split(data.shards, "x", "train", data.root), Tokens(word_tokenizer(texts), 1), data


PROMPT = "You are a proactive assistant helping with task completion. Task Steps: - S1: S2:"
NO_UPDATES = [
    {key: value for key, value in turn.items() if key != "dst_state"}
    for turn in RAW_CLIP["conversation"]
    if turn["role"] != "DST_UPDATE"
]
CUT = {"memory": "summary", "max_seq_len": 62, "reserve": 10}


def test_summaries_are_the_annotations_or_the_states_in_words_and_else_refused(tmp_path):
    told = raw_clip(conversation=[turn | {"progress": "a b"} for turn in NO_UPDATES], dst=[])
    bare = raw_clip(conversation=NO_UPDATES, video_uid="v2", frames_file="frames/v2.arrow")
    table = cached_table(*(planned := annotated(tmp_path / "told", [told], **CUT)))
    clip = learned(next(iter(clips_of(planned[0].index))), planned[2])
    assert [(one.frame, one.text) for one in clip.progress] == [(1, "a b"), (4, "a b"), (6, "a b")]
    assert len(table) > 1 and no_summaries([table], planned[2]) is None
    table = cached_table(*(planned := annotated(tmp_path / "states", [raw_clip()], **CUT)))
    clip = learned(next(iter(clips_of(planned[0].index))), planned[2])
    assert [(one.frame, one.text) for one in clip.progress] == [
        (1, ""), (6, "Now: Take it."), (12, "Done: Take it. Now: Put it."),
    ]  # fmt: skip
    planned = annotated(tmp_path / "neither", [told, bare], **CUT)
    with pytest.raises(
        ProspectError, match=r"train clip 'v2-c000': found neither progress texts nor DST_UPDATE turns, "
    ):
        cached_table(*planned)
    wide = planned[2].model_copy(update={"max_seq_len": 1000})
    table = cached_table(*planned[:2], wide)
    assert len(table) == 2 and "no clip is longer than a window of data.max_seq_len 1000" in no_summaries([table], wide)
    assert no_summaries([table], wide.model_copy(update={"memory": "none"})) is None


def test_a_clip_without_a_goal_is_refused_where_it_is_to_be_told(tmp_path):
    settings = {"memory": "none", "knowledge": "goal"}
    for number, where in enumerate(
        ({"goal": "Make tea"}, {"inferred_goal": "Make tea"}, {"metadata": {"task_goal": "Make tea"}})
    ):
        split, tokens, data = annotated(tmp_path / str(number), [raw_clip(**where)], **settings)
        (clip,) = clips_of(split.index)
        assert clip.goal == "Make tea" and len(cached_table(split, tokens, data)) == 1
    with pytest.raises(
        ProspectError, match=r"train clip 'v1-c000': found no goal, expected one, as data.knowledge is goal"
    ):
        cached_table(*annotated(tmp_path / "none", [raw_clip()], **settings))


def test_the_clips_without_knowledge_are_a_share_drawn_by_id_and_none_where_it_is_measured():
    data = DataConfig(dataset="x", memory="none", without_knowledge=0.5)
    clips = [make_clip([], clip_id=f"c{number}") for number in range(400)]
    bare = [not learned(clip, data).steps for clip in clips]
    assert 160 < sum(bare) < 240 and bare == [not learned(clip, data).steps for clip in clips]
    more = data.model_copy(update={"without_knowledge": 0.7})
    assert all(not learned(clip, more).steps for clip, is_bare in zip(clips, bare, strict=True) if is_bare)
    assert all(learned(clip, data.evaluated).steps for clip in clips)


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
