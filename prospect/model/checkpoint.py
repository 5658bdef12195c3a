"""What a SmolVLM checkpoint says about itself, checked before its weights are read.

`read_config` gives the config with our settings in it, under "prospect", so that config.json remembers them: tokens a
frame, the image processor's normalisation, and whatever the caller adds.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from math import isfinite, isqrt
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from transformers import AutoTokenizer, SmolVLMConfig
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from pipeline.errors import ProspectError
from pipeline.io.records import RECORD, problems_of, shown
from prospect.config import DataConfig

MODEL_TYPES = ("smolvlm", "idefics3")  # the first SmolVLM is published as idefics3: the same modules and names
DAMAGED = "copy or download the checkpoint again"
WHOLE = "a whole SmolVLM2 checkpoint; download it, and pass its folder as model.checkpoint"
Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
DecisionTokens = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=2, max_length=3)]


@dataclass(frozen=True, slots=True)
class ProspectSettings:
    """What a checkpoint remembers, in config.json under "prospect" (the members of `extra` beside the others)."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    tokens_per_frame: Count
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[Positive, Positive, Positive] = (0.5, 0.5, 0.5)
    vision_chunk: Count = 64  # most frames in one forward of the vision tower
    new_tokens: tuple[Annotated[int, Field(ge=0)], ...] = ()  # ids whose embeddings no pretraining has seen
    decision_tokens: DecisionTokens | None = None  # of `Tokens.decision_tokens`; None: the model decides by heads
    extra: dict[str, Any] = field(default_factory=dict)  # the caller's: packing, frame_wrap, ...

    @classmethod
    def of(cls, config: SmolVLMConfig, where: str = "config.json") -> "ProspectSettings":
        """Give the settings in `config`, or of a plain checkpoint: native tokens, SmolVLM2's normalisation.

        Raises:
            ProspectError: there are others, or of other types; names them, and `where`.
        """
        record = getattr(config, "prospect", {})
        ours = {f.name for f in fields(cls)} - {"extra"}
        try:
            if not isinstance(record, dict):
                raise ProspectError(f"{where}: prospect: found {shown(record)}, expected an object; {DAMAGED}")
            extra = {name: value for name, value in record.items() if name not in ours and name != "dst"}
            if "memory" not in extra and record.get("dst") is False:  # its name before there were summaries
                extra["memory"] = "none"
            known = {name: value for name, value in extra.items() if name in DataConfig.model_fields}
            DataConfig.model_validate_json(json.dumps(known), strict=True)
            text = json.dumps(
                {"tokens_per_frame": native_tokens(config)} | {n: record[n] for n in ours & record.keys()}
            )
            settings = replace(TypeAdapter(cls).validate_json(text), extra=extra)
            rows = config.text_config.vocab_size
            for name in ("new_tokens", "decision_tokens"):
                found = getattr(settings, name) or ()
                if max(found, default=-1) >= rows:
                    raise ProspectError(
                        f"{where}: prospect.{name}: found {list(found)}, expected ids below {rows}; {DAMAGED}"
                    )
            return settings
        except ValidationError as error:
            raise ProspectError(f"{where}: prospect: {'; '.join(problems_of(error))}; {DAMAGED}") from None

    def put_into(self, config: SmolVLMConfig) -> None:
        config.prospect = {
            "tokens_per_frame": self.tokens_per_frame,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "vision_chunk": self.vision_chunk,
            **({"new_tokens": list(self.new_tokens)} if self.new_tokens else {}),
            **({"decision_tokens": list(self.decision_tokens)} if self.decision_tokens else {}),
            **self.extra,
        }


def read_config(
    where: str, tokens_per_frame: int | Literal["native"] | None, vision_chunk: int, extra: Mapping[str, Any]
) -> SmolVLMConfig:
    """Read the config of the checkpoint folder `where` (see `hub.checkpoint_folder`) with our settings.

    Args:
        tokens_per_frame: None: what is remembered, else native.
        extra: more to remember; with `decision_tokens` (None: heads) how to decide, else as it is remembered.

    Raises:
        ProspectError: no SmolVLM checkpoint is there, it cannot give that many tokens a frame, or was trained to decide
            otherwise.
    """
    with loading_errors(where):
        record, _ = SmolVLMConfig.get_config_dict(where)
        if record.get("model_type") not in MODEL_TYPES:
            raise ProspectError(
                f"{where}: found model_type {shown(record.get('model_type'))}, expected 'smolvlm'; give a SmolVLM2 "
                "checkpoint such as HuggingFaceTB/SmolVLM2-2.2B-Instruct"
            )
        vision = {key: value for key, value in record["vision_config"].items() if key != "model_type"}
        config = SmolVLMConfig.from_dict(record | {"model_type": "smolvlm", "vision_config": vision})
        for part in ("text_config", "vision_config"):
            check_sizes(f"{where}/config.json: {part}", getattr(config, part))
        processor = load_image_processor(where)
        saved = ProspectSettings.of(config, f"{where}/config.json")
        is_untrained = "parts" in saved.extra and "layout" not in saved.extra  # as make-checkpoint leaves it
        has_decided = hasattr(config, "prospect") and not is_untrained
        decision_tokens = extra.get("decision_tokens", saved.decision_tokens)
        if has_decided and (decision_tokens is None) != (saved.decision_tokens is None):
            names = ("tokens", "heads") if saved.decision_tokens else ("heads", "tokens")
            raise ProspectError(
                "model.decide: found {1}, but {2} was trained to decide by {0}; set model.decide={0}, or begin with a "
                "checkpoint that has not decided yet".format(*names, where)
            )
        count = _checked_tokens(where, config, saved.tokens_per_frame if tokens_per_frame is None else tokens_per_frame)
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
        more = saved.extra | {name: value for name, value in extra.items() if name != "decision_tokens"}
        ProspectSettings(count, mean, std, vision_chunk, saved.new_tokens, decision_tokens, more).put_into(config)
        ProspectSettings.of(config, f"{where}/preprocessor_config.json")  # as the processor's numbers are new in it
    return config


