"""The tokens that a clip is trained as: of a run's settings, its parts, labels and drawn negatives."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prospect import runs
from prospect.config_file import find_config, load_config
from prospect.web.browse.library import Library
from prospect.web.browse.paths import Given

if TYPE_CHECKING:
    from prospect.config import Config
    from prospect.setup import Blueprint


class TokenViews:
    """Tokenizer and layout of a config, opened when the first clip asks for them."""

    def __init__(self, given: Given, config: str | None = None) -> None:
        """
        Args:
            config: a file, or the name of a packaged one; default: the first run's.
        """
        own = [run / runs.CONFIG for run in given.runs]
        own += [one.run / runs.CONFIG for one in given.evaluations if one.run]
        self.path: Path | None = find_config(config) if config else next(iter(own), None)
        self.name = config or (str(self.path) if self.path else "")
        self.config: Config | None = load_config(self.path) if self.path else None

    @cached_property
    def blueprint(self) -> "Blueprint":
        from prospect.setup import make_blueprint

        assert self.config is not None
        return make_blueprint(self.config)

    def of(self, library: Library, key: str) -> dict[str, Any]:
        """Give the tokens of a clip, part by part, or a sentence why there are none."""
        if self.config is None:
            return {"told": "Tokens depend on a model: name a run among the paths, or pass --config.", "parts": []}
        return {"told": "", "parts": []}
