"""HowToDIV's sessions to spans and dialogues, against small ones written by hand in both forms, and the real archive."""

import json
from pathlib import Path
from zipfile import ZipFile

import pytest

from pipeline.errors import ProspectError
from pipeline.importers.howtodiv import import_howtodiv
from pipeline.importers.howtodiv_sessions import Unusable, parse_session
from pipeline.spans.dataset import project
from pipeline.spans.records import Dialogue, Line, NamedStep, Span, VideoSpans, read_dialogues, read_spans
from tests.helpers.places import REAL

ARCHIVE = REAL / "howtodiv" / "HowToDIVDataset.zip"
NIV = """Instructions
1. Add rocks.
2. Cover the rocks.
3. Done

Dialogue
[00:00:00, 00:00:05,500]
Turn 1
User: How do I start?
Expert: Add rocks.

[00:00:00, 00:00:05,500]
Turn 2
User: They are in.
Expert: Now cover them
with fabric.

[00:01:10, 00:01:14
<end_of_turn>]
Turn 3
User: Done!
Expert: Well done.
"""
EGOPER = """Instructions
1. Ingredients needed: tea bag, water
2. Pour water
3. **previously user poured water into another mug** Transfer the tea bag
4. Stir
5. Done

Dialogue
[0.0, 1.4]
['None', 'NA']
Turn 1
User: Hi
Expert: Got everything?

[1.4, 2.8]
['None', 'NA']
Turn 2
User: Yes.
Expert: Pour.

[2.9, 9.7]
['error', 'Pour water into another mug']
Turn 3
User: Poured.
Expert: That was another mug.

[11.0, 15.0]
['correction', 'Move tea bag to new mug']
Turn 4
User: Moved.
Expert: Now stir.

[16.0, 20.0]
['modification', 'Stir using knife']
Turn 5
User: Stirred.
Expert: Enjoy.
"""
REPOT, TEA = "NIV DIV/repot/repot_0001_dialogue.txt", "EgoPER DIV/tea/tea_usererror/tea_u1_a1_error_001.txt"
CONCISE = "EgoPER DIV/tea/tea_concise_followsteps/tea_u1_a1_normal_002.txt"
REGULAR = "EgoPER DIV/tea/tea_regular_followsteps/tea_u1_a1_normal_002.txt"


def dataset(folder: Path, sessions: dict[str, str], **splits: list[str]) -> Path:
    """A folder as the archive has it; sessions that `splits` does not name are in train."""
    listed = [name for names in splits.values() for name in names]
    lists = {"train": [name for name in sessions if name not in listed], "val": [], "test": []} | splits
    for split, names in lists.items():
        sessions = sessions | {f"{split}_ids.txt": "".join(f"HowToDIV/{name}\n" for name in names)}
    for name, text in sessions.items():
        path = folder / "HowToDIVDataset" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def convert(source: Path, out: Path, split: str = "train") -> tuple[list[VideoSpans], list[Dialogue], list[str]]:
    _, tally = import_howtodiv(source, out)
    return read_spans(out / f"{split}_spans.jsonl"), read_dialogues(out / f"{split}_dialogues.jsonl"), tally.lines()


def told(dialogue: Dialogue) -> list[tuple]:
    return [(line.start_s, line.role, line.text) for line in dialogue.lines]


def worked(record: VideoSpans) -> list[tuple]:
    return [(span.step, span.start_s, span.end_s, span.outcome, *span.flags) for span in record.spans]


def test_a_turn_shows_the_step_before_it_and_tells_of_it_at_its_end(tmp_path):
    (record,), (dialogue,), tally = convert(dataset(tmp_path / "s", {REPOT: NIV}), tmp_path / "d")
    assert record == VideoSpans(
        video="repot_0001",
        dataset="howtodiv",
        steps=(NamedStep(id="S1", name="Add rocks."), NamedStep(id="S2", name="Cover the rocks.")),
        spans=(
            Span(step="S1", start_s=0, end_s=5.5, source="HowToDIV"),
            Span(step="S2", start_s=70, end_s=74, source="HowToDIV"),
        ),
        provenance={"importer": "howtodiv", "source": "HowToDIV", "task": "repot"},
    )
    assert dialogue == Dialogue(
        video="repot_0001",
        dataset="howtodiv",
        lines=(
            Line(role="user", text="How do I start?", start_s=0),
            Line(role="assistant", text="Add rocks.", start_s=0),
            Line(role="user", text="They are in.", start_s=5.5),
            Line(role="assistant", text="Now cover them with fabric.", start_s=5.5),
            Line(role="user", text="Done!", start_s=74),
            Line(role="assistant", text="Well done.", start_s=74),
        ),
        about={"importer": "howtodiv", "task": "repot", "session": REPOT},
    )
    assert tally == [
        "1 sessions read",
        "1 videos, train",
        "1 dialogues, train",
        "2 spans",
        "0 spans with an error",
        "3 user lines",
        "3 expert lines",
        "0 videos, val",
        "0 dialogues, val",
        "0 videos, test",
        "0 dialogues, test",
    ]


