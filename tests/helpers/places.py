"""Folders that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
CONFIGS = ROOT / "configs"
DATA = ROOT / "tests" / "data"
REAL = ROOT.parent / "shared" / "data" / "real"  # others' annotations, where they lie beside the repository
