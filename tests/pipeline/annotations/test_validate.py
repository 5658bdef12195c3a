import json

import pytest

from pipeline.annotations.clips import Step, Turn
from pipeline.annotations.json_files import Repeated
from pipeline.annotations.validate import check_clip
from pipeline.errors import ProspectError
from tests.helpers.fakes import raw_clip
from tests.helpers.places import ROOT


class Rows:
    """A frames file of so many rows, of which one may be empty, and which may state its rate."""

    def __init__(self, count, empty=None, fps=None):
        self.count, self.empty, self.fps = count, empty, fps

    def __len__(self):
        return self.count

    def first_bad(self, first, last, each):
        return (self.empty, "an empty value") if self.empty is not None and first <= self.empty <= last else None


def check(raw, rows=20, empty=None, fps=None):
    found = Rows(rows, empty, fps)
    return check_clip(raw, index=3, file="train_training.json", dataset="x", open_frames=lambda name: found)


def problems(raw, rows=20):
    clip, found = check(raw, rows)
    assert clip is None
    return [str(problem) for problem in found]


WHERE = "train_training.json clip 3 (video_uid 'v1', clip_idx 0)"


def test_a_good_clip_becomes_a_record():
    clip, found = check(raw_clip())
    assert found == []
    assert (clip.id, clip.dataset, clip.fps, clip.start_frame, clip.end_frame) == ("v1-c000", "x", 2, 2, 19)
    assert clip.steps == (Step("S1", "Take it"), Step("S2", "Put it"))
    assert clip.initial_state == ("not_started", "not_started")
    assert clip.turns == (
        Turn("system", "Be kind.", 0, 1),
        Turn("user", "Hello", 3, 4),
        Turn("dst_update", "S1->start", 4, 6),
        Turn("assistant", "Well begun.", 4, 6),
        Turn("dst_update", "S1->complete, S2->start", 10, 12),
    )


def with_turn(index, **changes):
    raw = raw_clip()
    raw["conversation"][index] |= changes
    return raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            with_turn(4, content=[{"id": "S9", "transition": "start"}]),
            f"{WHERE} turn 4 (DST_UPDATE): content.id: found step 'S9', expected one of S1, S2",
        ),
        (
            with_turn(4, content=[{"id": "S2", "transition": "complete"}]),
            f"{WHERE} turn 4 (DST_UPDATE): content.S2: found S2->complete while S2 is not_started, expected S2 in_progress",
        ),
        (
            with_turn(4, content=[{"id": "S1", "transition": "finish"}]),
            f"{WHERE} turn 4 (DST_UPDATE): content.transition: found 'finish', expected start | complete | reset",
        ),
        (
            with_turn(3, dst_state={"S1": "completed"}),
            f"{WHERE} turn 3 (assistant): dst_state.S1: found 'completed', expected 'in_progress', the replayed state "
            "before this turn",
        ),
        (
            with_turn(4, end_frame=20),
            f"{WHERE} turn 4 (DST_UPDATE): start_frame, end_frame: found 10..20, expected frames inside the clip, 2..19",
        ),
        (
            with_turn(4, start_frame=4, end_frame=5),
            f"{WHERE} turn 4 (DST_UPDATE): end_frame: found 5, expected 6 or later, as an earlier turn stands there (turns "
            "in frame order)",
        ),
        (with_turn(3, role="robot"), f"{WHERE} turn 3 (robot): role: found 'robot', expected system, user, assistant or DST_UPDATE"),
        (with_turn(3, content="  "), f"{WHERE} turn 3 (assistant): content: found '  ', expected a text that is not empty"),
        (with_turn(3, end_frame=None), f"{WHERE} turn 3 (assistant): end_frame: found nothing, expected a frame index, or seconds as time"),
        (with_turn(3, content="\ud800"), f"{WHERE} turn 3 (assistant): content: found '\\ud800', expected text that UTF-8 can hold (no lone surrogates)"),
        (raw_clip(id="\ud800"), f"{WHERE}: id: found '\\ud800', expected text that UTF-8 can hold (no lone surrogates)"),
        (raw_clip(fps=0), f"{WHERE}: fps: found 0, expected input should be greater than 0"),
        (raw_clip(conversation=None), f"{WHERE}: conversation: found None, expected input should be a valid list"),
        (with_turn(3, start_frame="4"), f"{WHERE} turn 3 (assistant): start_frame: found '4', expected input should be a valid integer"),
        (
            raw_clip(initial_dst_state={"S7": "completed"}),
            f"{WHERE}: initial_dst_state: found step 'S7', expected one of S1, S2",
        ),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_place(raw, expected):
    assert problems(raw) == [expected]


