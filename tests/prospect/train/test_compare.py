"""Runs side by side: what is undefined, and what keeps two runs from being compared."""

import io
import json

import pytest
from rich.console import Console

from pipeline.errors import ProspectError
from prospect.train.compare import comparison, comparison_rows
from tests.helpers.runs import STEPS, run

ORIGIN = {"data": {"val": "aa", "test": "bb"}, "precision": "float32", "revision": "0.1.0"}
VALUES = {"should_update_dst_f1_at_frame": 0.25, "perplexity": 2.0}


def finished(folder, origin=ORIGIN, values=VALUES):
    folder.mkdir(parents=True)
    metrics = {"test": values, "val": values, "untrained": {"test": {}}, "baselines": {"test": {}}, "origin": origin}
    (folder / "metrics.json").write_text(json.dumps({name: value for name, value in metrics.items() if value}))
    return folder


def shown(runs, split="test"):
    console = Console(file=io.StringIO(), width=200)
    console.print(comparison(runs, split))
    return console.file.getvalue()


def test_runs_of_unlike_data_precision_or_revision_are_marked(tmp_path):
    """training.md 15."""
    first, same = finished(tmp_path / "first"), finished(tmp_path / "same")
    other = finished(tmp_path / "other", ORIGIN | {"data": {"val": "aa", "test": "cc"}, "precision": "bfloat16"})
    older, newer = finished(tmp_path / "older", None), finished(tmp_path / "newer", ORIGIN | {"revision": "0.2.0"})
    runs = [first, same, other, older, newer]
    rows = comparison_rows(runs, "test")
    unlike = {name: row.get("unlike") for name, row in rows.items()}
    assert unlike == {
        "first": None,
        "same": None,
        "other": ["data", "precision"],
        "older": ["data", "precision", "revision"],
        "newer": ["revision"],
        "untrained": None,
    }
    text = " ".join(shown(runs).split())
    assert (
        "other: not of the data of first (cc, not bb): its numbers do not compare with first's or the baselines'"
        in text
    )
    assert "other: not of the precision of first (bfloat16, not float32)" in text
    assert "older: not of the data of first (not known, not bb): its" in text
    assert "newer: not of the revision of first (0.2.0, not 0.1.0)" in text and "same:" not in text
    assert "unlike" not in comparison_rows([first, other], "val")["first"]
    assert comparison_rows([first, other], "val")["other"]["unlike"] == ["precision"], (
        "of this split the data is the same"
    )


def test_what_is_undefined_is_no_empty_cell(tmp_path):
    (line,) = (line for line in shown([finished(tmp_path / "one")]).splitlines() if "one" in line)
    assert line.split("│")[2].strip() == "0.250" and line.split("│")[3].strip() == "–"


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [finished(tmp_path / "a" / "run"), finished(tmp_path / "b" / "run", values=VALUES | {"perplexity": 3.0})]
    rows = comparison_rows(runs, "test")
    assert [rows[str(folder)]["perplexity"] for folder in runs] == [2.0, 3.0]


def test_a_run_says_where_its_numbers_come_from(folder):
    settings = [*STEPS, "data.eval_splits=[train]", "train.max_steps=1"]
    first, second = run(folder, "one", *settings), run(folder, "two", *settings, "train.bf16=true")
    origins = [json.loads((done.folder / "metrics.json").read_text())["origin"] for done in (first, second)]
    assert origins[0]["data"] == origins[1]["data"] and len(origins[0]["data"]["train"]) == 16
    assert [origin["precision"] for origin in origins] == ["float32", "float32, bf16 autocast"]
    assert origins[0]["revision"] == origins[1]["revision"]
    assert comparison_rows([first.folder, second.folder], "train")["two"]["unlike"] == ["precision"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "found no metrics"),
        ('{"test": {}}', r"found no metrics of prospect train there \(untrained: field required\)"),
        (
            '{"untrained": {}, "baselines": {}, "test": {"perplexity": "low"}}',
            r"found no metrics .* \(perplexity.*: input should be a valid",
        ),
        ('{"untrained": {}, "baselines": {}, "origin": 3, "test": {}}', r"found no metrics .* \(origin: "),
        ('{"untrained": {}, "baselines": {}, "val": {}}', "found no split 'test', it has val; pass --split"),
    ],
)
def test_compare_names_a_broken_run(tmp_path, text, message):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ProspectError, match=rf"metrics\.json: {message}"):
        comparison([tmp_path], "test")
