"""Reads an index back: its columns, and the bounds of every value, checked for all rows at once.

An index plans what is read from shards without opening one, so a number in it becomes memory and time elsewhere: rows
and bytes are held against the manifest's, frames against the bytes of the sample that lists them.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import polars as pl

from pipeline.annotations.clips import MAX_CLIP_FRAMES
from pipeline.annotations.dst import MOVES, STATES, STEP_ID
from pipeline.errors import ProspectError
from pipeline.shards.checks import LONGEST
from pipeline.shards.manifest import SCHEMA, Manifest
from pipeline.shards.sample import KINDS

COLUMNS = dict(pl.DataFrame(SCHEMA.empty_table()).schema)
UPDATE = rf"{STEP_ID.pattern}->(?:{'|'.join(MOVES)})"
NEXT = ("dst_update", "assistant", "user", "system", "silent", "end")
FEWEST_BYTES = 4  # of a row: the crc32 of its sample does not compress
MAX_FRAME = 2**31 - 1
TURNS = ("turns_before", "trailing")  # columns of lists of turns
MEMBERS = ("member_names", "data_offsets", "data_sizes", "data_crc32s")


def read_index(data: bytes, where: str, manifest: Manifest) -> pl.DataFrame:
    """Read the index of `manifest` from its bytes; `where` goes into errors.

    Raises:
        ProspectError: it is no index, or a value in it is not what a build writes; names row and column.
    """
    index = parse_index(data, where, manifest.num_samples)
    for problem in _problems(index, manifest):
        raise ProspectError(f"{where}: {problem}; build the shards again with --force")
    return index


def parse_index(data: bytes, where: str, rows: int) -> pl.DataFrame:
    """Read the columns of an index of so many rows; values are not looked at.

    Raises:
        ProspectError: it is no parquet file, or has other columns or another number of rows.
    """
    again = "build the shards again with --force"
    if rows * FEWEST_BYTES > len(data):
        raise ProspectError(f"{where}: rows: found {len(data)} bytes, expected those of {rows} rows; {again}")
    try:
        schema = pl.read_parquet_schema(io.BytesIO(data))
        if dict(schema) != COLUMNS:
            found = [f"{name} {kind}" for name, kind in schema.items() if COLUMNS.get(name) != kind]
            missing = [name for name in COLUMNS if name not in schema]
            told = ", ".join([*found[:3], *(f"no {name}" for name in missing[:3])])
            raise ProspectError(f"{where}: columns: found {told}, expected those of shards/README.md; {again}")
        count = pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
        if count != rows:
            raise ProspectError(f"{where}: rows: found {count}, expected {rows}, the manifest's; {again}")
        return pl.read_parquet(data)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ProspectError(f"{where}: file: found {said}, expected a parquet file; {again}") from None


@dataclass(frozen=True, slots=True)
class _Check:
    """Rows where `bad` is true, or null, are refused; the first is shown with what stands in `column`."""

    column: str
    bad: pl.Expr
    expected: str


c = pl.col


def _problems(index: pl.DataFrame, manifest: Manifest) -> Iterator[str]:
    """What is wrong, the first first."""
    found = index["shard"].rle().struct.unnest().select("value", "len").rows()
    expected = [(shard.name, shard.samples) for shard in manifest.shards]
    for here, there in zip_longest(found, expected):
        if here != there:
            yield f"shard: found {here} in its order, expected {there}, the manifest's"
            return
    for name in MEMBERS:  # all at once: row by row it takes seconds of a million
        if index[name].filter(index[name].list.len() > 0).explode().null_count():
            yield f"{name}: found null in a list, expected values"
            return
    sizes = pl.Series("shard_bytes", [shard.bytes for shard in manifest.shards]).gather(index["shard"].rle_id())
    rows = index.with_columns(
        sizes,
        frames=c("end_frame") - c("start_frame") + 1,
        is_first=c("sample_idx") == 0,
        **{f"clip_{name}": c("clip").struct.field(name).forward_fill() for name in ("start_frame", "end_frame")},
    )
    yield from _found(rows, [*_sequence(), *_ranges(), *_members(manifest.options.embed_frames), *_header(), *_words()])
    for name in TURNS:
        yield from _found(_exploded(rows, name), _turns(name))


def _found(rows: pl.DataFrame, checks: list[_Check]) -> Iterator[str]:
    bad = rows.select(check.bad.fill_null(True).alias(str(number)) for number, check in enumerate(checks))
    for number, check in enumerate(checks):
        row = bad[str(number)].arg_max()
        if row is not None and bad[str(number)][row]:
            cell = rows[check.column][row]
            value = ascii(cell.to_list() if isinstance(cell, pl.Series) else cell)
            short = value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
            where = f"{rows.item(row, 'shard')} sample {rows.item(row, 'key')!a}"
            yield f"{where}: {check.column}: found {short}, expected {check.expected}"


def _sequence() -> list[_Check]:
    """Samples stand in order, clip by clip."""
    follows = (c("sample_idx") == c("sample_idx").shift(1) + 1) & (c("clip_id") == c("clip_id").shift(1))
    return [
        _Check("key", ~c("key").str.contains(r"^[A-Za-z0-9_-]+$"), "letters, digits, '_' and '-'"),
        _Check("clip_id", c("clip_id").str.len_bytes() == 0, "the id of a clip"),
        _Check("sample_idx", ~(c("is_first") | follows.fill_null(False)), "0, or one more than the row before"),
        _Check("clip", c("clip").is_null() == c("is_first"), "a clip in its first row, and there alone"),
        _Check("kind", ~c("kind").is_in(KINDS), f"one of {', '.join(KINDS)}"),
        _Check("next", ~c("next").is_in(NEXT), f"one of {', '.join(NEXT)}"),
        _Check("should_update_dst", c("should_update_dst") != (c("kind") == "dst_update"), "the kind's label"),
        _Check("when_to_speak", c("when_to_speak") != (c("kind") == "assistant"), "the kind's label"),
    ]


def _ranges() -> list[_Check]:
    """Frames lie in the clip, and are as many as are listed."""
    first, last = c("clip_start_frame"), c("clip_end_frame")
    clip_ok = (first >= 0) & (last >= first) & (last < first + MAX_CLIP_FRAMES) & (last <= MAX_FRAME)
    sample_ok = (c("start_frame") >= first) & (c("end_frame") >= c("start_frame")) & (c("end_frame") <= last)
    listed = c("data_sizes").list.first() // 2  # a frame's index and a comma, in the sample's JSON
    return [
        _Check("clip_end_frame", ~clip_ok, f"start_frame or later, by less than {MAX_CLIP_FRAMES}"),
        _Check("end_frame", ~sample_ok, "start_frame or later, both in the clip"),
        _Check("num_frames", c("num_frames") != c("frames"), "end_frame - start_frame + 1"),
        _Check("num_frames", c("num_frames") > listed, "no more than the bytes of its sample can list"),
    ]


def _members(embedded: bool) -> list[_Check]:
    """Members lie in the shard, and there is one a frame where images are embedded."""
    counts = [c(name).list.len() for name in MEMBERS]
    expected = 1 + c("num_frames") * int(embedded)
    offsets, sizes, end = c("data_offsets").list, c("data_sizes").list, c("shard_bytes")
    inside = (offsets.min() >= 0) & (offsets.max() < end) & (sizes.min() >= 0) & (sizes.max() <= end)
    return [
        _Check("member_names", pl.any_horizontal(count != expected for count in counts), "one, and one an image"),
        _Check("data_offsets", ~inside, "places inside the shard"),
        _Check("data_sizes", offsets.min() + sizes.sum() > end, "no more than the shard has"),
    ]


def _header() -> list[_Check]:
    """What a clip's first row says of it."""

    def each(name: str, good: pl.Expr) -> pl.Expr:
        """Whether all of a list are good; a row without a clip is."""
        values = c("clip").struct.field(name)
        return (values.list.eval(good.fill_null(False)).list.all()) | ~c("is_first")

    def of(name: str, good: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
        return good(c("clip").struct.field(name)).fill_null(False) | ~c("is_first")

    ids = c("clip").struct.field("step_ids").list
    lengths = [c("clip").struct.field(name).list.len() for name in ("step_names", "initial_state")]
    alike = pl.all_horizontal((length == ids.len()).fill_null(False) for length in lengths) | ~c("is_first")
    element = pl.element()
    return [
        *(
            _Check("clip", ~of(name, lambda value: value.is_not_null()), f"a {name}")
            for name in ("start_frame", "end_frame")
        ),
        *(
            _Check("clip", ~of(name, lambda value: value.str.len_bytes() > 0), f"a {name}")
            for name in ("dataset", "video_uid", "frames_file")
        ),
        _Check("clip", ~of("clip_idx", lambda value: value.is_between(0, MAX_FRAME)), "a clip_idx from 0"),
        _Check("clip", ~of("fps", lambda value: (value > 0) & (value <= 1000)), "an fps over 0 and up to 1000"),
        _Check("clip", ~of("goal", lambda value: value.is_not_null()), "a goal, or an empty one"),
        *_progress(),
        _Check("clip", ~alike, "an id, a name and a state for each step"),
        _Check(
            "clip",
            ~each("step_ids", element.str.contains(rf"^{STEP_ID.pattern}$")),
            "step_ids of letters, digits, _ . -",
        ),
        _Check("clip", ~((ids.n_unique() == ids.len()).fill_null(False) | ~c("is_first")), "each of step_ids once"),
        _Check("clip", ~each("step_names", element.is_not_null()), "step_names"),
        _Check("clip", ~each("initial_state", element.is_in(STATES)), f"initial_state of {', '.join(STATES)}"),
    ]


def _progress() -> list[_Check]:
    """The progress texts of a clip: in their order, of its frames or the one before it."""
    entries = c("clip").struct.field("progress")
    frames = entries.list.eval(pl.element().struct.field("frame"))
    texts = entries.list.eval(pl.element().struct.field("text"))
    whole = frames.list.eval(pl.element().is_not_null()).list.all()
    whole &= texts.list.eval((pl.element().str.len_bytes() > 0).fill_null(False)).list.all()
    inside = (frames.list.min() >= c("clip_start_frame") - 1) & (frames.list.max() <= c("clip_end_frame"))
    ordered = frames.list.diff().list.min().fill_null(0) >= 0
    empty = entries.list.len() == 0
    good = (whole & (empty | (inside & ordered))).fill_null(False) | ~c("is_first")
    return [_Check("clip", ~good, "progress of texts at frames of the clip, or the one before it, in their order")]


def _words() -> list[_Check]:
    """A target where there is one."""
    update = c("target").str.contains(rf"^{UPDATE}(?:, {UPDATE})*$").fill_null(False)
    starts = ((c("target_start") >= c("clip_start_frame")) & (c("target_start") <= c("start_frame"))).fill_null(False)
    return [
        *(_Check(name, c(name).is_null(), "a list of turns") for name in TURNS),
        _Check("target", c("target").is_null() != (c("kind") == "silent"), "a text unless the sample is silent"),
        _Check("target", (c("kind") == "dst_update") & ~update, "updates such as S1->complete, S2->start"),
        _Check("target_start", ~(c("target").is_null() & c("target_start").is_null() | starts), "a frame of the clip"),
    ]


def _exploded(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """A row a turn, its fields beside those of its sample."""
    some = rows.filter(c(name).list.len() > 0)
    turns = some.select("shard", "key", "clip_start_frame", "clip_end_frame", c(name).alias("turn")).explode("turn")
    return turns.with_columns(c("turn").struct.field(field) for field in ("role", "text", "start_frame", "end_frame"))


def _turns(name: str) -> list[_Check]:
    start, end = c("start_frame"), c("end_frame")
    placeless = (c("role") == "system") & start.is_null() & end.is_null()
    inside = (c("role") == "system") | ((start >= c("clip_start_frame")) & (end <= c("clip_end_frame")))
    placed = (start <= end) & (end <= MAX_FRAME) & inside
    return [
        _Check("turn", ~c("role").is_in(["system", "user"]), f"in {name} a role of system or user"),
        _Check("turn", c("text").is_null(), f"in {name} a text"),
        _Check("turn", ~(placeless | placed.fill_null(False)), f"in {name} frames of the clip"),
    ]
