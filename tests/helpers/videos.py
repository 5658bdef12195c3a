"""Videos made for a test."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def video(path, seconds, rate=10, width=64, height=64, pixel=1):
    """Frame n of `rate` a second is of grey 4 n; `pixel` is the width of a pixel over its height."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        stream.sample_aspect_ratio = Fraction(pixel)
        for number in range(seconds * rate):
            pixels = np.full((height, width, 3), number * 4, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_video(path: Path, times_ms: list[int], size: tuple[int, int] = (64, 48), codec: str = "mpeg4") -> Path:
    """Frame i is a grey of 20 * i (mod 240), shown from times_ms[i] on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, time in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 20 * i % 240, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
