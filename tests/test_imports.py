"""The house keeps its order: no circle of modules, arrows run down, nothing below the commands knows a terminal."""

import ast
import re
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

LEVELS = (  # from the top; a module imports its own package and those of lower levels alone
    {"prospect.commands"},
    {"prospect.web"},
    {"prospect.evaluation", "prospect.looking", "prospect.train"},
    {"prospect.stream"},
    {"prospect.setup"},
    {"prospect.model", "prospect.data"},
    {"prospect.config_file", "prospect.losses", "prospect.turn_layout"},
    {"prospect.setting_list"},
    {"prospect.layout", "prospect.config", "prospect.runs", "prospect.revision", "prospect.pages"},
    {"prospect.carried"},
    {"pipeline.importers", "pipeline.toyworld"},
    {"pipeline.spans"},
    {"pipeline.shards"},
    {"pipeline.annotations", "pipeline.endpoint", "pipeline.io", "pipeline.video"},
    {"pipeline.errors", "pipeline.progress"},
)
TERMINAL = re.compile(r"\b(typer\b|Console\(|rich\.(live|progress|prompt)\b|print\(|getpass|input\()")


def modules() -> dict[str, Path]:
    paths = [path for package in ("pipeline", "prospect") for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


MODULES = modules()


def imports(name: str) -> set[str]:
    """The modules of the house that a module imports, inside functions too (not those for type checkers alone)."""
    tree = ast.parse(MODULES[name].read_text())
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return (found & MODULES.keys()) - {name}


GRAPH = {name: imports(name) for name in MODULES}


def level_of(name: str) -> int:
    package = ".".join(name.split(".")[:2])
    return next((number for number, level in enumerate(LEVELS) if package in level), -1)


def test_every_module_has_a_level():
    assert [name for name in MODULES if level_of(name) < 0 and "." in name] == ["prospect.__main__"]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_arrows_run_down(name):
    here = level_of(name)
    if here < 0:
        return  # the packages themselves, and __main__, which starts the commands
    package = name.split(".")[:2]
    upwards = [other for other in GRAPH[name] if level_of(other) <= here and other.split(".")[:2] != package]
    assert upwards == []


def test_there_is_no_circle():
    """Modules that import nothing left are taken away, until none is left: a circle would stay."""
    left = {name: set(others) for name, others in GRAPH.items()}
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    assert left == {}


@pytest.mark.parametrize("package", ["pipeline", "prospect"])
def test_torch_stays_out_of_the_offline_stage_and_the_terminal_in_the_commands(package):
    for name, path in MODULES.items():
        text = path.read_text()
        if name.startswith("pipeline"):
            assert not re.search(r"^\s*(import|from) (torch|transformers)\b", text, re.M), name
        if not name.startswith("prospect.commands"):
            assert not TERMINAL.search(text), name
            knows_it = name.startswith("pipeline.toyworld") or name == "prospect.train.practice"
            assert "toyworld" not in text or knows_it, f"{name} makes a toy dataset"


def test_train_and_stream_do_not_import_each_other():
    for name, others in GRAPH.items():
        for one, other in (("prospect.train", "prospect.stream"), ("prospect.stream", "prospect.train")):
            assert not (name.startswith(one) and any(found.startswith(other) for found in others)), name


def test_tests_import_no_other_test():
    for path in (ROOT / "tests").rglob("*.py"):
        assert not re.search(r"^from tests\.(?!helpers)\S*\.?(test_\w+|conftest) import", path.read_text(), re.M), path
