"""Settings from a YAML file and the command line, and back: found by name, read, overridden, explained, written."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pipeline.annotations.files import annotated, datasets
from pipeline.errors import ProspectError
from pipeline.io.records import problem_of, read_whole, shown
from pipeline.io.yaml_text import read_yaml, write_yaml
from prospect.config import Config
from prospect.setting_list import as_yaml, record_in, suggest_setting

PACKAGED = tuple(Path(__file__).parents[n] / "configs" for n in (0, 1))  # of an installed wheel, of a checkout
FIX = "name a config (make one with prospect init)"
MOST_BYTES = 1 << 20  # of a config
NO_TEXT = ("null", "~", "")  # YAML for nothing
RENAMED = {  # settings of older runs that mean the same under another name: that name, and each value's there
    "data.dst": ("memory", {True: "dst", False: "none"}),
    "train.loss.balanced": ("binary", {True: "balanced", False: "plain"}),
}
RETIRED = {  # settings of older runs that mean nothing any more
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
    if not path.exists():
        raise ProspectError(f"{path}: no such config")
    try:
        record = read_yaml(read_whole(path, FIX, MOST_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ProspectError(f"{path}: not valid YAML ({error})") from None
    except ProspectError:
        raise
    except ValueError as error:
        raise ProspectError(f"{path}: {error}") from None
    if not isinstance(record, dict):
        raise ProspectError(f"{path}: found {type(record).__name__}, expected sections such as data:, model:, train:")
    for override in overrides:
        _apply(record, override)
    _drop_old(record, path)
    return _validated(record, str(path))


def dump_config(config: Config) -> str:
    """Write the resolved settings as YAML; `load_config` reads them back."""
    return write_yaml(config.model_dump(mode="json"), sort_keys=False)


def starter_config(
    preset: Path, name: str, data_root: Path, dataset: str | None = None, frames_root: Path | None = None
) -> str:
    """Write a config for one's own data: `preset` with that data, each setting explained, all others as comments.

    Raises:
        ProspectError: DATA_ROOT has no dataset with a training split, or several and none is named; a bad name.
    """
    there = [found for found, _ in annotated(data_root, dataset, "train")]
    if len(there) > 1:
        raise ProspectError(f"{data_root}: found the datasets {', '.join(there)}, expected one; pass --dataset")
    record = read_yaml(preset.read_text(encoding="utf-8"))
    evaluated = [split for split in ("val", "test") if there[0] in datasets(data_root, split)]
    record["name"] = name
    record["data"] |= {"dataset": there[0], "root": str(data_root), "eval_splits": evaluated}
    if frames_root:
        record["data"]["frames_root"] = str(frames_root)
    _validated(record, f"{name}.yaml")
    head = f"# Made by prospect init from {preset.stem}. A line that begins with # has its default."
    return "\n".join([head, "", *_explained(Config, record, "")]) + "\n"


def _explained(section: type[BaseModel], record: Mapping[str, Any] | None, indent: str) -> Iterator[str]:
    """The lines of a section; None: of one that is not in the config, as comments."""
    for name, field in section.model_fields.items():
        inner, about = record_in(field.annotation), " ".join((field.description or "").split())
        is_set = record is not None and name in record
        mark = "" if is_set else "# "
        value = record[name] if record is not None and is_set else field.default
        if inner and (isinstance(value, dict) or not is_set):
            yield f"{indent}{mark}{name}:  # {about}"
            yield from _explained(inner, value if isinstance(value, dict) else None, f"{indent}{mark}  ")
        else:
            yield f"{indent}{mark if record is not None else ''}{name}: {as_yaml(value)}  # {about}"


def _validated(record: Mapping[str, Any], place: str) -> Config:
    try:
        return Config.model_validate(record)
    except ValidationError as error:
        raise ProspectError("\n".join(f"{place}: {_explain(detail)}" for detail in error.errors())) from None


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
        record[last] = read_yaml(value)
    except ValueError as error:
        raise ProspectError(f"--set {key}: found {shown(value)}, {error}") from None


def _is_text(key: str) -> bool:
    """Whether a setting holds text, so that `name=3` and `name=no` are the texts that they look like."""
    record: type[BaseModel] | None = Config
    annotation: Any = None
    for name in key.split("."):
        if record is None or name not in record.model_fields:
            return False
        annotation = record.model_fields[name].annotation
        record = record_in(annotation)
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return bool({*kinds} & {str, Path})


def _drop_old(record: dict[str, Any], path: Path) -> None:
    """Say what older versions knew in today's names; leave out what has none, and tell where it meant something."""
    for name, (now, values) in RENAMED.items():
        section, last = _section_of(name, record)
        if isinstance(section.get(last), bool):
            section.setdefault(now, values[section.pop(last)])
    for name, instead in RETIRED.items():
        section, last = _section_of(name, record)
        if section.pop(last, None) is not None:
            warnings.warn(f"{path}: {name} is no setting any more and does nothing: {instead}", stacklevel=3)


def _section_of(name: str, record: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The section of `record` that would hold the setting, empty where there is none, and its name there."""
    *sections, last = name.split(".")
    section: Any = record
    for part in sections:
        section = section.get(part) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}, last


def _explain(detail: Mapping[str, Any]) -> str:
    place = ".".join(map(str, detail["loc"]))[:200]
    if detail["type"] == "extra_forbidden":
        return f"no setting {place!r}; {suggest_setting(place)}"
    if detail["type"] == "missing":
        return f"{place}: found nothing, expected this setting"
    return problem_of(detail) if detail["loc"] else f"config: {problem_of(detail)}"
