"""Folders that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
CONFIGS = ROOT / "configs"
REAL = ROOT.parent / "shared" / "data" / "real"  # others' annotations, beside the repository; tests skip without them
