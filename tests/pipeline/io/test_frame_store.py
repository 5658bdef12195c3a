import pyarrow as pa
import pytest

from pipeline.errors import ProspectError
from pipeline.io.frame_store import FrameFile, find_frames_file
from tests.helpers.fakes import write_frames


@pytest.mark.parametrize(("form", "column"), [("stream", "frame"), ("file", "images"), ("struct", "image")])
def test_both_formats_and_all_value_forms_are_read(tmp_path, form, column):
    images = write_frames(tmp_path / "f.arrow", 20, form=form, column=column)
    frames = FrameFile(tmp_path / "f.arrow")
    assert len(frames) == 20
    assert [frames.read(i) for i in (0, 7, 19)] == [images[i] for i in (0, 7, 19)]
    stored, exact = frames.stored_bytes(3, 5), sum(map(len, images[3:6]))
    assert exact <= stored <= exact + 9


@pytest.mark.parametrize("index", [-1, 20])
def test_an_index_outside_the_file_is_named(tmp_path, index):
    write_frames(tmp_path / "f.arrow", 20)
    with pytest.raises(ProspectError, match=rf"f\.arrow: found frame index {index}, expected 0\.\.19"):
        FrameFile(tmp_path / "f.arrow").read(index)


def test_what_is_no_arrow_file_is_named(tmp_path):
    path = tmp_path / "f.arrow"
    with pytest.raises(ProspectError, match="no such frames file"):
        FrameFile(path)
    path.write_bytes(b"not an arrow file at all")
    with pytest.raises(ProspectError, match="cannot be read as Arrow"):
        FrameFile(path)
    write_frames(path, 20)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ProspectError, match="cannot be read as Arrow"):
        FrameFile(path)


def test_an_unknown_column_or_type_is_named(tmp_path):
    path = tmp_path / "f.arrow"
    write_frames(path, 2, column="pixels")
    with pytest.raises(
        ProspectError, match="found columns index, pixels, expected one of frame, frames, image, images"
    ):
        FrameFile(path)
    table = pa.table({"frame": [1, 2]})
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ProspectError, match="column 'frame' is int64, expected base64 text, bytes"):
        FrameFile(path)


@pytest.mark.parametrize(
    ("value", "message"), [("@@@", "not valid base64"), ("", "empty value"), (None, "empty value")]
)
def test_a_bad_value_is_named_with_its_frame(tmp_path, value, message):
    path = tmp_path / "f.arrow"
    table = pa.table({"frame": pa.array(["aGk=", value], pa.string())})
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ProspectError, match=rf"f\.arrow frame 1: .*{message}"):
        FrameFile(path).read(1)


def test_the_longest_matching_suffix_under_the_first_root_wins(tmp_path):
    name = "data/x/frames/v.arrow"
    first, second = tmp_path / "first", tmp_path / "second"
    write_frames(second / name, 1)
    assert find_frames_file(name, [first, second]) == second / name
    write_frames(first / "v.arrow", 1)
    assert find_frames_file(name, [first, second]) == first / "v.arrow"
    write_frames(first / "frames" / "v.arrow", 1)
    assert find_frames_file(name, [first, second]) == first / "frames" / "v.arrow"
    assert find_frames_file(str(first / "v.arrow"), []) == first / "v.arrow"


def test_a_missing_file_lists_the_places(tmp_path):
    with pytest.raises(
        ProspectError, match=rf"'a/v\.arrow' not found: .*under {tmp_path}/one, {tmp_path}/two; pass --frames-root"
    ):
        find_frames_file("a/v.arrow", [tmp_path / "one", tmp_path / "two"])


def write(path, table):
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([1], pa.int64(), "column 'frame' is int64, expected base64 text"),
        (
            [{"bytes": 1}],
            pa.struct({"bytes": pa.int64()}),
            "expected base64 text, bytes, or a struct with 'bytes' of bytes",
        ),
        ([{"bytes": "x"}], pa.struct({"bytes": pa.string()}), "or a struct with 'bytes' of bytes"),
        ([{"path": "x"}], pa.struct({"path": pa.string()}), "or a struct with 'bytes' of bytes"),
    ],
)
def test_columns_of_other_types_are_named(tmp_path, values, kind, message):
    with pytest.raises(ProspectError, match=message):
        FrameFile(write(tmp_path / "a.arrow", pa.table({"frame": pa.array(values, kind)})))


def test_two_columns_of_one_name_are_named(tmp_path):
    table = pa.Table.from_arrays([pa.array([b"x"]), pa.array([b"y"])], names=["frame", "frame"])
    with pytest.raises(ProspectError, match="found columns frame, frame, expected one of"):
        FrameFile(write(tmp_path / "a.arrow", table))


@pytest.mark.parametrize("text", ["not base64!", "ä", "eA"])
def test_text_that_is_not_base64_is_named(tmp_path, text):
    frames = FrameFile(write(tmp_path / "a.arrow", pa.table({"frame": ["eA==", text, "eA=="]})))
    assert frames.read(0) == b"x"
    with pytest.raises(ProspectError, match=r"a\.arrow frame 1: not valid base64"):
        frames.read(1)


def test_the_first_bad_frame_is_found(tmp_path):
    frames = FrameFile(write(tmp_path / "a.arrow", pa.table({"frame": ["eA==", "?", "", None, "eA=="]})))
    assert frames.first_bad(0, 4, read=True) == (1, "text that is not base64")
    assert frames.first_bad(0, 4, read=False) == (2, "an empty value")
    assert frames.first_bad(3, 3, read=False) == (3, "an empty value")
    assert frames.first_bad(0, 0, read=True) is None is frames.first_bad(4, 4, read=True)
    images = FrameFile(write(tmp_path / "b.arrow", pa.table({"image": [{"bytes": b"x"}, {"bytes": None}, None]})))
    assert images.first_bad(0, 2, read=True) == (1, "an empty value")
    with pytest.raises(ProspectError, match="frame 2: found an empty value"):
        images.read(2)


@pytest.mark.parametrize("kind", [pa.binary(), pa.string()])
def test_offsets_out_of_the_file_are_damage_not_a_crash(tmp_path, kind):
    """Such a file ended the whole process when a frame was read."""
    path = write(tmp_path / "a.arrow", pa.table({"frame": pa.array(["eA==" * 30] * 9, kind)}))
    data = path.read_bytes()
    offsets = b"".join((120 * i).to_bytes(4, "little") for i in range(10))
    place = data.index(offsets) + 4 * 5
    path.write_bytes(data[:place] + (2**31 - 9).to_bytes(4, "little") + data[place + 4 :])
    with pytest.raises(ProspectError, match=r"a\.arrow: its column 'frame' is damaged"):
        FrameFile(path)


def test_a_name_that_is_too_long_is_not_found(tmp_path):
    with pytest.raises(ProspectError, match="not found"):
        find_frames_file("x" * 300 + ".arrow", [tmp_path])
