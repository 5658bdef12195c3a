"""A checkpoint made ready to stream: what it remembers is checked, and nothing that is no number is taken up."""

import json

import pytest
import torch

from pipeline.errors import ProspectError
from prospect.model.presets import make_checkpoint
from prospect.stream.load import Thresholds, load_streamer
from tests.helpers.models import TEXTS


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint("toy", tmp_path_factory.mktemp("load") / "toy", TEXTS, seed=1)


def test_thresholds_that_were_stored_are_used(checkpoint):
    Thresholds(0.25, 0.75, {"data": []}).save(checkpoint)
    settings = load_streamer(str(checkpoint)).settings
    assert (settings.update_threshold, settings.speak_threshold) == (0.25, 0.75)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ("NaN", "found nan, expected a finite number"),
        ("Infinity", "found inf, expected"),
        ("5", "found 5, expected less than or equal to 1"),
        ("-0.1", r"found -0\.1, expected greater than or equal to 0"),
        ("true", "found True, expected a valid number"),
        ('"0.5"', r"found '0\.5', expected a valid number"),
        ("null", "found None, expected a valid number"),
    ],
)
def test_a_threshold_that_is_no_probability_is_refused(checkpoint, stored, message):
    """attack.md 10"""
    path = checkpoint / "thresholds.json"
    for text in (
        f'{{"update_threshold": {stored}, "speak_threshold": 0.5, "calibrated_on": {{}}}}',
        f'{{"update_threshold": 0.5, "speak_threshold": {stored}, "calibrated_on": {{}}}}',
    ):
        path.write_text(text)
        with pytest.raises(
            ProspectError, match=rf"thresholds\.json: \w+_threshold: {message}.*; remove it, or calibrate"
        ):
            load_streamer(str(checkpoint))
    path.write_text(json.dumps({"update_threshold": 0.5}))
    with pytest.raises(
        ProspectError, match=r"speak_threshold: found nothing, expected it; calibrated_on: found nothing"
    ):
        load_streamer(str(checkpoint))
    path.unlink()


def test_a_stream_never_takes_the_kernel_that_plans_for_each_length(checkpoint):
    """gpu.md 7: about 10 frames/s of 2.2B on Hopper."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    load_streamer(str(checkpoint))
    assert not torch.backends.cuda.cudnn_sdp_enabled()
