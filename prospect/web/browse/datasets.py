"""Datasets: what a split holds, in numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import ProspectError
from prospect.web.browse.library import Library
from prospect.web.browse.tokens import TokenViews


class Datasets:
    """The section of datasets (`shell.Section`)."""

    name = "datasets"

    def __init__(self, library: Library, tokens: TokenViews) -> None:
        self.library, self.tokens = library, tokens

    def about(self) -> Any:
        counts = self.library.table.group_by("of").len().sort("of")
        return {"splits": [{"of": of, "count": count} for of, count in counts.rows()]}

    def answer(self, place: Sequence[str], query: Mapping[str, str]) -> Any:
        raise ProspectError(f"{'/'.join(place)[:100]}: there is no such page of datasets")

    def published(self) -> Iterator[tuple[Sequence[str], Any]]:
        yield from ()
