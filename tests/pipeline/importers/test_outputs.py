"""Files of an import: all or none, over an earlier import's alone; and the tally."""

import pytest

from pipeline.errors import InvalidInput, ProspectError
from pipeline.importers.outputs import Tally, write_dataset
from pipeline.spans.records import Dialogue, Line, NamedStep, Span, VideoSpans, read_dialogues, read_spans


def video(name: str = "v", *spans: Span) -> VideoSpans:
    return VideoSpans(video=name, dataset="d", duration_s=9, steps=(NamedStep(id="S1", name="stir"),), spans=spans)


def dialogue(name: str = "v") -> Dialogue:
    return Dialogue(
        video=name, dataset="d", lines=(Line(role="user", text="And now?", start_s=1),), about={"kind": "x"}
    )


def write(out, spans, dialogues=None, force=False, **more):
    return write_dataset(out, spans, dialogues or {}, force, importer="tea", **more)


def test_each_split_gets_a_file_of_spans_and_one_of_dialogues_that_can_be_read_back(tmp_path):
    files = write(tmp_path / "d", {"train": [video()], "val": []}, {"train": [dialogue()]})
    assert [path.name for path in files] == ["train_spans.jsonl", "train_dialogues.jsonl"]
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["train_dialogues.jsonl", "train_spans.jsonl"]
    assert read_spans(files[0]) == [video().model_copy(update={"provenance": {"importer": "tea"}})]
    assert read_dialogues(files[1]) == [dialogue().model_copy(update={"about": {"importer": "tea", "kind": "x"}})]


def test_an_import_is_written_over_with_force_alone_and_a_split_that_is_gone_leaves_no_file(tmp_path):
    write(tmp_path, {"train": [video()], "val": [video("w")]})
    with pytest.raises(ProspectError, match=r"train_spans.jsonl: is there already; pass --force"):
        write(tmp_path, {"train": [video("x")], "val": []})
    assert [record.video for record in read_spans(tmp_path / "train_spans.jsonl")] == ["v"]
    write(tmp_path, {"train": [video("x")], "val": []}, force=True)
    assert [record.video for record in read_spans(tmp_path / "train_spans.jsonl")] == ["x"]
    assert [path.name for path in tmp_path.iterdir()] == ["train_spans.jsonl"]


def test_splits_that_an_import_does_not_name_stay(tmp_path):
    write(tmp_path, {"train": [video()]})
    write(tmp_path, {"val": [video()]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train_spans.jsonl", "val_spans.jsonl"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "notes",
        '{"format": "prospect.spans/1", "provenance": {}}\n',  # annotated, not imported
        '{"format": "prospect.spans/1", "provenance": {"importer": "tea"}}\n{"format": "prospect.spans/1"}\n',
        '{"format": "prospect.spans/1", "provenance": {"importer": "tea", "edited": "spans.tsv"}}\n',  # by a person
        '{"format": "prospect.spans/1", "provenance": {"importer": "tea", "annotate": {}}}\n',
        '{"format": "prospect.dialogues/1", "provenance": {"importer": "tea"}}\n',
        '{"format": ["prospect.spans/1"]}\n',
        "[" * 100_000,
    ],
)
def test_what_no_import_made_is_not_written_over(tmp_path, text):
    path = tmp_path / "train_spans.jsonl"
    path.write_text(text)
    if not text:
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProspectError, match="is there, and no import made it"):
        write(tmp_path, {"val": [video()], "train": [video()]}, force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["train_spans.jsonl"]
    assert not text or path.read_text() == text


def test_input_is_not_written_over(tmp_path):
    (path,) = write(tmp_path, {"train": [video()]})
    with pytest.raises(ProspectError, match="is one of the files to be read"):
        write(tmp_path, {"train": [video()]}, force=True, inputs=[path])


def test_every_mistake_in_the_records_is_told_and_nothing_written(tmp_path):
    late = video("late", Span(step="S1", start_s=1, end_s=20), Span(step="S2", start_s=1, end_s=2))
    with pytest.raises(InvalidInput) as error:
        write(tmp_path / "d", {"train": [video(), late, video()]}, {"val": [dialogue(), dialogue()]})
    assert [str(problem) for problem in error.value.problems] == [
        "train_spans.jsonl video 'late': spans.0.end_s: found 20.0, expected at most the video's duration_s, 9.0",
        "train_spans.jsonl video 'late': spans.1.step: found 'S2', expected one of S1",
        "train_spans.jsonl video 'v': record: found 'v', expected each one once",
        "val_dialogues.jsonl video 'v': record: found 'v/None', expected each one once",
    ]
    assert not (tmp_path / "d").exists()


def test_an_import_of_nothing_is_refused(tmp_path):
    with pytest.raises(ProspectError, match="found nothing to write"):
        write(tmp_path / "d", {"train": []})
    assert not (tmp_path / "d").exists()


def test_a_disk_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dialogue, "model_dump_json", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "d", {"train": [video()]}, {"train": [dialogue()]})
    assert not (tmp_path / "d").exists()


def test_a_tally_names_what_was_left_out_and_why():
    tally = Tally()
    tally.counts["videos"] += 2
    tally.leave_out("videos without steps", "a")
    tally.leave_out("videos without steps", "b")
    assert tally.lines() == ["2 videos", "2 videos without steps: a, b"]
