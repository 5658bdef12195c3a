"""Arrow files whose metadata is damaged, compressed or not, file and stream: read, or one clear error."""

import io
from pathlib import Path
from random import Random

import pyarrow as pa

from pipeline.io.frame_store import FrameFile
from tests.helpers.fuzz import CASES, fuzz


def damaged(rng: Random) -> bytes:
    values = pa.array([b"abcd" * 9, b"x"], rng.choice([pa.binary_view(), pa.binary()]))
    out = io.BytesIO()
    make = rng.choice([pa.ipc.new_file, pa.ipc.new_stream])
    table = pa.table({"frame": values})
    options = pa.ipc.IpcWriteOptions(compression=rng.choice(["lz4", "zstd", None]))
    with make(out, table.schema, options=options) as writer:
        writer.write_table(table)
    data = bytearray(out.getvalue())
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(6, len(data))] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
    return bytes(data)


def test_any_damage_of_an_arrow_file_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"

    def read(data: bytes) -> None:
        path.unlink(missing_ok=True)  # never cut while it is mapped
        path.write_bytes(data)
        frames = FrameFile(path)
        for index in range(min(len(frames), 3)):
            frames.read(index)
        frames.first_bad(0, min(len(frames), 3) - 1, each=True)

    assert fuzz("arrow", damaged, read).total() == CASES
