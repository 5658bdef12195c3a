"""Steps and blocks to spans, with an embedder whose vectors are the words of a text."""

import json
from pathlib import Path

import pytest

from pipeline.errors import InvalidInput, ProspectError
from pipeline.spans.annotate import AlignSettings, Annotated, annotate, by_align, read_tasks
from pipeline.spans.assigned import Choice, Task, spans_of
from pipeline.spans.blocks import Block
from pipeline.spans.records import (
    Dialogue,
    Line,
    NamedStep,
    Span,
    VideoSpans,
    read_spans,
    write_records,
)  # fmt: skip
from tests.helpers.embed import words

SETTINGS = AlignSettings("words")


def video(*names: str, blocks=(), spans=(), **fields) -> VideoSpans:
    described = [{"start_s": start, "end_s": end, "text": text} for start, end, text in blocks]
    return VideoSpans(
        video="v",
        dataset="d",
        steps=tuple(NamedStep(id=f"S{n}", name=name) for n, name in enumerate(names, 1)),
        spans=spans,
        provenance={"blocks": described} if described else {},
        **fields,
    )


def annotated(folder: Path, record: VideoSpans, *lines: Line, anew: bool = False) -> tuple[VideoSpans, Annotated]:
    write_records(folder / "train_spans.jsonl", [record])
    dialogues = folder / "train_dialogues.jsonl" if lines else None
    if dialogues:
        write_records(dialogues, [Dialogue(video="v", dataset="d", lines=lines)])
    tasks = read_tasks(folder / "train_spans.jsonl", dialogues)
    told = annotate(tasks, by_align(tasks, words, SETTINGS), folder / "out.jsonl", anew=anew)
    return read_spans(folder / "out.jsonl")[0], told


def told_of(spans) -> list[tuple]:
    return [(span.step, span.start_s, span.end_s, *span.flags) for span in spans]


def test_a_step_lasts_from_its_first_block_to_its_last_and_not_to_the_next_ones_start(tmp_path):
    """Between 20 and 65 nothing is described: S1 is complete at 20, where the next step's start would say 65."""
    record = video(
        "attach wheel", "screw body", blocks=[(5, 9, "attach wheel"), (12, 20, "attach wheel"), (65, 70, "screw body")]
    )
    found, told = annotated(tmp_path, record)
    assert told_of(found.spans) == [("S1", 5, 20), ("S2", 65, 70)]
    span = found.spans[0]
    assert (span.method, span.source, span.outcome) == ("align", "train_spans.jsonl", "done")
    assert span.confidence == pytest.approx(0.9991, abs=1e-4)  # 1 - exp(-.7 / .1): a block of cosine 1 against none
    assert told.counts["spans found"] == 2 and told.notes == []


def test_the_record_says_what_made_its_spans(tmp_path):
    found, told = annotated(tmp_path, video("attach wheel", "paint", blocks=[(0, 1, "attach wheel")]))
    assert found.provenance["annotate"] == {
        "method": "align",
        "model": "words",
        "parameters": {"least": 0.3, "back": None},
        "blocks": "train_spans.jsonl",
        "no_block": ["S2"],
    }
    assert found.provenance["blocks"] == [{"start_s": 0, "end_s": 1, "text": "attach wheel"}]
    assert found.not_performed == ()  # that nobody told of it does not say that it was not done
    assert told.counts["steps without a block"] == 1


def test_where_nothing_is_described_what_was_said_is_used(tmp_path):
    lines = (
        Line(role="system", text="attach wheel", start_s=1),
        Line(role="assistant", text="attach wheel", start_s=3),
        Line(role="user", text="screw body", start_s=8, end_s=9.5),
    )
    found, _ = annotated(tmp_path, video("attach wheel", "screw body"), *lines)
    assert told_of(found.spans) == [("S1", 3, 3, "moment", "utterances"), ("S2", 8, 9.5, "utterances")]
    assert found.spans[0].source == "train_dialogues.jsonl"


def test_what_is_said_after_the_videos_end_is_left_out_and_counted(tmp_path):
    lines = (
        Line(role="assistant", text="attach wheel", start_s=3),
        Line(role="assistant", text="attach wheel", start_s=80),
    )
    found, told = annotated(tmp_path, video("attach wheel", duration_s=10), *lines)
    assert told_of(found.spans) == [("S1", 3, 3, "moment", "utterances")]
    assert told.counts["utterances past the video's end, left out"] == 1


def test_steps_that_have_spans_keep_them_unless_asked_anew(tmp_path):
    human = Span(step="S1", start_s=1, end_s=2)
    record = video(
        "attach wheel", "screw body", blocks=[(5, 9, "attach wheel"), (10, 12, "screw body")], spans=(human,)
    )
    found, told = annotated(tmp_path, record)
    assert found.spans[0] == human
    assert told_of(found.spans) == [("S1", 1, 2), ("S2", 10, 12)]
    assert told.counts["spans kept"] == 1
    found, _ = annotated(tmp_path, record, anew=True)
    assert told_of(found.spans) == [("S1", 5, 9), ("S2", 10, 12)]


