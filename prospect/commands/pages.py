"""Commands that serve pages: review."""

import webbrowser
from typing import TYPE_CHECKING, Any

import typer

from prospect.commands.terminal import tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from prospect.web.server import Address

app = typer.Typer()
HOST, PORT = "127.0.0.1", 8321


def serve_pages(make: "Callable[[Address], Any]", host: str, port: int, open_browser: bool, what: str) -> None:
    """Serve what `make(address)` gives until Ctrl-C; tells the address once it is answered.

    Args:
        what: the page's name, for the terminal.
    """
    from prospect.web.server import bind, is_local, serve

    listening, address = bind(host, port)

    def started() -> None:
        tell(f"{what}: {address.url} (Ctrl-C ends it)")
        if not is_local(host):
            tell("anyone who has this address can see and change what the page shows; it is not encrypted")
        if open_browser and not webbrowser.open(address.url):
            tell("no browser could be opened; open the address yourself")

    serve(make(address), listening, started)
    tell(f"{what}: ended")
