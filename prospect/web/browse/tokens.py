"""The tokens that a clip is trained as, by a run's settings: its parts (or samples), labels and drawn negatives."""

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline.annotations.clips import Clip
from pipeline.errors import ProspectError
from pipeline.shards.expand import expand
from pipeline.shards.sample import TurnSample
from prospect import runs
from prospect.config_file import find_config, load_config
from prospect.web.browse.library import Library
from prospect.web.browse.paths import Given

if TYPE_CHECKING:
    from prospect.config import Config
    from prospect.looking.token_view import Laid
    from prospect.setup import Blueprint

MOST_SAMPLES = 40  # of a clip, in `turn` packing: each repeats the texts before it
SILENT_FRAMES, EVENT_FRAMES = 32, 8  # of samples that are not built yet, as build-shards cuts them by default
NO_CONFIG = "Tokens and labels depend on a run's settings: name a run among the paths, or pass --config."


class TokenViews:
    """Tokenizer and layout of a config, opened when the first clip asks for them."""

    def __init__(self, given: Given, config: str | None = None) -> None:
        """
        Args:
            config: a file, or the name of a packaged one; default: the first run's.

        Raises:
            ProspectError: there is no such config, or it has mistakes.
        """
        own = [run / runs.CONFIG for run in given.runs]
        own += [one.run / runs.CONFIG for one in given.evaluations if one.run]
        path: Path | None = find_config(config) if config else next(iter(own), None)
        self.name = config or (str(path) if path else "")  # as a command takes it; "": there is none
        self.config: Config | None = load_config(path) if path else None
        self._blueprint: Blueprint | None = None
        self._lock = Lock()

    @property
    def blueprint(self) -> "Blueprint":
        """Open tokenizer and layout; it takes seconds at the first call."""
        from prospect.setup import make_blueprint

        assert self.config is not None
        with self._lock:
            self._blueprint = self._blueprint or make_blueprint(self.config)
        return self._blueprint

    def of(self, library: Library, key: str) -> dict[str, Any]:
        """Give the tokens of a clip (`token_data`), a record a sequence, or a sentence why there are none."""
        if self.config is None:
            return {"told": NO_CONFIG, "parts": []}
        _, clip, _ = library.checked(key)
        if clip is None:
            return {"told": "The clip has mistakes: nothing is trained on it.", "parts": []}
        from prospect.looking.token_view import drawn_at_first, token_data

        try:
            laid, told = self._laid(library, key, clip)
            drawn = drawn_at_first(self.config, clip.id)
            return {"told": told, "parts": [token_data(one, self.blueprint, drawn) for one in laid]}
        except (
            ProspectError,
            ValueError,
        ) as error:  # it does not fit the window, or has not the texts that are asked for
            return {"told": str(error), "parts": []}

    def _laid(self, library: Library, key: str, clip: Clip) -> "tuple[list[Laid], str]":
        from prospect.looking.token_view import parts_laid, sequence_of

        assert self.config is not None
        data, tokens = self.config.data, self.blueprint.tokens
        samples = _samples(library, key, clip)
        if data.packing == "clip":
            return parts_laid(samples, tokens, data), ""
        laid = [sequence_of(sample, samples, tokens, data) for sample in samples[:MOST_SAMPLES]]
        more = f"The first {len(laid)} of {len(samples)} samples." if len(laid) < len(samples) else ""
        return laid, more


def _samples(library: Library, key: str, clip: Clip) -> list[TurnSample]:
    """The samples of a clip: those of its shards, or as they would be built."""
    built = library.samples.get(key)
    if built:
        return [built.split.sample(row) for row in range(built.first, built.end)]
    return expand(clip, SILENT_FRAMES, EVENT_FRAMES)
