"""Opens what PyAV reads, a file, a URL or a camera, and gives its pictures as they are told: time, duration, picture.

PyAV's log callback is left off: with it, a codec's own thread waits for the interpreter's lock to log a damage while
the thread that closes the codec holds that lock and waits for the codec's thread, for ever.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.errors import ProspectError
from pipeline.video.picture import Picture

MAX_MISSING_S = 2.0  # of a video's end, before it counts as cut short
MAX_PIXELS = 64_000_000  # of a picture; one of 8K has 33 million
MIN_SOUND_ALONE_S = 1  # after the last picture; a shorter rest is how sound is padded
OPENS_OTHERS = {  # formats of files that name others, which would be read, and of devices
    "alsa", "concat", "dash", "fbdev", "hls", "image2", "imf", "kmsgrab", "lavfi", "oss", "rtp", "rtsp", "sap", "sdp",
    "video4linux2,v4l2", "vobsub", "webm_dash_manifest", "x11grab",
}  # fmt: skip
PROTOCOLS = "http,https,tcp,tls,udp,rtp,rtsp,rtmp,crypto"  # of a URL: none that reads files


@dataclass(frozen=True, slots=True)
class Place:
    """Where a video is, as PyAV opens it."""

    name: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    patience_s: float | None = None  # after which it is given up where nothing comes; None: never


def file_place(path: Path) -> Place:
    """Name a file so that no name is taken for a protocol, and that it opens no other.

    Raises:
        ProspectError: it is no file.
    """
    import av

    if not path.is_file():
        raise ProspectError("found a folder, expected a video" if path.is_dir() else "No such file, expected a video")
    formats = ",".join(sorted(av.formats_available - OPENS_OTHERS))
    return Place(f"file:{path}", options={"protocol_whitelist": "file", "format_whitelist": formats})


@dataclass(slots=True)
class Video:
    """An open video, and how far it was read."""

    container: Any
    stream: Any
    start: Fraction | None = None  # of the container; None: where its first picture is
    picture_end: Fraction = Fraction(0)
    sound_end: Fraction = Fraction(0)

    def pictures(self, allow_short: bool) -> Iterator[tuple[Fraction, Fraction, Picture]]:
        """Give time from the container's start, duration (s) and picture of each.

        Raises:
            ProspectError: it has no pictures, or ends well before the end that it states.
        """
        usual = 1 / Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)
        for packet in self._packets():
            if packet.stream is self.stream and not _is_void(packet):
                for frame in packet.decode():
                    yield self._shown(frame, usual)
            elif packet.stream.type == "audio" and packet.pts is not None:
                self.sound_end = (packet.pts + (packet.duration or 0)) * packet.time_base
        if self.start is None:
            raise ProspectError("has no video frames")
        if not allow_short:
            self._check_whole()

    def sound_after(self) -> Fraction:
        """When the sound ends, from the container's start; 0 where it does not outlast the pictures."""
        assert self.start is not None
        return self.sound_end - self.start if self.sound_end > self.picture_end + MIN_SOUND_ALONE_S else Fraction(0)

    def _packets(self) -> Iterator[Any]:
        """Of the pictures and the sound, and at the end those that flush the decoders."""
        try:
            yield from self.container.demux(self.stream, *self.container.streams.audio)
        except IndexError:
            return  # PyAV, after ours were flushed: it has no name for streams that appeared on the way

    def _shown(self, frame: Any, usual: Fraction) -> tuple[Fraction, Fraction, Picture]:
        # a picture that is told no time, as all of a raw .h264, follows the one before
        time = self.picture_end if frame.pts is None else frame.pts * frame.time_base
        duration = (frame.duration or 0) * frame.time_base or usual
        if self.start is None:
            self.start = time
        self.picture_end = time + duration
        return time - self.start, duration, Picture(frame, Fraction(self.stream.sample_aspect_ratio or 1))

    def _check_whole(self) -> None:
        stated, end = _stated_s(self.stream), self.picture_end
        if stated is None:
            stated, end = Fraction(self.container.duration or 0, 1_000_000), max(end, self.sound_end)
        # Some containers state when the last frame ends, others how long the video is.
        assert self.start is not None
        reached = max(end, end - self.start)
        if reached < stated - max(MAX_MISSING_S, 0.05 * float(stated)):
            raise ProspectError(
                f"is cut short: it states {float(stated):.1f} s, its frames end at {float(reached):.1f} s; "
                "extract-frames --allow-short takes what there is"
            )


@contextmanager
def opened(place: Place) -> Iterator[Video]:
    """Open a video.

    Raises:
        ProspectError: it cannot be opened or, while the block runs, read on; it has no video stream.
    """
    import av

    try:
        with _container(place) as container:
            streams = [stream for stream in container.streams.video if not _is_cover(stream)]
            if not streams:
                raise ProspectError("has no video stream")
            codec = streams[0].codec_context
            if codec.width * codec.height > MAX_PIXELS:
                raise ProspectError(f"has pictures of {codec.width} x {codec.height} pixels, more than {MAX_PIXELS}")
            codec.options = {"max_pixels": str(MAX_PIXELS)}  # for those that it has further on
            codec.thread_type = "AUTO"
            start = container.start_time
            # before 0 there is nothing that a player would show: what encoders of sound put in front
            yield Video(container, streams[0], None if start is None else max(Fraction(start, 1_000_000), Fraction(0)))
    except av.ExitError:
        raise ProspectError(f"nothing came for {place.patience_s or 0:g} s") from None
    except av.FFmpegError as error:  # some are OSErrors too, and would be taken for a full disk
        raise ProspectError(f"cannot be read: {error.strerror}") from None


def _container(place: Place) -> Any:
    import av

    try:
        return av.open(
            place.name, format=place.format, options=place.options, metadata_errors="replace", timeout=place.patience_s
        )
    except av.ArgumentError:
        if "format_whitelist" not in place.options:
            raise
        raise ProspectError("is a playlist, or another format that names other files; expected a video") from None


def _is_void(packet: Any) -> bool:
    """Of a damaged file: the decoder would take it for the end."""
    return packet.size == 0 and (packet.pts is not None or packet.dts is not None)


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _stated_s(stream: Any) -> Fraction | None:
    """How long a stream says that it is; Matroska says it in a tag."""
    if stream.duration:
        return stream.duration * stream.time_base
    tag = next((value for key, value in stream.metadata.items() if key.startswith("DURATION")), "")
    parts = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", tag)
    return int(parts[1]) * 3600 + int(parts[2]) * 60 + Fraction(parts[3]) if parts else None
