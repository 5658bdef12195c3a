import base64
import os
import unicodedata

import polars as pl
import pyarrow as pa
import pytest

from pipeline.errors import ProspectError
from pipeline.io.arrow_file import MAX_HELD_BYTES
from pipeline.io.frame_store import FrameFile, find_frames_file
from tests.helpers.fakes import jpeg, write_frames


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


@pytest.mark.parametrize("there", ["nusar-1", "assembly_nusar-1", "disassembly_nusar-1"])
@pytest.mark.parametrize("asked", ["nusar-1", "assembly_nusar-1", "disassembly_nusar-1"])
def test_assembly101s_videos_are_found_with_and_without_the_task_before_their_names(tmp_path, there, asked):
    path = tmp_path / "frames" / f"{there}.arrow"
    write_frames(path, 1)
    assert find_frames_file(f"data/frames/{asked}.arrow", [tmp_path / "no", tmp_path]) == path
    assert find_frames_file(str(tmp_path / "frames" / f"{asked}.arrow"), []) == path


def test_a_files_own_name_under_any_root_goes_before_other_names_of_its_video(tmp_path):
    own, other = tmp_path / "two" / "assembly_nusar-1.arrow", tmp_path / "one" / "nusar-1.arrow"
    write_frames(own, 1)
    write_frames(other, 1)
    assert find_frames_file("assembly_nusar-1.arrow", [tmp_path / "one", tmp_path / "two"]) == own
    write_frames(tmp_path / "one" / "tea.arrow", 1)
    for name in ("assembly_tea.arrow", "/", "..", "assembly_"):
        with pytest.raises(ProspectError, match="not found"):
            find_frames_file(name, [tmp_path / "one"])


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


@pytest.mark.parametrize("text", ["not base64!", "ä", "e"])
def test_text_that_is_not_base64_is_named(tmp_path, text):
    frames = FrameFile(write(tmp_path / "a.arrow", pa.table({"frame": ["eA==", text, "eA=="]})))
    assert frames.read(0) == b"x"
    with pytest.raises(ProspectError, match=r"a\.arrow frame 1: not valid base64"):
        frames.read(1)


def test_the_first_bad_frame_is_found(tmp_path):
    good = base64.b64encode(jpeg(0)).decode()
    frames = FrameFile(write(tmp_path / "a.arrow", pa.table({"frame": [good, "?", "", None, good]})))
    assert frames.first_bad(0, 4, each=True)[0] == 1
    assert frames.first_bad(0, 4, each=False) == (2, "an empty value")
    assert frames.first_bad(3, 3, each=False) == (3, "an empty value")
    assert frames.first_bad(0, 0, each=True) is None is frames.first_bad(4, 4, each=True)
    table = pa.table({"image": [{"bytes": jpeg(0)}, {"bytes": None}, None]})
    images = FrameFile(write(tmp_path / "b.arrow", table))
    assert images.first_bad(0, 2, each=True) == (1, "an empty value")
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


VIEWS = [pa.string_view(), pa.binary_view(), pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])]


@pytest.mark.parametrize("kind", VIEWS, ids=str)
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_view_types_are_read_like_the_others(tmp_path, kind, compression):
    images = [jpeg(0), jpeg(1), None, b"tiny", jpeg(2)]
    values = images
    if pa.types.is_struct(kind):
        values = [{"bytes": image, "path": None} for image in images]
    elif kind == pa.string_view():
        values = [image and base64.b64encode(image).decode() for image in images]
    table = pa.table({"frame": pa.array(values, kind)})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(str(tmp_path / "f.arrow"), table.schema, options=options) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table, max_chunksize=3)
    frames = FrameFile(tmp_path / "f.arrow")
    assert [frames.read(i) for i in (0, 1, 3, 4)] == [images[i] for i in (0, 1, 3, 4)]
    assert frames.first_bad(0, 1, each=True) is None
    assert frames.first_bad(1, 4, each=False) == (2, "an empty value")
    assert frames.first_bad(3, 4, each=False)[0] == 3
    exact = sum(len(image) for image in images if image)
    assert exact <= frames.stored_bytes(0, 4) <= exact + 15


