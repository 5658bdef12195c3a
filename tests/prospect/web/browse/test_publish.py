import pytest

from pipeline.errors import ProspectError
from prospect.web.browse import publish as module
from prospect.web.browse.publish import publish
from tests.helpers.browse import library_of, sections_of


def published(out, *paths, limit=50, force=False):
    listed = sections_of(*paths)
    return publish(listed[0].library, listed, out, limit, force)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_holds_the_document_and_pictures_and_is_told(world, tmp_path):
    out = tmp_path / "some" / "out"
    made = published(out, world.data, limit=1)
    assert names(out) == ["frames", "index.html", "prospect-browse.json"]
    assert names(out / "frames") == sorted([world.key("v1"), world.key("v3")])  # the first of each split
    pictures = [path for path in out.rglob("*.jpg")]
    assert (made.num_clips, made.num_pictures) == (2, len(pictures)) == (2, 36)  # all 18 frames of each
    assert made.size_bytes == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert "2 of 3 clips are published here." in (out / "index.html").read_text()


def test_its_own_folder_is_written_again_and_what_else_is_there_stays(world, tmp_path):
    out = tmp_path / "out"
    published(out, world.data)
    (out / "CNAME").write_text("x.org")
    published(out, world.data / "x", limit=1)
    assert names(out) == ["CNAME", "frames", "index.html", "prospect-browse.json"]
    assert len(names(out / "frames")) == 2


def test_a_folder_of_others_is_refused_and_with_force_its_files_stay(world, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ProspectError, match=r"found thesis\.txt, which prospect browse did not write"):
        published(out, world.data)
    assert names(out) == ["thesis.txt"]
    published(out, world.data, force=True)
    assert (out / "thesis.txt").read_text() == "years of work" and (out / "index.html").is_file()
    with pytest.raises(ProspectError, match="is there already, and no folder"):
        published(out / "thesis.txt", world.data, force=True)


def test_what_fails_leaves_nothing_half_written(world, tmp_path, monkeypatch):
    out = tmp_path / "out"
    published(out, world.data)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def fail(*given, **more):
        yield "<!doctype html>"
        raise OSError("disk full")

    monkeypatch.setattr(module, "one_file", fail)
    for place in (out, tmp_path / "other"):
        with pytest.raises(OSError, match="disk full"):
            published(place, world.data)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert names(tmp_path) == ["out"]


def test_numbers_stay_those_of_all_clips(world):
    library = library_of(world.data)
    library.keep_first(1)
    assert list(library.places) == [world.key("v1"), world.key("v3")] and len(library.numbers["x/train"].lengths) == 2
