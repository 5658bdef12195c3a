"""Assembly101's mistakes by hand, and the real ones where they are: attaches, what undoes them, rows with typos."""

from collections import Counter

import pytest

from pipeline.errors import ProspectError
from pipeline.importers.assembly101 import import_assembly101_mistakes
from pipeline.spans.project import events_of
from pipeline.spans.records import read_spans
from tests.helpers.places import REAL

NAME = "nusar-2021_action_both_9011-x_2021-02-01_160239"
ROWS = """300,600,attach,cabin,interior,mistake,wrong order
900,960,detach,interior,cabin,correction,
1200,1500,attach,Interior,cabin,correct,
60,90,attach,wheel,chassis,correct
"""


def read(tmp_path, rows: str = ROWS, **more):
    folder = tmp_path / "csv"
    folder.mkdir(exist_ok=True)
    (folder / f"{NAME}.csv").write_text(rows)
    files, tally = import_assembly101_mistakes([folder], tmp_path / "out", **{"split": "train", **more})
    return [record for file in files for record in read_spans(file)], tally


def events(record, num_frames: int = 200) -> list[str]:
    return [f"{e.frame} {e.step}->{e.transition}" for e in events_of(record, 2, num_frames, Counter())]


def test_a_pair_of_parts_is_a_step_in_whichever_order_and_a_detach_undoes_it(tmp_path):
    (video,), tally = read(tmp_path)
    assert (video.video, video.dataset, video.duration_s) == (NAME, "out", None)
    assert [(step.id, step.name) for step in video.steps] == [
        ("S1", "Attach wheel to chassis"),
        ("S2", "Attach cabin to interior"),
    ]
    assert [(span.step, span.start_s, span.end_s, span.outcome, span.flags) for span in video.spans] == [
        ("S1", 2, 3, "done", ()),
        ("S2", 10, 20, "error", ("mistake", "wrong order")),
        ("S2", 30, 32, "undone", ("correction",)),
        ("S2", 40, 50, "done", ()),
    ]
    assert video.spans[1].source == f"{NAME}.csv line 1"
    assert tally.lines() == [
        "3 attaches", "1 attaches that are mistakes", "1 detaches", "1 videos", "2 steps", "1 files",
    ]  # fmt: skip


def test_the_attach_that_lasts_completes_a_step_and_a_detach_resets_it(tmp_path):
    (video,), _ = read(tmp_path)
    assert events(video) == [
        "4 S1->start", "6 S1->complete", "20 S2->start", "40 S2->complete", "64 S2->reset", "80 S2->start", "100 S2->complete",
    ]  # fmt: skip
    (undone,), _ = read(
        tmp_path, "300,600,attach,cabin,interior,correct,\n900,960,detach,cabin,interior,mistake,\n", force=True
    )
    assert events(undone)[-1] == "64 S1->reset", "what does not last is not complete"


def test_rows_that_cannot_be_used_are_left_out_each_with_its_reason(tmp_path):
    bad = """700,650,attach,roof,cabin,correct,
6078,6494,interior,chassis,correct,,
10,x,attach,a,b,correct,
10,20,attach,a,,correct,
10,20,attach,a,b,fine,
10,20,attach
40,50,detach,door,cabin,mistake,shouldn't have happened
"""
    first, undone, *rest = ROWS.splitlines(keepends=True)
    again = "1000,1010,detach,cabin,interior,mistake,\n"
    (video,), tally = read(tmp_path, bad + first + undone + again + "".join(rest))
    assert len(video.steps) == 2 and len(video.spans) == 4
    assert {why: names for why, names in tally.left_out.items()} == {
        "rows that end before they begin, left out": [f"{NAME}.csv line 1 (700,650,attach,roof,cabin,correct,)"],
        "rows whose verb is neither attach nor detach, left out": [f"{NAME}.csv line 2 (6078,6494,interior,chassis,correct,,)"],
        "rows whose frames are no whole numbers, left out": [f"{NAME}.csv line 3 (10,x,attach,a,b,correct,)"],
        "rows without two parts, left out": [f"{NAME}.csv line 4 (10,20,attach,a,,correct,)"],
        "rows that are none of correct, mistake, correction, left out": [f"{NAME}.csv line 5 (10,20,attach,a,b,fine,)"],
        "rows with another number of columns than 6 or 7, left out": [f"{NAME}.csv line 6 (10,20,attach)"],
        "rows that detach what is not attached then, left out": [
            f"{NAME}.csv line 7 (40,50,detach,door,cabin,mistake,shouldn't have happened)",
            f"{NAME}.csv line 10 (1000,1010,detach,cabin,interior,mistake,)",
        ],
    }  # fmt: skip


