"""What commands that ask a language model share: options of the endpoint, its client, and what a dry run tells."""

import json as json_module
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import ProspectError
from prospect.commands.terminal import print_json, tell

if TYPE_CHECKING:
    from pipeline.endpoint.asking import Questions
    from pipeline.endpoint.cache import AnswerCache
    from pipeline.endpoint.client import Client

KEY_FROM = "OPENAI_API_KEY"
OURS = ("model", "messages", "response_format", "stream", "n", "seed", "temperature")
BaseUrl = Annotated[str | None, typer.Option(help="endpoint: OpenAI-compatible, e.g. http://localhost:8000/v1.")]
EndpointModel = Annotated[str | None, typer.Option(help="endpoint: the model's name there.")]
KeyFrom = Annotated[
    str | None, typer.Option(help=f"endpoint: environment variable with the key; default {KEY_FROM}, if set.")
]
Parameter = Annotated[
    list[str] | None,
    typer.Option(help="endpoint: NAME=JSON sent besides, e.g. max_tokens=4096; null: not sent. Repeatable."),
]
Concurrency = Annotated[int | None, typer.Option(min=1, max=64, help="endpoint: questions at a time; 4.")]
Retries = Annotated[int | None, typer.Option(min=0, max=20, help="endpoint: of what may pass; 5.")]
Timeout = Annotated[float | None, typer.Option(min=0.1, help="endpoint: seconds for an answer; 120.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="endpoint: tell calls and tokens, ask nothing.")]


def require_endpoint(base_url: str | None, model: str | None) -> None:
    """Raises ProspectError where it is not said which model is to be asked, and where."""
    for name, value in (("base-url", base_url), ("model", model)):
        if value is None:
            raise ProspectError(f"--{name}: found none, expected one of an endpoint")


def client_of(
    base_url: str,
    model: str,
    key_from: str | None,
    timeout_s: float | None,
    retries: int | None,
    stop: threading.Event,
) -> "Client":
    """Make the client of the endpoint that the options name.

    Raises:
        ProspectError: a URL or a key that cannot be sent, or no key where --key-from says.
    """
    from pipeline.endpoint.client import Client, Endpoint

    key = os.environ.get(key_from or KEY_FROM, "").strip()
    if key_from and not key:
        raise ProspectError(f"--key-from {key_from}: found no such variable in the environment, expected the key in it")
    endpoint = Endpoint(base_url, model, key or None, timeout_s or 120.0, 5 if retries is None else retries)
    return Client(endpoint, stop)


def parameters_of(words: Sequence[str]) -> dict[str, Any]:
    """Read --parameter NAME=JSON; raises ProspectError for what is none, or is the command's own."""
    parameters: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name in OURS:
            raise ProspectError(f"--parameter {name}: is set by the command itself (--model, --temperature, --samples)")
        try:
            parameters[name] = json_module.loads(text)
        except ValueError:
            raise ProspectError(f"--parameter: found {word!r}, expected NAME=JSON, e.g. max_tokens=4096") from None
    return parameters


def answered(questions: "Questions[Any]", cache: "AnswerCache") -> str:
    """Tell how many there are, and how many of them have an answer."""
    count = len(questions.asked)
    return f"{count} questions, {count - len(questions.missing(cache))} of them answered in {cache.path}"


def tell_dry_run(
    questions: "Questions[Any]", cache: "AnswerCache", json: bool, prices: tuple[float, float] | None = None
) -> None:
    """Tell what asking would take; `prices`: of a million tokens asked and answered."""
    calls, tokens = len(questions.missing(cache)), questions.tokens(cache)
    counts: dict[str, float] = dict(
        zip(
            ("questions", "calls", "tokens_asked", "tokens_answered"),
            (len(questions.asked), calls, *tokens),
            strict=True,
        )
    )
    cost = ""
    if prices:
        counts["cost"] = sum(price * count for price, count in zip(prices, tokens, strict=True)) / 1e6
        cost = f", for {counts['cost']:.2f}"
    if json:
        print_json(counts)
        return
    about = answered(questions, cache)
    tell(f"{about}: {calls} calls, about {tokens[0]} tokens to ask and {tokens[1]} to answer{cost}; none was asked")
