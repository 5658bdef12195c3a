"""The sequences of a split, listed from its index: parts of clips (`clip` packing) or single samples (`turn`).

Listing tokenizes every text once and opens no shard; the table is cached as parquet (in `data.cache`, as shards may be
read-only or remote) under a fingerprint of all that it depends on: shards, tokenizer, and the layout's settings.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.annotations.clips import ACTIVE_ROLES, Clip, prompt_text
from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder
from prospect.carried import as_learned
from prospect.config import DataConfig
from prospect.data.index import Split, clip_starts, clips_of
from prospect.data.negatives import is_drawn
from prospect.layout import LAYOUT_VERSION, Part, Tokens, TokenSequence, clip_sequence, cut_parts

CHUNK = 100_000  # rows that are listed before they become columns: a dict takes 20 times a row's memory
# One row a sequence, in shard order.
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "shard": pl.String,
    "row": pl.Int64,  # index row: of the sample (`turn`), of the clip's first sample (`clip`)
    "num_rows": pl.Int64,  # index rows of the clip (`clip`), or 1
    "first_frame": pl.Int64,
    "last_frame": pl.Int64,
    "state": pl.List(pl.String),  # before the part, one a step (`clip`)
    "following": pl.String,  # role of the active turn after the target at the same frame (`turn`), or null
    "next_event": pl.Int64,  # frame of the first active turn after the sample (`turn`), or null
    "num_tokens": pl.Int64,  # `turn`: with every silent frame kept
}


def table_fingerprint(split: Split, tokens: Tokens, data: DataConfig) -> str:
    """Digest all that a table depends on."""
    record = {
        "layout": LAYOUT_VERSION,
        "index": split.manifest.index.sha256,
        "shards": [shard.sha256 for shard in split.manifest.shards],
        "tokenizer": tokens.digest,
        "tokens_per_frame": tokens.tokens_per_frame,
        "frame": tokens.frame.ids,
        "packing": data.packing,
        "max_seq_len": data.max_seq_len,
        "reserve": data.reserve,
        **{name: value for name, value in _otherwise(data).items() if value != DataConfig.model_fields[name].default},
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _otherwise(data: DataConfig) -> dict[str, Any]:
    """Settings that a table depends on, and that came later: of their defaults tables are as they were."""
    return {name: getattr(data, name) for name in ("memory", "knowledge", "without_knowledge")}


def cached_table(split: Split, tokens: Tokens, data: DataConfig) -> pl.DataFrame:
    """Give `sequence_table`, from or into the folder of tables."""
    return sequence_table(split, tokens, data, data.tables / f"{table_fingerprint(split, tokens, data)[:32]}.parquet")


def sequence_table(split: Split, tokens: Tokens, data: DataConfig, cache: Path | None = None) -> pl.DataFrame:
    """List the sequences of `split` (columns: SCHEMA), read from the file `cache` when it is there, else written to it.

    Raises:
        ProspectError: a sequence cannot fit max_seq_len; nothing is ever truncated. Or a clip has not the texts that
            `data.memory` or `data.knowledge` ask for.
    """
    if cache and cache.is_file():
        with suppress(pl.exceptions.PolarsError, pl.exceptions.PanicException):  # damaged, or of others: made again
            table = pl.read_parquet(cache)
            if dict(table.schema) == SCHEMA:
                return table
    tables, rows = [pl.DataFrame(schema=SCHEMA)], list[dict[str, Any]]()
    has_states = "dst_update" in split.index["kind"]
    list_clip = _parts if data.packing == "clip" else _turns
    for clip, (first, end) in zip(clips_of(split.index), pairwise(clip_starts(split.index)), strict=True):
        of_clip = list_clip(clip, split.index[first:end], first, tokens, data)
        _check_texts(clip, len(of_clip), has_states, split, data)
        rows += of_clip
        if len(rows) > CHUNK:
            tables.append(pl.DataFrame(rows, schema=SCHEMA))
            rows.clear()
    table = pl.concat([*tables, pl.DataFrame(rows, schema=SCHEMA)], rechunk=True)
    if cache:
        try:
            with LocalFolder(cache.parent).new_file(cache.name) as path:
                table.write_parquet(path)
        except pl.exceptions.PolarsError as error:  # a full disk, as polars tells it
            raise ProspectError(
                f"{cache}: cannot be written ({' '.join(str(error).split())}); free some space, or set data.cache"
            ) from None
    return table


def _check_texts(clip: Clip, num_parts: int, has_states: bool, split: Split, data: DataConfig) -> None:
    """A summary is only needed where a clip is cut; it is made from the states where they are annotated."""
    if data.knowledge == "goal" and not clip.goal:
        raise ProspectError(
            f"{split.folder} clip {clip.id!r}: found no goal, expected one, as data.knowledge is goal; annotate it "
            "(`goal`), or set data.knowledge to steps or none"
        )
    if data.memory == "summary" and num_parts > 1 and not clip.progress and not has_states:
        raise ProspectError(
            f"{split.folder} clip {clip.id!r}: found neither progress texts nor DST_UPDATE turns, expected some to "
            "learn summaries from, as data.memory is summary; annotate `progress` of turns, or set data.memory=none"
        )


def no_summaries(tables: Sequence[pl.DataFrame], data: DataConfig) -> str | None:
    """Say that a run is to learn summaries, and that no clip of its `tables` is cut; None: it will, or is not to."""
    if data.memory != "summary" or any(table["row"].n_unique() < len(table) for table in tables):
        return None
    return (
        f"data.memory is summary, and no clip is longer than a window of data.max_seq_len {data.max_seq_len}: no "
        "summary is learned, and a stream that is longer has none; lower data.max_seq_len"
    )


def learned(clip: Clip, data: DataConfig) -> Clip:
    """Give the clip as a run learns it."""
    return as_learned(clip, data.memory, "none" if is_drawn(clip.id, data.without_knowledge) else data.knowledge)


def parts_of(clip: Clip, tokens: Tokens, data: DataConfig) -> list[Part]:
    """Cut a clip into the parts that a run learns (`clip` packing)."""
    return cut_parts(tokens, learned(clip, data), data.max_seq_len, data.reserve, data.memory)


def part_of(row: Mapping[str, Any]) -> Part:
    """Read the part that a row of the table (`clip` packing) stands for."""
    return Part(row["first_frame"], row["last_frame"], tuple(row["state"]), row["num_tokens"])


def part_sequence(
    clip: Clip, part: Part, tokens: Tokens, data: DataConfig, jitter: Callable[[int], int] | None = None
) -> TokenSequence:
    """Lay out a part of a clip as a run learns it, every decision labelled."""
    return clip_sequence(tokens, learned(clip, data), part, jitter, data.event_margin, data.memory)


def _parts(clip: Clip, samples: pl.DataFrame, first: int, tokens: Tokens, data: DataConfig) -> list[dict[str, Any]]:
    return [
        {
            "shard": samples.item(0, "shard"),
            "row": first,
            "num_rows": len(samples),
            "first_frame": part.first_frame,
            "last_frame": part.last_frame,
            "state": list(part.state),
            "following": None,
            "next_event": None,
            "num_tokens": part.num_tokens,
        }
        for part in parts_of(clip, tokens, data)
    ]


def _turns(clip: Clip, samples: pl.DataFrame, first: int, tokens: Tokens, data: DataConfig) -> list[dict[str, Any]]:
    text = len(tokens.prompt(prompt_text(clip.steps, clip.state)).ids)
    lengths = iter([len(tokens.turn(turn).ids) for turn in clip.turns])
    per_frame = len(tokens.frame.ids)
    rows = []
    records = samples.select("shard", "key", "kind", "start_frame", "end_frame", "turns_before").to_dicts()
    next_events = _next_events(records)
    for position, (sample, after) in enumerate(zip(records, [*records[1:], None], strict=True)):
        text += sum(next(lengths) for _ in sample["turns_before"])
        if sample["kind"] in ACTIVE_ROLES:
            text += next(lengths)
        num_tokens = text + per_frame * (sample["end_frame"] - sample["start_frame"] + 1)
        if num_tokens > data.max_seq_len:
            raise ProspectError(
                f"sample {sample['key']}: takes {num_tokens} tokens, more than data.max_seq_len {data.max_seq_len}; "
                "raise it, or use data.packing clip"
            )
        follows = after and after["kind"] in ACTIVE_ROLES and after["end_frame"] == sample["end_frame"]
        rows.append(
            {
                "shard": sample["shard"],
                "row": first + position,
                "num_rows": 1,
                "first_frame": sample["start_frame"],
                "last_frame": sample["end_frame"],
                "state": [],
                "following": after["kind"] if after and follows else None,
                "next_event": next_events[position],
                "num_tokens": num_tokens,
            }
        )
    return rows


def _next_events(samples: list[dict[str, Any]]) -> list[int | None]:
    """The frame of the first active turn after each sample of a clip."""
    coming: list[int | None] = []
    event = None
    for sample in reversed(samples):
        coming.append(event)
        if sample["kind"] in ACTIVE_ROLES:
            event = sample["end_frame"]
    return coming[::-1]
