"""Videos made here, of constant and variable rate, upright and turned, whole and broken, to frames files."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.errors import ProspectError
from pipeline.importers.video import Settings, at_constant_rate, extract_frames
from pipeline.io.engine import LocalEngine
from pipeline.io.frame_store import FrameFile
from tests.helpers.videos import write_video


def greys(path: Path) -> list[int]:
    """Which frame of `write_video` each row shows."""
    frames = FrameFile(path)
    pixels = [np.asarray(Image.open(io.BytesIO(frames.read(i)))) for i in range(len(frames))]
    return [round(p.mean() / 20) for p in pixels]


def extract(videos, out, engine=None, settings=Settings(size=32), force=False):  # noqa: B008
    return extract_frames(videos, out, settings, engine or LocalEngine(), lambda *args: None, force)


def test_rows_show_what_a_viewer_sees():
    half = Fraction(1, 2)
    shown = [
        (Fraction(0), half, "a"),
        (Fraction(2, 5), half, "b"),
        (Fraction(3, 5), half, "c"),
        (Fraction(3, 2), Fraction(1, 10), "d"),
    ]
    assert list(at_constant_rate(shown, 2)) == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    late = [(Fraction(100), Fraction(1), "a"), (Fraction(101), Fraction(1), "b")]
    assert list(at_constant_rate(late, 2)) == [(0, "a"), (1, "a"), (2, "b"), (3, "b")], "counted from the first frame"
    assert list(at_constant_rate([(Fraction(7), Fraction(0), "a")], 2)) == [(0, "a")]
    assert list(at_constant_rate([], 2)) == []


def test_thirds_of_a_second_lose_no_row():
    shown = [(Fraction(i, 30), Fraction(1, 30), i) for i in range(300)]
    rows = list(at_constant_rate(shown, 3))
    assert rows == [(k, 10 * k) for k in range(30)]


def test_a_constant_rate_video(tmp_path):
    video = write_video(tmp_path / "v.mp4", list(range(0, 3000, 100)))
    (outcome,) = extract([video], tmp_path / "out")
    assert (outcome.rows, outcome.error, outcome.kept) == (6, "", False)
    assert greys(tmp_path / "out" / "v.arrow") == [i % 12 for i in (0, 5, 10, 15, 20, 25)]
    table = pa.ipc.open_stream(tmp_path.joinpath("out", "v.arrow").read_bytes()).read_all()
    assert table.column_names == ["frame", "index", "time"]
    assert table["index"].to_pylist() == list(range(6))
    assert table["time"].to_pylist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert Image.open(io.BytesIO(table["frame"][0].as_py())).size == (32, 32)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.mov"])
def test_a_variable_rate_video_comes_out_even(tmp_path, name):
    video = write_video(tmp_path / name, [0, 100, 200, 1700, 1800, 2600])
    extract([video], tmp_path / "out")
    assert greys(tmp_path / "out" / "v.arrow")[:6] == [0, 2, 2, 2, 4, 4]


def test_two_workers_and_a_rerun(tmp_path):
    videos = [write_video(tmp_path / f"{i}.mp4", list(range(0, 2000, 100))) for i in range(3)]
    with LocalEngine(2) as engine:
        assert [o.kept for o in extract(videos, tmp_path / "two", engine)] == [False] * 3
        again = extract(videos, tmp_path / "two", engine)
    assert [(o.kept, o.rows) for o in again] == [(True, 4)] * 3
    extract(videos, tmp_path / "one")
    for i in range(3):
        assert (tmp_path / "one" / f"{i}.arrow").read_bytes() == (tmp_path / "two" / f"{i}.arrow").read_bytes()


def test_other_settings_are_refused(tmp_path):
    video = write_video(tmp_path / "v.mp4", list(range(0, 1000, 100)))
    extract([video], tmp_path)
    (outcome,) = extract([video], tmp_path, settings=Settings(size=16))
    assert "was made from another video or with other settings; --force makes it again" in outcome.error
    (outcome,) = extract([video], tmp_path, settings=Settings(size=16), force=True)
    assert outcome.error == "" and Image.open(io.BytesIO(FrameFile(tmp_path / "v.arrow").read(0))).size == (16, 16)


def test_what_stands_in_the_way_is_named(tmp_path):
    videos = [write_video(tmp_path / f"{name}.mp4", list(range(0, 1000, 100))) for name in ("a", "b", "c", "d")]
    out = tmp_path / "out"
    (out / "b.arrow").mkdir(parents=True)
    (out / "a.arrow").write_text("no arrow")
    extract([videos[2]], out)
    write_video(videos[2], list(range(20, 1020, 100)))
    a, b, c, d = (outcome.error for outcome in extract(videos, out))
    assert a.endswith("a.arrow: is there, but is no frames file of ours; remove it, or pass --force")
    assert "b.arrow: is there, but is no frames file of ours" in b
    assert "c.arrow: was made from another video" in c and d == ""


@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_a_video_whose_time_starts_late_is_whole(tmp_path, name):
    video = write_video(tmp_path / name, list(range(5000, 7000, 100)))
    (outcome,) = extract([video], tmp_path / "out")
    assert (outcome.rows, outcome.error) == (4, "")


def test_broken_videos_are_reported_and_the_others_go_on(tmp_path):
    good = write_video(tmp_path / "good.mp4", list(range(0, 1000, 100)))
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "short.mp4").write_bytes(good.read_bytes()[:400])
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    names = ["text.mp4", "short.mp4", "sound.wav", "nowhere.mp4", "good.mp4"]
    outcomes = extract([tmp_path / name for name in names], tmp_path / "out")
    errors = [outcome.error for outcome in outcomes]
    assert "Invalid data" in errors[0] and "Invalid data" in errors[1]
    assert errors[2] == "has no video stream" and "No such file" in errors[3] and errors[4] == ""
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["good.arrow"]


def test_a_video_cut_short_is_reported(tmp_path):
    """Its header states 20 s; the frames end at the cut."""
    video = write_video(tmp_path / "v.mkv", list(range(0, 20_000, 100)))
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    (outcome,) = extract([video], tmp_path / "out")
    assert outcome.error.startswith("is cut short: it states 19.9 s, its frames end at 1") and not list(
        (tmp_path / "out").iterdir()
    )


def test_two_videos_for_one_file_are_refused(tmp_path):
    with pytest.raises(ProspectError, match=r"a/v\.mp4 and b/v\.mkv would both become out/v\.arrow"):
        extract([Path("a/v.mp4"), Path("b/v.mkv")], Path("out"))


def test_a_turned_video_comes_out_upright(tmp_path):
    """The left half is white; a display matrix says: turn it by 90 degrees."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32] = 255
    plain = tmp_path / "plain.mp4"
    with av.open(str(plain), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(plain.read_bytes())
    unit = [0x00010000, 0, 0, 0, 0x00010000, 0, 0, 0, 0x40000000]
    place = data.index(b"".join(v.to_bytes(4, "big") for v in unit), data.index(b"tkhd"))
    quarter = [0, 0x00010000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000]  # clockwise
    data[place : place + 36] = b"".join(v.to_bytes(4, "big") for v in quarter)
    (tmp_path / "turned.mp4").write_bytes(data)
    extract([tmp_path / "turned.mp4"], tmp_path / "out")
    image = np.asarray(Image.open(io.BytesIO(FrameFile(tmp_path / "out" / "turned.arrow").read(0))).convert("L"))
    assert image[:12].mean() > 200 and image[-12:].mean() < 50, "the left is on top now"