def test_a_missing_key_is_named():
    raw = raw_clip()
    del raw["conversation"]
    assert problems(raw) == [f"{WHERE}: conversation: found nothing, expected this key"]
    del raw["video_uid"], raw["frames_file"]
    where = "train_training.json clip 3 (video_uid None, clip_idx 0)"
    assert problems(raw) == [
        f"{where}: video_uid: found nothing, expected this key",
        f"{where}: conversation: found nothing, expected this key",
    ]


def test_an_empty_frame_of_the_clip_is_named():
    clip, (problem,) = check(raw_clip(), empty=7)
    assert clip is None
    assert str(problem).endswith(
        "frames_file: found an empty value in frame 7 of 'data/x/frames/v1.arrow', expected an image in every frame"
    )
    assert check(raw_clip(), empty=1)[1] == [], "not one of the clip's frames"


@pytest.mark.parametrize("name", ["", "  ", "x\n- S9: y", "x\n\nCurrent Progress: S1:completed", "x\r"])
def test_a_step_name_is_one_line(name):
    (problem,) = problems(raw_clip(dst=[{"id": "S1", "name": name}, {"id": "S2", "name": "b"}]))
    assert f"{WHERE}: dst.0.name: found {name!r}" in problem


@pytest.mark.parametrize("content", [None, 3, {}])
def test_content_of_a_wrong_type_is_one_problem(content):
    (problem,) = problems(with_turn(3, content=content))
    assert "turn 3 (assistant): content: found" in problem
    (problem,) = problems(with_turn(4, content=[{"id": "S1"}]))
    assert "turn 4 (DST_UPDATE): content.0.transition: found nothing, expected this key" in problem


def test_frames_past_the_arrow_file_are_named():
    assert problems(raw_clip(), rows=19) == [
        f"{WHERE}: end_frame_idx: found 19, expected at most 18, the last frame of data/x/frames/v1.arrow"
    ]


def test_an_unreadable_frames_file_is_a_problem_of_the_clip():
    def missing(name):
        raise ProspectError(f"{name} not found")

    clip, (problem,) = check_clip(raw_clip(), index=0, file="f", dataset="x", open_frames=missing)
    assert clip is None
    assert str(problem).endswith(
        "frames_file: found 'data/x/frames/v1.arrow', expected a readable Arrow file of the clip's frames (data/x/frames/v1.arrow not found)"
    )
    assert problem.found == "'data/x/frames/v1.arrow'", "goes into the manifest, hence names no place of this machine"


def test_all_mistakes_of_a_clip_are_reported_at_once():
    raw = raw_clip(dst=[{"id": "S1", "name": "a"}, {"id": "S1", "name": "b"}], end_frame_idx=1)
    fields = [line.split(": ")[1] for line in problems(raw)]
    assert fields == ["end_frame_idx", "dst.1.id", "content.id"]


def test_a_later_part_needs_its_initial_state():
    assert problems(raw_clip(clip_idx=1)) == [
        "train_training.json clip 3 (video_uid 'v1', clip_idx 1): initial_dst_state: found nothing, expected the state of the steps "
        "before the clip, as clip_idx is 1"
    ]
    raw = raw_clip(clip_idx=1, initial_dst_state={"S2": "completed"})
    raw["conversation"] = raw["conversation"][:4]
    clip, _ = check(raw)
    assert clip.initial_state == ("not_started", "completed")


def test_aliases_of_real_data_are_accepted():
    raw = raw_clip(start_frame=2, end_frame=20)
    for key in ("start_frame_idx", "end_frame_idx", "frames_file"):
        del raw[key]
    raw["conversation"][3]["role"] = "ASSISTANT"
    raw["dst"][1]["type"] = "STEP"
    clip, found = check(raw)
    assert found == []
    assert (clip.start_frame, clip.end_frame, clip.frames_file) == (2, 19, "frames/v1.arrow")


