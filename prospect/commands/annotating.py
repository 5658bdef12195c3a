"""The command that finds when steps were done: annotate, and its --compare."""

import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from prospect.commands.terminal import aside, clear_errors, print_json, progress_bar, tell

if TYPE_CHECKING:
    from pipeline.progress import Progress
    from pipeline.spans.annotate import AlignSettings, Embed, Found
    from pipeline.spans.assigned import Task

app = typer.Typer()
SHOWN = 20  # notes
LEAST = 0.3  # of pipeline/spans/annotate.py, which is not imported for --help


Method = Annotated[Literal["align", "endpoint"], typer.Option(help="By the likeness of texts, or by a language model.")]
Said = Annotated[
    Path | None, typer.Option(help="SPLIT_dialogues.jsonl: what was said, for videos with nothing described.")
]
Anew = Annotated[bool, typer.Option("--anew", help="Also steps that have spans; those are left out.")]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="A B", help="Two spans files of the same videos: how far apart they are."),
]
Tolerance = Annotated[float, typer.Option(min=0, help="--compare: seconds between events that agree.")]

# align
Embedding = Annotated[str, typer.Option(help="Sentence embeddings: all-minilm (packaged), a folder, or a hub id.")]
Least = Annotated[float, typer.Option(min=-1, max=1, help="align: cosine at which a block speaks for a step.")]
Back = Annotated[float | None, typer.Option(min=0, help="align: price of going back in the steps; default: never.")]

# endpoint; beside those of endpoints.py
Samples = Annotated[int | None, typer.Option(min=1, help="endpoint: answers to each question; default 1.")]
Temperature = Annotated[float | None, typer.Option(min=0, help="endpoint: default 0, and 0.7 with several --samples.")]
BlocksPerCall = Annotated[int | None, typer.Option(min=1, help="endpoint: blocks in a question; 60.")]
Cache = Annotated[
    Path | None, typer.Option(help="endpoint: file of answers, never asked twice; answers.jsonl beside --out.")
]


@app.command()
def annotate(
    spans: Annotated[Path | None, typer.Option(help="SPLIT_spans.jsonl, with steps that have no times.")] = None,
    out: Annotated[Path | None, typer.Option(help="The spans file to write.")] = None,
    dialogues: Said = None,
    method: Method = "align",
    anew: Anew = False,
    force: Annotated[bool, typer.Option("--force", help="Write over --out.")] = False,
    embedding: Embedding = "all-minilm",
    least: Least = LEAST,
    back: Back = None,
    base_url: BaseUrl = None,
    model: EndpointModel = None,
    key_from: KeyFrom = None,
    samples: Samples = None,
    temperature: Temperature = None,
    parameter: Parameter = None,
    blocks_per_call: BlocksPerCall = None,
    concurrency: Concurrency = None,
    retries: Retries = None,
    timeout: Timeout = None,
    cache: Cache = None,
    dry_run: DryRun = False,
    compare: Compare = None,
    tolerance: Tolerance = 2,
    json: Json = False,
) -> None:
    """Find when steps were done.

    From what was described or said in the video, into spans.
    """
    from pipeline.spans.annotate import AlignSettings, by_align, read_tasks
    from pipeline.spans.annotate import annotate as write

    asked = {
        "base_url": base_url, "model": model, "key_from": key_from, "samples": samples, "temperature": temperature,
        "parameter": parameter, "blocks_per_call": blocks_per_call, "concurrency": concurrency, "retries": retries,
        "timeout": timeout, "cache": cache, "dry_run": dry_run or None,
    }  # fmt: skip
    with clear_errors():
        if compare:
            _compare(*compare, spans or out or dialogues, tolerance, json)
            return
        if method == "align" and (name := next((name for name, value in asked.items() if value is not None), None)):
            raise ProspectError(f"--{name.replace('_', '-')}: has no effect without --method endpoint")
        spans, out = _places(spans, out, dialogues, over=force or dry_run)
        settings = AlignSettings(embedding, least, back)
        embed = _embed_when_needed(embedding)
        tasks = read_tasks(spans, dialogues)
        with progress_bar() as show:
            notes: list[str] = []
            if method == "align":
                found = by_align(tasks, embed, settings, show)
            else:
                by_it = _by_endpoint(tasks, asked, cache or out.parent / "answers.jsonl", settings, embed, show, json)
                if by_it is None:
                    return
                found, notes = by_it
            told = write(tasks, found, out, anew=anew)
        _tell(out, told.counts, [*notes, *told.notes], json)


