"""An index that agrees with its manifest and says something that no build does: one error with row and column."""

import io
import json

import polars as pl
import pytest

from pipeline.errors import ProspectError
from pipeline.shards.build import build_split
from pipeline.shards.index import read_index
from pipeline.shards.manifest import checked_manifest
from pipeline.shards.scan import Options
from tests.helpers.fakes import raw_clip, write_root


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Index and manifest of two clips of the same shard: rows 0..6 and 7..13."""
    folder = tmp_path_factory.mktemp("index")
    write_root(folder / "data", [raw_clip(video_uid=f"v{i}", frames_file=f"frames/v{i}.arrow") for i in range(2)])
    build = build_split(folder / "data", "x", "train", folder / "shards", options=Options(max_silent_frames=4))
    manifest = json.loads((build.folder.path / "manifest.json").read_text())
    return pl.read_parquet(build.folder.path / "index.parquet"), manifest


def read(index: pl.DataFrame, manifest: dict) -> pl.DataFrame:
    data = io.BytesIO()
    index.write_parquet(data)
    return read_index(data.getvalue(), "s3://b/index.parquet", checked_manifest(manifest, "manifest.json"))


def test_the_index_of_a_build_is_read_as_it_is(built):
    assert read(*built).equals(built[0])


CLIP = pl.col("clip")
SECOND = (pl.col("sample_idx") == 0) & (pl.col("key").str.starts_with("v1"))


def of_clip(field: str, value) -> pl.Expr:
    return pl.when(SECOND).then(CLIP.struct.with_fields(pl.lit(value).alias(field))).otherwise(CLIP)


def told(*entries: tuple[int | None, str | None]) -> pl.Expr:
    """Progress of the second clip, of frames 2..19."""
    return of_clip("progress", [{"frame": frame, "text": text} for frame, text in entries])


def test_progress_may_stand_at_any_frame_of_the_clip_and_right_before_it(built):
    index = built[0].with_columns(told((1, "a"), (2, "b"), (2, "c"), (19, "d"))).cast(dict(built[0].schema))
    assert read(index, built[1]).equals(index)


def at(name: str, row: int, value) -> pl.Expr:
    return (
        pl.when(pl.int_range(pl.len()) == row)
        .then(pl.lit(value, allow_object=False))
        .otherwise(pl.col(name))
        .alias(name)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at("end_frame", 3, 3 * 10**8), r"-0003': end_frame: found 300000000, expected start_frame or later"),
        (at("start_frame", 3, -1), r"-0003': end_frame: found"),
        (at("num_frames", 2, 99), r"-0002': num_frames: found 99, expected end_frame - start_frame \+ 1"),
        (of_clip("end_frame", 3 * 10**8), r"v1-.*-0000': clip_end_frame: found 300000000, expected .* less than 1000000"),
        (of_clip("start_frame", None), r"v1-.*-0000': clip: found .*, expected a start_frame"),
        (of_clip("fps", float("nan")), r"v1-.*-0000': clip: found .*, expected an fps over 0"),
        (of_clip("frames_file", ""), r"v1-.*-0000': clip: found .*, expected a frames_file"),
        (of_clip("step_ids", ["S1", "S1"]), r"v1-.*-0000': clip: found .*, expected each of step_ids once"),
        (of_clip("step_ids", ["S1", "a b"]), r"expected step_ids of letters"),
        (of_clip("step_ids", ["S1"]), r"expected an id, a name and a state for each step"),
        (of_clip("initial_state", ["done", "completed"]), r"expected initial_state of not_started"),
        (of_clip("step_names", [None, "x"]), r"expected step_names"),
        (of_clip("goal", None), r"v1-.*-0000': clip: found .*, expected a goal, or an empty one"),
        (told((99, "x")), r"v1-.*-0000': clip: found .*, expected progress of texts at frames of the clip"),
        (told((0, "x")), r"expected progress of texts"),
        (told((5, "x"), (4, "y")), r"expected progress of texts"),
        (told((5, "")), r"expected progress of texts"),
        (told((5, None)), r"expected progress of texts"),
        (told((None, "x")), r"expected progress of texts"),
        (at("key", 4, "v\x1b"), r"sample 'v\\x1b': key: found 'v\\x1b', expected letters"),
        (at("key", 4, None), r"sample None: key: found None"),
        (at("kind", 4, "speech"), r"-0004': kind: found 'speech', expected one of dst_update, assistant, silent"),
        (at("next", 4, None), r"-0004': next: found None"),
        (at("sample_idx", 4, 6), r"-0004': sample_idx: found 6, expected 0, or one more than the row before"),
        (at("sample_idx", 0, 1), r"-0000': sample_idx: found 1"),
        (pl.when(SECOND).then(None).otherwise(CLIP).alias("clip"), r"v1-.*-0000': clip: found None, expected a clip in its first"),
        (pl.col("data_sizes").list.eval(pl.lit(2**45, pl.Int64)), r"-0000': data_offsets: found .*, expected places inside the shard"),
        (pl.col("data_offsets").list.eval(pl.element() - 10**6), r"-0000': data_offsets: found"),
        (pl.col("data_sizes").list.eval(pl.element() * 0 + 20_000), r"-\d+': data_sizes: found .20000., expected no more"),
        (pl.col("data_sizes").list.head(0), r"-0000': num_frames: found|-0000': member_names: found"),
        (pl.col("target").str.replace("->start", "->begin"), r"target: found 'S\d->begin', expected updates such as"),
        (at("target", 0, "x"), r"-0000': target: found 'x', expected a text unless the sample is silent"),
        (pl.col("target_start") - 100, r"target_start: found -\d+, expected a frame of the clip"),
        (at("should_update_dst", 0, 1), r"-0000': should_update_dst: found 1, expected the kind's label"),
        (pl.col("turns_before").list.eval(pl.element().struct.with_fields(pl.lit("assistant").alias("role"))), "a role of system or user"),
        (pl.col("turns_before").list.eval(pl.element().struct.with_fields(pl.lit(99).alias("end_frame"))), "frames of the clip"),
        (pl.col("data_crc32s").list.eval(pl.lit(None, pl.UInt32)), "data_crc32s: found null in a list"),
        (at("trailing", 4, None), "trailing: found None, expected a list of turns"),
        (at("shard", 4, "train-000001.tar"), r"shard: found \('train-000000.tar', 4\) in its order, expected \('train-000000.tar', 14\)"),
    ],
)  # fmt: skip
def test_a_value_that_no_build_writes_is_named(built, change, message):
    index, manifest = built
    changed = index.with_columns(change).cast(dict(index.schema))
    assert not changed.equals(index)
    with pytest.raises(ProspectError, match=message) as caught:
        read(changed, manifest)
    told = str(caught.value)
    assert told.startswith("s3://b/index.parquet: ") and "build the shards again" in told and told.isprintable()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.drop("next"), "columns: found no next, expected those of shards/README.md"),
        (lambda index: index.cast({"end_frame": pl.String}), "columns: found end_frame String, expected"),
        (lambda index: index.head(9), "rows: found 9, expected 14, the manifest's"),
    ],
)
def test_other_columns_or_rows_are_named(built, change, message):
    with pytest.raises(ProspectError, match=message):
        read(change(built[0]), built[1])


def test_a_manifest_claims_no_more_samples_than_its_files_can_hold(built):
    index, manifest = built
    claimed = manifest | {"num_samples": 10**12, "shards": [manifest["shards"][0] | {"samples": 10**12}]}
    with pytest.raises(
        ProspectError, match=r"train-000000.tar samples: found 1000000000000, expected what \d+ bytes can"
    ):
        checked_manifest(claimed, "m")
    claimed["shards"][0]["bytes"] = 10**16
    with pytest.raises(
        ProspectError, match=r"index.parquet: rows: found \d+ bytes, expected those of 1000000000000 rows"
    ):
        read(index, claimed)
