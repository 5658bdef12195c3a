import json
import math
import re

import pytest

from pipeline.annotations.clips import Turn
from pipeline.errors import ProspectError
from prospect.evaluation.predictions import (
    ClipPrediction,
    proassist_records,
    read_prediction,
    write_prediction,
)
from prospect.stream.records import Action, FrameRecord
from tests.helpers.fakes import make_clip


def record(frame, *actions):
    return FrameRecord(frame, 0.1, 0.1, tuple(Action(role, text, 0.9, 0.9) for role, text in actions), 0, 0, 0, 0, False, 0)  # fmt: skip


def test_proassists_records_of_a_clip_that_begins_within_its_video():
    """Frames 7 to 12 at 2 a second; what stands before them comes with the first."""
    clip = make_clip(
        [
            Turn("system", "Be kind.", None, None),
            Turn("system", "He is late.", 2, 3),
            Turn("user", "Hello", 8, 9),
            Turn("system", "It rains.", 9, 9),
            Turn("dst_update", "S1->start", 8, 9),
            Turn("assistant", "Take it.", 8, 9),
            Turn("assistant", "Now.", 9, 9),
            Turn("user", "Done?", 12, 12),
        ],
        frames=(7, 12),
    )
    frames = [record(7), record(8, ("assistant", "Take"), ("dst_update", "S1->start"), ("assistant", "that.")), *map(record, range(9, 13))]  # fmt: skip

    def expected(number, frame, seconds, gen="", ref="", inputs=()):
        return {
            "gen": gen, "ref": ref, "text_inputs": [list(one) for one in inputs], "frame_idx_in_stream": number,
            "frame_idx_in_original_video": frame, "timestamp_in_stream": seconds,
        }  # fmt: skip

    assert proassist_records(ClipPrediction(clip, tuple(frames), {})) == [
        expected(0, 7, 0.5, inputs=[("system", "Be kind."), ("system", "He is late.")]),
        expected(1, 8, 1.0, gen="Take that."),
        expected(2, 9, 1.5, ref="Take it. Now.", inputs=[("user", "Hello"), ("system", "It rains.")]),
        expected(3, 10, 2.0),
        expected(4, 11, 2.5),
        expected(5, 12, 3.0, inputs=[("user", "Done?")]),
    ]


def written(path, change=None):
    """The file of a clip of frames 7 to 12, changed by hand."""
    turns = [Turn("user", "Hello", None, 3), Turn("dst_update", "S1->start", 8, 9), Turn("assistant", "Take it.", 8, 9)]
    clip = make_clip(turns, frames=(7, 12))
    frames = [record(frame) for frame in range(7, 13)]
    frames[2] = record(9, ("dst_update", "S1->start"), ("assistant", "Take it."))
    prediction = ClipPrediction(clip, tuple(frames), {"row": "model"})
    write_prediction(path, prediction)
    if change:
        whole = json.loads(path.read_text())
        change(whole["dst"])
        path.write_text(json.dumps(whole))
    return prediction


def test_a_prediction_is_read_as_it_was_written(tmp_path):
    assert written(tmp_path / "p.json") == read_prediction(tmp_path / "p.json")
    at_once = ClipPrediction(make_clip([Turn("assistant", "Go.", 0, 0)], frames=(0, 0)), (record(0),), {})
    write_prediction(tmp_path / "at-once.json", at_once)
    assert read_prediction(tmp_path / "at-once.json") == at_once


def cut(dst):
    del dst["frames"][2:]


def doubled(dst):
    dst["frames"].insert(1, dst["frames"][0])


def swapped(dst):
    dst["frames"].reverse()


def outside(dst):
    dst["frames"].append(dst["frames"][2] | {"frame": 40})


def put(value, *place):
    def change(dst):
        for name in place[:-1]:
            dst = dst[name]
        dst[place[-1]] = value

    return change


UPDATE = ("frames", 2, "actions", 0, "text")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, r"frames: 9\.\.12 missing, expected 7\.\.12, each once, in order"),
        (doubled, r"frames: 7 twice, expected 7"),
        (swapped, r"frames: out of order, expected 7"),
        (outside, r"frames: 40 outside the clip, expected 7"),
        (put(10**9, "clip", "end_frame"), r"frames: 13\.\.1000000000 missing"),
        (put("done S1", *UPDATE), r"frame 9: 'done S1' is not an update text such as 'S1->complete, S2->start'"),
        (put("S9->start", *UPDATE), r"frame 9: update of step 'S9', expected one of S1, S2"),
        (put(1.5, "frames", 4, "p_speak"), r"frame 11: p_speak 1\.5, expected 0 to 1"),
        (put(math.nan, "frames", 2, "actions", 1, "p_update"), r"frame 9: p_update nan, expected 0 to 1"),
        (put(-1, "frames", 0, "seconds"), r"frame 7: seconds -1.0, expected 0 or more"),
        (put("half", "frames", 0, "p_update"), r"frames\.0\.p_update: input should be a valid number"),
        (put("narrator", "frames", 2, "actions", 1, "role"), r"frames\.2\.actions\.1\.role: input should be 'dst_update' or"),
        (put("prospect.prediction/0", "format"), r"format: input should be 'prospect\.prediction/1'"),
        (put("done S1", "clip", "turns", 1, "text"), r"turn 2: 'done S1' is not an update text"),
        (put(13, "clip", "turns", 2, "end_frame"), r"turn 3 \(assistant\): at frame 13, expected one of 7\.\.12"),
        (put(None, "clip", "turns", 1, "end_frame"), r"turn 2 \(dst_update\): at frame None, expected one of 7\.\.12"),
        (put(["completed"], "clip", "initial_state"), r"clip: 1 states of 2 steps"),
        (put(0, "clip", "fps"), r"clip: 0 frames a second"),
    ],
)  # fmt: skip
def test_a_prediction_edited_by_hand_is_one_line(tmp_path, change, message):
    """training.md 14: what was cut or doubled was scored, the rest was a traceback."""
    path = tmp_path / "p.json"
    written(path, change)
    with pytest.raises(ProspectError) as caught:
        read_prediction(path)
    told = str(caught.value)
    assert re.match(rf"{path}: cannot be read as a prediction \(.*{message}", told), told
    assert told.endswith("expected prospect.prediction/1; remove it and evaluate again") and "\n" not in told
