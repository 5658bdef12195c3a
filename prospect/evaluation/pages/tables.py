"""The tables of an evaluation: headline metrics of each row, and of each overflow policy, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from prospect.evaluation.judge_question import AXES
from prospect.evaluation.judge_scores import AxisScores, Judge

HEADLINES = (
    "should_update_dst_f1", "dst_update_f1", "dst_update_accuracy", "joint_state_accuracy", "joint_state_at_end",
    "step_completion_30s", "update_delay_s_median", "update_delay_s_p90", "when_to_speak_f1", "F1", "jaccard_index",
    "semantic_score", "Bleu_4", "CIDEr", "METEOR",
)  # fmt: skip
ERRORS = ("early", "late", "missed", "repeated", "spurious", "wrong_step", "wrong_transition")
SPEECH_ERRORS = ("speech_missed", "speech_repeated", "speech_spurious")
SPREADS = "means of 1 to 5, ± standard deviation over clips, then over repeats"  # of a judge's scores
COSTS = ("num_restarts", "computed_tokens_per_frame")


def evaluation_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """A table over all clips and, where there are several datasets, one for each; 95% intervals under the values."""
    rows = metrics["rows"]
    about = f"{metrics['num_clips']} clips, {metrics['num_frames']} frames, streamed"
    tables = [_table(about, {name: row["all"] for name, row in rows.items()})]
    datasets = rows["model"]["datasets"]
    if len(datasets) > 1:
        for dataset in datasets:
            tables.append(_table(dataset, {name: row["datasets"][dataset] for name, row in rows.items()}))
    if "proassist" in metrics:
        ours, theirs = rows["model"]["all"]["metrics"], metrics["proassist"]
        table = Table("", "prospect", "proassist", title="the same predictions by ProAssist's own functions")
        for name, value in theirs.items():
            table.add_row(name, _number(ours.get(name)), _number(value))
        tables.append(table)
    return tables


def judge_table(judge: Judge) -> Table:
    """The mean of each axis, of each row that was judged, with its spread under it (`SPREADS`)."""
    table = Table(Column("", no_wrap=True), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in judge.rows:
        table.add_column(row.replace("_", " "))
    for axis in AXES:
        scores = [row.all.axes[axis] for row in judge.rows.values()]
        table.add_row(axis, *(f"{_number(one.mean)}\n{spread(one)}" for one in scores))
    table.add_row("clips", *(str(row.all.num_clips) for row in judge.rows.values()))
    return table


def spread(scores: AxisScores) -> str:
    """The standard deviations over clips and over repeats."""
    return ", ".join("–" if std is None else f"±{std:.2f}" for std in (scores.std_clips, scores.std_repeats))


def context_table(by_policy: Mapping[str, Mapping[str, Any]]) -> Table:
    """Overflow policies on the same clips, with what they cost."""
    rows = {policy: metrics["rows"]["model"]["all"] for policy, metrics in by_policy.items()}
    first = next(iter(by_policy.values()))
    return _table(f"overflow policies, {first['num_clips']} clips", rows, (*HEADLINES, "repeated", *COSTS))


def _table(
    title: str, rows: Mapping[str, Mapping[str, Any]], names: Sequence[str] = (*HEADLINES, *ERRORS, *SPEECH_ERRORS)
) -> Table:
    table = Table(Column("", no_wrap=True), box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title)  # fits 80 columns
    for row in rows:
        table.add_column(row.replace("_", " "), overflow="fold")
    for name in names:
        cells = [_cell(row["metrics"].get(name), row["intervals"].get(name)) for row in rows.values()]
        table.add_row(name, *cells, end_section=name in (HEADLINES[-1], ERRORS[-1]))
    return table


def _cell(value: float | None, interval: Sequence[float] | None) -> str:
    number = _number(value)
    if not interval or interval[0] == interval[1]:
        return number
    return f"{number}\n{interval[0]:.2f}-{interval[1]:.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
