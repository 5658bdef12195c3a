"""One small server for all pages: it binds, tells its address, serves until it is stopped."""

import errno
import ipaddress
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from pipeline.errors import ProspectError

LOCAL = ("127.0.0.1", "localhost", "::1")
MOST_BODY = 64 << 20  # bytes of a WebSocket's message
CLOSE_S = 2  # what is left of requests when the server is stopped


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is reached. A host that others can reach goes with a token."""

    host: str
    port: int
    token: str | None

    @property
    def url(self) -> str:
        """The address to open, with its token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/" + (f"?token={self.token}" if self.token else "")

    @property
    def hosts(self) -> frozenset[str] | None:
        """What a request may name as its Host, without the port; None: any, as the token tells friends apart."""
        return frozenset(LOCAL) if self.token is None else None


def is_local(host: str) -> bool:
    """Whether no other machine reaches a server that listens at `host`."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def bind(host: str, port: int) -> tuple[socket.socket, Address]:
    """Listen at host and port; 0: any free port.

    Raises:
        ProspectError: the port is taken, or this machine has no such host; says what to do.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ProspectError(f"--host {host} --port {port}: {error}; expected an address of this machine") from None
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(place)
        listening.listen(128)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            told = f"port {port} is taken, perhaps by another prospect; pass --port with another one, or 0 for any"
        elif error.errno == errno.EACCES:
            told = f"port {port} may not be used by you; pass --port with one above 1023"
        else:
            told = f"--host {host}: {error.strerror}; expected an address of this machine"
        raise ProspectError(told) from None
    token = None if is_local(host) else secrets.token_urlsafe(24)
    return listening, Address(host, listening.getsockname()[1], token)


def make_server(app: ASGIApp, quiet: bool = True) -> uvicorn.Server:
    """Give uvicorn's server of `app`; it prints nothing."""
    level = "critical" if quiet else "warning"
    return uvicorn.Server(
        uvicorn.Config(
            app, log_level=level, access_log=False, server_header=False, timeout_graceful_shutdown=CLOSE_S,
            ws="websockets-sansio", ws_max_size=MOST_BODY, lifespan="off",
        )
    )  # fmt: skip


def serve(app: ASGIApp, listening: socket.socket, started: Callable[[], None] = lambda: None) -> None:
    """Serve until Ctrl-C or SIGTERM, which end it as they should: without an error.

    Args:
        started: called once requests are answered, e.g. to open a browser.
    """
    server = make_server(app)
    startup = server.startup

    async def begin(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets=sockets)
        started()

    server.startup = begin  # type: ignore[method-assign]
    with suppress(KeyboardInterrupt), listening:
        server.run(sockets=[listening])
