"""Shards, index and manifest that are almost what a build wrote, and agree with each other: read, or one clear error.

Every case goes through all that reads shards: the list of samples, statistics, --verify, the plan of sequences, and
the reader that training has.
"""

import hashlib
import io
import json
import shutil
import tarfile
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder
from pipeline.shards.build import build_split
from pipeline.shards.manifest import SCHEMA
from pipeline.shards.reader import shards_at
from pipeline.shards.scan import Options
from pipeline.shards.verify import verify_split
from prospect.config import DataConfig
from prospect.data.index import Split, read_split
from prospect.data.order import Request
from prospect.data.reader import SequenceReader
from prospect.data.sequences import sequence_table
from prospect.layout import Tokens
from prospect.looking.shard import sample_rows, sample_table
from prospect.looking.stats import statistics
from tests.helpers.fakes import RAW_CLIP, raw_clip, word_tokenizer, write_root
from tests.helpers.fuzz import CASES, fuzz, mutated_bytes, mutated_json

SHARD = "train-000000.tar"
NO_TABLE = (TypeError, OverflowError, ValueError, AttributeError)  # of rows that pyarrow makes no table of


class Shards:
    """A copy of a small build, its three parts in hand; `write` puts them back so that they agree."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.folder = folder / "shards" / "x" / "train"
        self.manifest = json.loads((self.folder / "manifest.json").read_text())
        self.rows = pl.read_parquet(self.folder / "index.parquet").to_dicts()
        with tarfile.open(self.folder / SHARD) as tar:
            self.members = [(info.name, tar.extractfile(info).read()) for info in tar]
        words = [turn["content"] for turn in RAW_CLIP["conversation"] if isinstance(turn["content"], str)]
        self.tokens = Tokens(word_tokenizer([*words, *(step["name"] for step in RAW_CLIP["dst"])]), 1)

    def write(self, tar: bytes | None = None, index: bytes | None = None, manifest: Any = None) -> None:
        tar = tar if tar is not None else tar_of(self.members)
        index = index if index is not None else table_of(self.rows)
        made = manifest
        if made is None:
            made = dict(self.manifest)
            made["index"] = {"bytes": len(index), "sha256": hashlib.sha256(index).hexdigest()}
            made["shards"] = [made["shards"][0] | {"bytes": len(tar), "sha256": hashlib.sha256(tar).hexdigest()}]
        (self.folder / SHARD).write_bytes(tar)
        (self.folder / "index.parquet").write_bytes(index)
        (self.folder / "manifest.json").write_text(json.dumps(made))

    def read(self) -> None:
        """Everything that reads shards; raises the first ProspectError, after the others have had their turn."""
        errors = []
        for look in (self._list, self._count, self._verify, self._learn):
            try:
                look()
            except ProspectError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _list(self) -> None:
        shards = shards_at(str(self.folder))
        list(sample_rows(shards))
        sample_table(shards, limit=3)

    def _count(self) -> None:
        shards = shards_at(str(self.folder))
        statistics(shards)
        statistics(shards * 2)  # by the index

    def _verify(self) -> None:
        problems = verify_split(LocalFolder(self.folder), [self.root / "data" / "x"], lambda *told: None).problems
        if problems:
            raise ProspectError("\n".join(map(str, problems)))

    def _learn(self) -> None:
        split = read_split(self.root / "shards", "x", "train", self.root / "data")
        for packing in ("clip", "turn"):
            data = DataConfig(dataset="x", shards=self.root / "shards", root=self.root / "data", packing=packing)
            self._learn_as(split, data)

    def _learn_as(self, split: Split, data: DataConfig) -> None:
        table = sequence_table(split, self.tokens, data)
        reader = SequenceReader(split, table, self.tokens, data, 32, None)
        for number in range(len(table)):
            reader.read(Request(number, 0, 0))


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def table_of(rows: list[dict]) -> bytes:
    """Rows as a build writes them; of other types where they do not fit."""
    out = io.BytesIO()
    try:
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
    except (pa.ArrowException, *NO_TABLE):
        table = pa.Table.from_pylist(rows)
    pq.write_table(table, out)
    return out.getvalue()


@pytest.fixture(scope="module", params=["plain", "embedded"])
def built(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    write_root(folder / "data", [raw_clip(video_uid=f"v{i}", frames_file=f"frames/v{i}.arrow") for i in range(2)])
    options = Options(max_silent_frames=4, embed_frames=request.param == "embedded")
    build_split(folder / "data", "x", "train", folder / "shards", options=options)
    return folder


@pytest.fixture
def shards(built, tmp_path) -> Shards:
    shutil.copytree(built / "shards", tmp_path / "shards")
    (tmp_path / "data").symlink_to(built / "data")
    return Shards(tmp_path)


def check(outcomes: Counter[str]) -> None:
    assert sum(outcomes.values()) == CASES and outcomes["refused"] > 0


def test_what_was_built_is_read(shards):
    shards.write()
    shards.read()


def test_a_changed_value_of_the_manifest(shards):
    def mutant(random: Random) -> None:
        shards.write(manifest=mutated_json(shards.manifest, random))

    check(fuzz("manifest", mutant, lambda made: shards.read()))


def test_a_manifest_of_changed_bytes(shards):
    text = (shards.folder / "manifest.json").read_bytes()

    def mutant(random: Random) -> None:
        (shards.folder / "manifest.json").write_bytes(mutated_bytes(text, random))

    check(fuzz("manifest bytes", mutant, lambda made: shards.read()))


def test_a_changed_value_of_the_index(shards):
    def mutant(random: Random) -> None:
        while True:
            with suppress(pa.ArrowException, *NO_TABLE):  # no table at all
                rows = list(shards.rows)
                row = random.randrange(len(rows))
                rows[row] = mutated_json(rows[row], random)
                shards.write(index=table_of(rows))
                return

    check(fuzz("index", mutant, lambda made: shards.read()))


def test_an_index_of_changed_bytes(shards):
    data = table_of(shards.rows)
    check(
        fuzz("index bytes", lambda random: shards.write(index=mutated_bytes(data, random)), lambda made: shards.read())
    )


def test_a_changed_value_of_a_sample(shards):
    """The index has the new bytes' places and checksums."""

    def mutant(random: Random) -> None:
        samples = [number for number, (name, _) in enumerate(shards.members) if name.endswith(".json")]
        number = random.choice(samples)
        members = list(shards.members)
        name, data = members[number]
        changed = mutated_json(json.loads(data), random)
        text = json.dumps(changed, separators=(",", ":")).encode()
        members[number] = name, text if random.random() < 0.9 else mutated_bytes(data, random)
        shards.write(tar_of(members), table_of(placed(shards.rows, members)))

    check(fuzz("sample", mutant, lambda made: shards.read()))


