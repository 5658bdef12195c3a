"""What is kept of a live stream, whenever it ends."""

import json

import numpy as np
import pytest

from pipeline.annotations.clips import Turn
from pipeline.annotations.validate import check_clip
from pipeline.errors import ProspectError
from pipeline.io.frame_store import open_named, search_roots
from prospect.evaluation.predictions import read_prediction
from prospect.stream.player import Played
from prospect.stream.records import Action, FrameRecord
from prospect.stream.sources import SourceFrame
from prospect.web.live.recording import DATASET, Place, Recording, Stream, draft_clip, predicted, recover
from prospect.web.review.disagreements import Predictions
from prospect.web.review.documents import Documents
from tests.helpers.fakes import jpeg

HEADER = {
    "source": "camera", "checkpoint": "c", "fps": 2, "trained_fps": [2], "settings": {"update_threshold": 0.5},
    "steps": [{"id": "S1", "name": "one"}, {"id": "S2", "name": "two"}], "state": {},
}  # fmt: skip


def record(frame, *actions, dropped=0, corrected=None, lines=()):
    made = tuple(Action("dst_update" if "->" in text else "assistant", text, 0.9, 0.8) for text in actions)
    kept = FrameRecord(frame, 0.1, 0.2, made, 0.1, 0.2, 100 + frame, 5, False, 0.01)
    turns = tuple(Turn("user", text, frame, frame) for text in lines)
    return Played(kept, frame / 2, turns, SourceFrame(jpeg(frame), "x"), {}, 0.01, 0, (), dropped, corrected or {})


def stream_of(*played):
    records = [
        {
            "frame": one.record.frame, "lines": [{"role": turn.role, "text": turn.text} for turn in one.lines],
            "actions": [{"role": action.role, "text": action.text} for action in one.record.actions],
            "corrected": dict(one.corrected),
        }
        for one in played
    ]  # fmt: skip
    return Stream(HEADER, records, tuple(one.record for one in played))


def drafted(*played):
    clip = draft_clip("v", stream_of(*played), played[-1].record.frame)
    assert check_clip(clip, index=0, file="f", dataset="live", open_frames=None)[1] == []
    return [(turn["end_frame"], turn["role"], turn["content"], turn["live"]) for turn in clip["conversation"]]


def test_a_draft_has_what_was_said_and_done_in_its_order():
    assert drafted(
        record(0, "Hello.", lines=["Hi", "What now?"]), record(3, "S1->start, S2->start", "Go on.", ""), record(5, "S1->complete")
    ) == [
        (0, "user", "Hi", "person"), (0, "user", "What now?", "person"), (0, "assistant", "Hello.", "model"),
        (3, "DST_UPDATE", "S1->start", "model"), (3, "DST_UPDATE", "S2->start", "model"),
        (3, "assistant", "Go on.", "model"), (5, "DST_UPDATE", "S1->complete", "model"),
    ]  # fmt: skip


def test_a_correction_backwards_takes_away_what_led_astray():
    """S2 was never begun; S1 was begun, and is not done."""
    assert drafted(
        record(1, "S1->start"), record(2, "S2->start"), record(3, "S1->complete"),
        record(4, corrected={"S2": "not_started", "S1": "in_progress"}), record(6, "S1->complete"),
    ) == [(1, "DST_UPDATE", "S1->start", "model"), (6, "DST_UPDATE", "S1->complete", "model")]  # fmt: skip


def test_a_correction_forwards_adds_what_the_model_missed():
    assert drafted(record(1, "S1->start"), record(4, corrected={"S1": "completed", "S2": "completed"})) == [
        (1, "DST_UPDATE", "S1->start", "model"), (4, "DST_UPDATE", "S1->complete", "person"),
        (4, "DST_UPDATE", "S2->start", "person"), (4, "DST_UPDATE", "S2->complete", "person"),
    ]  # fmt: skip


def test_an_update_that_changed_nothing_is_in_the_prediction_alone():
    """As --no-legal lets a model write."""
    assert drafted(record(1, "S1->complete"), record(2, "S1->start")) == [(2, "DST_UPDATE", "S1->start", "model")]