def _places(spans: Path | None, out: Path | None, dialogues: Path | None, over: bool) -> tuple[Path, Path]:
    from pipeline.spans.records import refuse_no_spans

    if spans is None or out is None:
        raise ProspectError("--spans and --out: found one or none of them, expected both, or --compare A B")
    if out.exists() and not over:
        raise ProspectError(f"{out}: is there already; pass --force to write over it, or another --out")
    if out.resolve() in (spans.resolve(), dialogues and dialogues.resolve()):
        raise ProspectError(f"{out}: is what is read, expected another --out")
    refuse_no_spans(out)
    return spans, out


def _compare(a: Path, b: Path, other: Path | None, tolerance: float, json: bool) -> None:
    from pipeline.spans.compare import compare
    from pipeline.spans.records import read_spans

    if other:
        raise ProspectError(f"{other}: has no effect beside --compare")
    result = compare(read_spans(a), read_spans(b)).numbers(tolerance)
    if json:
        print_json(result)
        return
    events, gaps = result["events"], result["boundary_difference_s"]
    tell(f"{result['videos']} videos in both; {events['a']} events in {a.name}, {events['b']} in {b.name}")
    if events["paired"]:
        tell(
            f"{events['within']} events within {tolerance:g} s (F1 {result['f1']:.3f}); boundaries of "
            f"{events['paired']} paired events differ by {gaps['median']:.2f} s (median), {gaps['p90']:.2f} s (p90)"
        )
    for name, file in (("a", a), ("b", b)):
        missing = [f"{entry['video']} {entry['step']}" for entry in result[f"steps_missing_in_{name}"]]
        _tell_some(f"{len(missing)} steps missing in {file.name}", missing)
    for what, key in (
        (f"videos in {a.name} alone", "videos_only_in_a"),
        (f"videos in {b.name} alone", "videos_only_in_b"),
        ("videos with unlike lists of steps, not compared", "videos_with_other_steps"),
    ):
        if result[key]:
            _tell_some(f"{len(result[key])} {what}", result[key])


def _by_endpoint(
    tasks: "list[Task]",
    asked: dict[str, Any],
    path: Path,
    settings: "AlignSettings",
    embed: "Embed",
    show: "Progress",
    json: bool,
) -> "tuple[list[Found], list[str]] | None":
    """What the endpoint says; None: nothing was asked, as --dry-run wants."""
    from pipeline.endpoint.asking import Sampling, ask
    from pipeline.endpoint.cache import AnswerCache
    from pipeline.spans.annotate import by_align
    from pipeline.spans.by_endpoint import BLOCKS_PER_CALL, by_endpoint, plan_questions

    if not asked["dry_run"]:
        require_endpoint(asked["base_url"], asked["model"])
    several = (asked["samples"] or 1) > 1
    sampling = Sampling(
        asked["model"] or "",
        asked["samples"] or 1,
        (0.7 if several else 0.0) if asked["temperature"] is None else asked["temperature"],
        parameters_of(asked["parameter"] or []),
    )
    plan, cache = plan_questions(tasks, sampling, asked["blocks_per_call"] or BLOCKS_PER_CALL), AnswerCache(path)
    questions = plan.questions
    if asked["dry_run"]:
        tell_dry_run(questions, cache, json)
        return None
    about = answered(questions, cache)
    stop = threading.Event()
    client = client_of(asked["base_url"], asked["model"], asked["key_from"], asked["timeout"], asked["retries"], stop)
    failed = ask(
        questions, client, cache, stop, instead="try another model, or --method align",
        concurrency=asked["concurrency"] or 4, show=show,
    )  # fmt: skip
    (aside.print if json else tell)(f"{about}: {client.num_calls} calls")
    return by_endpoint(tasks, plan, cache, failed, lambda some: by_align(some, embed, settings))


def _embed_when_needed(name: str) -> "Embed":
    """The model is loaded at the first text: an endpoint that answers all needs none."""
    from functools import cache

    from prospect.evaluation.embeddings import load_embedder

    load = cache(lambda: load_embedder(name).embed)
    return lambda texts: load()(texts)


def _tell(out: Path, counts: Counter[str], notes: list[str], json: bool) -> None:
    if json:
        print_json({"out": str(out), "counts": counts, "notes": notes})
        return
    tell(f"{out}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count))
    for note in notes[:SHOWN]:
        tell(note)
    if len(notes) > SHOWN:
        tell(f"... and {len(notes) - SHOWN} more such videos (all: --json)")


def _tell_some(what: str, names: list[str]) -> None:
    more = f", ... ({len(names) - SHOWN} more: --json)" if len(names) > SHOWN else ""
    tell(what + (": " + ", ".join(names[:SHOWN]) + more if names else ""))