def test_a_mistake_is_an_error_and_its_correction_further_work_on_that_step(tmp_path):
    """The list of steps does not tell of the mistake; half the time before the first work is no human's."""
    (record,), (dialogue,), _ = convert(dataset(tmp_path / "s", {TEA: EGOPER}), tmp_path / "d")
    assert [step.name for step in record.steps] == ["Ingredients needed: tea bag, water", "Pour water", "Stir"]
    assert worked(record) == [
        ("S1", 1.4, 2.8, "done"),
        ("S2", 2.9, 9.7, "error", "error: Pour water into another mug"),
        ("S2", 11, 15, "done", "correction: Move tea bag to new mug"),
        ("S3", 16, 20, "done", "modification: Stir using knife"),
    ]
    assert [span.method for span in record.spans] == ["assumed", "human", "human", "human"]
    assert dialogue.id == "usererror" and dialogue.about["user_type"] == "usererror"
    assert told(dialogue)[4:8] == [
        (9.7, "user", "Poured."),
        (9.7, "assistant", "That was another mug."),
        (15.0, "user", "Moved."),
        (15.0, "assistant", "Now stir."),
    ]


def test_what_mends_nothing_is_a_step(tmp_path):
    text = NIV.replace("1. Add rocks.", "1. **previously user dropped the pot** Take another pot")
    (record,), _, _ = convert(dataset(tmp_path / "s", {REPOT: text}), tmp_path / "d")
    assert [step.name for step in record.steps] == ["Take another pot", "Cover the rocks."]


def test_the_sessions_of_a_video_are_dialogues_of_one_record(tmp_path):
    sessions = {CONCISE: NIV, REGULAR: NIV.replace("They are in.", "I have put them in.")}
    records, dialogues, _ = convert(dataset(tmp_path / "s", sessions), tmp_path / "d")
    assert [record.video for record in records] == ["tea_u1_a1_normal_002"]
    assert [(dialogue.video, dialogue.id) for dialogue in dialogues] == [
        ("tea_u1_a1_normal_002", "concise_followsteps"),
        ("tea_u1_a1_normal_002", "regular_followsteps"),
    ]


@pytest.mark.parametrize(("kept", "left"), [("test", "train"), ("val", "train"), ("test", "val")])
def test_a_video_that_is_tested_is_trained_on_by_wish_alone(tmp_path, kept, left):
    """The lists are of sessions: they have two of one video in two splits."""
    source = dataset(
        tmp_path / "s", {CONCISE: NIV, REGULAR: NIV, REPOT: NIV}, **{kept: [CONCISE], left: [REGULAR, REPOT]}
    )
    (record,), (dialogue,), tally = convert(source, tmp_path / "d", left)
    assert record.video == dialogue.video == "repot_0001"
    assert [d.about["session"] for d in read_dialogues(tmp_path / "d" / f"{kept}_dialogues.jsonl")] == [CONCISE]
    assert tally[-1] == f"1 sessions in {left} of videos that {kept} has too, left out: {REGULAR}"
    _, tally = import_howtodiv(source, tmp_path / "e", keep_shared=True)
    for split in (kept, left):
        assert "tea_u1_a1_normal_002" in [d.video for d in read_dialogues(tmp_path / "e" / f"{split}_dialogues.jsonl")]
    (why,) = tally.left_out
    assert why == f"sessions in {left} of videos that {kept} has too, kept: no shards are built of both"


def test_a_session_with_other_intervals_than_its_videos_is_a_video_of_its_own(tmp_path):
    sessions = {CONCISE: NIV, REGULAR: NIV.replace("00:01:14", "00:01:15")}
    records, dialogues, tally = convert(dataset(tmp_path / "s", sessions), tmp_path / "d")
    names = ["tea_u1_a1_normal_002", "tea_u1_a1_normal_002-regular_followsteps"]
    assert [record.video for record in records] == names == [dialogue.video for dialogue in dialogues]
    assert tally[-1].endswith(
        "a video of their own (give tea_u1_a1_normal_002's frames): tea_u1_a1_normal_002-regular_followsteps"
    )