def test_frames_that_the_model_never_saw_are_listed_and_silent():
    stream = stream_of(record(0, "Hi."), record(3, "S1->start", dropped=2))
    clip, _ = check_clip(draft_clip("v", stream, 3), index=0, file="f", dataset="live", open_frames=None)
    prediction = predicted(clip, HEADER, stream.frames)
    assert prediction.settings["skipped_frames"] == [1, 2]
    assert [(one.frame, one.computed_tokens, len(one.actions)) for one in prediction.frames] == [
        (0, 5, 1), (1, 0, 0), (2, 0, 0), (3, 5, 1),
    ]  # fmt: skip


def recorded(out, count=6, close=True):
    recording = Recording(out, HEADER)
    for number, _ in enumerate(recording.taking(record(number).image for number in range(count))):
        if number != 2:  # dropped
            recording.add(record(number, *(["S1->start", "Good."] if number == 1 else [])))
    if close:
        assert recording.close() == recording.place.name
    return recording


def check_whole(out, name, rows):
    (raw,) = json.loads((out / DATASET / "train_training.json").read_text())
    frames = open_named(raw["frames_file"], search_roots(None, out, DATASET))
    assert (raw["video_uid"], raw["end_frame_idx"] + 1, frames.fps, frames.shape) == (name, rows, 2, (64, 64))
    assert [frames.read(number) for number in range(rows)] == [jpeg(number) for number in range(rows)]
    clip, problems = check_clip(raw, index=0, file="f", dataset=DATASET, open_frames=lambda _: frames, look="each")
    assert problems == [] and len(read_prediction(next((out / "predictions").glob("*.json"))).frames) == rows
    documents, predictions = Documents(out), Predictions(out / "predictions")
    assert documents.files[0].name == "train_training.json" and predictions.compared(clip)["disagreements"] == []
    assert not Place(out, name).partial.exists()


def test_a_recording_opens_in_review_and_agrees_with_its_prediction(tmp_path):
    name = recorded(tmp_path).place.name
    check_whole(tmp_path, name, 6)
    assert recover(tmp_path) == []


@pytest.mark.parametrize("seed", range(6))
def test_what_is_killed_at_any_moment_is_made_whole_at_the_next_start(tmp_path, seed):
    """Both files are cut anywhere, as a crash of the machine may leave them."""
    recording = recorded(tmp_path, close=False)
    recording._stream.close()
    recording._stack.close()  # the lock goes with its process
    place, rng = recording.place, np.random.default_rng(seed)
    for path in (place.partial, place.stream):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) - int(rng.integers(0, len(data) // 2))])
    frames = [record["frame"] for record in place.read().records]
    (name,) = recover(tmp_path)
    rows = json.loads(place.drafts.read_text())[0]["end_frame_idx"] + 1
    assert 1 <= rows <= max(frames) + 1
    check_whole(tmp_path, name, rows)
    assert recover(tmp_path) == [], "done once"


def test_a_stream_without_a_frame_leaves_nothing(tmp_path):
    assert Recording(tmp_path, HEADER).close() is None
    assert not any(path.is_file() for path in (tmp_path / DATASET).rglob("*"))


def test_drafts_that_are_no_array_are_left_alone_and_the_recording_waits(tmp_path):
    drafts = tmp_path / DATASET / "train_training.json"
    drafts.parent.mkdir()
    drafts.write_text("{oops")
    recording = recorded(tmp_path, close=False)
    with pytest.raises(ProspectError, match=r"is no array of clips .* so the recording live-.* waits; mend it"):
        recording.close()
    assert drafts.read_text() == "{oops"
    drafts.write_text("[]\n")
    assert recover(tmp_path) == [recording.place.name]
    check_whole(tmp_path, recording.place.name, 6)


def test_two_that_record_at_one_place_are_kept_apart(tmp_path):
    first = Recording(tmp_path, HEADER)
    with pytest.raises(
        ProspectError, match="another prospect live is writing here; wait for it, or pass another --out"
    ):
        Recording(tmp_path, HEADER)
    first.close()