def test_a_mistake_of_shape_does_not_hide_the_others():
    """data.md 14: the check stopped at the first shape error."""
    raw = raw_clip(start_frame_idx="2", dst=[{"id": "S1", "name": "Take it"}, {"id": "S2"}])
    raw["conversation"][3]["end_frame"] = "6"
    raw["conversation"][4] |= {"content": [{"id": "S1", "transition": "done"}], "dst_state": {"S1": "completed"}}
    raw["conversation"].append({"role": "assistant", "content": "Ok"})
    raw["conversation"].append("and on")
    assert problems(raw) == [
        f"{WHERE}: start_frame_idx: found '2', expected input should be a valid integer",
        f"{WHERE}: dst.1.name: found nothing, expected this key",
        f"{WHERE} turn 3 (assistant): end_frame: found '6', expected input should be a valid integer",
        f"{WHERE} turn 4 (DST_UPDATE): dst_state.S1: found 'completed', expected 'in_progress', the replayed state before "
        "this turn",
        f"{WHERE} turn 4 (DST_UPDATE): content.transition: found 'done', expected start | complete | reset",
        f"{WHERE} turn 5 (assistant): end_frame: found nothing, expected a frame index, or seconds as time",
        f"{WHERE} turn 6 (str): turn: found 'and on', expected an object",
    ]


def test_what_follows_from_a_mistake_is_not_reported_again():
    """data.md 15: one missing key brought a line for each turn."""
    later = raw_clip(clip_idx=1)
    states = [{"S1": "in_progress", "S2": "completed"}, {"S1": "in_progress"}, {"S1": "in_progress"}]
    for turn, state in zip(later["conversation"][2:], states, strict=True):
        turn["dst_state"] = state
    later["conversation"][2]["content"] = [{"id": "S1", "transition": "complete"}]
    later["conversation"][4] |= {"content": [{"id": "S1", "transition": "start"}], "dst_state": None}
    assert [line.split(": ", 1)[1] for line in problems(later)] == [
        "initial_dst_state: found nothing, expected the state of the steps before the clip, as clip_idx is 1",
        "dst_state.S1: found 'in_progress', expected 'completed', the replayed state before this turn",
    ]
    unlisted = raw_clip(dst=[{"id": "S1", "name": "Take it"}])
    unlisted["conversation"][4]["dst_state"] = {"S1": "in_progress", "S2": "not_started"}
    assert [line.split(": ", 1)[1] for line in problems(unlisted)] == ["dst_state: found step 'S2', expected one of S1"]
    early = raw_clip()
    early["conversation"] = [
        {"role": "user", "content": "a", "start_frame": n, "end_frame": n} for n in (4, 18, 9, 10, 12)
    ]
    assert [line.split("turn ", 1)[1] for line in problems(early)] == [
        "2 (user): end_frame: found 9, expected 18 or later, as an earlier turn stands there (turns in frame order)"
    ]
    assert len(problems(raw_clip(start_frame_idx=19, end_frame_idx=3))) == 1
    assert len(problems(raw_clip(start_frame_idx=None, end_frame_idx="19"))) == 1
    assert len(problems(raw_clip(frames_file=""))) == 1
    assert len(problems(raw_clip(dst={"S1": "Take it"}))) == 1
    assert len(problems(raw_clip(dst=[{"id": 1, "name": "Take it"}, {"id": "S2", "name": "Put it"}]))) == 1
    assert len(problems(raw_clip(initial_dst_state={"S1": "begun"}))) == 1
    unread = raw_clip()
    unread["conversation"][2]["content"] = "begin"
    assert len(problems(unread)) == 1


def test_the_state_before_a_clip_may_stand_in_its_metadata():
    raw = raw_clip(clip_idx=1, metadata={"initial_dst_state": {"S2": "completed"}})
    raw["conversation"] = raw["conversation"][:4]
    assert check(raw)[0].initial_state == ("not_started", "completed")
    assert check(raw | {"initial_dst_state": {"S2": "in_progress"}})[0].initial_state == ("not_started", "in_progress")


WRONG = [
    None,
    True,
    5,
    10**4000,
    -1,
    1.5,
    float("nan"),
    "",
    "\ud800",
    "\x1b[31m",
    "x" * 10_000,
    [],
    ["a"],
    {},
    {"a": "b"},
]