def test_each_video_of_a_recording_in_a_table_gets_its_record_with_length_and_split(tmp_path):
    table = f"video,duration_s,split\nassembly_{NAME}__HMC_1_mono10bit,2:00,val\n{NAME}__HMC_2,,\nother,9,train\n"
    (tmp_path / "videos.csv").write_text(table)
    (first, second), _ = read(tmp_path, videos=tmp_path / "videos.csv")
    assert (first.video, first.duration_s) == (f"assembly_{NAME}__HMC_1_mono10bit", 120)
    assert (second.video, second.duration_s) == (f"{NAME}__HMC_2", None)
    assert first.spans == second.spans
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["train_spans.jsonl", "val_spans.jsonl"]
    (tmp_path / "videos.csv").write_text("video,duration_s,split\n,5,\nv,long,\nv,,dev\n")
    with pytest.raises(ProspectError) as caught:
        read(tmp_path, videos=tmp_path / "videos.csv", force=True)
    for line in ("line 2: video: found nothing", "line 3: duration_s: found 'long'", "line 4: split: found 'dev'"):
        assert f"videos.csv {line}" in str(caught.value)


def test_recordings_that_a_table_lacks_are_told(tmp_path):
    (tmp_path / "videos.csv").write_text("video\nother\n")
    with pytest.raises(ProspectError, match="found nothing to write"):
        read(tmp_path, videos=tmp_path / "videos.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "found no row that can be used, expected a csv of frames"),
        ("1,2,interior,chassis,correct,,\n", "found no row that can be used"),
        ("video,step,start_s,end_s\nv,x,0,1\n", "use prospect import table"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, rows, message):
    with pytest.raises(ProspectError) as caught:
        read(tmp_path, rows)
    assert message in str(caught.value) and not (tmp_path / "out").exists()


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(ProspectError, match=r"found no .csv file"):
        import_assembly101_mistakes([tmp_path], tmp_path / "out", split="train")


@pytest.mark.skipif(not (REAL / "assembly101_mistakes").is_dir(), reason="the real annotations are not here")
def test_the_real_annotations_give_legal_events_and_the_known_ones(tmp_path):
    files, tally = import_assembly101_mistakes([REAL / "assembly101_mistakes"], tmp_path / "out", split="train")
    records = {record.video: record for record in read_spans(files[0])}
    assert len(records) == tally.counts["files"] > 100
    for record in records.values():  # start, complete, and reset before either comes again
        state = dict.fromkeys((step.id for step in record.steps), "not_started")
        for event in events_of(record, 2, 10**6, Counter()):
            before = {"start": ["not_started"], "complete": ["in_progress"], "reset": ["in_progress", "completed"]}
            assert state[event.step] in before[event.transition], (record.video, event)
            after = {"start": "in_progress", "complete": "completed", "reset": "not_started"}
            state[event.step] = after[event.transition]
    wheels = records["nusar-2021_action_both_9011-c03f_9011_user_id_2021-02-01_160239"]
    assert [(span.start_s, span.end_s) for span in wheels.spans if span.step == "S2"] == [(3494 / 30, 4564 / 30)]
    assert wheels.steps[1].name == "Attach wheel to chassis"