@pytest.mark.parametrize("values", [lambda image: base64.b64encode(image).decode(), lambda image: image])
def test_what_polars_writes_is_read(tmp_path, values):
    images = [jpeg(i) for i in range(4)]
    pl.DataFrame({"frame": [values(image) for image in images]}).write_ipc(tmp_path / "f.arrow")
    frames = FrameFile(tmp_path / "f.arrow")
    assert [frames.read(i) for i in range(4)] == images


def test_views_that_lead_out_of_the_file_are_damage_not_a_crash(tmp_path):
    path = write(tmp_path / "a.arrow", pa.table({"frame": pa.array([jpeg(i) for i in range(3)], pa.binary_view())}))
    data = path.read_bytes()
    place = data.index(len(jpeg(1)).to_bytes(4, "little") + jpeg(1)[:4])
    path.write_bytes(data[:place] + (2**31 - 9).to_bytes(4, "little") + data[place + 4 :])
    with pytest.raises(ProspectError, match=r"a\.arrow: its column 'frame' is damaged"):
        FrameFile(path)


def forms_of_base64(image):
    plain = base64.b64encode(image).decode()
    return {
        "MIME": base64.encodebytes(image).decode(),
        "URL-safe": base64.urlsafe_b64encode(image).decode(),
        "no padding": base64.urlsafe_b64encode(image).decode().rstrip("="),
        "data URI": f"data:image/jpeg;base64,{plain}",
    }


@pytest.mark.parametrize("form", ["MIME", "URL-safe", "no padding", "data URI"])
def test_base64_is_read_in_the_forms_that_it_is_written_in(tmp_path, form):
    """data.md 17: such values passed validate and stopped training."""
    images = [jpeg(i) for i in range(5)]
    path = write(tmp_path / "a.arrow", pa.table({"frame": [forms_of_base64(image)[form] for image in images]}))
    frames = FrameFile(path)
    assert [frames.read(i) for i in range(5)] == images
    assert frames.first_bad(0, 4, each=True) is None


@pytest.mark.parametrize("text", ["data:image/png,abc", "data:", "data:image/png;base64,?", "A-_=A"])
def test_text_that_only_looks_like_base64_is_named(tmp_path, text):
    frames = FrameFile(write(tmp_path / "a.arrow", pa.table({"frame": [text]})))
    with pytest.raises(ProspectError, match=r"a\.arrow frame 0: not valid base64"):
        frames.read(0)


def test_structs_with_paths_alone_are_refused_with_what_to_do(tmp_path):
    table = pa.table({"image": [{"bytes": None, "path": "a/0.jpg"}, {"bytes": None, "path": "a/1.jpg"}]})
    with pytest.raises(
        ProspectError, match=r"its images are paths alone \(the first 'a/0\.jpg'\), .*embed_table_storage"
    ):
        FrameFile(write(tmp_path / "a.arrow", table))


def test_what_is_no_image_is_found_before_it_is_embedded(tmp_path):
    """attack.md 10: frames that are no images passed --embed-frames."""
    table = pa.table({"frame": [jpeg(0), jpeg(1), b"nonsense", jpeg(2)[:300]]})
    frames = FrameFile(write(tmp_path / "a.arrow", table))
    place, what = frames.first_bad(0, 3, each=True)
    assert (place, what) == (2, "no image that can be decoded (no JPEG, PNG, WEBP image)")
    assert frames.first_bad(0, 3, each=False) is None, "only the first is decoded"
    place, what = frames.first_bad(3, 3, each=False)
    assert place == 3 and "runcated" in what


METADATA = {"frames.fps": "4.0"}


