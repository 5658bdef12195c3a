"""Tables of step times to spans and dialogues: by hand, in each form, and each mistake by its place."""

import json

import pytest

from pipeline.errors import InvalidInput, ProspectError
from pipeline.importers.rows import seconds
from pipeline.importers.table import import_table
from pipeline.spans.records import read_dialogues, read_spans

TEA = "video,step,start_s,end_s,outcome\ncup,Boil water,0:05,1:10.5,\ncup,Pour it,70.5,80,error\ncup,Boil water,90,95,undone\n"


def read(tmp_path, text: str, name: str = "train.csv", **more):
    """The records of a table with this text, and the tally's lines."""
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    files, tally = import_table([file], tmp_path / "tea", force=True, **more)
    kinds = {path.name.partition("_")[2]: path for path in files}
    spans = read_spans(kinds["spans.jsonl"]) if "spans.jsonl" in kinds else []
    return spans, read_dialogues(kinds["dialogues.jsonl"]) if "dialogues.jsonl" in kinds else [], tally.lines()


def told(video):
    return [(span.step, span.start_s, span.end_s, span.outcome) for span in video.spans]


def refused(tmp_path, text: str, name: str = "train.csv", **more) -> str:
    with pytest.raises(ProspectError) as caught:
        read(tmp_path, text, name, **more)
    assert not (tmp_path / "tea").exists(), "nothing was written"
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "time_s"),
    [("0", 0), ("75.5", 75.5), ("1:15.5", 75.5), ("01:15", 75), ("1:01:15.25", 3675.25), ("90:00", 5400), (".5", 0.5)],
)
def test_a_time_is_seconds_or_minutes_or_hours(text, time_s):
    assert seconds(text) == time_s


@pytest.mark.parametrize(
    "text", ["", "-1", "1:75", "1:60:00", "1,5", "nan", "inf", "1e3", "00:00:00:10", "2000000", "٣"]
)
def test_what_is_no_time_is_none(text):
    assert seconds(text) is None


def test_a_table_becomes_the_spans_of_its_videos(tmp_path):
    (cup,), dialogues, tally = read(tmp_path, TEA)
    assert (cup.video, cup.dataset, cup.duration_s, cup.not_performed) == ("cup", "tea", None, ())
    assert [(step.id, step.name) for step in cup.steps] == [("S1", "Boil water"), ("S2", "Pour it")]
    assert told(cup) == [("S1", 5, 70.5, "done"), ("S2", 70.5, 80, "error"), ("S1", 90, 95, "undone")]
    assert {span.source for span in cup.spans} == {"train.csv"} and not dialogues
    assert tally == ["1 files", "3 rows", "3 spans", "0 steps not performed", "1 videos"]


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
def test_the_delimiter_is_that_of_the_first_line_and_a_byte_order_mark_is_nothing(tmp_path, delimiter):
    (cup,), _, _ = read(tmp_path, "\ufeff" + TEA.replace(",", delimiter).replace("\n", "\r\n"), "train.tsv")
    assert told(cup) == [("S1", 5, 70.5, "done"), ("S2", 70.5, 80, "error"), ("S1", 90, 95, "undone")]


def test_rows_with_a_text_are_the_dialogue_in_the_order_of_their_times(tmp_path):
    rows = [
        {"video": "cup", "step": "Pour", "start_s": 3, "end_s": 9, "duration_s": 12.5},
        {"video": "cup", "text": "Now pour.", "start_s": 2.5, "end_s": 3},
        {"video": "cup", "text": "What next?", "role": "user", "start_s": "0:02"},
        {"video": "cup", "text": "Be brief.", "role": "system", "start_s": None},
    ]
    (cup,), (said,), _ = read(tmp_path, "\n".join(map(json.dumps, rows)), "val.jsonl")
    assert (cup.duration_s, told(cup)) == (12.5, [("S1", 3, 9, "done")])
    assert [(line.role, line.text, line.start_s, line.end_s) for line in said.lines] == [
        ("system", "Be brief.", None, None),
        ("user", "What next?", 2, None),
        ("assistant", "Now pour.", 2.5, 3),
    ]


def test_listed_steps_are_every_videos_and_those_without_a_row_were_not_performed(tmp_path):
    (tmp_path / "steps.txt").write_text("Take a cup\nPour it\n\nBoil water\n")
    (cup,), _, tally = read(tmp_path, TEA, steps=tmp_path / "steps.txt")
    assert [(step.id, step.name) for step in cup.steps] == [
        ("S1", "Take a cup"),
        ("S2", "Pour it"),
        ("S3", "Boil water"),
    ]
    assert told(cup)[0] == ("S3", 5, 70.5, "done") and cup.not_performed == ("S1",)
    assert "1 steps not performed" in tally
    assert "line 2: step: found 'Boil water', expected one of the steps listed: Pour it" in refused(
        tmp_path / "other", TEA, steps=steps(tmp_path, "Pour it")
    )
    assert "found 'a' twice, expected a step's name a line" in refused(
        tmp_path / "other", TEA, steps=steps(tmp_path, "a\na")
    )
    assert "found nothing" in refused(tmp_path / "other", TEA, steps=steps(tmp_path, " \n"))


def steps(tmp_path, text: str):
    (tmp_path / "other").mkdir(exist_ok=True)
    (tmp_path / "steps.txt").write_text(text)
    return tmp_path / "steps.txt"


def test_split_and_dataset_are_the_rows_own_or_else_those_given(tmp_path):
    text = "video,step,start_s,end_s,split,dataset\na,x,0,1,val,tea\nb,x,0,1,,\n"
    (tmp_path / "times.csv").write_text(text)
    files, _ = import_table([tmp_path / "times.csv"], tmp_path / "out", split="test", dataset="other")
    assert [path.name for path in files] == ["val_spans.jsonl", "test_spans.jsonl"]
    assert [read_spans(path)[0].dataset for path in files] == ["tea", "other"]
    assert "times.csv: its name says no split (one of train, val, test); pass --split" in refused(
        tmp_path, TEA, "times.csv"
    )


