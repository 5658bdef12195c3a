"""Settings from a YAML file and the command line, and back: found by name, read, overridden, explained, written."""

import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from pipeline.annotations.files import annotated, datasets
from pipeline.errors import ProspectError
from prospect.config import Config

PACKAGED = tuple(Path(__file__).parents[n] / "configs" for n in (0, 1))  # of an installed wheel, of a checkout
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
}
NO_TEXT = ("null", "~", "")  # YAML for nothing
RETIRED = {  # settings of older runs
    "data.toy": "prospect make-toy renders the toy world, prospect build-shards makes its shards; leave the line out",
}


def find_config(name: str) -> Path:
    """Find a config: a file, or the name of a packaged one, such as `toy`.

    Raises:
        ProspectError: neither.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and path.name == name:
        for folder in PACKAGED:
            if (folder / f"{name}.yaml").is_file():
                return folder / f"{name}.yaml"
    if not path.is_file():
        raise ProspectError(
            f"--config {name}: no such file, expected a YAML file (make one with prospect init) or one of "
            f"{', '.join(packaged_configs())}"
        )
    return path


def packaged_configs() -> list[str]:
    """List the names of the packaged configs."""
    return sorted({path.stem for folder in PACKAGED for path in folder.glob("*.yaml")})


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply `a.b=value` overrides (values are YAML; of a text setting, the text as it is).

    Raises:
        ProspectError: no such file, no YAML, an unknown key (with the nearest one), or a value out of range.
    """
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProspectError(f"{path}: no such config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProspectError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(record, dict):
        raise ProspectError(f"{path}: found {type(record).__name__}, expected sections such as data:, model:, train:")
    for override in overrides:
        _apply(record, override)
    _drop_retired(record, path)
    try:
        return Config.model_validate(record)
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors()]
        raise ProspectError("\n".join(f"{path}: {line}" for line in lines)) from None


def dump_config(config: Config) -> str:
    """Write the resolved settings as YAML; `load_config` reads them back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def starter_config(
    preset: Path, name: str, data_root: Path, dataset: str | None = None, frames_root: Path | None = None
) -> str:
    """Write a config for one's own data: `preset` with that data, each setting explained, all others as comments.

    Raises:
        ProspectError: DATA_ROOT has no dataset with a training split, or several and none is named; a bad name.
    """
    there = [dataset_ for dataset_, _ in annotated(data_root, dataset, "train")]
    if len(there) > 1:
        raise ProspectError(f"{data_root}: found the datasets {', '.join(there)}, expected one; pass --dataset")
    record = yaml.safe_load(preset.read_text(encoding="utf-8"))
    evaluated = [split for split in ("val", "test") if there[0] in datasets(data_root, split)]
    record["name"] = name
    record["data"] |= {"dataset": there[0], "root": str(data_root), "eval_splits": evaluated}
    if frames_root:
        record["data"]["frames_root"] = str(frames_root)
    lines = [f"# Made by prospect init from {preset.stem}. A line that begins with # has its default.", ""]
    lines += _explained(Config, record, "")
    text = "\n".join(lines) + "\n"
    Config.model_validate(yaml.safe_load(text))
    return text


def _explained(section: type[BaseModel], record: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner, about = _record_in(field.annotation), " ".join((field.description or "").split())
        if inner and isinstance(record.get(name), dict):
            yield f"{indent}{name}:  # {about}"
            yield from _explained(inner, record[name], f"{indent}  ")
        elif name in record:
            yield f"{indent}{name}: {_as_yaml(record[name])}  # {about}"
        else:
            default = _as_yaml(None if field.default is PydanticUndefined else field.default)
            yield f"{indent}# {name}: {default}  # {about}"


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


def _settings_of(record: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in record.model_fields.items():
        inner = _record_in(field.annotation)
        about = " ".join((field.description or "").split())
        if inner is None or get_origin(field.annotation) in (Union, UnionType):
            default = "" if field.default is PydanticUndefined else _as_yaml(field.default)
            yield Setting(f"{prefix}{name}", _kind(field.annotation, field.metadata), default, about)
        if inner is not None:
            yield from _settings_of(inner, f"{prefix}{name}.")


def _as_yaml(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


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


def _record_in(annotation: Any) -> type[BaseModel] | None:
    """Give the record of a section's annotation, `X | None` too; None: a plain value."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _apply(record: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ProspectError(f"--set {override!r}: expected KEY=VALUE, e.g. --set train.learning_rate=1e-4")
    *sections, last = key.split(".")
    for section in sections:
        inner = record.setdefault(section, {})
        if inner is None:
            inner = record[section] = {}
        if not isinstance(inner, dict):
            raise ProspectError(f"--set {key}: {section!r} is a value, not a section")
        record = inner
    if _is_text(key) and value not in NO_TEXT:
        record[last] = value
        return
    try:
        record[last] = _number(yaml.safe_load(value))
    except (yaml.YAMLError, ValueError) as error:
        raise ProspectError(f"--set {key}: found {value!r}, not valid YAML ({' '.join(str(error).split())})") from None


def _is_text(key: str) -> bool:
    """Whether a setting holds text, so that `name=3` and `name=no` are the texts that they look like."""
    record: type[BaseModel] | None = Config
    annotation: Any = None
    for name in key.split("."):
        if record is None or name not in record.model_fields:
            return False
        annotation = record.model_fields[name].annotation
        record = _record_in(annotation)
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return bool({*kinds} & {str, Path})


def _number(value: Any) -> Any:
    """YAML reads `1e-4` as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _drop_retired(record: dict[str, Any], path: Path) -> None:
    """Leave out what older versions knew, and say so where it meant something."""
    for name, instead in RETIRED.items():
        *sections, last = name.split(".")
        section: Any = record
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict) and last in section and section.pop(last) is not None:
            warnings.warn(f"{path}: {name} is no setting any more and does nothing: {instead}", stacklevel=3)


def _explain(detail: Mapping[str, Any]) -> str:
    place = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return f"no setting {place!r}; {suggest_setting(place)}"
    if detail["type"] == "missing":
        return f"{place}: found nothing, expected this setting"
    found = "" if isinstance(detail["input"], Mapping | BaseModel) else f"found {detail['input']!r}, "
    said = detail["msg"].removeprefix("Value error, ")
    return f"{place or 'config'}: {found}{said[:1].lower()}{said[1:]}"


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
