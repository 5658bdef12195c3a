"""What options stand for."""

import pytest

from pipeline.errors import ProspectError
from prospect.commands.options import places_of


@pytest.mark.parametrize("place", ["runs/nothere", "runs/a/checkpoints/nothere", "nothere", "/no/where"])
def test_a_checkpoint_that_is_not_there_is_named_and_not_called_one_without_a_run(tmp_path, monkeypatch, place):
    """using.md 13: `evaluate --checkpoint runs/nothere` said that it stands in no run."""
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProspectError, match=f"^{place}: found no such folder, expected a checkpoint's folder, a run's"):
        places_of(place, "test", None, None, None, None, "evaluation")
    with pytest.raises(
        ProspectError, match=r"^Some/Model: stands in no run that would say which data it was trained on"
    ):
        places_of("Some/Model", "test", None, None, None, None, "evaluation")
