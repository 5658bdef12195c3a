"""What a checkpoint remembers is what it is streamed by."""

import json
import re

import pytest

from pipeline.errors import ProspectError
from prospect.layout import LAYOUT_VERSION
from prospect.model.presets import make_checkpoint
from prospect.stream.load import Overrides, load_streamer
from tests.helpers.models import TEXTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_checkpoint("toy", tmp_path_factory.mktemp("load") / "toy", TEXTS, 1)


@pytest.fixture
def streamer_of(folder):
    """Loads the checkpoint as if it remembered what is given."""
    text = (folder / "config.json").read_text()

    def load(overrides=Overrides(), **about):  # noqa: B008
        (folder / "config.json").write_text(json.dumps(json.loads(text) | {"prospect": about}))
        return load_streamer(str(folder), overrides)

    yield load
    (folder / "config.json").write_text(text)


def test_window_reserve_and_transitions_are_the_checkpoints_own(streamer_of):
    found = streamer_of(max_seq_len=999, reserve=77, memory="none", transitions=["complete"], layout=LAYOUT_VERSION)
    assert (found.settings.max_seq_len, found.settings.reserve, found.settings.memory) == (999, 77, "none")
    assert found.transitions == ("complete",)
    assert streamer_of().transitions == ("start", "complete"), "of one that remembers none, those that there are"


def test_what_is_held_back_is_off_unless_it_is_asked_for(streamer_of):
    settings = streamer_of().settings
    assert (settings.least_gap_s, settings.no_repeat, settings.max_new_tokens) == (0, 0, 128)
    settings = streamer_of(Overrides(least_gap_s=2.5, no_repeat=3, max_new_tokens=9)).settings
    assert (settings.least_gap_s, settings.no_repeat, settings.max_new_tokens) == (2.5, 3, 9)


def test_a_transition_that_is_unknown_here_is_named(streamer_of):
    with pytest.raises(
        ProspectError, match=r"was trained with transitions undo, expected of start, complete, reset; use the"
    ):
        streamer_of(transitions=["start", "undo"])


def test_another_layout_than_that_of_training_is_said(streamer_of):
    with pytest.warns(UserWarning, match=re.escape(f"version {LAYOUT_VERSION + 1} of the layout of tokens and labels")):
        streamer_of(layout=LAYOUT_VERSION + 1)


@pytest.mark.parametrize(("saved", "memory"), [({"dst": False}, "none"), ({"dst": True}, "dst"), ({}, "dst"),
    ({"memory": "summary", "knowledge": "goal"}, "summary"), ({"dst": False, "memory": "dst"}, "dst")])  # fmt: skip
def test_what_is_carried_is_as_the_checkpoint_says_by_its_old_name_too(streamer_of, saved, memory):
    found = streamer_of(**saved)
    assert (found.settings.memory, found.settings.knowledge) == (memory, saved.get("knowledge", "steps"))