def check_sizes(where: str, part: Any) -> None:
    """Raise ProspectError for sizes of text or vision that no model has: memory and time would follow them."""
    for name, most in (("num_hidden_layers", 1 << 10), ("hidden_size", 1 << 16), ("intermediate_size", 1 << 18)):
        value = getattr(part, name, None)
        if not isinstance(value, int) or not 0 < value <= most:
            raise ProspectError(f"{where}.{name}: found {shown(value)}, expected 1 to {most}; {DAMAGED}")


def with_tokens(
    config: SmolVLMConfig, where: str, wanted: int | Literal["native"], decision_tokens: tuple[int, ...] | None = None
) -> SmolVLMConfig:
    """Give `config` with `wanted` tokens a frame, and those that decide, in our settings; `where` goes into the error,
    as in `read_config`."""
    ProspectSettings(_checked_tokens(where, config, wanted), decision_tokens=decision_tokens).put_into(config)
    return config


def native_tokens(config: SmolVLMConfig) -> int:
    """Count the tokens of a frame without pooling."""
    side: int = config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor
    return side * side


def load_image_processor(folder: str | Path) -> Any:
    """Load SmolVLM's processor on PIL; AutoImageProcessor asks for torchvision in some versions of transformers."""
    return SmolVLMImageProcessorPil.from_pretrained(str(folder))


def load_tokenizer(folder: str | Path) -> Any:
    """Load the tokenizer of a checkpoint's folder.

    Raises:
        ProspectError: it is not there, or broken; names the checkpoint.
    """
    with loading_errors(f"{folder}: its tokenizer"):
        return AutoTokenizer.from_pretrained(str(folder))


@contextmanager
def loading_errors(where: str, expected: str = WHOLE) -> Iterator[None]:
    """Raise what goes wrong inside other packages that read a checkpoint's files as ours, on one line: what these hold
    comes out as any exception there is. A full memory is none of the files'."""
    try:
        yield
    except (ProspectError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        named = "" if isinstance(error, OSError | RuntimeError) else f"{type(error).__name__}: "
        reason = f"{named}{' '.join(str(error).split())[:300]}"
        raise ProspectError(f"{where}: cannot be loaded ({reason}), expected {expected}") from None


@contextmanager
def writing(
    folder: Path,
    place: Path | str,
    fix: str = "free some space or choose another folder, then run the same command again",
) -> Iterator[None]:
    """Remove `folder` where it cannot be written whole, and raise the full disk that torch and safetensors tell each
    their own way as ours; `place`: what it is to become, for the error."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        is_disk = isinstance(error, OSError | RuntimeError | SafetensorError)
        if isinstance(error, torch.OutOfMemoryError) or not is_disk:
            raise
        reason = " ".join(str(error).split())[:200]
        raise ProspectError(f"{place}: cannot be written ({reason}); {fix}") from None


def check_finite(model: torch.nn.Module, where: str) -> None:
    """Raise ProspectError where a weight is no number, or infinite: what follows from it are no numbers either, and a
    head that gives none never fires."""
    for name, weights in model.named_parameters():
        if not all(map(isfinite, map(float, weights.detach().aminmax()))):  # both are nan where one weight is
            raise ProspectError(
                f"{where}: {name}: found weights that are not finite, expected numbers; its training went wrong, or "
                "the file is damaged: use an earlier checkpoint, or copy it again"
            )


def _checked_tokens(where: str, config: SmolVLMConfig, wanted: int | Literal["native"]) -> int:
    native = native_tokens(config)
    if wanted == "native":
        return native
    squares = [side * side for side in range(1, isqrt(native) + 1)]
    if wanted not in squares:
        raise ProspectError(
            f"{where}: tokens_per_frame: found {wanted}, expected native or one of {', '.join(map(str, squares))}: "
            f"the squares up to this model's native {native}"
        )
    return wanted
