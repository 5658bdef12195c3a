"""Imports run one way (DESIGN §10)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {  # package: what nothing in it may import
    "pipeline": ("prospect", "torch", "transformers"),
    "prospect/data": ("prospect.train", "prospect.stream", "prospect.evaluation", "prospect.report", "prospect.model"),
    "prospect/model": ("prospect.train", "prospect.stream", "prospect.evaluation", "prospect.report"),
    "prospect/train": ("prospect.stream", "prospect.evaluation"),
    "prospect/stream": ("prospect.train", "prospect.evaluation", "prospect.report"),
    "prospect/evaluation": ("prospect.train",),
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_one_way(package):
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths
    wrong = [
        (str(path.relative_to(ROOT)), name)
        for path in paths
        for name in imported(path)
        for other in FORBIDDEN[package]
        if name == other or name.startswith(f"{other}.")
    ]
    assert wrong == []
