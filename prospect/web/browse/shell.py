"""The shell of `prospect browse`: one document, sections in it, each with what it answers, served or published.

A section is a word of the navigation. What it needs is

- in Python a `Section` (below), named in `sections` here: `answer(place, query)` gives the JSON of one address,
  `published()` the addresses that a folder without a server is to hold;
- in JavaScript a module of static/browse/ that exports `{name, label, show}`, named in SECTIONS of its main.js:
  `show(root, place, query)` fills the page of `#NAME/PLACE?QUERY`, and gets its JSON by `ask(NAME, place, query)` of
  static/browse/source.js: served that is GET /api/NAME/PLACE?QUERY, published a block of the document;
- its style sheet, if it has one, in STYLES.

A published address has no query: what depends on one, the page works out itself. Pictures of clips have the address
`picture(key, frame, height)` of source.js on both.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from prospect.web import answers
from prospect.web.answers import answer, get
from prospect.web.browse.clips import Clips
from prospect.web.browse.datasets import Datasets
from prospect.web.browse.library import Library
from prospect.web.browse.runs import Runs
from prospect.web.browse.tokens import TokenViews
from prospect.web.server import Address

TITLE, ENTRY = "Browse", "browse/main.js"
STYLES = ("frames.css", "timeline.css", "tokens.css", "chart.css", "browse/browse.css", "browse/runs.css")
Place = Sequence[str]  # the parts of an address below its section's name


class Section(Protocol):
    """One part of the pages."""

    name: str  # the first word of its addresses

    def about(self) -> Any:
        """Give what its pages know from the start (JSON, small); None: it has nothing to show here, and is left out."""

    def answer(self, place: Place, query: Mapping[str, str]) -> Any:
        """Give the JSON of an address; runs in a thread.

        Raises:
            ProspectError, HTTPException: there is nothing of that address.
        """

    def published(self) -> Iterator[tuple[Place, Any]]:
        """Give address and JSON of all that a folder without a server holds."""


def sections(library: Library, tokens: TokenViews) -> list[Section]:
    """List the sections, in the order of the navigation. Here a module adds its own."""
    return [Clips(library, tokens), Datasets(library, tokens), Runs(library)]


def about_all(listed: Sequence[Section]) -> dict[str, Any]:
    """Give what each section tells from the start, by its name; without those that have nothing to show."""
    told = {section.name: section.about() for section in listed}
    return {name: about for name, about in told.items() if about is not None}


def make_browse(listed: Sequence[Section], address: Address) -> ASGIApp:
    """Give the application of these sections."""
    by_name = {section.name: section for section in listed}
    clips = next(section for section in listed if isinstance(section, Clips))  # whose frames all sections show

    def page(request: Request) -> Response:
        return answers.page(TITLE, ENTRY, STYLES, [("about", about_all(listed))])

    async def ask(request: Request) -> Response:
        section = by_name.get(request.path_params["section"])
        if section is None:
            raise HTTPException(404, "there is no such section")
        place = [part for part in request.path_params["place"].split("/") if part]
        return answer(await run_in_threadpool(partial(section.answer, place, dict(request.query_params))))

    async def picture(request: Request) -> Response:
        key, index = answers.plain(request, "key"), answers.number(request, "index")
        height = answers.number(request, "h", 16, answers.MOST_HEIGHT)
        assert index is not None
        jpeg = await run_in_threadpool(partial(clips.picture, key, index, height))
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": f"private, max-age={answers.KEEP_S}"})

    return answers.make_app(
        [get("/", page), get("/api/{section}/{place:path}", ask), get("/frames/{key}/{index}.jpg", picture)], address
    )
