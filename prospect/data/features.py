"""Frame features on disk: what a frozen tower and connector make of each frame, computed once by `cache-features`.

    FEATURES/KEY/about.json          what the key stands for, tokens a frame, width, dtype
    FEATURES/KEY/<digest>.arrow      one frames file of a dataset: IPC file, a row a frame: frame int64, crc32 of the
                                     stored image uint32, feature bytes

KEY is a digest of all that a feature depends on but the image: the weights of tower and connector, tokens a frame,
normalisation, and the resize. A feature is K x D numbers; in bf16 16 KB a frame at 4 tokens of 2048.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder, write_json

ABOUT = "about.json"
OPEN_FILES = 64


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """The features of one key."""

    folder: Path  # FEATURES/KEY
    tokens: int  # K
    width: int  # D
    dtype: str  # bfloat16 (kept as uint16 by numpy, which has none) or float32

    @classmethod
    def open(cls, features: Path, key: str) -> "FeatureStore":
        """Open; raises ProspectError where no features of this key were cached, or what they are cannot be read."""
        folder = features / key
        if not (folder / ABOUT).is_file():
            raise ProspectError(
                f"{features}: found no features of this model (key {key}), expected them there; make them with "
                "prospect cache-features and the same config, or leave out data.features"
            )
        try:
            record = json.loads((folder / ABOUT).read_text())
            return cls(folder, int(record["tokens"]), int(record["width"]), str(record["dtype"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ProspectError(
                f"{folder / ABOUT}: cannot be read ({error!r}); remove {folder} and cache again"
            ) from None

    def save_about(self) -> None:
        record = asdict(self)
        del record["folder"]
        write_json(self.folder / ABOUT, record)

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
        return bool(rows) and all(frame in rows and rows[frame][0] == zlib.crc32(image) for frame, image in images)

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
        if rows[frames[0]][0] != zlib.crc32(first):
            raise ProspectError(f"{path}: was made from another image than frame {frames[0]} of {frames_file}; {again}")
        return np.stack([rows[frame][1] for frame in frames])

    def write(
        self, dataset: str, frames_file: str, chunks: Iterable[tuple[list[int], list[int], npt.NDArray[np.uint8]]]
    ) -> None:
        """Write one frames file's features, whole or not at all; each chunk: F frames, crc32s of their stored images,
        and their features' bytes (F, row_bytes)."""
        path = self.path(dataset, frames_file)
        kind = pa.binary(self.row_bytes)
        schema = pa.schema([("frame", pa.int64()), ("crc32", pa.uint32()), ("feature", kind)])
        with (
            LocalFolder(self.folder).new_file(path.name) as partial,
            pa.OSFile(str(partial), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
        ):
            for frames, crc32s, data in chunks:
                stored = pa.FixedSizeBinaryArray.from_buffers(kind, len(frames), [None, pa.py_buffer(data.tobytes())])
                columns = [pa.array(frames, pa.int64()), pa.array(crc32s, pa.uint32()), stored]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        _opened.cache_clear()


@lru_cache(OPEN_FILES)
def _opened(path: Path, row_bytes: int) -> dict[int, tuple[int, npt.NDArray[np.uint8]]]:
    """Frame -> crc32 of its image, and its feature, in a memory-mapped file: read when it is looked at."""
    rows: dict[int, tuple[int, npt.NDArray[np.uint8]]] = {}
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        for batch in table.to_batches():
            stored = batch.column("feature")
            data = np.frombuffer(stored.buffers()[1], dtype=np.uint8).reshape(-1, row_bytes)[stored.offset :]
            frames, crc32s = batch.column("frame").to_pylist(), batch.column("crc32").to_pylist()
            rows |= zip(frames, zip(crc32s, data[: len(frames)], strict=True), strict=True)
    except (OSError, ValueError, KeyError, pa.ArrowInvalid) as error:
        raise ProspectError(f"{path}: cannot be read ({error}); remove it, and cache features again") from None
    return rows