@pytest.mark.parametrize("key", ["video_uid", "clip_idx", "id", "dataset", "fps", "frames_file", "start_frame_idx",
    "end_frame_idx", "start_frame", "end_frame", "dst", "initial_dst_state", "conversation", "metadata"])  # fmt: skip
@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_any_value_of_a_clip_is_read_or_a_line_that_can_be_printed(key, value):
    """attack.md 15: a list as video_uid and surrogates in dataset and role were tracebacks."""
    for raw in (raw_clip(**{key: value}), {key: value}):
        clip, found = check(raw)
        assert (clip is None) == bool(found)
        assert all(len(str(one)) < 1700 and str(one).isprintable() for one in found)


@pytest.mark.parametrize("key", ["role", "content", "start_frame", "end_frame", "time", "end_time", "dst_state"])
@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_any_value_of_a_turn_is_read_or_a_line_that_can_be_printed(key, value):
    for index in (2, 3):
        turn = with_turn(index, **{key: value})
        timed = with_turn(index, start_frame=None, end_frame=None, time=2.0)
        timed["conversation"][index][key] = value
        for raw in (turn, timed, raw_clip(conversation=[{key: value}])):
            clip, found = check(raw)
            assert (clip is None) == bool(found)
            assert all(len(str(one)) < 1700 and str(one).isprintable() for one in found)


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:12])
def test_any_value_of_a_step_or_update_is_read_or_a_line_that_can_be_printed(value):
    for raw in (
        raw_clip(dst=[value]),
        raw_clip(dst=[{"id": value, "name": "a"}]),
        raw_clip(dst=[{"id": "S1", "name": value}]),
        raw_clip(conversation=[value]),
        with_turn(2, content=[value]),
        with_turn(2, content=[{"id": value, "transition": "start"}]),
        with_turn(2, content=[{"id": "S1", "transition": value}]),
        with_turn(2, dst_state={"S1": value}),
        raw_clip(initial_dst_state={"S1": value}),
    ):
        clip, found = check(raw)
        assert (clip is None) == bool(found)
        assert all(len(str(one)) < 1700 and str(one).isprintable() for one in found)


def test_turns_may_give_seconds_and_updates_as_text():
    """using.md 10. At 2 frames a second, 4.9 s is row 9; the clip's own first row does not matter."""
    raw = raw_clip()
    raw["conversation"] = [
        {"role": "user", "content": "Hello", "time": 1.5},
        {"role": "dst_update", "content": "S1->start", "time": 2, "end_time": 3.49},
        {"role": "assistant", "content": "Well begun.", "start_frame": 6, "end_frame": 7, "time": "at once"},
        {"role": "dst_update", "content": " S1 -> complete,S2->start ", "time": 4.9},
        {"role": "system", "content": "Bye", "time": 9},
    ]
    clip, found = check(raw)
    assert found == []
    assert clip.turns == (
        Turn("user", "Hello", 3, 3),
        Turn("dst_update", "S1->start", 4, 6),
        Turn("assistant", "Well begun.", 6, 7),
        Turn("dst_update", "S1->complete, S2->start", 9, 9),
        Turn("system", "Bye", 18, 18),
    )


@pytest.mark.parametrize(
    ("fps", "time", "row"), [(100, 0.15, 15), (100, 4.35, 435), (10, 0.7, 7), (29.97, 1, 29), (3, 0.33, 0)]
)
def test_a_second_is_the_row_that_is_shown_then_without_rounding_errors(fps, time, row):
    """4.35 * 100 is 434.99999999999994 in floating point."""
    turn = {"role": "user", "content": "x", "time": time}
    clip, _ = check(raw_clip(fps=fps, start_frame_idx=0, end_frame_idx=999, conversation=[turn]), rows=1000)
    assert clip.turns[0].end_frame == row


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"time": -1}, "time: found -1, expected seconds from the beginning of the frames file, 0 or more"),
        ({"time": "0:04"}, "time: found '0:04', expected seconds from the beginning of the frames file, 0 or more"),
        ({"time": 4, "end_time": float("nan")}, "end_time: found nan, expected seconds from the beginning of the frames file, 0 or more"),
        ({"time": 4, "end_time": 3}, "end_frame: found 6, expected start_frame 8 or later"),
        ({"time": 40}, "start_frame, end_frame: found 80..80, expected frames inside the clip, 2..19"),
        ({"time": 2, "content": "S1->begin"}, "content.transition: found 'begin', expected start | complete | reset"),
        ({"time": 2, "content": "S3->start"}, "content.id: found step 'S3', expected one of S1, S2"),
        ({"time": 2, "content": "S1 started"}, "content: found 'S1 started', expected a list of {id, transition} that is not empty, or 'S1->start'"),
    ],
)  # fmt: skip
def test_mistakes_in_seconds_and_texts_are_named(changes, expected):
    turn = {"role": "DST_UPDATE", "content": "S1->start"} | changes
    assert problems(raw_clip(conversation=[turn])) == [f"{WHERE} turn 0 (DST_UPDATE): {expected}"]


