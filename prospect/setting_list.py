"""Every setting by name, for people: listed, documented, suggested."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline.io.yaml_text import write_yaml
from prospect.config import Config

ASKED_AS = {  # what people call it -> what it is called here
    "lr": "train.learning_rate",
    "wd": "train.weight_decay",
    "batch_size": "train.global_batch_size (sequences of a step) or train.micro_batch_size (of one forward)",
    "per_device_train_batch_size": "train.micro_batch_size",
    "grad_accum": "nothing to set: train.global_batch_size / (train.micro_batch_size x ranks)",
    "gradient_accumulation_steps": "nothing to set: train.global_batch_size / (train.micro_batch_size x ranks)",
    "steps": "train.max_steps",
    "num_epochs": "train.epochs",
    "num_train_epochs": "train.epochs",
    "warmup": "train.warmup_steps",
    "warmup_ratio": "train.warmup_steps (below 1 it is a share)",
    "grad_clip": "train.max_grad_norm",
    "logging_steps": "train.log_steps",
    "save_total_limit": "train.keep_checkpoints",
    "fp16": "train.bf16",
    "workers": "data.num_workers",
    "max_length": "data.max_seq_len",
    "context_length": "data.max_seq_len",
    "data_root": "data.root",
    "output_dir": "runs",
    "lora_r": "model.lora.rank",
    "balanced": "train.loss.binary",
    "focal": "train.loss.binary",
    "dst": "data.memory (none: no DST turns and no state, a model that only speaks)",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, for people."""

    name: str  # with its sections: train.learning_rate
    kind: str  # what values it takes
    default: str  # as YAML has it; empty: it has to be given
    about: str


def list_settings() -> list[Setting]:
    """List every setting, in the order of the records."""
    return list(_settings_of(Config, ""))


def find_settings(word: str) -> list[Setting]:
    """List the settings with `word` in their names, and the one that others call so."""
    named = ASKED_AS.get(word, "").split()
    return [one for one in list_settings() if word in one.name or one.name in named]


def _settings_of(record: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in record.model_fields.items():
        inner = record_in(field.annotation)
        about = " ".join((field.description or "").split())
        if inner is None or get_origin(field.annotation) in (Union, UnionType):
            default = "" if field.default is PydanticUndefined else as_yaml(field.default)
            yield Setting(f"{prefix}{name}", _kind(field.annotation, field.metadata), default, about)
        if inner is not None:
            yield from _settings_of(inner, f"{prefix}{name}.")


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say what values an annotation takes: `int > 0`, `clip | turn`, `a file or folder`."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0], parts[1:])
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (Union, UnionType):
        return " | ".join("none" if part is type(None) else _kind(part) for part in parts)
    if origin is tuple:
        kinds = [_kind(part) for part in parts if part is not Ellipsis]
        return f"list of {kinds[0]}" if Ellipsis in parts else f"[{', '.join(kinds)}]"
    if origin is dict:
        return f"{_kind(parts[0])}: {_kind(parts[1])}, ..."
    plain = {str: "text", Path: "path", bool: "true | false"}.get(annotation, getattr(annotation, "__name__", "?"))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        plain = "section"
    return f"{plain} {_bounds(metadata)}".strip()


def _bounds(metadata: Sequence[Any]) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    inner = [entry for item in metadata for entry in (getattr(item, "metadata", None) or [item])]
    limits = ((sign, getattr(item, name, None)) for item in inner for name, sign in signs.items())
    return ", ".join(f"{sign} {limit}" for sign, limit in limits if limit is not None)


def settings_markdown() -> str:
    """Write docs/settings.md: a table a section."""
    lines = [
        "# Settings",
        "",
        "Every setting of a config. `prospect init` writes a config that explains them; `--set NAME=VALUE` changes one",
        "for a run. Made by `make docs` from `prospect/config.py`; `prospect settings [WORD]` prints the same.",
    ]
    section = ""
    for one in list_settings():
        if (name := one.name.rpartition(".")[0] or "the run") != section:
            section = name
            lines += ["", f"## {section}", "", "| setting | default | values | what it does |", "|---|---|---|---|"]
        cells = (f"`{one.name}`", f"`{one.default}`" if one.default else "–", one.kind, one.about)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def suggest_setting(place: str) -> str:
    """Name the setting that was meant: by what others call it, by its last word, or by likeness of the whole."""
    last = place.rpartition(".")[2]
    settings = [setting.name for setting in list_settings()]
    names = list(dict.fromkeys(name.rsplit(".", cut)[0] for name in settings for cut in range(name.count(".") + 1)))
    same = [name for name in names if name.rpartition(".")[2] == last]
    meant = ASKED_AS.get(last) or next(iter(same), None)
    if meant is None:
        by_last = {name.rpartition(".")[2]: name for name in reversed(names)}
        near = difflib.get_close_matches(place, names, n=1, cutoff=0.8)
        near = near or [by_last[word] for word in difflib.get_close_matches(last, by_last, n=1, cutoff=0.6)]
        meant = next(iter(near), None)
    return f"did you mean {meant!r}?" if meant else "prospect settings lists them all"


def as_yaml(value: Any) -> str:
    """Write a value on one line of YAML."""
    if value is PydanticUndefined:
        return "null"
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return write_yaml(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def record_in(annotation: Any) -> type[BaseModel] | None:
    """Give the record of a section's annotation, `X | None` too; None: a plain value."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None
