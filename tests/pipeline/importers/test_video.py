"""Videos made here, of constant and variable rate, upright and turned, whole and broken, to frames files."""

import io
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.errors import ProspectError
from pipeline.importers.video import extract_frames
from pipeline.importers.video_names import sources_of
from pipeline.io.engine import LocalEngine
from pipeline.io.frame_store import FrameFile
from pipeline.video.settings import Settings
from tests.helpers.videos import write_video


def greys(path: Path) -> list[int]:
    """Which frame of `write_video` each row shows."""
    frames = FrameFile(path)
    pixels = [np.asarray(Image.open(io.BytesIO(frames.read(i)))) for i in range(len(frames))]
    return [round(p.mean() / 20) for p in pixels]


def extract(videos, out, engine=None, settings=Settings(size=32), force=False, name="{stem}", groups=None):  # noqa: B008
    sources = sources_of(videos, name, groups)
    return extract_frames(sources, out, settings, engine or LocalEngine(), lambda *args: None, force)


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
    assert (
        "was made from another video, with other settings or by an earlier version; --force makes it again"
        in outcome.error
    )
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
    assert errors[0] == errors[1] == "cannot be read: Invalid data found when processing input"
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
    with pytest.raises(ProspectError, match=r"a/v\.mp4 and b/v\.mkv would both become v\.arrow; name .* --name"):
        extract([Path("a/v.mp4"), Path("b/v.mkv")], Path("out"))


def test_the_shape_in_which_a_video_is_shown_stands_in_its_frames_file(tmp_path):
    """64 x 48 pixels; a rerun keeps it."""
    video = write_video(tmp_path / "v.mp4", list(range(0, 1000, 100)))
    for kept in (False, True):
        (outcome,) = extract([video], tmp_path)
        assert outcome.kept is kept
    schema = pa.ipc.open_stream(tmp_path.joinpath("v.arrow").read_bytes()).schema
    assert (schema.metadata[b"frames.height"], schema.metadata[b"frames.width"]) == (b"48", b"64")
    assert FrameFile(tmp_path / "v.arrow").shape == (48, 64)
    extract([video], tmp_path, settings=Settings(size=32, turn=90), force=True)
    assert FrameFile(tmp_path / "v.arrow").shape == (64, 48)
    extract([video], tmp_path, settings=Settings(size=32, crop=True), force=True)
    assert FrameFile(tmp_path / "v.arrow").shape == (48, 48)


def test_a_frames_file_of_an_earlier_clock_is_made_again_only_by_force(tmp_path):
    """Its rows may be others."""
    video = write_video(tmp_path / "v.mp4", list(range(0, 1000, 100)))
    extract([video], tmp_path)
    table = pa.ipc.open_stream(tmp_path.joinpath("v.arrow").read_bytes()).read_all()
    earlier = table.replace_schema_metadata({k: v for k, v in table.schema.metadata.items() if k != b"frames.clock"})
    with pa.ipc.new_stream(tmp_path / "v.arrow", earlier.schema) as writer:
        writer.write_table(earlier)
    (outcome,) = extract([video], tmp_path)
    assert "or by an earlier version; --force" in outcome.error


def test_parts_of_one_video_are_joined(tmp_path):
    """Two seconds and one, as Ego4D's groups; the file has the first one's name."""
    write_video(tmp_path / "a.mp4", list(range(0, 2000, 100)))
    write_video(tmp_path / "b.mp4", list(range(0, 1000, 100)))
    write_video(tmp_path / "c.mp4", list(range(0, 1000, 100)))
    (tmp_path / "groups.json").write_text('[["a", "b"]]')
    outcomes = extract([tmp_path], tmp_path / "out", groups=tmp_path / "groups.json")
    assert [(outcome.source.name, outcome.rows) for outcome in outcomes] == [("a", 6), ("c", 2)]
    assert greys(tmp_path / "out" / "a.arrow") == [0, 5, 10, 15 % 12, 0, 5]


def test_a_gap_is_told(tmp_path):
    (outcome,) = extract([write_video(tmp_path / "v.mp4", [0, 100, 20_000, 20_100])], tmp_path / "out")
    assert (outcome.error, outcome.note[:22]) == ("", "no new picture for 19.")
