"""Rows of videos in the containers that people have, made here: which picture each shows."""

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ProspectError
from pipeline.video import source
from pipeline.video.rows import rows_of
from pipeline.video.settings import Settings
from pipeline.video.source import file_place
from tests.helpers.videos import film, number_in, numbered


def every(rate, seconds):
    return [Fraction(i) / Fraction(rate) for i in range(round(seconds * rate))]


def numbers(*paths, fps=2.0, **settings):
    """Which picture each row shows, and what is told of gaps."""
    with rows_of([file_place(path) for path in paths], Settings(fps, 72, **settings)) as rows:
        found = [number_in(np.asarray(Image.open(io.BytesIO(jpeg)))) for jpeg in rows.jpegs]
        return found, rows.gaps.text()


def fps_filter(path, rate):
    """`ffmpeg -vf fps=RATE:round=up`: rows by FFmpeg itself; rounded up, a picture is never shown before its time."""
    with av.open(str(path)) as container:
        graph = av.filter.Graph()
        begin = graph.add_buffer(template=container.streams.video[0])
        filtered, sink = graph.add("fps", f"fps={rate}:round=up:start_time=0"), graph.add("buffersink")
        begin.link_to(filtered)
        filtered.link_to(sink)
        graph.configure()
        found = []

        def take():
            while True:
                try:
                    found.append(number_in(graph.pull().to_ndarray(format="rgb24")))
                except (BlockingIOError, EOFError):
                    return

        for frame in container.decode(video=0):
            graph.push(frame)
            take()
        graph.push(None)
        take()
    return found


@pytest.mark.parametrize("rate", ["2", "7", "10", "30", "30000/1001"])
def test_rows_are_those_of_ffmpegs_fps_filter(tmp_path, rate):
    """At a constant rate and at a variable one."""
    steady = film(tmp_path / "steady.mp4", every(10, 12))
    uneven = film(tmp_path / "uneven.mp4", [Fraction(k, 100) for k in (0, 3, 11, 12, 60, 161, 170, 260, 300, 401)])
    for path in (steady, uneven):
        expected = fps_filter(path, rate)
        assert len(expected) > 8
        assert numbers(path, fps=float(Fraction(rate)))[0] == expected


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4", "v.ts", "v.avi", "v.mov", "v.flv"])
def test_at_a_videos_own_rate_every_picture_is_there_once(tmp_path, name):
    codec = {"v.flv": "flv"}.get(name, "mpeg4")
    assert numbers(film(tmp_path / name, every(30, 5), codec=codec, time_base=Fraction(1, 30)), fps=30)[0] == [
        *range(150)
    ]


def test_pictures_without_times_come_at_the_rate_that_is_stated(tmp_path):
    """A raw stream."""
    assert numbers(film(tmp_path / "v.h264", every(30, 4), codec="libx264", time_base=Fraction(1, 30)))[0] == [
        *range(0, 120, 15)
    ]


def test_at_a_broadcast_rate_every_picture_is_there_once(tmp_path):
    path = film(tmp_path / "v.mp4", every(Fraction(30_000, 1001), 5), time_base=Fraction(1001, 30_000))
    assert numbers(path, fps=29.97002997)[0] == numbers(path, fps=29.97)[0] == [*range(150)]


@pytest.mark.parametrize(("name", "codec"), [("v.mkv", "mpeg4"), ("v.mp4", "mpeg4"), ("v.ts", "mpeg4")])
def test_a_picture_that_starts_after_the_sound_keeps_the_viewers_clock(tmp_path, name, codec):
    """Sound from 0, pictures from 3 s, ten a second: at 4 s the tenth is shown, and the first until 3 s."""
    path = film(tmp_path / name, [3 + time for time in every(10, 2)], sound=(0, 5), codec=codec)
    assert numbers(path)[0] == [0] * 6 + [0, 5, 10, 15]


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4", "v.ts"])
def test_a_container_that_starts_late_is_counted_from_its_start(tmp_path, name):
    path = film(tmp_path / name, [5 + time for time in every(10, 2)])
    assert numbers(path)[0] == [0, 5, 10, 15]


def test_joined_segments_are_all_there(tmp_path):
    """`cat a.ts a.ts a.ts`: ten pictures a second for six seconds, three times."""
    part = film(tmp_path / "a.ts", every(10, 6)).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part * 3)
    assert numbers(joined) == ([*range(0, 60, 5)] * 3, "")
    loud = film(tmp_path / "b.ts", every(10, 6), sound=(0, 5.9)).read_bytes()
    joined.write_bytes(loud * 2)
    assert numbers(joined) == ([*range(0, 60, 5)] * 2, "")


def test_videos_given_as_one_follow_each_other(tmp_path):
    first, second = film(tmp_path / "a.mp4", every(10, 2.1)), film(tmp_path / "b.mkv", every(10, 1.4))
    assert numbers(first, second)[0] == [0, 5, 10, 15, 20, 4, 9], "the second from 2.1 s on"