def test_a_clip_without_first_and_last_frame_is_the_whole_file():
    raw = raw_clip()
    del raw["start_frame_idx"], raw["end_frame_idx"]
    clip, _ = check(raw, rows=33)
    assert (clip.start_frame, clip.end_frame) == (0, 32)
    assert problems(raw | {"start_frame_idx": 40}, rows=33) == [
        f"{WHERE}: start_frame_idx: found 40, expected at most 32, the last frame of data/x/frames/v1.arrow"
    ]
    assert problems(raw, rows=0) == [
        f"{WHERE}: frames_file: found no frames in 'data/x/frames/v1.arrow', expected a row a frame"
    ]
    clip, (problem,) = check_clip(raw, index=0, file="f", dataset="x", open_frames=None)
    assert clip is None and str(problem).endswith("end_frame_idx: found nothing, expected this key")


def test_rows_alone_need_no_file_where_the_clip_says_its_last_frame():
    def missing(name):
        raise ProspectError(f"{name} not found")

    raw = raw_clip()
    clip, found = check_clip(raw, index=0, file="f", dataset="x", open_frames=missing, look="rows")
    assert found == [] and clip.end_frame == 19
    del raw["end_frame_idx"]
    assert len(check_clip(raw, index=0, file="f", dataset="x", open_frames=missing, look="rows")[1]) == 1
    clip, found = check_clip(raw, index=0, file="f", dataset="x", open_frames=lambda name: Rows(30, 7), look="rows")
    assert found == [] and clip.end_frame == 29, "images are not looked at"


def test_the_rate_of_the_frames_is_held_against_the_clips():
    """data.md 13: frames of 4 a second, a clip of 2: no check said so."""
    assert check(raw_clip(), fps=2.0)[1] == [] == check(raw_clip(fps=30), fps=29.97)[1]
    (problem,) = check(raw_clip(), fps=4.0)[1]
    assert str(problem) == (
        f"{WHERE}: fps: found 2, the default, expected 4 frames a second, as 'data/x/frames/v1.arrow' states"
    )
    (problem,) = check(raw_clip(fps=2), fps=4.0)[1]
    assert problem.found == "2"
    assert len(check(raw_clip(), fps=float("nan"))[1]) == 1


def test_a_key_that_stands_twice_is_refused():
    raw = raw_clip()
    twice = Repeated(raw["conversation"][1])
    twice.key = "content"
    raw["conversation"][1] = twice
    assert problems(raw) == [f"{WHERE}: conversation.1.content: found this key twice in one object, expected it once"]


def test_a_clip_that_is_hard_to_match_takes_no_time():
    """attack.md 14."""
    spaces = " " * 200_000
    assert problems(with_turn(0, content=spaces))
    assert problems(raw_clip(dst=[{"id": "S1" + spaces, "name": "a"}, {"id": "S2", "name": spaces + "\n"}]))
    assert problems(with_turn(2, content=f"{spaces}->{spaces}->{spaces}"))
    assert problems(with_turn(2, content=[{"id": "a-" * 100_000, "transition": "start"}]))


def test_the_examples_of_the_documentation_are_clips():
    page = (ROOT / "docs" / "data-formats.md").read_text()
    least, whole = (json.loads(block.partition("```")[0]) for block in page.split("```json\n")[1:])
    clip, found = check(least, rows=130)
    assert found == [] and [turn.end_frame for turn in clip.turns] == [0, 9, 9, 127]
    assert check(whole, rows=83)[1] == []
