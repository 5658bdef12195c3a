"""What a table of sequences is made from: the index of a split, clips rebuilt from it, and members read by offset."""

import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import polars as pl

from pipeline.annotations.clips import Clip, Turn, clip_from
from pipeline.annotations.dst import apply_updates, parse_updates
from pipeline.errors import ProspectError
from pipeline.io.remote import RemoteFolder, open_folder, shown
from pipeline.io.storage import Folder, LocalFolder
from pipeline.shards.index import TURNS, read_index
from pipeline.shards.manifest import INDEX, MANIFEST, Manifest, read_manifest
from pipeline.shards.sample import TurnSample, decode, turn_from_record
from prospect.data.shard_cache import ShardCache


@dataclass(frozen=True, slots=True)
class Split:
    """A split's shards: folder, manifest, and index (a row a sample, in shard order)."""

    folder: Path | RemoteFolder
    manifest: Manifest
    index: pl.DataFrame
    cache: ShardCache | None = None  # of a remote split: where copies of its shards are

    @property
    def place(self) -> Folder:
        return self.folder if isinstance(self.folder, RemoteFolder) else LocalFolder(self.folder)

    def where(self, row: int) -> str:
        """Name shard and key of a row, for errors."""
        return f"{self.folder}/{self.index.item(row, 'shard')} sample {self.index.item(row, 'key')}"

    def sample(self, row: int) -> TurnSample:
        """Read the sample of an index row from its shard by offset.

        Raises:
            ProspectError: the shard does not hold what the index says; names shard and key.
        """
        (data,) = self.members(row, [0])
        sample = decode(data, self.where(row))
        expected = self.index.item(row, "key")
        if sample.key != expected:
            raise ProspectError(
                f"{self.where(row)}: found sample {sample.key}, expected {expected}; build the shards again"
            )
        return sample

    def members(self, row: int, which: Sequence[int]) -> list[bytes]:
        """Read bytes of some members of a row: 0 its JSON, 1 + i the image of its frame i where images are embedded.

        Raises:
            ProspectError: they are not there, or not the bytes that were written; names shard and key.
        """
        shard: str = self.index.item(row, "shard")
        columns = (self.index[name][row] for name in ("data_offsets", "data_sizes", "data_crc32s"))
        places = list(zip(*columns, strict=True))
        if isinstance(self.folder, Path):
            try:
                with (self.folder / shard).open("rb", buffering=0) as file:
                    return [self._read(file, row, *places[member]) for member in which]
            except OSError as error:
                raise ProspectError(
                    f"{self.where(row)}: the index lists this shard, it cannot be read ({error.strerror}); build the "
                    "shards again"
                ) from None
        assert self.cache is not None
        record = self.manifest.by_name[shard]
        for is_last_try in (False, True):
            try:
                with self.cache.open(self.folder, shard, record) as file:
                    return [self._read(file, row, *places[member]) for member in which]
            except _Damaged:
                if is_last_try:
                    raise
                self.cache.drop(record.sha256)  # the copy on this disk: fetched once more
        raise AssertionError

    def _read(self, file: IO[bytes], row: int, offset: int, size: int, crc32: int) -> bytes:
        data = os.pread(file.fileno(), size, offset)
        if len(data) != size:
            raise _Damaged(f"{self.where(row)}: the shard ends early; build the shards again")
        if zlib.crc32(data) != crc32:
            raise _Damaged(
                f"{self.where(row)}: found other bytes than were written (crc32 at {offset}); build the shards again"
            )
        return data


class _Damaged(ProspectError):
    """A shard does not hold the bytes that were written."""


