"""Commands that serve pages: review."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prospect.commands.options import Dataset, FramesRoot, Host, Open, Port
from prospect.commands.terminal import clear_errors, tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from prospect.web.server import Address

app = typer.Typer()
HOST, PORT = "127.0.0.1", 8321


@app.command()
def review(
    data_root: Annotated[Path, typer.Argument(help="Folder of your datasets.")],
    dataset: Dataset = None,
    predictions: Annotated[
        Path | None, typer.Option(help="An evaluation's folder, e.g. runs/NAME/evaluation/val: what the model found.")
    ] = None,
    frames_root: FramesRoot = None,
    host: Host = HOST,
    port: Port = PORT,
    open_browser: Open = False,
) -> None:
    """See clips and spans on a timeline, and mend them there.

    Writes only what you save: the lines that changed, in the file's own style; the file as it was stays as NAME.orig.
    """
    with clear_errors():
        from prospect.web.review.documents import Documents
        from prospect.web.review.routes import make_review

        documents = Documents(data_root, dataset, frames_root, tell)
        found = None
        if predictions is not None:
            from prospect.web.review.disagreements import Predictions

            found = Predictions(predictions)
        serve_pages(lambda address: make_review(documents, found, address), host, port, open_browser, "review")
        for entry in documents.unsaved:
            tell(f"not saved: {entry}")


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
