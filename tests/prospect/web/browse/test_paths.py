import pytest

from pipeline.errors import ProspectError
from prospect.web.browse.paths import recognize


def found(*paths):
    given = recognize(paths)
    return {
        "annotations": [f"{one.dataset}/{one.split}" for one in given.annotations],
        "shards": ["/".join(path.parts[-2:]) for path in given.shards],
        "runs": [path.name for path in given.runs],
        "evaluations": [one.name for one in given.evaluations],
    }


def nothing(**but):
    return {"annotations": [], "shards": [], "runs": [], "evaluations": []} | but


def test_each_path_is_told_by_what_is_in_it(world):
    assert found(world.data) == found(world.data / "x") == nothing(annotations=["x/train", "x/test"])
    assert found(world.shards) == nothing(shards=["x/test", "x/train"])
    assert found(world.shards / "x" / "train") == nothing(shards=["x/train"])
    assert found(world.run) == found(world.folder / "runs") == nothing(runs=["r"], evaluations=["r/test"])
    evaluation = world.run / "evaluation" / "test"
    assert found(evaluation) == nothing(evaluations=["r/test"])
    assert found(evaluation / "predictions" / "model") == nothing(evaluations=["predictions/model"])


def test_what_is_named_twice_is_there_once(world):
    assert found(world.data, world.data / "x", world.run, world.run) == nothing(
        annotations=["x/train", "x/test"], runs=["r"], evaluations=["r/test"]
    )


def test_the_folder_one_stands_in_is_a_dataset(world, monkeypatch):
    monkeypatch.chdir(world.data / "x")
    assert found(type(world.data)(".")) == nothing(annotations=["x/train", "x/test"])


@pytest.mark.parametrize(
    ("name", "told"),
    [("none", "none: no such folder"), ("file", "file: a file"), ("empty", "empty: found none of what")],
)
def test_a_path_that_is_none_is_one_sentence(tmp_path, name, told):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProspectError, match=rf"{told}.*expected a data root or a dataset's folder"):
        recognize([tmp_path / name])
