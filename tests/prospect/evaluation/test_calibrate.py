"""`calibrate_checkpoint` on a toy checkpoint with random weights: what is streamed, and what is stored."""

import json
import shutil

import pytest

from pipeline.errors import ProspectError
from prospect.evaluation.calibrate import calibrate_checkpoint
from prospect.evaluation.predictions import read_prediction


@pytest.fixture
def checkpoint(world, tmp_path):
    """One that may be written to."""
    return shutil.copytree(world.checkpoint, tmp_path / "checkpoint")


def predictions(folder):
    return [read_prediction(path) for path in sorted(folder.glob("predictions/*/*.json"))]


@pytest.mark.slow
def test_different_thresholds_are_confirmed(world, checkpoint, tmp_path):
    """Each pair in a folder of its own, so that other pairs, of corrected annotations, are not held up by these."""
    found = calibrate_checkpoint(str(checkpoint), world.places, tmp_path / "out", limit=2, confirm=3)
    pairs = [(pair["update_threshold"], pair["speak_threshold"]) for pair in found.tried]
    assert len(set(pairs)) == 3
    for pair in pairs:
        streamed = predictions(tmp_path / "out" / "pair-{}-{}".format(*pair))
        assert [(one.settings["update_threshold"], one.settings["speak_threshold"]) for one in streamed] == [pair] * 2
        assert {one.settings["row"] for one in streamed} == {"model"}
    assert {one.settings["row"] for one in predictions(tmp_path / "out" / "forced")} == {"forced"}
    stored = json.loads((checkpoint / "thresholds.json").read_text())
    assert (stored["update_threshold"], stored["speak_threshold"]) == pairs[0]
    means = [pair["mean"] for pair in found.tried]
    assert means == sorted(means, reverse=True) and set(found.ece) == {"should_update_dst", "when_to_speak"}
    assert means[0] == (found.tried[0]["should_update_dst_f1"] + found.tried[0]["when_to_speak_f1"]) / 2


@pytest.mark.parametrize("name", ["calibration.json", "reliability.html"])
def test_files_that_no_calibration_made_are_kept(world, checkpoint, tmp_path, name):
    """attack.md 5, its sibling."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(
        ProspectError, match=rf"{name}: is there already, and no evaluation made it; pass another --out"
    ):
        calibrate_checkpoint(str(checkpoint), world.places, tmp_path / "out", limit=1, confirm=1)
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_checkpoint_without_dst_is_calibrated_on_speech_alone(world, checkpoint, tmp_path):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"prospect": {"memory": "none"}}))
    found = calibrate_checkpoint(str(checkpoint), world.places, tmp_path / "out", limit=1, confirm=2)
    (forced,) = predictions(tmp_path / "out" / "forced")
    assert [a.role for record in forced.frames for a in record.actions] == ["assistant"]
    assert any(turn.role == "dst_update" for turn in forced.clip.turns)
    assert {pair["update_threshold"] for pair in found.tried} == {0.5} and list(found.ece) == ["when_to_speak"]
    assert len({pair["speak_threshold"] for pair in found.tried}) == len(found.tried) == 2
    assert all(pair["mean"] == pair["when_to_speak_f1"] for pair in found.tried)
    assert (tmp_path / "out" / "reliability.html").is_file()
    again = calibrate_checkpoint(str(checkpoint), world.places, tmp_path / "out", limit=1, confirm=2)
    assert again == found, "its own files are written over"


SPOKEN = {"role": "assistant", "content": "Well begun.", "start_frame": 4, "end_frame": 6}
HELLO = {"role": "user", "content": "Hello", "start_frame": 3, "end_frame": 4}


def test_a_head_without_events_keeps_the_default_and_is_told(world, checkpoint, tmp_path):
    """training.md 16: .5 was stored as if it had been found."""
    world.build(conversation=[HELLO, SPOKEN])
    found = calibrate_checkpoint(str(checkpoint), world.places, tmp_path / "out", limit=2, confirm=2)
    assert {pair["update_threshold"] for pair in found.tried} == {0.5}
    assert len({pair["speak_threshold"] for pair in found.tried}) == 2
    assert all(pair["mean"] == pair["when_to_speak_f1"] for pair in found.tried)
    notes = [
        "should_update_dst: no update in these 2 clips, so no threshold was found: 0.5, the default, is stored; calibrate "
        "on clips with updates",
        "when_to_speak: found on 2 utterances in 2 clips, where 30 in 10 are the least that say something of others: "
        "calibrate on more",
    ]
    assert list(found.notes) == notes
    record = json.loads((tmp_path / "out" / "calibration.json").read_text())
    stored = json.loads((checkpoint / "thresholds.json").read_text())["calibrated_on"]
    for about in (record, stored):
        assert about["notes"] == notes and about["num_events"] == {"should_update_dst": 0, "when_to_speak": 2}
    assert list(record["sweep"]) == ["when_to_speak"] and record["tried"][0]["when_to_speak_f1"] is not None
    assert "PROSPECT calibration" in (tmp_path / "out" / "reliability.html").read_text()


def test_without_any_event_nothing_is_stored(world, checkpoint, tmp_path):
    world.build(conversation=[HELLO])
    with pytest.raises(
        ProspectError, match=r"x/test: found no events in 1 clips, expected some to find thresholds on; n"
    ):
        calibrate_checkpoint(str(checkpoint), world.places, tmp_path / "out", limit=1)
    assert not (checkpoint / "thresholds.json").exists()
