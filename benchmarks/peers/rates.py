"""What the peers of benchmarks/stream.py have in common: the frames, the decoders, and rates of later passes."""

import io
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import simplejpeg
import torch
from PIL import Image

try:
    from torchcodec.decoders import decode_jpeg
except (ImportError, OSError, RuntimeError):  # its wheels of the package index need a CUDA build of torch
    decode_jpeg = None

COUNT = 1500  # frames of a pass, those of the floor
BATCH = 64


def stored(path: str) -> list[bytes]:
    """The JPEG bytes of an Arrow file."""
    with pa.OSFile(path, "rb") as file:
        return pa.ipc.open_stream(file).read_all()["frame"].to_pylist()


def _pillow(images: Sequence[bytes]) -> torch.Tensor:
    return _planes([np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in images])


def _simplejpeg(images: Sequence[bytes]) -> torch.Tensor:
    return _planes([simplejpeg.decode_jpeg(image) for image in images])


def _torchcodec(images: Sequence[bytes]) -> torch.Tensor:
    return torch.stack([decode_jpeg(image) for image in images])


def _planes(pixels: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2)))


DECODERS: dict[str, Callable[[Sequence[bytes]], torch.Tensor]] = {"Pillow": _pillow, "simplejpeg": _simplejpeg}
if decode_jpeg is not None:
    DECODERS["torchcodec"] = _torchcodec


def print_rates(name: str, loader: Iterable[torch.Tensor]) -> None:
    """Three passes after the first, of a loader that ends, or goes on for ever."""
    endless = iter(loader)
    for number in range(4):
        start, frames = time.perf_counter(), 0
        while frames < COUNT:
            batch = next(endless, None)
            if batch is None:
                endless = iter(loader)
                continue
            frames += len(batch)
        if number:
            print(f"RATE\t{name}\t{frames / (time.perf_counter() - start)}", flush=True)
