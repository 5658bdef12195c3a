"""What stands before every page: who may ask, from where, and what a browser may do with the answer.

- Host: only names of this machine, where no token is asked for; a page elsewhere that points its own name here (DNS
  rebinding) is turned away.
- Origin: what changes something, and every WebSocket, has to come from one of our own pages, or from no browser.
  Other sites get no picture either.
- Token: where other machines reach the server. It comes once in the address, and then as a cookie.
- Headers: scripts, styles and pictures from here alone, no inline script, no frame around a page.
"""

import hmac
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prospect.web.server import Address

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
TOKEN = "token"


class Guard:
    """Answers what may not pass, and sets the headers of what does."""

    def __init__(self, app: ASGIApp, address: Address) -> None:
        self._app, self._address = app, address
        self._cookie = f"prospect-{address.port}"  # cookies are shared by all ports of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4403, "reason": "not allowed"})
        else:
            await refusal(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = _host(headers.get("host", ""))
        if self._address.hosts is not None and host not in self._address.hosts:
            return _refused("this address is not one of this server; open the one that prospect printed")
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if not _is_own(headers, changes, scope["type"] == "http"):
            return _refused("another site may not use this server")
        return self._check_token(scope, headers) if self._address.token else None

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        """Let the cookie through, and an address with the token; the latter gets the cookie, and loses the token."""
        if self._is_token(_cookies(headers).get(self._cookie, "")):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not self._is_token(query.get(TOKEN, [""])[0]):
            return _refused("the address lacks its token; open the whole address that prospect printed")
        if scope["type"] == "websocket" or scope["method"] != "GET":
            return None
        left = urlencode({key: values for key, values in query.items() if key != TOKEN}, doseq=True)
        # one slash: a path of two would name a host
        place = "/" + scope["path"].lstrip("/") + (f"?{left}" if left else "")
        answer = RedirectResponse(place, status_code=303)
        answer.set_cookie(self._cookie, self._address.token or "", httponly=True, samesite="strict", path="/")
        return answer

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._address.token or "").encode())


def _is_own(headers: Headers, changes: bool, is_http: bool) -> bool:
    """Whether a request is of our own pages, of no browser, or a person's following a link to a page."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return False
    site = headers.get("sec-fetch-site", "none")
    if site in ("same-origin", "none"):
        return True
    return is_http and not changes and headers.get("sec-fetch-mode") == "navigate"


def _host(header: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _cookies(headers: Headers) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
    return {name: value for name, _, value in pairs}


def _refused(reason: str) -> Response:
    return PlainTextResponse(f"Not allowed: {reason}.\n", status_code=403)


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return guarded