def test_what_is_told_of_earlier_work_is_told_after_what_was_said_before(tmp_path):
    text = NIV.replace("[00:00:00, 00:00:05,500]\nTurn 2", "[00:02:00, 00:02:05]\nTurn 2")
    (record,), (dialogue,), tally = convert(dataset(tmp_path / "s", {REPOT: text}), tmp_path / "d")
    assert worked(record) == [("S1", 120, 125, "done"), ("S2", 70, 74, "done")]
    assert [line.start_s for line in dialogue.lines] == [0, 0, 125, 125, 125, 125]
    assert tally[-1] == f"1 turns of work before that of the turn before, told after it: {REPOT} turn 3"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[00:01:10, 00:01:14\n<end_of_turn>]\n", "", "sessions with turns that have no interval, left out: {} (turn 3)"),
        ("[00:01:10, 00:01:14", "[None, None", "sessions with turns that have no interval, left out: {} (turn 3)"),
        (
            "00:01:14",
            "00:01:09",
            "sessions with an interval that ends before it begins, or days later, left out: {} (turn 3, 70.0 to 69.0 s)",
        ),
        (
            "00:01:14",
            "99:01:14",
            "sessions with an interval that ends before it begins, or days later, left out: {} (turn 3, 70.0 to 356474.0 s)",
        ),
        ("Turn 3", "Turn 4", "sessions whose turns are not numbered 1, 2, ..., left out: {} (turn 3)"),
        ("2. Cover", "5. Cover", "files without numbered instructions and a dialogue, left out: {}"),
        ("1. Add rocks.\n2. Cover the rocks.\n3. Done", "1. Done", "files without numbered instructions and a dialogue, left out: {}"),
        ("\nDialogue\n", "\n", "files without numbered instructions and a dialogue, left out: {}"),
        ("2. Cover the rocks.\n3. Done", "2. Done", "sessions with more turns than their steps need, left out: {} (3 turns, 1 steps)"),
        ("Turn ", "Bend ", "sessions without turns, left out: {}"),
    ],
)  # fmt: skip
def test_a_session_that_cannot_be_used_is_left_out_by_name(tmp_path, old, new, why):
    sessions = {"NIV DIV/repot/repot_0000_dialogue.txt": NIV, REPOT: NIV.replace(old, new)}
    records, _, tally = convert(dataset(tmp_path / "s", sessions), tmp_path / "d")
    assert [record.video for record in records] == ["repot_0000"]
    assert tally[-1] == f"1 {why.format(REPOT)}"


def test_text_in_brackets_is_no_interval_where_it_is_said():
    text = NIV.replace("with fabric.", "[a thin one]\n\nand gently.").replace("Turn 3", "[None]\nTurn 3")
    assert parse_session(text).turns[1].said[1] == ("Expert", "Now cover them [a thin one] and gently.")


def test_a_list_of_steps_alone_is_no_session():
    with pytest.raises(Unusable):
        parse_session("How to Repot A Plant\nStep 1: Add rocks.\nStart: 00:00:00\nStop: 00:00:05\n")


def test_what_lies_beside_the_sessions_is_named_where_it_is_left_out(tmp_path):
    steps = "Step 1: Add rocks.\nStart: 00:00:00\nStop: 00:00:05\n"
    other = "NIV DIV/repot/repot_0002"
    sessions = {
        REPOT: NIV,
        REPOT.replace("_dialogue", ""): steps,
        f"{other}.txt": steps,
        f"{other}_big_dialogue.txt": NIV + " " * (1 << 20),
        "NIV DIV/repot/._repot_0001_dialogue.txt": "",
    }
    source = dataset(tmp_path / "s", sessions, train=[REPOT, f"{other}_dialogue.txt"], val=[f"{other}.txt"])
    (source / "HowToDIVDataset" / TEA).parent.mkdir(parents=True)
    (source / "HowToDIVDataset" / TEA).write_bytes(b"\xff\xfe")
    (source / "HowToDIVDataset" / CONCISE).parent.mkdir(parents=True)
    (source / "HowToDIVDataset" / CONCISE).write_text(NIV)
    records, _, tally = convert(source, tmp_path / "d")
    assert [record.video for record in records] == ["repot_0001"]
    assert tally[-5:] == [
        f"1 files that are no UTF-8, left out: {TEA}",
        f"1 files of over 1 MiB, left out: {other}_big_dialogue.txt",
        f"1 sessions in no list of a split, left out: {CONCISE}",
        f"1 lists of steps without a dialogue, left out: {other}.txt",
        f"1 sessions of the lists that are not there: {other}_dialogue.txt",
    ]


def test_the_archive_gives_what_its_folder_gives(tmp_path):
    source = dataset(tmp_path / "s", {REPOT: NIV, TEA: EGOPER, CONCISE: NIV}, val=[TEA])
    with ZipFile(tmp_path / "HowToDIV.zip", "w") as archive:
        for path in sorted(source.rglob("*.txt")):
            archive.write(path, path.relative_to(source))
            archive.writestr(f"__MACOSX/{path.relative_to(source).with_name(f'._{path.name}')}", "")
    files, _ = import_howtodiv(source, tmp_path / "d")
    others, _ = import_howtodiv(tmp_path / "HowToDIV.zip", tmp_path / "e")
    assert len(files) == 4 and [path.read_bytes() for path in files] == [path.read_bytes() for path in others]


