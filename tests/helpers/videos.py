"""Videos made for a test."""

from collections.abc import Callable
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


BITS = 9  # of a picture's number, as stripes


def numbered(number: int, size: tuple[int, int] = (72, 48)) -> np.ndarray:
    """A picture that shows its number in stripes, white for a one, the lowest bit on the left."""
    width, height = size
    stripes = [255 * (number >> bit & 1) for bit in range(BITS)]
    return np.repeat(np.repeat(np.array(stripes, np.uint8), width // BITS)[None, :, None], height, 0).repeat(3, 2)


def number_in(pixels: np.ndarray) -> int:
    """The number that a picture of `numbered` shows, whatever its size (height, width, 3)."""
    stripes = np.array_split(pixels.mean(axis=(0, 2)), BITS)
    return sum((float(np.median(stripe)) > 127) << bit for bit, stripe in enumerate(stripes))


def film(
    path: Path,
    times: list[Fraction],
    sound: tuple[float, float] | None = None,
    codec: str = "mpeg4",
    time_base: Fraction = Fraction(1, 30_000),
    pictures: Callable[[int], np.ndarray] = numbered,
    metadata: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Picture i of `pictures` is shown from times[i] on (s); silence sounds from sound[0] to about sound[1] (s)."""
    with av.open(str(path), "w", options=options) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=30)
        height, width, _ = pictures(0).shape
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = time_base
        audio = container.add_stream("mp2", rate=48_000) if sound else None
        packets = []
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pictures(number)), format="rgb24")
            frame.pts, frame.time_base = round(time / time_base), time_base
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if audio and sound:
            audio.layout = "mono"
            # the encoder begins 481 samples before what it is given
            for place in range(round(sound[0] * 48_000), round(sound[1] * 48_000), 1152):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 48_000, place + 481, Fraction(1, 48_000)
                packets += audio.encode(samples)
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path
