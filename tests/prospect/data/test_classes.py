"""Splits that lack a class of a decision are told with the cause, before anything is trained."""

from pathlib import Path

import pytest

from pipeline.errors import ProspectError
from pipeline.shards.build import build_split
from prospect.config import Config
from prospect.data.classes import one_sided, refuse_one_sided
from prospect.data.index import Split, read_split
from tests.helpers.fakes import raw_clip, write_root

UPDATE = {"role": "DST_UPDATE", "content": [{"id": "S1", "transition": "start"}], "start_frame": 2, "end_frame": 4}
SPEECH = {"role": "assistant", "content": "Well begun.", "start_frame": 2, "end_frame": 4}


def split_of(folder: Path, conversation: list[dict], frames: tuple[int, int] = (2, 19)) -> Split:
    clip = raw_clip(conversation=conversation, start_frame_idx=frames[0], end_frame_idx=frames[1])
    write_root(folder / "data", [clip])
    build_split(folder / "data", "x", "train", folder / "shards")
    return read_split(folder / "shards", "x", "train", folder / "data")


def config(data: dict | None = None, **loss: float) -> Config:
    return Config.model_validate(
        {"data": {"dataset": "x", **(data or {})}, "model": {"preset": "toy"}, "train": {"loss": loss}}
    )


def test_a_split_with_events_and_silence_is_trained(tmp_path):
    assert one_sided(config(), [split_of(tmp_path, [UPDATE, SPEECH])]) == []


def test_a_split_without_updates_is_refused_unless_no_head_needs_them(tmp_path):
    split = split_of(tmp_path, [SPEECH])
    (found,) = one_sided(config(), [split])
    assert found == (
        "no dst_update turn, so should_update_dst has no positives",
        "annotate states, or set data.memory=none for a model that only speaks",
    )
    assert one_sided(config({"memory": "none"}), [split]) == [] and one_sided(config(dst_binary=0), [split]) == []


def test_a_split_without_utterances_is_refused_unless_that_head_is_not_trained(tmp_path):
    split = split_of(tmp_path, [UPDATE])
    (found,) = one_sided(config(), [split])
    assert found[0] == "no assistant turn, so when_to_speak has no positives"
    assert one_sided(config(speak_binary=0), [split]) == []


def test_a_split_with_an_event_at_every_frame_is_refused(tmp_path):
    split = split_of(tmp_path, [{**UPDATE, "end_frame": 2}, {**SPEECH, "start_frame": 3, "end_frame": 3}], (2, 3))
    where = split.folder
    with pytest.raises(ProspectError) as error:
        refuse_one_sided(config(), [split])
    assert str(error.value) == (
        f"{where}: found an event at every frame, so no negatives at frames; annotate the silence between events too"
    )


def test_a_margin_that_leaves_no_silence_is_named(tmp_path):
    split = split_of(tmp_path, [UPDATE, SPEECH], (2, 4))
    assert one_sided(config({"event_margin": 1}), [split]) == []
    (found,) = one_sided(config({"event_margin": 2}), [split])
    assert found == (
        "an event at every frame, or one within data.event_margin 2 after it, so no negatives at frames",
        "lower data.event_margin",
    )


def test_a_rate_of_zero_is_named(tmp_path):
    split = split_of(tmp_path, [UPDATE, SPEECH])
    (found,) = one_sided(config({"negatives": {"start": 0}}), [split])
    assert found == ("data.negatives of rate 0 at every step, so no negatives at frames", "raise it")
    rising = config({"negatives": {"schedule": "linear", "start": 0, "end": 0.5}})
    assert one_sided(rising, [split]) == []


def test_datasets_of_a_mix_complete_each_other(tmp_path):
    one, other = split_of(tmp_path / "a", [UPDATE]), split_of(tmp_path / "b", [SPEECH])
    assert one_sided(config(), [one, other]) == []