def test_a_broken_archive_or_another_sources_file_is_refused(tmp_path):
    source = dataset(tmp_path / "s", {REPOT: NIV})
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(source.rglob("*.txt")):
            archive.write(path, path.relative_to(source))
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"Add rocks", b"Add stone"))
    with pytest.raises(
        ProspectError, match=r"a.zip: cannot be unpacked \(Bad CRC-32 .*\), expected HowToDIVDataset.zip"
    ):
        import_howtodiv(tmp_path / "a.zip", tmp_path / "d")
    (tmp_path / "a.zip").write_bytes(content[:-30])
    with pytest.raises(ProspectError, match=r"a.zip: expected HowToDIVDataset.zip, or its folder, found none of it"):
        import_howtodiv(tmp_path / "a.zip", tmp_path / "d")
    (tmp_path / "steps.json").write_text('{"1_7": {"recording_id": "1_7", "activity_id": 1}}')
    with pytest.raises(ProspectError, match="use prospect import captaincook4d"):
        import_howtodiv(tmp_path / "steps.json", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_where_no_session_can_be_used_the_reasons_are_told(tmp_path):
    source = dataset(tmp_path / "s", {REPOT: NIV.replace("Turn 3", "Turn 4")})
    with pytest.raises(ProspectError) as error:
        import_howtodiv(source, tmp_path / "d")
    assert str(error.value) == (
        f"{source}: found nothing that can be used: "
        f"1 sessions whose turns are not numbered 1, 2, ..., left out: {REPOT} (turn 3)"
    )
    assert not (tmp_path / "d").exists()


def test_its_sessions_become_clips(tmp_path):
    """At one frame: the user, what is complete, the expert."""
    import_howtodiv(dataset(tmp_path / "s", {REPOT: NIV}), tmp_path / "d")
    spans = tmp_path / "d" / "train_spans.jsonl"
    spans.write_text(spans.read_text().replace('"duration_s":null', '"duration_s":80'))
    path, counts = project(spans, tmp_path / "d", dialogues=tmp_path / "d" / "train_dialogues.jsonl")
    (clip,) = map(json.loads, path.read_text().splitlines())
    turns = [(turn["start_frame"], turn["role"], turn["content"]) for turn in clip["conversation"]]
    assert turns == [
        (0, "user", "How do I start?"),
        (0, "DST_UPDATE", [{"id": "S1", "transition": "start"}]),
        (0, "assistant", "Add rocks."),
        (11, "user", "They are in."),
        (11, "DST_UPDATE", [{"id": "S1", "transition": "complete"}]),
        (11, "assistant", "Now cover them with fabric."),
        (140, "DST_UPDATE", [{"id": "S2", "transition": "start"}]),
        (148, "user", "Done!"),
        (148, "DST_UPDATE", [{"id": "S2", "transition": "complete"}]),
        (148, "assistant", "Well done."),
    ]
    assert counts["utterances"] == 3


@pytest.mark.skipif(not ARCHIVE.is_file(), reason="no real sessions here")
def test_the_real_sessions_are_read_whole(tmp_path):
    """Each of the archive's turns but the first of a session is a span, each session a dialogue; none is left out."""
    _, tally = import_howtodiv(ARCHIVE, tmp_path / "d", keep_shared=True)
    with ZipFile(ARCHIVE) as archive:
        texts = [archive.read(name).decode() for name in archive.namelist() if "_ids" not in name]
    sessions = [text for text in texts if "\nDialogue\n" in text]
    dialogues = [dialogue for path in (tmp_path / "d").glob("*_dialogues.jsonl") for dialogue in read_dialogues(path)]
    records = [record for path in (tmp_path / "d").glob("*_spans.jsonl") for record in read_spans(path)]
    assert len(dialogues) == len(sessions) == 325 and len(records) == 296
    assert sum(len(dialogue.lines) for dialogue in dialogues) == 2 * sum(text.count("\nTurn ") for text in sessions)
    assert not [why for why in tally.left_out if why.startswith(("sessions with", "files", "sessions in no list"))]
    import_howtodiv(ARCHIVE, tmp_path / "e")
    kept = {path: {record.video for record in read_spans(path)} for path in (tmp_path / "e").glob("*_spans.jsonl")}
    assert sum(map(len, kept.values())) == len(set.union(*kept.values())) == 258, "each video in one split"
