"""The command that has a language model score an evaluation's predictions: judge."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import ProspectError
from prospect.commands.endpoints import (
    BaseUrl,
    Concurrency,
    DryRun,
    EndpointModel,
    KeyFrom,
    Parameter,
    Retries,
    Timeout,
    answered,
    client_of,
    parameters_of,
    require_endpoint,
    tell_dry_run,
)
from prospect.commands.options import Json
from prospect.commands.terminal import aside, clear_errors, console, print_json, progress_bar, tell

if TYPE_CHECKING:
    from prospect.evaluation.judge_scores import Judge

app = typer.Typer()
TEMPERATURE, REPEATS, MOST_TOKENS = 0.5, 3, 32_000  # of prospect/evaluation/judge.py, which is not imported for --help


@app.command()
def judge(
    predictions: Annotated[Path, typer.Option(help="An evaluation's folder, e.g. RUN/evaluation/test.")],
    base_url: BaseUrl = None,
    model: EndpointModel = None,
    rows: Annotated[str, typer.Option(help="What is judged: any rows that were streamed, e.g. model,blind.")] = "model",
    repeats: Annotated[int, typer.Option(min=1, help="How often each clip is judged.")] = REPEATS,
    temperature: Annotated[float, typer.Option(min=0, help="endpoint: 0 makes repeats alike.")] = TEMPERATURE,
    max_prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Of a question, about; a clip with more is refused.")
    ] = MOST_TOKENS,
    skip_long: Annotated[bool, typer.Option("--skip-long", help="Leave such clips out, and name them.")] = False,
    key_from: KeyFrom = None,
    parameter: Parameter = None,
    concurrency: Concurrency = None,
    retries: Retries = None,
    timeout: Timeout = None,
    cache: Annotated[
        Path | None, typer.Option(help="File of answers, never asked twice; default: judge.jsonl beside metrics.json.")
    ] = None,
    dry_run: DryRun = False,
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="IN OUT", help="--dry-run: of a million tokens asked and answered, for the cost."),
    ] = None,
    json: Json = False,
) -> None:
    """Have a language model score what was said.

    ProAssist's four axes, into metrics.json and report.html of an evaluation.
    """
    with clear_errors():
        from pipeline.endpoint.asking import Sampling, ask
        from pipeline.endpoint.cache import AnswerCache
        from pipeline.io.lock import lock_beside, sole_owner
        from prospect.evaluation import judge as judging
        from prospect.evaluation.results import METRICS, read_metrics

        if not dry_run:
            require_endpoint(base_url, model)
        if prices and not dry_run:
            raise ProspectError("--prices: has no effect without --dry-run")
        sampling = Sampling(model or "", repeats, temperature, parameters_of(parameter or []))
        folder = judging.evaluation_of(predictions)
        with sole_owner(lock_beside(folder), folder, "an evaluation", "judge another"), progress_bar() as show:
            metrics = read_metrics(folder / METRICS)
            shown = judging.read_shown(folder, metrics, [row.strip() for row in rows.split(",") if row.strip()])
            plan = judging.plan_judge(shown, sampling, most_tokens=max_prompt_tokens, skip_long=skip_long)
            answers = AnswerCache(cache or folder / "judge.jsonl")
            if dry_run:
                tell_dry_run(plan.questions, answers, json, prices)
                return
            stop = threading.Event()
            client = client_of(base_url or "", model or "", key_from, timeout, retries, stop)
            about = answered(plan.questions, answers)
            failed = ask(
                plan.questions, client, answers, stop, instead="try another model", repairs=judging.REPAIRS,
                concurrency=concurrency or 4, show=show,
            )  # fmt: skip
            (aside.print if json else tell)(f"{about}: {client.num_calls} calls")
            before, _ = judging.judge_there(folder / METRICS)
            scores = judging.judged(plan, answers, failed)
            metrics = judging.write_judge(folder, metrics, scores)
        if json:
            print_json(metrics["judge"])
        else:
            _print(scores, judging.replaced(before, scores), folder)


def _print(scores: "Judge", replaced: str | None, folder: Path) -> None:
    from prospect.evaluation.results import METRICS, REPORT

    print_judge(scores)
    if replaced:
        tell(f"note: {replaced}")
    page = f" and {folder}/{REPORT}" if (folder / REPORT).exists() else f"; no {REPORT} was there to show them"
    tell(f"the scores are in {folder}/{METRICS}{page}")


def print_judge(scores: "Judge") -> None:
    """Print who judged, the table, and what was left out."""
    from prospect.evaluation.pages.tables import SPREADS, judge_table

    tell(f"{scores.title}: {SPREADS}")
    console.print(judge_table(scores))
    for note in scores.notes:
        tell(f"note: {note}")
