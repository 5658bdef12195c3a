"""What a SmolVLM checkpoint says about itself, checked before its weights are read.

`read_config` gives the config with our settings in it, under "prospect", so that config.json remembers them: tokens a
frame, the image processor's normalisation, and whatever the caller adds.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from math import isqrt
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from transformers import AutoTokenizer, SmolVLMConfig
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from pipeline.errors import ProspectError

MODEL_TYPES = ("smolvlm", "idefics3")  # the first SmolVLM is published as idefics3: the same modules and names


@dataclass(frozen=True, slots=True)
class ProspectSettings:
    """What a checkpoint remembers, in config.json under "prospect" (the members of `extra` beside the others)."""

    tokens_per_frame: int
    image_mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: tuple[float, ...] = (0.5, 0.5, 0.5)
    vision_chunk: int = 64  # most frames in one forward of the vision tower
    extra: dict[str, Any] = field(default_factory=dict)  # the caller's: packing, frame_wrap, ...

    @classmethod
    def of(cls, config: SmolVLMConfig) -> "ProspectSettings":
        """Give the settings in `config`, or of a plain checkpoint: native tokens, SmolVLM2's normalisation."""
        record: dict[str, Any] = {"tokens_per_frame": native_tokens(config)} | getattr(config, "prospect", {})
        names = [f.name for f in fields(cls) if f.name != "extra"]
        ours = {name: _as_tuple(record.pop(name)) for name in names if name in record}
        return cls(**ours, extra=record)

    def put_into(self, config: SmolVLMConfig) -> None:
        config.prospect = {
            "tokens_per_frame": self.tokens_per_frame,
            "image_mean": list(self.image_mean),
            "image_std": list(self.image_std),
            "vision_chunk": self.vision_chunk,
            **self.extra,
        }


def read_config(
    where: str, tokens_per_frame: int | Literal["native"] | None, vision_chunk: int, extra: Mapping[str, Any]
) -> SmolVLMConfig:
    """Read the config of the checkpoint folder `where` (see `hub.checkpoint_folder`) with our settings.

    Args:
        tokens_per_frame: None: what is remembered, else native.

    Raises:
        ProspectError: no SmolVLM checkpoint is there, or it cannot give that many tokens a frame.
    """
    with loading_errors(where):
        record, _ = SmolVLMConfig.get_config_dict(where)
        if record.get("model_type") not in MODEL_TYPES:
            raise ProspectError(
                f"{where}: found model_type {record.get('model_type')!r}, expected 'smolvlm'; give a SmolVLM2 "
                "checkpoint such as HuggingFaceTB/SmolVLM2-2.2B-Instruct"
            )
        vision = {key: value for key, value in record["vision_config"].items() if key != "model_type"}
        config = SmolVLMConfig.from_dict(record | {"model_type": "smolvlm", "vision_config": vision})
        processor = load_image_processor(where)
    saved = ProspectSettings.of(config)
    ProspectSettings(
        saved.tokens_per_frame if tokens_per_frame is None else _checked_tokens(where, config, tokens_per_frame),
        tuple(processor.image_mean),
        tuple(processor.image_std),
        vision_chunk,
        saved.extra | dict(extra),
    ).put_into(config)
    return config


def with_tokens(config: SmolVLMConfig, where: str, wanted: int | Literal["native"]) -> SmolVLMConfig:
    """Give `config` with `wanted` tokens a frame in our settings; `where` goes into the error, as in `read_config`."""
    ProspectSettings(_checked_tokens(where, config, wanted)).put_into(config)
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
    try:
        with loading_errors(str(folder)):
            return AutoTokenizer.from_pretrained(str(folder))
    except ProspectError:
        raise
    except Exception as error:  # tokenizers knows no narrower one for a broken tokenizer.json
        reason = " ".join(str(error).split())[:200]
        raise ProspectError(
            f"{folder}: its tokenizer cannot be read ({reason}), expected tokenizer.json and tokenizer_config.json "
            "as they were saved; copy them again"
        ) from None


@contextmanager
def loading_errors(where: str) -> Iterator[None]:
    """Raise transformers' errors (files missing, unreadable or of another shape) as ours, on one line."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ProspectError(
            f"{where}: cannot be loaded ({reason}), expected a whole SmolVLM2 checkpoint; download it, and pass its "
            "folder as model.checkpoint"
        ) from None


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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
