import pytest

from pipeline.errors import ProspectError
from prospect.runs import find_checkpoint
from prospect.stream.load import WRITTEN_LAST
from prospect.train.resume import FILE


def test_a_run_is_its_last_whole_checkpoint(tmp_path):
    """One that was being written when the run was killed has weights and config, but no position."""
    for name, files in (("checkpoint-9", ("config.json", FILE)), ("checkpoint-12", ("config.json",))):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        for file in files:
            (tmp_path / "checkpoints" / name / file).touch()
    assert FILE == WRITTEN_LAST
    assert find_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoints" / "checkpoint-9")
    (tmp_path / "checkpoints" / "checkpoint-9" / FILE).unlink()
    with pytest.raises(ProspectError, match=r"found neither config\.json nor checkpoints/"):
        find_checkpoint(str(tmp_path))


def test_a_checkpoints_folder_and_a_hub_id_are_themselves(tmp_path):
    (tmp_path / "config.json").touch()
    assert find_checkpoint(str(tmp_path)) == str(tmp_path)
    assert find_checkpoint("Some/Model") == "Some/Model"
