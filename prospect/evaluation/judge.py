"""`prospect judge`: a language model scores what was said in an evaluation's predictions. Read this first.

1. Read (`results.py`): metrics.json, and the prediction of each of its clips, of each row that is to be judged.
2. Ask (`pipeline/endpoint/asking.py`): of each clip a question (`judge_question.py`), repeated with other seeds.
   Answers are kept as they come, by what was shown, so that what was judged once is not asked again.
3. Pool (`judge_scores.py`): means and spreads, which go into metrics.json and report.html.

A clip that is too long for the judge is refused, or left out where that is asked for: a dialogue that is cut would be
judged for what it lacks. Scores belong to what was shown: each row's fingerprint says to what, and `evaluate`, when it
measures again, keeps those that still fit, and says which did not (`carry_judge`).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.endpoint.asking import Asked, Questions, Sampling, prompt_tokens
from pipeline.endpoint.cache import AnswerCache
from pipeline.errors import ProspectError
from pipeline.io.storage import write_json
from pipeline.shards.sample import key_of
from prospect.evaluation.judge_question import TEMPLATE, JudgeQuestion, Verdict, question_of
from prospect.evaluation.judge_scores import (
    FORMAT,
    Judge,
    JudgedClip,
    judged_clip,
    judged_row,
    read_judge,
    with_judge,
)
from prospect.evaluation.pages.html import renew_report
from prospect.evaluation.predictions import ClipPrediction, read_prediction
from prospect.evaluation.results import METRICS, PREDICTIONS, REPORT, SILENT, read_metrics

REPEATS = 3  # ProAssist's (stream_evaluator.py, llm_eval)
TEMPERATURE = 0.5  # ProAssist's (llm_utils.py)
REPAIRS = 2  # of an answer that cannot be used
MOST_TOKENS = 32_000  # of a question
MOST_TOLD = 5  # clips, by name


@dataclass(frozen=True, slots=True)
class Shown:
    """A clip of a row, as the judge sees it."""

    row: str
    clip_id: str
    dataset: str
    question: JudgeQuestion

    def __str__(self) -> str:
        return f"clip {self.clip_id!r} of {self.dataset!r} ({self.row})"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked about which clip."""

    sampling: Sampling
    questions: Questions[Verdict]
    shown: Sequence[Shown]
    keys: Sequence[Sequence[str]]  # of each clip's repeats; none: it is left out
    notes: Sequence[str]


def evaluation_of(place: Path) -> Path:
    """Find the evaluation's folder: `place`, or the one above, where its predictions are given.

    Raises:
        ProspectError: there is no evaluation.
    """
    for folder in (place, place.parent) if place.name == PREDICTIONS else (place,):
        if (folder / METRICS).is_file():
            return folder
    raise ProspectError(
        f"{place}: found no {METRICS}, expected the folder of an evaluation, e.g. RUN/evaluation/test; run prospect "
        "evaluate first"
    )


def read_shown(folder: Path, metrics: Mapping[str, Any], rows: Sequence[str]) -> list[Shown]:
    """Read what was predicted of the clips that metrics.json is of.

    Raises:
        ProspectError: a row that was not streamed, or a prediction that cannot be read.
    """
    streamed = [row for row in metrics["rows"] if row != SILENT]
    if unknown := [row for row in rows if row not in streamed]:
        raise ProspectError(f"--rows: found {', '.join(unknown)}, expected any of {', '.join(streamed)}")
    shown = []
    for row in dict.fromkeys(rows):
        for clip in metrics["clips"]:
            path = folder / PREDICTIONS / row / f"{key_of(clip['dataset'], clip['id'])}.json"
            shown.append(Shown(row, clip["id"], clip["dataset"], question_of(read_prediction(path))))
    if not shown:
        raise ProspectError(f"{folder}: found no clips, or --rows without any, expected some to judge")
    return shown


def plan_judge(
    shown: Sequence[Shown], sampling: Sampling, *, most_tokens: int = MOST_TOKENS, skip_long: bool = False
) -> Plan:
    """List what is asked: `sampling.samples` times about each clip.

    Args:
        most_tokens: of a question, as far as that can be told without the judge's tokenizer.
        skip_long: leave out clips with more, and note them.

    Raises:
        ProspectError: clips with more, or nothing else.
    """
    long = [one for one in shown if prompt_tokens(one.question) > most_tokens]
    told = f"more than about {most_tokens} tokens: {_some(long)}"
    if long and (not skip_long or len(long) == len(shown)):
        raise ProspectError(
            f"{len(long)} of {len(shown)} questions have {told}; pass --max-prompt-tokens N if the judge's window "
            "holds them, or --skip-long to judge the others alone"
        )
    asked: dict[str, Asked[Verdict]] = {}
    keys: list[list[str]] = []
    for one in shown:
        keys.append([])
        for sample in range(sampling.samples if one not in long else 0):
            parameters = sampling.parameters(sample)
            keys[-1].append(one.question.key(sampling.model, parameters))
            asked.setdefault(keys[-1][-1], Asked(one.question, parameters, str(one)))
    notes = [f"{len(long)} clips are not judged, as their questions have {told}"] if long else []
    return Plan(sampling, Questions(sampling.model, TEMPLATE, asked), shown, keys, notes)


