"""Datasets: a page a split, with its numbers, what the checks of clips say, and what the audit of labels says."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ProspectError
from pipeline.progress import unwatched
from prospect.web.browse.library import Library
from prospect.web.browse.tokens import NO_CONFIG, TokenViews

MOST_CHECKED = 1000  # clips of a split whose checks a page waits for
MOST_TOLD = 20  # problems


class Datasets:
    """The section of datasets (`shell.Section`)."""

    name = "datasets"

    def __init__(self, library: Library, tokens: TokenViews) -> None:
        self.library, self.tokens = library, tokens
        self._answers: dict[tuple[str, ...], Any] = {}

    def about(self) -> Any:
        return {"splits": [self._line(of) for of in sorted(self.library.numbers)]}

    def answer(self, place: Sequence[str], query: Mapping[str, str]) -> Any:
        what, of = place[0] if place else "", "/".join(place[1:])
        answers = {"split": self.split, "checks": self.checks, "audit": self.audit}
        if what not in answers or of not in self.library.numbers:
            raise ProspectError(f"{'/'.join(place)[:100]}: there is no such page of datasets")
        if tuple(place) not in self._answers:  # what is read does not change
            self._answers[tuple(place)] = answers[what](of)
        return self._answers[tuple(place)]

    def published(self) -> Iterator[tuple[Sequence[str], Any]]:
        for of in self.library.numbers:
            for what in ("split", "checks", "audit"):
                place = [what, *of.split("/")]
                yield place, self.answer(place, {})

    def split(self, of: str) -> dict[str, Any]:
        """Give the numbers of a split, and of an evaluated one what training never shows."""
        numbers, dataset = self.library.numbers[of], of.rpartition("/")[0]
        train = self.library.numbers.get(f"{dataset}/train")
        is_train = train is None or train is numbers
        unseen = [] if train is None or is_train else numbers.unseen(train)
        return {"of": of, **numbers.record(), "unseen": unseen, "has_train": train is not None, "is_train": is_train}

    def checks(self, of: str) -> dict[str, Any]:
        """Check the clips of a split as `prospect validate` does; images are not looked at."""
        table = self.library.table
        keys = table.filter(table["of"] == of)["key"].to_list()
        told: list[dict[str, str]] = []
        count = 0
        for key in keys[:MOST_CHECKED]:
            _, _, problems = self.library.checked(key)
            count += bool(problems)
            if len(told) < MOST_TOLD:
                told += [{"key": key, "text": str(problem)} for problem in problems[:1]]
        return {"total": len(keys), "checked": min(len(keys), MOST_CHECKED), "with_problems": count, "first": told}

    def audit(self, of: str) -> dict[str, Any]:
        """Audit the labels of a split as the config would train them, or say why they cannot be."""
        dataset, _, split = of.rpartition("/")
        config = self.tokens.config
        if config is None:
            return {"told": NO_CONFIG}
        from prospect.looking.audit import audit_record, audit_run

        update: dict[str, Any] = {"root": self.library.root_of(dataset)}
        for own in self.library.splits:
            if (own.manifest.dataset, own.manifest.split) == (dataset, split) and isinstance(own.folder, Path):
                update["shards"] = str(own.folder.parent.parent)
        settings = config.model_copy(update={"data": config.data.model_copy(update=update)})
        try:
            audited = audit_run(settings, self.tokens.blueprint, dataset, split, unwatched)
        except ProspectError as error:
            return {"told": str(error)}
        return {"told": "", "config": self.tokens.name, **audit_record(audited, dataset, split)}

    def _line(self, of: str) -> dict[str, Any]:
        numbers = self.library.numbers[of]
        return {
            "of": of,
            "clips": len(numbers.lengths),
            "seconds": sum(numbers.lengths),
            "updates": numbers.transitions.total(),
            "utterances": len(numbers.utterances),
            "silence": 1 - numbers.events / max(numbers.frames, 1),
        }