def placed(rows: list[dict], members: list[tuple[str, bytes]]) -> list[dict]:
    """The rows with places and checksums of these members."""
    places, offset = {}, 0
    for name, data in members:
        places[name] = offset + tarfile.BLOCKSIZE, len(data), zlib.crc32(data)
        offset += tarfile.BLOCKSIZE + -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    found = []
    for row in rows:
        offsets, sizes, crc32s = zip(*(places[name] for name in row["member_names"]), strict=True)
        found.append(row | {"data_offsets": offsets, "data_sizes": sizes, "data_crc32s": crc32s})
    return found


def test_a_tar_of_changed_bytes(shards):
    data = tar_of(shards.members)
    check(fuzz("tar", lambda random: shards.write(tar=mutated_bytes(data, random)), lambda made: shards.read()))


def test_a_tar_of_changed_headers(shards):
    """In a header random bytes hit what counts."""
    data = tar_of(shards.members)
    headers = [place for place in range(0, len(data), 512) if data[place + 257 : place + 262] == b"ustar"]

    def mutant(random: Random) -> None:
        place, made = random.choice(headers), bytearray(data)
        header = bytearray(mutated_bytes(bytes(made[place : place + 512]), random)[:512].ljust(512, b"\0"))
        if random.random() < 0.5:
            header[156] = random.choice(b"0123456xgLKSVDN\0")  # its type
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        made[place : place + 512] = header
        shards.write(tar=bytes(made))

    check(fuzz("tar header", mutant, lambda made: shards.read()))
