"""ELAN's .eaf files by hand: tiers of steps and of speech, times of references, and what is refused."""

import pytest

from pipeline.errors import ProspectError
from pipeline.importers.elan import Tiers
from pipeline.importers.table import import_table
from pipeline.spans.records import read_dialogues, read_spans

MEDIUM = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/films/tea%20cup.mp4" MIME_TYPE="video/mp4"/>'
HEADER = f'<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{MEDIUM}</HEADER>'
SLOTS = """<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1500"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="4000"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="9250"/><TIME_SLOT TIME_SLOT_ID="ts4"/></TIME_ORDER>"""


def aligned(name: str, first: int, last: int, value: str) -> str:
    slots = f'TIME_SLOT_REF1="ts{first}" TIME_SLOT_REF2="ts{last}"'
    return f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" {slots}><ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>'


def refers(name: str, to: str, value: str) -> str:
    return f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{to}"><ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>'


STEPS = f'<TIER TIER_ID="steps">{aligned("a2", 2, 3, "Pour &amp;  stir")}{aligned("a1", 1, 2, "Boil")}</TIER>'
EXPERT = f'<TIER TIER_ID="expert" PARENT_REF="steps">{refers("a3", "a2", "Slowly!")}</TIER>'


def read(tmp_path, body: str, tiers: Tiers | None = None):
    file = tmp_path / "train_1.eaf"
    file.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT>{body}</ANNOTATION_DOCUMENT>')
    files, _ = import_table([file], tmp_path / "tea", tiers=tiers)
    return read_spans(files[0])[0], [dialogue for path in files[1:] for dialogue in read_dialogues(path)]


def test_annotations_are_spans_and_those_of_a_tier_of_speech_lines(tmp_path):
    video, (said,) = read(tmp_path, HEADER + SLOTS + STEPS + EXPERT, Tiers(speech={"expert": "assistant"}))
    assert video.video == "tea cup"
    assert [(step.id, step.name) for step in video.steps] == [("S1", "Boil"), ("S2", "Pour & stir")]
    assert [(span.step, span.start_s, span.end_s) for span in video.spans] == [("S1", 1.5, 4), ("S2", 4, 9.25)]
    assert [(line.role, line.text, line.start_s, line.end_s) for line in said.lines] == [
        ("assistant", "Slowly!", 4, 9.25)
    ]


def test_the_beginning_that_elan_leaves_out_is_added_and_without_a_medium_the_video_has_the_files_name(tmp_path):
    later = HEADER.replace("MIME_TYPE", 'TIME_ORIGIN="2000" MIME_TYPE')
    video, _ = read(tmp_path, later + SLOTS + STEPS)
    assert [(span.start_s, span.end_s) for span in video.spans] == [(3.5, 6), (6, 11.25)]
    (tmp_path / "b").mkdir()
    assert read(tmp_path / "b", SLOTS + STEPS)[0].video == "train_1"


@pytest.mark.parametrize(
    ("body", "tiers", "message"),
    [
        (SLOTS + STEPS + EXPERT, None, "which tier holds the steps? Its tiers: 'steps' (2 annotations), 'expert' (1 annotations); pass --tier NAME"),
        (SLOTS, None, "which tier holds the steps? Its tiers: none; pass --tier NAME"),
        (SLOTS + STEPS, Tiers(steps=("Steps",)), "has no tier 'Steps', expected one of its own: 'steps' (2 annotations)"),
        (HEADER.replace("milliseconds", "PAL-frames") + SLOTS + STEPS, None, "TIME_UNITS: found 'PAL-frames'"),
        ("<TIER>", None, "not valid XML"),
        ("<!DOCTYPE x>" + SLOTS, None, "has a document type of its own"),
        (SLOTS + f'<TIER TIER_ID="s">{aligned("a", 3, 4, "x")}</TIER>', None, "tier 's' annotation a: time: found a time slot without a time"),
        (SLOTS + f'<TIER TIER_ID="s">{aligned("a", 3, 1, "x")}</TIER>', None, "end: found 1500 ms, expected at least its start, 9250 ms"),
        (SLOTS + f'<TIER TIER_ID="s">{aligned("a", 1, 2, " ")}</TIER>', None, "ANNOTATION_VALUE: found nothing, expected a step's name"),
        (SLOTS + f'<TIER TIER_ID="s">{refers("a", "b", "x")}{refers("b", "a", "x")}</TIER>', None, "found a time slot without a time"),
        (SLOTS.replace("9250", "9250000000") + STEPS, None, "end_s: found 9.25e+06, expected at most 1e+06 s"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, body, tiers, message):
    with pytest.raises(ProspectError) as caught:
        read(tmp_path, body, tiers)
    assert message in str(caught.value) and not (tmp_path / "tea").exists()