@pytest.mark.parametrize(
    ("columns", "metadata", "fps"),
    [
        ({}, METADATA, 4),
        ({}, {"frames.fps": "30000/1001"}, 30000 / 1001),
        ({"time": [0.0, 0.25, 0.5, 0.75]}, {}, 4),
        ({"time": [0.0, 0.5, 1.0, 1.5]}, METADATA, 4),
        ({"time": [10.0, 10.51, 11.0, 11.49]}, {}, 3 / 1.49),
        ({"time": [0.0, 1.0, 1.1, 5.0]}, {}, None),
        ({"time": [0.0, 500_000.0, 1_000_000.0, 1_500_000.0]}, {}, None),
        ({"time": [0.0, None, 1.0, float("inf")]}, {}, None),
        ({"time": [1.0, 1.0, 1.0, 1.0]}, {}, None),
        ({"time": ["0", "1", "2", "3"]}, {}, None),
        ({}, {}, None),
    ],
)
def test_a_file_states_its_rate_by_metadata_or_by_even_times(tmp_path, columns, metadata, fps):
    table = pa.table({"frame": [b"x"] * 4, **columns}).replace_schema_metadata(metadata)
    found = FrameFile(write(tmp_path / "a.arrow", table)).fps
    assert found == pytest.approx(fps) if fps else found is None


def compressed(path, values, compression="zstd"):
    table = pa.table({"frame": values})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(str(path), table.schema, options=options) as writer:
        writer.write_table(table)
    return path


def test_a_compressed_file_is_read_and_only_one_is_held(tmp_path):
    first = FrameFile(compressed(tmp_path / "a.arrow", [jpeg(i) for i in range(9)]))
    second = FrameFile(compressed(tmp_path / "b.arrow", [jpeg(i) for i in range(9, 18)], "lz4"))
    for i in (0, 8, 3):
        assert first.read(i) == jpeg(i) and second.read(i) == jpeg(9 + i)
    assert first._mapped is None is second._mapped


@pytest.mark.parametrize("form", ["stream", "file"])
def test_compressed_buffers_that_become_too_much_are_refused_before_memory_follows(tmp_path, form):
    """attack.md 6: 169 KB became 5.5 GB."""
    path, block = tmp_path / "a.arrow", bytes(1 << 26)
    table = pa.table({"frame": [block]})
    make = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with make(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for _ in range(9):
            writer.write_table(table)
    assert path.stat().st_size < 100_000
    pa.default_memory_pool().release_unused()
    before = pa.total_allocated_bytes()
    with pytest.raises(ProspectError, match=rf"buffers become \d+ bytes, expected at most {MAX_HELD_BYTES}"):
        FrameFile(path)
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_compressed_buffer_that_lies_about_its_length_is_a_clear_error(tmp_path):
    """attack.md 6: an ArrowMemoryError, which --on-invalid skip could not skip."""
    path = compressed(tmp_path / "a.arrow", [bytes(5000)])
    data = path.read_bytes()
    place = data.index((5000).to_bytes(8, "little") + b"\x28\xb5\x2f\xfd")  # zstd's magic number
    for claim, message in ((1 << 60, "expected at most"), (100, "cannot be read as Arrow"), (-7, "cannot be read")):
        path.write_bytes(data[:place] + claim.to_bytes(8, "little", signed=True) + data[place + 8 :])
        with pytest.raises(ProspectError, match=message):
            FrameFile(path)


def test_a_file_cut_short_while_it_is_open_is_named(tmp_path):
    """attack.md 12: reading what is no longer there ended the process."""
    path = write(tmp_path / "a.arrow", pa.table({"frame": [os.urandom(9000) for _ in range(4)]}))
    frames = FrameFile(path)
    os.truncate(path, 10_000)
    for reading in (
        lambda: frames.read(3),
        lambda: frames.first_bad(0, 3, each=True),
        lambda: frames.stored_bytes(0, 3),
    ):
        with pytest.raises(ProspectError, match=r"a\.arrow: was cut short while it was open, found 10000 bytes"):
            reading()


@pytest.mark.parametrize(("written", "named"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_name_in_the_other_unicode_form_is_found(tmp_path, written, named):
    """data.md 20: macOS writes NFD, annotations have NFC; both look the same."""
    here = tmp_path / unicodedata.normalize(written, "caf\u00e9") / unicodedata.normalize(written, "\u00fc.arrow")
    write_frames(here, 1)
    asked = unicodedata.normalize(named, "frames/caf\u00e9/\u00fc.arrow")
    assert find_frames_file(asked, [tmp_path]) == here
    assert find_frames_file(str(tmp_path / asked.removeprefix("frames/")), []) == here