@pytest.mark.parametrize(("name", "codec"), [("v.mkv", "mpeg4"), ("v.mp4", "mpeg4"), ("v.ts", "mpeg4")])
def test_sound_longer_than_the_picture_is_no_cut(tmp_path, name, codec):
    path = film(tmp_path / name, every(10, 5), sound=(0, 19.9), codec=codec)
    found, told = numbers(path)
    assert found == [*range(0, 50, 5)] + [49] * 30 and told.startswith("no new picture for 1")


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_a_little_more_sound_adds_no_row(tmp_path, name):
    assert numbers(film(tmp_path / name, every(10, 5), sound=(0, 5.4)))[0] == [*range(0, 50, 5)]


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_a_static_recording_is_no_cut(tmp_path, name):
    """Changes at 0, 2 and 11 s, and nothing more until the sound ends at 60 s."""
    found, told = numbers(film(tmp_path / name, [Fraction(0), Fraction(2), Fraction(11)], sound=(0, 59.9)))
    assert found == [0] * 4 + [1] * 18 + [2] * 98 and told.startswith("2 gaps, the longest 4")


def test_a_gap_of_a_day_is_refused_with_its_time_unless_allowed(tmp_path):
    path = film(tmp_path / "v.mkv", [*every(10, 2), *(93_600 + time for time in every(10, 1))], codec="ffv1")
    with pytest.raises(
        ProspectError, match=r"shows no new picture from 1\.9 s to 93600\.0 s, expected a gap of at most 300"
    ):
        numbers(path)
    assert len(numbers(path, fps=0.01, max_gap_s=1e5)[0]) == 937, "93601 s, a row each 100 s"


def test_a_video_cut_short_is_taken_where_that_is_allowed(tmp_path):
    path = film(tmp_path / "v.mkv", every(10, 20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        ProspectError, match=r"is cut short: it states \d+\.\d s, its frames end at \d+\.\d s; .*--allow-short"
    ):
        numbers(path)
    found, _ = numbers(path, allow_short=True)
    assert found == [*range(0, 5 * len(found), 5)] and 5 < len(found) < 35


def test_a_title_that_is_no_utf8_is_no_matter(tmp_path):
    path = film(tmp_path / "v.avi", every(10, 1), metadata={"title": "JAPANESE"})
    data = path.read_bytes()
    assert data.count(b"JAPANESE") == 1
    path.write_bytes(data.replace(b"JAPANESE", "日本".encode("shift-jis") + b"    "))
    assert numbers(path)[0] == [0, 5]


def song(path):
    """An MP3 with a cover picture."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=48_000)
        sound.layout = "mono"
        picture = container.add_stream("png")
        picture.width, picture.height, picture.pix_fmt = 32, 32, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        packets = picture.encode(frame)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = 48_000, 0, Fraction(1, 48_000)
        for packet in [*packets, *sound.encode(samples), *sound.encode(None)]:
            container.mux(packet)
    return path


def test_a_cover_picture_is_no_video(tmp_path):
    path = song(tmp_path / "song.mp3")
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1, "which is the cover"
    with pytest.raises(ProspectError, match=r"^has no video stream$"):
        numbers(path)


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
def test_a_playlist_opens_no_other_file(tmp_path, name):
    film(tmp_path / "v.ts", every(10, 1))
    lists = {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{tmp_path}/v.ts\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {tmp_path}/v.ts\n",
    }
    for text in lists.values():
        (tmp_path / name).write_text(text)
        with pytest.raises(ProspectError) as error:
            numbers(tmp_path / name)
        assert "playlist" in str(error.value) or "Invalid data" in str(error.value)


@pytest.mark.parametrize("name", ["2025-11-21T10:30:00.mp4", "-x.mp4", "a%03d.mp4", "https:x.mp4"])
def test_no_name_is_taken_for_a_protocol(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = film(tmp_path / "v.mp4", every(10, 1))
    path.rename(name)
    assert numbers(Path(name))[0] == [0, 5]


def test_pictures_too_large_for_the_memory_are_refused(tmp_path, monkeypatch):
    """What a header claims, and what a stream has further on: two streams joined, the second of larger pictures."""
    small, large = (
        film(tmp_path / f"{size}.h264", every(10, 1), codec="libx264", pictures=lambda n, s=size: numbered(n, (s, 48)))
        for size in (72, 144)
    )
    joined = tmp_path / "joined.h264"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    assert numbers(joined)[0] == [0, 2], "20 pictures at 25 a second, as none is stated"
    monkeypatch.setattr(source, "MAX_PIXELS", 72 * 48)
    with pytest.raises(ProspectError, match=r"^has pictures of 144 x 48 pixels, more than 3456$"):
        numbers(large)
    with pytest.raises(ProspectError, match=r"^cannot be read: "):
        numbers(joined)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", tmp_path / "nowhere.mp4"):
        with pytest.raises(ProspectError, match=r"^No such file, expected a video$"):
            file_place(path)
    with pytest.raises(ProspectError, match=r"^found a folder, expected a video$"):
        file_place(tmp_path)