def test_a_video_that_nothing_is_told_of_is_left_as_it_was_and_named(tmp_path):
    records = [video("paint", blocks=[(0, 1, "paint")]), video("paint").model_copy(update={"video": "w"})]
    write_records(tmp_path / "train_spans.jsonl", records)
    tasks = read_tasks(tmp_path / "train_spans.jsonl", None)
    told = annotate(tasks, by_align(tasks, words, SETTINGS), tmp_path / "out.jsonl", anew=True)
    assert read_spans(tmp_path / "out.jsonl")[1] == records[1]
    assert told.notes == ["video 'w': nothing is described or said in it, left as it was"]


def test_a_step_never_performed_gets_no_block(tmp_path):
    record = video("paint", "paint", blocks=[(0, 1, "paint")], not_performed=("S1",))
    assert [span.step for span in annotated(tmp_path, record)[0].spans] == ["S2"]


def test_what_makes_a_span_doubtful_is_flagged(tmp_path):
    """Two steps of one name, one block: either would do, and the margin is nothing."""
    found, told = annotated(tmp_path, video("clean knife", "clean knife", blocks=[(0, 1, "clean knife")]))
    assert told_of(found.spans) == [("S1", 0, 1, "equal_steps", "low_margin")]
    assert found.spans[0].confidence == 0
    assert told.counts["flagged low_margin"] == 1


def spans_by_hand(*assigned: tuple) -> list[tuple]:
    """(start, end, text, step, kind...) -> spans, as (step, start, end, outcome, flags...)."""
    blocks = tuple(Block(start_s=start, end_s=end, text=text) for start, end, text, *_ in assigned)
    choices = [Choice(step, *kind) for _, _, _, step, *kind in assigned]
    record = video("one", "two")
    spans = spans_of(Task(record, record.steps, blocks, "file"), choices, "align")
    return [(span.step, span.start_s, span.end_s, span.outcome, *span.flags) for span in spans]


def test_work_side_by_side_is_told():
    assert spans_by_hand((0, 1, "a", "S1"), (2, 3, "b", "S2"), (4, 5, "c", "S1")) == [
        ("S1", 0, 5, "done", "parallel"),
        ("S2", 2, 3, "done", "parallel"),
    ]


def test_a_block_that_reads_like_one_of_another_step_is_told():
    assert spans_by_hand((0, 1, "Wipe it", "S1"), (2, 3, "wipe  it", "S2")) == [
        ("S1", 0, 1, "done", "equal_text"),
        ("S2", 2, 3, "done", "equal_text"),
    ]


def test_repeated_work_is_a_span_of_its_own_and_so_is_what_takes_it_back():
    assert spans_by_hand(
        (0, 1, "a", "S1"), (2, 3, "b", "S1", "undone"), (4, 5, "c", "S1"), (6, 7, "d", "S1"), (8, 9, "e", "S1", "repeated")
    ) == [
        ("S1", 0, 1, "done"),
        ("S1", 2, 3, "undone"),
        ("S1", 4, 7, "done"),
        ("S1", 8, 9, "done", "repeated"),
    ]  # fmt: skip


def test_a_block_within_another_does_not_end_the_step_early():
    assert spans_by_hand((0, 30, "a", "S1"), (5, 6, "b", "S1")) == [("S1", 0, 30, "done")]


def test_every_mistake_in_blocks_is_told_at_once(tmp_path):
    record = video("paint").model_copy(
        update={
            "provenance": {
                "blocks": [
                    {"start_s": 5, "end_s": 2, "text": "x"},
                    {"start_s": -1, "end_s": 2, "text": "x"},
                    {"start_s": 0},
                ]
            }
        }
    )
    other = record.model_copy(
        update={"video": "w", "provenance": {"blocks": [{"start_s": 5, "end_s": 2, "text": "x"}]}}
    )
    write_records(tmp_path / "train_spans.jsonl", [record, other])
    with pytest.raises(InvalidInput) as caught:
        read_tasks(tmp_path / "train_spans.jsonl", None)
    assert [f"{problem.clip} {problem.field}" for problem in caught.value.problems] == [
        "video 'v' provenance.blocks.1.start_s",
        "video 'v' provenance.blocks.2.end_s",
        "video 'v' provenance.blocks.2.text",
        "video 'w' provenance.blocks.0.end_s",
    ]


def test_a_file_in_which_nothing_is_told_is_refused(tmp_path):
    write_records(tmp_path / "train_spans.jsonl", [video("paint")])
    with pytest.raises(ProspectError, match=r"nothing described or said in any of 1 videos, expected provenance"):
        read_tasks(tmp_path / "train_spans.jsonl", None)


def test_blocks_past_the_videos_end_are_named_before_anyone_is_asked(tmp_path):
    with pytest.raises(
        InvalidInput, match=r"provenance\.blocks\.0\.end_s: found 90\.0, expected at most the video's duration_s, 10"
    ):
        annotated(tmp_path, video("paint", blocks=[(0, 90, "paint")], duration_s=10))
    assert not (tmp_path / "out.jsonl").exists()


def test_provenance_is_json_that_is_read_back(tmp_path):
    annotated(tmp_path, video("paint", blocks=[(0, 1, "paint")]))
    assert json.loads((tmp_path / "out.jsonl").read_text())["provenance"]["annotate"]["method"] == "align"