def read_split(shards: Path | str, dataset: str, split: str, data_root: Path, cache: ShardCache | None = None) -> Split:
    """Open OUT/DATASET/SPLIT; `shards` is OUT, a folder or a URL, and `cache` keeps copies of a remote one.

    Raises:
        ProspectError: the shards are not there (the message has the command that builds them), cannot be had, or
            disagree with their manifest.
    """
    place = open_folder(shards) / dataset / split
    if not place.has(MANIFEST):
        raise ProspectError(
            f"{place}: found no finished shards ({MANIFEST}); build them with: prospect build-shards --split {split} "
            f"--data-root {data_root} --dataset {dataset} --out {shown(str(shards))}"
        )
    manifest = read_manifest(place)
    where = f"{place}/{INDEX}"
    if isinstance(place, RemoteFolder):
        if cache is None:
            raise ProspectError(f"{place}: remote shards need a folder for their copies; set data.cache")
        data = _cached_index(place, manifest, cache)
        return Split(place, manifest, read_index(data, where, manifest), cache)
    assert isinstance(place, LocalFolder)
    try:
        data = place.read(INDEX, manifest.index.bytes)
    except OSError as error:
        raise ProspectError(f"{where}: cannot be read ({error}); build the shards again with --force") from None
    if hashlib.sha256(data).hexdigest() != manifest.index.sha256:
        raise ProspectError(
            f"{where}: found other bytes than the {manifest.index.bytes} that were built; build the shards again with "
            "--force"
        )
    _check_sizes(place, manifest)
    return Split(place.path, manifest, read_index(data, where, manifest))


def _check_sizes(place: LocalFolder, manifest: Manifest) -> None:
    """Shards have the sizes that places in the index are held against; one that is gone is named when it is read."""
    for shard in manifest.shards:
        size = place.size(shard.name)
        if size is not None and size != shard.bytes:
            raise ProspectError(
                f"{place}/{shard.name}: found {size} bytes, expected the {shard.bytes} that were built; build the "
                "shards again with --force"
            )


def _cached_index(place: RemoteFolder, manifest: Manifest, cache: ShardCache) -> bytes:
    """The index's bytes, checked: polars may end the process on a damaged file."""
    for _ in range(2):
        with cache.open(place, INDEX, manifest.index) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() == manifest.index.sha256:
            return data
        cache.drop(manifest.index.sha256)  # the copy on this disk: fetched once more
    raise ProspectError(
        f"{place}/{INDEX}: its copies in {cache.folder} are damaged; check that disk, or set data.cache"
    )


def clip_starts(index: pl.DataFrame) -> list[int]:
    """Give the row of each clip's first sample, and the number of rows at the end."""
    return [*index["sample_idx"].eq(0).arg_true().to_list(), len(index)]


def clips_of(index: pl.DataFrame) -> Iterator[Clip]:
    """Rebuild each clip from its index rows alone."""
    columns = ("shard", "key", "clip_id", "clip", "kind", "end_frame", "target", "target_start", *TURNS)
    starts = clip_starts(index)
    for first, end in pairwise(starts):
        rows = index[first:end].select(columns).to_dicts()
        turns: list[Turn] = []
        for row in rows:
            turns += map(turn_from_record, row["turns_before"])
            if row["target"] is not None:
                turns.append(Turn(row["kind"], row["target"], row["target_start"], row["end_frame"]))
        turns += map(turn_from_record, rows[-1]["trailing"])
        clip = _clip(rows[0]["clip_id"], rows[0]["clip"], turns)
        state = clip.state
        for row in rows:
            if row["kind"] == "dst_update":
                try:
                    state = apply_updates(state, parse_updates(row["target"]))
                except ValueError as error:
                    raise ProspectError(
                        f"{row['shard']} sample {row['key']}: target: found {row['target']!a}, expected updates that "
                        f"can be replayed ({error}); build the shards again"
                    ) from None
        yield clip


def _clip(clip_id: str, about: dict[str, Any], turns: list[Turn]) -> Clip:
    fps = about["fps"]
    return clip_from(
        about | {"fps": int(fps) if fps == int(fps) else fps},  # the column holds floats
        id=clip_id,
        frames_file=about["frames_file"],
        steps=zip(about["step_ids"], about["step_names"], strict=True),
        initial_state=about["initial_state"],
        turns=turns,
        progress=((entry["frame"], entry["text"]) for entry in about["progress"]),
    )
