"""Commands that serve pages: review, browse, live."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import ProspectError
from prospect.commands.options import (
    Checkpoint,
    Dataset,
    FramesRoot,
    Host,
    LeastGap,
    Legal,
    MaxActions,
    MaxNewTokens,
    NoRepeat,
    Open,
    Port,
    SpeakThreshold,
    UpdateThreshold,
)  # fmt: skip
from prospect.commands.terminal import clear_errors, progress_bar, tell

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


@app.command()
def browse(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Data roots, datasets' folders, shards, runs, evaluations: each told by what is in it."),
    ],
    config: Annotated[
        str | None, typer.Option(help="Whose tokens a clip's page shows: a file, or a packaged name; default: a run's.")
    ] = None,
    frames_root: FramesRoot = None,
    static: Annotated[
        Path | None, typer.Option(help="Write a folder with these pages to publish, and serve nothing.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --static: of each split the first so many clips; default 50.")
    ] = None,
    force: Annotated[bool, typer.Option(help="With --static: into a folder that is not browse's too.")] = False,
    host: Host = HOST,
    port: Port = PORT,
    open_browser: Open = False,
) -> None:
    """Find any clip by looking: clips, datasets and runs in the browser.

    Writes nothing, but a folder that you ask for.
    """
    with clear_errors():
        from prospect.web.browse.library import open_library
        from prospect.web.browse.paths import recognize
        from prospect.web.browse.publish import INDEX, check_place, publish
        from prospect.web.browse.shell import make_browse, sections
        from prospect.web.browse.tokens import TokenViews

        if static is not None:
            check_place(static, force)
        elif limit is not None or force:
            raise ProspectError("--limit and --force are about the folder of --static; pass it too")
        given = recognize(paths)
        tokens = TokenViews(given, config)
        with progress_bar() as show:
            library = open_library(given, frames_root, show)
            listed = sections(library, tokens)
            if static is not None:
                made = publish(library, listed, static, limit or 50, force, show)
        if static is not None:
            size = f"{made.num_clips} clips, {made.num_pictures} pictures, {made.size_bytes / 1e6:.1f} MB"
            tell(f"{static / INDEX}: {size}")
            return
        serve_pages(lambda address: make_browse(listed, address), host, port, open_browser, "browse")


@app.command()
def live(
    checkpoint: Checkpoint,
    steps: Annotated[
        Path | None,
        typer.Option(help="The task: a list of id and name, or lines `S1: name`; may be changed on the page."),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.1, max=30, help="Frames a second; default: as it was trained, else 2.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where recordings go, if you ask for them on the page.")] = Path("live"),
    update_threshold: UpdateThreshold = None,
    speak_threshold: SpeakThreshold = None,
    legal: Legal = None,
    max_actions: MaxActions = None,
    max_new_tokens: MaxNewTokens = None,
    least_gap: LeastGap = None,
    no_repeat: NoRepeat = None,
    host: Host = HOST,
    port: Port = PORT,
    open_browser: Open = False,
) -> None:
    """Watch a camera or a video through a trained model, in the browser.

    What happens is told here too, a line an event. A recording opens with: prospect review OUT --predictions
    OUT/predictions
    """
    with clear_errors():
        from prospect.stream.load import Overrides
        from prospect.stream.task import Task, task_of_steps
        from prospect.web.live.hub import Hub
        from prospect.web.live.open import open_session
        from prospect.web.live.routes import make_live

        task = task_of_steps(steps) if steps else Task()
        overrides = Overrides(
            update_threshold=update_threshold, speak_threshold=speak_threshold, legal=legal, max_actions=max_actions,
            max_new_tokens=max_new_tokens, least_gap_s=least_gap, no_repeat=no_repeat,
        )  # fmt: skip
        hubs: list[Hub] = []

        def make(address: "Address") -> object:
            hubs.append(Hub(open_session(checkpoint, overrides, fps, out, tell)))
            return make_live(hubs[0], task, address)

        try:
            serve_pages(make, host, port, open_browser, "live")
        finally:
            for hub in hubs:
                hub.close()


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

    with listening:
        serve(make(address), listening, started)
    tell(f"{what}: ended")
