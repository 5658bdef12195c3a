import pyarrow as pa
import pytest

from pipeline.errors import ProspectError
from pipeline.frame_store import FrameFile, find_frames_file
from tests.fakes import write_frames


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