def test_every_mistake_of_a_table_is_named_with_its_line_and_nothing_is_written(tmp_path):
    lines = [
        "video,step,start_s,end_s,outcome,text,role,split",
        ",Pour,1,2",
        "v,Pour,2,1",
        "v,Pour,soon,",
        "v,,1,2",
        "v,Pour,1,2,perfect",
        "v,Pour,1,2,,Hello",
        "v,,1,,,Hello,robot",
        "v,,,,,Hello,user",
        "v,Pour,1,2,,,,dev",
        "v,Pour,1,-2",
    ]
    message = refused(tmp_path, "\n".join(lines))
    assert message.splitlines()[1:-1] == [
        "  train.csv line 2: video: found nothing, expected the video's name",
        "  train.csv line 3: end_s: found 1, expected at least its start_s, 2",
        "  train.csv line 4: start_s: found 'soon', expected seconds from the video's start (75.5), mm:ss or h:mm:ss",
        "  train.csv line 4: end_s: found nothing, expected seconds from the video's start (75.5), mm:ss or h:mm:ss",
        "  train.csv line 5: step, text: found neither, expected one of them: a step worked on, or what was said",
        "  train.csv line 6: outcome: found 'perfect', expected one of done, error, undone, or nothing",
        "  train.csv line 7: step, text: found both, expected one of them: a step worked on, or what was said",
        "  train.csv line 8: role: found 'robot', expected one of system, user, assistant",
        "  train.csv line 9: start_s: found nothing, expected seconds from the video's start (75.5), mm:ss or h:mm:ss",
        "  train.csv line 10: split: found 'dev', expected one of train, val, test",
        "  train.csv line 11: end_s: found '-2', expected seconds from the video's start (75.5), mm:ss or h:mm:ss",
    ]
    assert message.endswith("nothing was written: correct train.csv")


def test_rows_of_a_video_that_disagree_are_named(tmp_path):
    text = "video,step,start_s,end_s,split,duration_s\nv,x,0,1,train,5\nw,x,0,1,,\nv,x,2,3,val,6\n"
    message = refused(tmp_path, text)
    assert "line 4: split: found 'val', expected 'train', as train.csv line 2 has it for the same video" in message
    assert "line 4: duration_s: found 6.0, expected 5.0, as train.csv line 2 has it for the same video" in message


def test_a_span_past_the_length_that_the_table_gives_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"spans.0.end_s: found 9.0, expected at most the video's duration_s, 5.0"):
        read(tmp_path, "video,step,start_s,end_s,duration_s\nv,x,0,9,5\n")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "train.csv", "is empty, expected a first line that names columns: video, start_s"),
        ("video,step\nv,x\n", "train.csv", "line 1: found the columns video, step, expected start_s too"),
        ("video,start_s,end_s\nv,0,1\n", "train.csv", "line 2: found video, start_s, end_s, expected `step`, or `text`"),
        ("video,video,step,start_s\n", "train.csv", "found the column 'video' twice"),
        ("video,step,start_s,end_s\nv,Pour, slowly,1,2\n", "train.csv", "line 2: found 5 values, expected 4"),
        ('video,step,start_s,end_s\nv,"Pour,1,2\n', "train.csv", "cannot be read as a table (unexpected end of data)"),
        ("video,step,start_s,end_s\n", "train.csv", "found no row, expected one at least"),
        ('{"video": "v"', "train.jsonl", "line 1: not valid JSON"),
        ("[1]", "train.jsonl", "line 1: found list, expected an object, a row a line"),
        ('{"video": "v", "step": "\\ud800", "start_s": 0, "end_s": 1}', "train.jsonl", "line 1: found half a surrogate pair (\\ud800 to \\udfff), expected text"),
        ("x", "train.xlsx", "is .xlsx, expected a table (.csv, .tsv, .jsonl)"),
        ("0,9,attach,a,b,correct,\n", "train.csv", "found Assembly101's mistakes, expected a table (.csv, .tsv, .jsonl), "
         "ELAN's .eaf or Label Studio's .json export; use prospect import assembly101-mistakes"),
        ('[{"role": "DST_UPDATE"}]', "train.json", "use prospect import prospect-fork"),
        ('[{"conversations": []}]', "train.json", "use prospect import proassist-generated"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_in_one_line(tmp_path, text, name, message):
    said = refused(tmp_path, text, name)
    assert message in said and "\n" not in said


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(ProspectError, match=r"x.csv: no such file"):
        import_table([tmp_path / "x.csv"], tmp_path / "out")
    (tmp_path / "train.csv").write_bytes(b"video,step,start_s,end_s\nv,caf\xe9,0,1\n")
    with pytest.raises(ProspectError, match=r"train.csv: byte 30 is not UTF-8, expected text; save it as UTF-8"):
        import_table([tmp_path / "train.csv"], tmp_path / "out")


def test_columns_that_mean_nothing_here_are_told(tmp_path):
    _, _, tally = read(tmp_path, "video,step,start_s,end_s,Note\nv,x,0,1,hm\n")
    assert tally[-1] == "1 columns of train.csv that mean nothing here: note"


def test_a_video_with_lines_alone_has_a_dialogue_and_no_spans(tmp_path):
    spans, (said,), tally = read(tmp_path, "video,text,start_s\nv,Hello,1\n")
    assert not spans and said.video == "v"
    assert tally[-1] == "1 videos without a step, of which the dialogue alone was written: v"
