"""Spans and dialogues of others by command: a table of what was read and left out, and one message for a mistake."""

import json

import pytest

from tests.helpers.command import fail, succeed

TABLE = "video,step,start_s,end_s,duration_s\ncup,Boil water,0:01,4,9\ncup,Pour it,4,8,\n"
MISTAKES = "30,60,attach,cabin,interior,correct,\n90,60,attach,roof,cabin,correct,\n"
TALK = {"user_type": "no_talk", "conversation": [{"role": "assistant", "time": 1.5, "content": "Boil water."}]}
GENERATED = {
    "video_uid": "cup",
    "inferred_knowledge": "Tea\n1. Boil water\n2. Pour it",
    "conversations": [TALK],
    "parsed_video_anns": {"all_step_descriptions": "[1.0s-4.0s] something else\n"},
}
FORK = {
    "video_uid": "cup",
    "dst": [{"id": "S1", "name": "Boil", "start_ts": 1.0, "end_ts": 4.0}],
    "conversation": [{"role": "DST_UPDATE", "time": 1.0, "content": [{"id": "S1", "transition": "start"}]}],
}


def test_a_table_is_imported_by_command(tmp_path):
    (tmp_path / "train.csv").write_text(TABLE)
    out = succeed(tmp_path, "import", "table", "train.csv", "--out", "data/tea")
    assert out.splitlines() == [
        "1 files", "2 rows", "2 spans", "0 steps not performed", "1 videos", "written: data/tea/train_spans.jsonl",
    ]  # fmt: skip
    message = fail(tmp_path, "import", "table", "train.csv", "--out", "data/tea")
    assert "data/tea/train_spans.jsonl: is there already; pass --force to write over it, or another --out" in message
    succeed(tmp_path, "import", "table", "train.csv", "--out", "data/tea", "--force")


def test_elans_tiers_are_options(tmp_path):
    message = fail(tmp_path, "import", "table", "x.eaf", "--out", "o", "--user-tier", "a", "--assistant-tier", "a")
    assert "--user-tier and --assistant-tier a: a tier is of one speaker" in message


@pytest.mark.parametrize(
    ("name", "file", "content", "told"),
    [
        ("assembly101-mistakes", "nusar_train.csv", MISTAKES,
         "1 rows that end before they begin, left out: nusar_train.csv line 2 (90,60,attach,roof,cabin,correct,)"),
        ("proassist-generated", "train_filtered.json", json.dumps([GENERATED]),
         "1 videos with described blocks, for prospect annotate"),
        ("prospect-fork", "train_training.json", json.dumps([FORK]), "1 spans"),
    ],
)  # fmt: skip
def test_each_source_has_its_command_and_refuses_the_others_file(tmp_path, name, file, content, told):
    (tmp_path / file).write_text(content)
    out = succeed(tmp_path, "import", name, file, "--out", "data/x")
    assert told in out.splitlines() and "data/x/train_spans.jsonl" in out
    (tmp_path / "train.csv").write_text(TABLE)
    message = fail(tmp_path, "import", name, "train.csv", "--out", "data/y")
    assert "train.csv: found a table of step times" in message and "use prospect import table" in message
    assert not (tmp_path / "data" / "y").exists()