def fingerprint(shown: Iterable[Shown]) -> str:
    """Give a digest of all that the judge is shown of a row, whatever the order of its clips."""
    lines = sorted(
        json.dumps([one.dataset, one.clip_id, one.question.task, one.question.reference, one.question.generated])
        for one in shown
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def judged(plan: Plan, cache: AnswerCache, failed: Mapping[str, str]) -> Judge:
    """Pool the answers.

    Args:
        failed: why questions have no answer, by key.

    Raises:
        ProspectError: a row has none.
    """
    answers = plan.questions.answers(cache)
    rows: dict[str, list[JudgedClip]] = {}
    notes = list(plan.notes)
    for one, keys in zip(plan.shown, plan.keys, strict=True):
        verdicts = [answers.get(key) for key in keys] or [None] * plan.sampling.samples
        rows.setdefault(one.row, []).append(judged_clip(one.clip_id, one.dataset, verdicts))
        if lacking := [key for key in keys if key not in answers]:
            notes.append(
                f"{one}: {len(lacking)} of {len(keys)} repeats have no answer that can be used, and are left out "
                f"({failed[lacking[0]]}); the same command asks for them again"
            )
    for row, clips in rows.items():
        if all(verdict is None for clip in clips for verdict in clip.analyses):
            raise ProspectError(
                f"row {row}: none of {len(clips)} clips has an answer that can be used, the last: {notes[-1]}; "
                "try another model"
            )
    parameters = {name: value for name, value in plan.sampling.parameters(0).items() if name != "seed"}
    dates = sorted(filter(None, (cache.about(key, "date") for key in answers)))
    return Judge(
        format=FORMAT,
        model=plan.sampling.model,
        hosts=sorted({host for key in answers if (host := cache.about(key, "host"))}),
        dates=[dates[0], dates[-1]] if dates else [],
        template=TEMPLATE,
        parameters=parameters,
        repeats=plan.sampling.samples,
        rows={
            row: judged_row(fingerprint(one for one in plan.shown if one.row == row), clips)
            for row, clips in rows.items()
        },
        notes=notes,
    )


def replaced(before: Judge | None, now: Judge) -> str | None:
    """Say whose scores go, where they are another judge's, or of other rows."""
    if before is None or (before.model == now.model and before.rows.keys() <= now.rows.keys()):
        return None
    return f"these replace the scores of {', '.join(before.rows)}, {before.title}"


def write_judge(folder: Path, metrics: Mapping[str, Any], judge: Judge) -> dict[str, Any]:
    """Put the scores into report.html, where there is one, and metrics.json; returns what that holds.

    Raises:
        ProspectError: report.html is of something else; metrics.json is as it was.
    """
    metrics = with_judge(metrics, judge)
    if (folder / REPORT).exists():
        renew_report(folder / REPORT, metrics)
    write_json(folder / METRICS, metrics)
    return metrics


def judge_there(path: Path) -> tuple[Judge | None, str | None]:
    """Give the judge in a metrics.json that is to be written anew, and a note where there may be one that cannot be
    read."""
    if not path.is_file():
        return None, None
    try:
        metrics = read_metrics(path)
        return (read_judge(metrics["judge"], str(path), "judge again") if "judge" in metrics else None), None
    except ProspectError as error:
        return None, f"the scores of a judge, if there were any, are left out: {error}"


def carry_judge(
    judge: Judge, metrics: Mapping[str, Any], streamed: Mapping[Any, Sequence[ClipPrediction]]
) -> dict[str, Any]:
    """Give new metrics with the scores of an earlier judge, of the rows in which it would be shown the same; a note
    names the others."""
    rows = {}
    for row, scores in judge.rows.items():
        now = [Shown(row, one.clip.id, one.clip.dataset, question_of(one)) for one in streamed.get(row, ())]
        if fingerprint(now) == scores.fingerprint:
            rows[row] = scores
    gone = [row for row in judge.rows if row not in rows]
    if gone:
        why = "its predictions or clips are others now, or it was not streamed: run prospect judge again"
        note = f"the scores of {judge.model}, which judged these rows, are left out: {', '.join(gone)} ({why})"
        metrics = {**metrics, "notes": [*metrics["notes"], note]}
    return with_judge(metrics, replace(judge, rows=rows)) if rows else dict(metrics)


def _some(shown: Sequence[Shown]) -> str:
    more = f" and {len(shown) - MOST_TOLD} more" if len(shown) > MOST_TOLD else ""
    return ", ".join(f"{one} {prompt_tokens(one.question)}" for one in shown[:MOST_TOLD]) + more
