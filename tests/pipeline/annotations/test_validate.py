import pytest

from pipeline.annotations.clips import Step, Turn
from pipeline.annotations.validate import check_clip
from pipeline.errors import ProspectError
from tests.helpers.fakes import raw_clip


class Rows:
    """A frames file of so many rows, of which one may be empty."""

    def __init__(self, count, empty=None):
        self.count, self.empty = count, empty

    def __len__(self):
        return self.count

    def first_bad(self, first, last, read):
        return (self.empty, "an empty value") if self.empty is not None and first <= self.empty <= last else None


def check(raw, rows=20, empty=None):
    found = Rows(rows, empty)
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
            f"{WHERE} turn 4 (DST_UPDATE): content.transition: found 'finish', expected start | complete",
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
        (with_turn(3, end_frame=None), f"{WHERE} turn 3 (assistant): end_frame: found nothing, expected a frame index"),
        (with_turn(3, content="\ud800"), f"{WHERE} turn 3 (assistant): content: found '\\ud800', expected text that UTF-8 can hold (no lone surrogates)"),
        (raw_clip(id="\ud800"), f"{WHERE}: id: found '\\ud800', expected input should be a valid string, unable to parse raw data as a unicode string"),
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
    del raw["end_frame_idx"]
    assert problems(raw) == [f"{WHERE}: end_frame_idx: found nothing, expected this key"]


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
    assert {"dst.1.id", "end_frame_idx", "content.id"} <= set(fields)


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
