"""YAML as version 1.2 has it, in its core schema: `no` is text, `1:30` is no 90, `010` is ten, `1e-4` a number, a date
text; and a key stands once. PyYAML alone reads YAML 1.1, of 2005.
"""

import re
from collections import Counter
from typing import Any

import yaml

CORE = (  # tag, how its values look, how they begin
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", [*"tTfF"]),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", [*"-+0123456789"]),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        [*"-+.0123456789"],
    ),
)
MOST_DIGITS = 100  # of an integer: Python takes a square of them to read it


def read_yaml(text: str) -> Any:
    """Read one YAML document.

    Raises:
        ValueError: it is none; says what is wrong on one line.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise ValueError(f"not valid YAML ({' '.join(str(error).split())[:300]})") from None


def write_yaml(value: Any, **options: Any) -> str:
    """Write YAML that `read_yaml` reads back, and readers of YAML 1.1 as well."""
    return yaml.dump(value, Dumper=_Dumper, **options)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            times = Counter(key.value for key in keys)
            if twice := [key for key in keys if times[key.value] > 1]:
                problem = f"found {twice[-1].value[:100]!r} twice, expected it once"
                raise yaml.constructor.ConstructorError(None, None, problem, twice[-1].start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Also quotes what reads otherwise in YAML 1.1."""

    yaml_implicit_resolvers = {first: list(kinds) for first, kinds in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012


def _integer(loader: _Loader, node: Any) -> int:
    text = str(loader.construct_scalar(node))
    if len(text) > MOST_DIGITS:
        raise ValueError(f"found an integer of {len(text)} digits, expected at most {MOST_DIGITS}")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
for _tag, _pattern, _first in CORE:
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^{_pattern}$"), _first)
