"""A checkpoint made ready to stream: model, tokenizer, layout and settings, as the checkpoint remembers them."""

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import transformers
from pydantic import ConfigDict, Field

from pipeline.annotations.dst import FORWARD, MOVES, Transition
from pipeline.errors import ProspectError
from pipeline.io.records import RECORD, read_record
from pipeline.io.storage import write_json
from prospect.layout import LAYOUT_VERSION, Tokens
from prospect.model.checkpoint import load_tokenizer
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.fixed import FixedCache
from prospect.model.hub import checkpoint_folder
from prospect.runs import THRESHOLDS
from prospect.stream.context import Policy
from prospect.stream.streamer import Streamer, StreamSettings


@dataclass(frozen=True, slots=True)
class Thresholds:
    """At which probability a head fires, and how that was found."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    update_threshold: Annotated[float, Field(ge=0, le=1)]
    speak_threshold: Annotated[float, Field(ge=0, le=1)]
    calibrated_on: dict[str, Any]

    def save(self, checkpoint: Path) -> None:
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        write_json(checkpoint / THRESHOLDS, record)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What of `StreamSettings` is set whatever the checkpoint remembers; None: as it remembers, else the default."""

    max_seq_len: int | None = None
    update_threshold: float | None = None
    speak_threshold: float | None = None
    context: Policy | None = None
    max_actions: int | None = None
    max_new_tokens: int | None = None
    least_gap_s: float | None = None
    no_repeat: int | None = None
    legal: bool | None = None

    def given(self) -> dict[str, Any]:
        """List those that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


NO_OVERRIDES = Overrides()
GRAPHS = "PROSPECT_GRAPHS"  # of the environment: 1 with them (on a CPU uncaptured), 0 without


def load_streamer(checkpoint: str, overrides: Overrides = NO_OVERRIDES, *, dtype: str | None = None) -> Streamer:
    """Make a streamer of `checkpoint` (see `hub.checkpoint_folder`) on the GPU, where there is one.

    Args:
        dtype: None: bfloat16 on a GPU, float32 elsewhere.

    Raises:
        ProspectError: no such checkpoint, or a damaged one; or PROSPECT_GRAPHS is neither 0 nor 1.
    """
    checkpoint = checkpoint_folder(checkpoint)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.enable_cudnn_sdp(False)  # plans anew for each length of the cache: tens of ms at every frame
    model = DSTSmolVLM.from_checkpoint(checkpoint, dtype=dtype or ("bfloat16" if device == "cuda" else "float32"))
    model = model.to(device).eval()
    tokenizer: Any = load_tokenizer(checkpoint)
    remembered = model.prospect_settings.extra
    if remembered.get("packing") == "turn":
        warnings.warn(
            f"{checkpoint}: was trained on turn packing, whose contexts have the frames of one turn alone; a stream "
            "has them all, which it never saw. Train with data.packing=clip to stream",
            stacklevel=2,
        )
    if remembered.get("layout", LAYOUT_VERSION) != LAYOUT_VERSION:
        warnings.warn(
            f"{checkpoint}: was trained on version {remembered['layout']} of the layout of tokens and labels, and is "
            f"streamed by version {LAYOUT_VERSION}: it may meet what it never saw. Train again to be sure",
            stacklevel=2,
        )
    tokens = Tokens(tokenizer, model.prospect_settings.tokens_per_frame, remembered.get("frame_wrap", "none"))
    settings = {
        name: remembered[name] for name in ("max_seq_len", "reserve", "memory", "knowledge") if name in remembered
    }
    settings |= _thresholds(Path(checkpoint)) | overrides.given()
    return _with_graphs(
        Streamer(model, tokenizer, tokens, replace(StreamSettings(), **settings), _transitions(checkpoint, remembered))
    )


def _with_graphs(streamer: Streamer) -> Streamer:
    """The streamer, with frames as CUDA graphs (`model/fixed.py`) where the environment asks for them.

    Not by themselves: none has been captured on a GPU yet.

    Raises:
        ProspectError: what the environment says is neither 0 nor 1.
    """
    wish = os.environ.get(GRAPHS, "")
    if wish not in ("", "0", "1"):
        raise ProspectError(f"{GRAPHS}: found {wish!r}, expected 1 (frames as CUDA graphs) or 0; or leave it out")
    if wish != "1":
        return streamer
    try:
        cache = FixedCache(streamer.model, streamer.settings.max_seq_len, streamer.tokens.frame.ids)
    except ProspectError as error:
        warnings.warn(f"{error}; frames are run kernel by kernel, slower", stacklevel=3)
        return streamer
    return streamer.beside(cache.emptied, time.perf_counter)


def _transitions(checkpoint: str, remembered: Mapping[str, Any]) -> list[Transition]:
    """Those that the checkpoint was trained on; of one that remembers none, those that there were then.

    Raises:
        ProspectError: one that is unknown here.
    """
    names: list[str] = remembered.get("transitions", list(FORWARD))
    if unknown := [name for name in names if name not in MOVES]:
        raise ProspectError(
            f"{checkpoint}: was trained with transitions {', '.join(unknown)}, expected of {', '.join(MOVES)}; use the "
            "version of prospect that trained it"
        )
    return [transition for transition in MOVES if transition in names]


def _thresholds(checkpoint: Path) -> dict[str, float]:
    path = checkpoint / THRESHOLDS
    if not path.exists():
        return {}
    saved = read_record(path, Thresholds, "remove it, or calibrate again")
    return {"update_threshold": saved.update_threshold, "speak_threshold": saved.speak_threshold}
