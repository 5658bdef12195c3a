import pytest

from pipeline.errors import ProspectError
from prospect.runs import POSITION, find_checkpoint


def test_a_run_is_its_last_whole_checkpoint(tmp_path):
    """One that was being written when the run was killed has weights and config, but no position."""
    for name, files in (("checkpoint-9", ("config.json", POSITION)), ("checkpoint-12", ("config.json",))):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        for file in files:
            (tmp_path / "checkpoints" / name / file).touch()
    assert find_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoints" / "checkpoint-9")
    (tmp_path / "checkpoints" / "checkpoint-9" / POSITION).unlink()
    with pytest.raises(ProspectError, match=r"found neither config\.json nor checkpoints/"):
        find_checkpoint(str(tmp_path))


def test_a_checkpoints_folder_and_a_hub_id_are_themselves(tmp_path):
    (tmp_path / "config.json").touch()
    assert find_checkpoint(str(tmp_path)) == str(tmp_path)
    assert find_checkpoint("Some/Model") == "Some/Model"


@pytest.mark.parametrize("place", ["runs/nothere", "runs/a/checkpoints/nothere", "nothere", "/no/where"])
def test_a_folder_that_is_not_there_is_named_before_anything_is_asked_of_it(tmp_path, monkeypatch, place):
    """using.md 13: `evaluate --checkpoint runs/nothere` said that it stands in no run."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProspectError, match=f"^{place}: found no such folder, expected a checkpoint's folder, a run's"):
        find_checkpoint(place)
