"""A client of chat completions as OpenAI's API has them, and vLLM, llama.cpp and others: one question, one answer.

The answer's form is asked for by `response_format`: json_schema, where a server refuses that json_object, else nothing.
What may pass (429, 5xx, a connection that fails, is cut, or is silent for too long) is tried again after 1, 2, 4, ...
seconds, or as long as the server asks for, and only so often. What will not pass (401, a page in place of JSON) ends
the run. The key is sent to the URL given alone: no redirect is followed; and it stands in no message.
"""

import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import ProspectError

FORMS = ("json_schema", "json_object", "none")
PASSING = (408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)
OF_THE_QUESTION = (400, 413, 422, 501)  # refused for what was asked: another question, or form, may be answered
MOST_WAIT_S = 60.0
MOST_BYTES = 16 << 20  # of a response
_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?(/[!-~]*)?", re.ASCII)
_SHOWN = 160  # characters of what came


class Refused(Exception):
    """The server refuses this question, in every form; the text says how."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where questions go."""

    base_url: str  # e.g. http://localhost:8000/v1
    model: str
    key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0  # for a whole answer
    retries: int = 5


@dataclass(frozen=True, slots=True)
class Reply:
    """What came."""

    text: str  # "": nothing
    is_cut: bool  # it reached the most tokens


def check_endpoint(endpoint: Endpoint) -> None:
    """Raises ProspectError for a URL or a key that cannot be sent."""
    if "@" in endpoint.base_url:  # not shown: a password may stand before it
        raise ProspectError("--base-url: found a user in it, expected none; keys are read by --key-from")
    if not _URL.fullmatch(endpoint.base_url):
        raise ProspectError(f"--base-url: found {endpoint.base_url!r}, expected e.g. http://localhost:8000/v1")
    if endpoint.key is not None and not (endpoint.key.isascii() and endpoint.key.isprintable() and endpoint.key):
        raise ProspectError("the endpoint's key: found characters that no header may have, or none, expected letters")


class Client:
    """Asks an endpoint; from several threads, too."""

    def __init__(
        self,
        endpoint: Endpoint,
        stop: threading.Event,
        wait: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stop`: when set, waits end and nothing more is tried; `wait`: for so many seconds."""
        check_endpoint(endpoint)
        self.url = endpoint.base_url.rstrip("/") + "/chat/completions"
        self.host = urlsplit(self.url).netloc  # with its port
        self._endpoint, self._stop, self._clock = endpoint, stop, clock
        self._wait = wait or stop.wait
        self._form = 0  # the first of FORMS that the server takes, as far as is known
        self.num_calls = 0
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(
        self, messages: Sequence[Mapping[str, str]], parameters: Mapping[str, Any], schema: Mapping[str, Any], what: str
    ) -> Reply:
        """Ask, in the best form that the server takes.

        Args:
            what: is asked about, for messages.

        Raises:
            Refused: the server answers other questions perhaps, not this.
            ProspectError: it answers none, or not in time.
        """
        question = {"model": self._endpoint.model, "messages": list(messages), **parameters}
        form = self._form
        while True:
            try:
                reply = self._post({**question, **_response_format(FORMS[form], schema)}, what)
            except Refused:
                form += 1
                if form == len(FORMS):
                    raise
                continue
            self._form = max(self._form, form)
            return reply

    def _post(self, body: Mapping[str, Any], what: str) -> Reply:
        data = json.dumps(body).encode()
        for tried in range(1, self._endpoint.retries + 2):
            asked_for: float | None = None  # seconds to wait
            self.num_calls += 1
            try:
                return _reply_of(self._read(data))
            except urllib.error.HTTPError as error:
                with error:
                    came = f"{error.code} {error.reason}: {self.shown(_body_of(error))}"
                asked_for = _seconds(error.headers.get("Retry-After"))
                if error.code in OF_THE_QUESTION:
                    raise Refused(came) from None
                if error.code not in PASSING:
                    raise self._failure(what, came, _FIXES.get(error.code, "see what the server's log says")) from None
            except _NotACompletion as error:
                came = self.shown(error.body)
                if not error.body.lstrip().startswith(b"{"):  # a page
                    raise self._failure(what, came, _FIXES[404]) from None
            except (OSError, http.client.HTTPException) as error:
                came = self.shown(str(getattr(error, "reason", None) or error or type(error).__name__))
            if self._stop.is_set():
                break
            if tried <= self._endpoint.retries:
                self._wait(min(2.0 ** (tried - 1) if asked_for is None else asked_for, MOST_WAIT_S))
        raise self._failure(what, f"{came}, {tried} times", "is the server up, and are so many questions allowed?")

    def _read(self, data: bytes) -> bytes:
        """The response's body; the whole of it within the time that is allowed."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "prospect"}
        if self._endpoint.key:
            headers["Authorization"] = f"Bearer {self._endpoint.key}"
        request = urllib.request.Request(self.url, data, headers)
        until = self._clock() + self._endpoint.timeout_s
        chunks, size = list[bytes](), 0
        with self._opener.open(request, timeout=self._endpoint.timeout_s) as response:
            while chunk := response.read1(1 << 16):
                chunks.append(chunk)
                size += len(chunk)
                if self._clock() > until:
                    raise TimeoutError(f"no whole answer within {self._endpoint.timeout_s:g} s")
                if size > MOST_BYTES:
                    raise _NotACompletion(f"more than {MOST_BYTES >> 20} MiB".encode())
            if response.length:  # bytes that were announced and did not come
                raise http.client.IncompleteRead(b"", response.length)
        return b"".join(chunks)

    def _failure(self, what: str, came: str, fix: str) -> ProspectError:
        about = f" about {what}" if what else ""
        return ProspectError(f"{self.url}: asked {self._endpoint.model!r}{about}, got {came}; {fix}")

    def shown(self, came: bytes | str) -> str:
        """The beginning of what came, on one line, without the key, should the server send it back."""
        text = " ".join((came.decode("utf-8", "replace") if isinstance(came, bytes) else came).split())
        if self._endpoint.key:
            text = text.replace(self._endpoint.key, "***")
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
        return repr(text[:_SHOWN] + "..." if len(text) > _SHOWN else text) if text else "nothing"


_FIXES = {
    401: "is the key that of this server? See --key-from",
    403: "may this key use the model? See --key-from",
    404: "expected a chat completion: is the model's name right, and does --base-url end as it should, e.g. in /v1?",
}


class _NotACompletion(Exception):
    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.body = body


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Follow none: the key is for the URL that was given."""


def _reply_of(body: bytes) -> Reply:
    try:
        value = json.loads(body)
        choice = value["choices"][0]
        text = choice["message"].get("content")
        is_cut = choice.get("finish_reason") == "length"
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise _NotACompletion(body) from None
    return Reply(text if isinstance(text, str) else "", is_cut)


def _response_format(form: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if form == "json_schema":
        named = {"name": "answer", "strict": True, "schema": schema}
        return {"response_format": {"type": form, "json_schema": named}}
    return {"response_format": {"type": form}} if form == "json_object" else {}


def _body_of(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read(1 << 12)
    except (OSError, http.client.HTTPException):
        return b""


def _seconds(header: str | None) -> float | None:
    """What Retry-After asks for; a date is not read."""
    return float(header) if header and header.strip().isdecimal() else None
