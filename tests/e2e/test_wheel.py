"""The wheel by itself: what is in it, and that it runs from an empty folder, without the repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.places import CONFIGS, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_packages_configs_and_pages_and_nothing_at_the_top_level(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"pipeline", "prospect"}
    assert {f"prospect/configs/{path.name}" for path in CONFIGS.glob("*.yaml")} <= names
    assets = {str(path.relative_to(ROOT)) for path in (ROOT / "prospect").rglob("assets/*")}
    assert assets and assets <= names


def test_it_makes_builds_and_trains_from_an_empty_folder(wheel, tmp_path):
    place, folder = tmp_path / "installed", tmp_path / "empty"
    folder.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", place, wheel]
    subprocess.run(list(map(str, install)), check=True, capture_output=True)
    script = next(path for path in (place / "bin").iterdir() if path.name == "prospect")
    environment = os.environ | {"PYTHONPATH": str(place), "COLUMNS": "120"}

    def prospect(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, script, *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import prospect.config_file, pipeline; print(prospect.config_file.__file__, pipeline.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], cwd=folder, env=environment, capture_output=True, text=True
    ).stdout.split()
    assert all(path.startswith(str(place)) for path in found), found
    assert prospect("--version").startswith("prospect 0.")
    prospect("make-toy", "--clips", 8)
    for split in ("train", "val"):
        prospect("build-shards", "--split", split, "--data-root", "data/toy", "--workers", 1)
    small = ["train.epochs=1", "data.eval_splits=[val]", "data.num_workers=0", "data.cache=cache"]
    out = prospect("train", "--config", "toy", *[f"--set={one}" for one in small])
    assert "metrics: runs/toy/metrics.json" in out and (folder / "runs/toy/metrics.json").is_file()
