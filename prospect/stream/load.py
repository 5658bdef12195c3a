"""A checkpoint made ready to stream: model, tokenizer, layout and settings, as the checkpoint remembers them."""

import json
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline.errors import ProspectError
from pipeline.manifest import json_bytes
from pipeline.storage import write_atomically
from prospect.layout import Tokens
from prospect.model.checkpoint import load_tokenizer
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.stream.streamer import Streamer, StreamSettings

THRESHOLDS = "thresholds.json"  # in a checkpoint's folder: what calibration found
WRITTEN_LAST = "data_position.json"  # in a run's checkpoint: one that a kill cut short has none


@dataclass(frozen=True, slots=True)
class Thresholds:
    """At which probability a head fires, and how that was found."""

    update_threshold: float
    speak_threshold: float
    calibrated_on: dict[str, Any]

    def save(self, checkpoint: Path) -> None:
        record = {field.name: getattr(self, field.name) for field in fields(self)}
        write_atomically(checkpoint / THRESHOLDS, json_bytes(record))


def find_checkpoint(place: str) -> str:
    """The checkpoint that `place` names: a checkpoint's folder, a run's folder (its last checkpoint), or a hub id.

    Raises:
        ProspectError: a run without checkpoints.
    """
    folder = Path(place)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return place
    found = sorted(
        (path for path in folder.glob("checkpoints/checkpoint-*") if (path / WRITTEN_LAST).is_file()),
        key=lambda path: int(path.name.partition("-")[2]),
    )
    if not found:
        raise ProspectError(
            f"{place}: found neither config.json nor checkpoints/, expected a checkpoint's folder or a run's; train "
            "one with prospect train"
        )
    return str(found[-1])


def load_streamer(checkpoint: str, *, dtype: str | None = None, **overrides: Any) -> Streamer:
    """A streamer of `checkpoint` (see `find_checkpoint`) on the GPU, where there is one.

    Args:
        dtype: None: bfloat16 on a GPU, float32 elsewhere.
        overrides: fields of `StreamSettings` that are set whatever the checkpoint remembers; None: not set.

    Raises:
        ProspectError: no such checkpoint, a damaged one, or an override that is no setting.
    """
    checkpoint = find_checkpoint(checkpoint)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
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
    tokens = Tokens(tokenizer, model.prospect_settings.tokens_per_frame, remembered.get("frame_wrap", "none"))
    found = {name: remembered[name] for name in ("max_seq_len", "reserve", "dst") if name in remembered}
    found |= _thresholds(Path(checkpoint))
    found |= {name: value for name, value in overrides.items() if value is not None}
    return Streamer(model, tokenizer, tokens, replace(StreamSettings(), **found))


def _thresholds(checkpoint: Path) -> dict[str, float]:
    path = checkpoint / THRESHOLDS
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text())
        return {name: float(record[name]) for name in ("update_threshold", "speak_threshold")}
    except (ValueError, KeyError, TypeError) as error:
        raise ProspectError(
            f"{path}: cannot be read ({error!r}), expected what prospect calibrate writes; remove it, or "
            "calibrate again"
        ) from None
