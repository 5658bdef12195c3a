"""Frame features on disk: what a frozen tower makes of each frame, computed once by `cache-features`.

Where the connector is frozen too, they are what the language model reads (stage "projected"); else the pooled tokens
before their projection ("pooled"), some five times as wide, which leave the connector to be trained.

    FEATURES/KEY/about.json          what the key stands for, tokens a frame, width, dtype
    FEATURES/KEY/<digest>.arrow      one frames file of a dataset: IPC file, a row a frame: frame int64, crc32 of the
                                     stored image uint32, that of the feature uint32, feature bytes

KEY is a digest of all that a feature depends on but the image: the weights of the tower (and connector), tokens a
frame, normalisation, and the resize. Of SmolVLM2-2.2B at 4 tokens in bf16: 16 KB a frame projected, 83 KB pooled.
"""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ConfigDict, Field

from pipeline.errors import ProspectError
from pipeline.io.records import RECORD, read_record
from pipeline.io.storage import LocalFolder, write_json

ABOUT = "about.json"
OPEN_FILES = 64
FEATURE_VERSION = 2  # part of every key: raise it when the same weights and image give another feature
Stage = Literal["projected", "pooled"]
Dtype = Literal["bfloat16", "float32"]


@dataclass(frozen=True, slots=True)
class About:
    """What features are."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    tokens: Annotated[int, Field(gt=0, le=1 << 16)]
    width: Annotated[int, Field(gt=0, le=1 << 16)]
    dtype: Dtype
    stage: Stage


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """The features of one key."""

    folder: Path  # FEATURES/KEY
    tokens: int  # K
    width: int  # D, or pooled C
    dtype: Dtype  # bfloat16 is kept as uint16 by numpy, which has none
    stage: Stage

    @classmethod
    def open(cls, features: Path, key: str) -> "FeatureStore":
        """Open; raises ProspectError where no features of this key were cached, or what they are cannot be read."""
        folder = features / key
        if not (folder / ABOUT).is_file():
            raise ProspectError(
                f"{features}: found no features of this model (key {key}), expected them there; make them with "
                "prospect cache-features and the same config, or leave out data.features"
            )
        about = read_record(folder / ABOUT, About, f"remove {folder} and cache again")
        return cls(folder, about.tokens, about.width, about.dtype, about.stage)

    def save_about(self) -> None:
        write_json(self.folder / ABOUT, asdict(About(self.tokens, self.width, self.dtype, self.stage)))

    def path(self, dataset: str, frames_file: str) -> Path:
        digest = hashlib.sha256(f"{dataset}/{frames_file}".encode()).hexdigest()[:32]
        return self.folder / f"{digest}.arrow"

    @property
    def row_bytes(self) -> int:
        return self.tokens * self.width * (2 if self.dtype == "bfloat16" else 4)

    def has(self, dataset: str, frames_file: str, images: Iterable[tuple[int, bytes]]) -> bool:
        """Tell whether the features of all these frames are there, made from these stored images."""
        path = self.path(dataset, frames_file)
        rows = _opened(path, self.row_bytes) if path.is_file() else {}
        return bool(rows) and all(
            frame in rows and rows[frame].image_crc32 == zlib.crc32(image) and rows[frame].is_whole
            for frame, image in images
        )

    def read(self, dataset: str, frames_file: str, frames: Sequence[int], first: bytes) -> npt.NDArray[np.uint8]:
        """Read the raw bytes (F, K * D * itemsize) of the frames' features.

        Args:
            first: the stored image of the first frame, to notice features of other images under the same names.

        Raises:
            ProspectError: one was not cached, or from another image; names it.
        """
        path = self.path(dataset, frames_file)
        rows = _opened(path, self.row_bytes) if path.is_file() else {}
        again = "run prospect cache-features again with this config"
        if missing := [frame for frame in frames if frame not in rows]:
            raise ProspectError(f"{path}: found no feature of frame {missing[0]} of {frames_file}; {again}")
        if broken := [frame for frame in frames if not rows[frame].is_whole]:
            raise ProspectError(f"{path}: the feature of frame {broken[0]} of {frames_file} is damaged; {again}")
        if rows[frames[0]].image_crc32 != zlib.crc32(first):
            raise ProspectError(f"{path}: was made from another image than frame {frames[0]} of {frames_file}; {again}")
        return np.stack([rows[frame].data for frame in frames])

    def write(
        self, dataset: str, frames_file: str, chunks: Iterable[tuple[list[int], list[int], npt.NDArray[np.uint8]]]
    ) -> None:
        """Write one frames file's features, whole or not at all; each chunk: F frames, crc32s of their stored images,
        and their features' bytes (F, row_bytes)."""
        path = self.path(dataset, frames_file)
        kind = pa.binary(self.row_bytes)
        schema = pa.schema(
            [("frame", pa.int64()), ("crc32", pa.uint32()), ("feature_crc32", pa.uint32()), ("feature", kind)]
        )
        with (
            LocalFolder(self.folder).new_file(path.name) as partial,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
        ):
            for frames, crc32s, data in chunks:
                stored = pa.FixedSizeBinaryArray.from_buffers(kind, len(frames), [None, pa.py_buffer(data.tobytes())])
                of_features = pa.array([zlib.crc32(row) for row in data], pa.uint32())
                columns = [pa.array(frames, pa.int64()), pa.array(crc32s, pa.uint32()), of_features, stored]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        _opened.cache_clear()


@dataclass(frozen=True, slots=True)
class _Row:
    """One frame's."""

    image_crc32: int  # of the stored image that it was made from
    crc32: int
    data: npt.NDArray[np.uint8]  # in a memory-mapped file: read when it is looked at

    @property
    def is_whole(self) -> bool:
        return zlib.crc32(self.data.data) == self.crc32


@lru_cache(OPEN_FILES)
def _opened(path: Path, row_bytes: int) -> dict[int, _Row]:
    """The rows of a file, by frame."""
    rows: dict[int, _Row] = {}
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        for batch in table.to_batches():
            stored = batch.column("feature")
            data = np.frombuffer(stored.buffers()[1], dtype=np.uint8).reshape(-1, row_bytes)[stored.offset :]
            columns = (batch.column(name).to_pylist() for name in ("frame", "crc32", "feature_crc32"))
            rows |= {row[0]: _Row(*row[1:]) for row in zip(*columns, data[: batch.num_rows], strict=True)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise ProspectError(f"{path}: cannot be read ({error}); remove it, and cache features again") from None
    return rows
