from pipeline.annotations.clips import Turn
from prospect.evaluation.predictions import ClipPrediction, proassist_records
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
