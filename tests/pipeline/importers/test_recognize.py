"""A file of another source is told by what it looks like."""

from zipfile import ZipFile

import pytest

from pipeline.importers.recognize import importer_of, refuse_other

LOOKS = {
    "clips.json": ('[{"conversation": [{"role": "DST_UPDATE"}], "inferred_knowledge": "1. Stir"}]', "prospect-fork"),
    "prepared.jsonl": ('{"conversation": [{"role": "frames", "start": 0, "end": 4}]}', "proassist"),
    "generated.json": ('[{"video_uid": "v", "parsed_video_anns": {}}]', "proassist-generated"),
    "steps.json": ('{"1_7": {"recording_id": "1_7", "activity_id": 1}}', "captaincook4d"),
    "video_information.csv": ("recording_id,environment_id\n1_7,8\n", "captaincook4d"),
    "times.jsonl": ('{"video": "v", "step": "stir", "start_s": 1, "end_s": 2}', "table"),
    "train_spans.jsonl": ('{"format":"prospect.spans/1","video":"v","spans":[{"step":"S1"}]}', None),
    "tea.txt": ("Instructions\n1. Boil water.\n", "howtodiv"),
    "train_ids.txt": ("HowToDIV/EgoPER DIV/tea/x.txt\n", "howtodiv"),
    "mistakes.csv": ("12,90,attach,wheel,chassis,correct,\n", "assembly101-mistakes"),
    "tea.csv": ("video,step,start_s,end_s\n", "table"),
    "export.json": ('[{"id": 1, "annotations": [{"id": 2, "result": []}]}]', "table"),
    "tea.eaf": ('<?xml version="1.0"?>\n<ANNOTATION_DOCUMENT AUTHOR="">', "table"),
    "notes.txt": ("Instructions follow.", None),
    "empty.json": ("", None),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_file_and_its_folder_name_the_importer_that_reads_it(tmp_path, name):
    text, importer = LOOKS[name]
    (tmp_path / name).write_text(text)
    for source in (tmp_path / name, tmp_path):
        known = importer_of(source)
        assert (known and known[0]) == importer


def test_an_archive_is_told_by_the_names_in_it(tmp_path):
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("top/NIV DIV/coffee/coffee_0003_dialogue.txt", "")
    assert importer_of(tmp_path) == ("howtodiv", "HowToDIV's archive")
    assert str(refuse_other(tmp_path / "a.zip", "captaincook4d", "a folder")) == (
        f"{tmp_path / 'a.zip'}: found HowToDIV's archive, expected a folder; use prospect import howtodiv"
    )


def test_what_is_unknown_absent_or_its_own_gets_a_message_too(tmp_path):
    (tmp_path / "tea.txt").write_text(LOOKS["tea.txt"][0])
    (tmp_path / "notes.txt").write_text("notes")
    assert str(refuse_other(tmp_path / "notes.txt", "howtodiv", "a zip")).endswith(
        "notes.txt: expected a zip, found none of it"
    )
    assert str(refuse_other(tmp_path / "tea.txt", "howtodiv", "a zip")).endswith(
        "tea.txt: expected a zip, found none of it"
    )
    assert str(refuse_other(tmp_path / "gone", "howtodiv", "a zip")).endswith(
        "gone: no such file or folder, expected a zip"
    )
