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
