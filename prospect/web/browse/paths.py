"""What the paths are that `prospect browse` was given: annotations, shards, runs, evaluations, by what is in them.

A folder may be several: a run has evaluations in it, a data root datasets, a folder of shards splits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.annotations.files import annotated, annotation_file
from pipeline.errors import ProspectError
from pipeline.io.storage import LocalFolder
from pipeline.shards.manifest import MANIFEST, read_manifest
from prospect import runs
from prospect.config_file import load_config
from prospect.evaluation.predictions import read_prediction
from prospect.evaluation.results import PREDICTIONS

EXPECTED = (
    "a data root or a dataset's folder (SPLIT_training.json), shards (OUT/DATASET/SPLIT), a run (runs/NAME) or an "
    "evaluation (runs/NAME/evaluation/SPLIT)"
)
DEFAULT_ROOT = Path("data")


@dataclass(frozen=True, slots=True)
class Annotations:
    """A split of a dataset, as it is annotated."""

    data_root: Path
    dataset: str
    split: str
    file: Path


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Predictions of a run: a folder of files, one a clip."""

    name: str  # as pages name it; unique
    folder: Path  # of an evaluation, or of KEY.json themselves
    run: Path | None

    @property
    def predictions(self) -> Path:
        """The folder of KEY.json of the model itself."""
        tried = (self.folder / PREDICTIONS / "model", self.folder / "model", self.folder)
        return next((path for path in tried if _has_json(path)), self.folder)


@dataclass(slots=True)
class Given:
    """All that the paths hold, in their order."""

    annotations: list[Annotations] = field(default_factory=list)
    shards: list[Path] = field(default_factory=list)  # split folders of finished builds
    runs: list[Path] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)

    @property
    def data_roots(self) -> list[Path]:
        """Where frames files may lie: the data roots given, and those of the runs; else ./data."""
        given = [one.data_root for one in self.annotations]
        for run in [*self.runs, *(one.run for one in self.evaluations if one.run)]:
            settings = load_config(run / runs.CONFIG).data
            given += [settings.root, *([settings.frames_root] if settings.frames_root else [])]
        return list(dict.fromkeys(given or [DEFAULT_ROOT]))


def recognize(paths: Sequence[Path]) -> Given:
    """Tell what each path is.

    Raises:
        ProspectError: one is nothing that can be shown.
    """
    given = Given()
    for path in paths:
        _add(path, given)
    return given


def _add(path: Path, given: Given) -> None:
    if not path.is_dir():
        raise ProspectError(f"{path}: {'a file' if path.is_file() else 'no such folder'}, expected {EXPECTED}")
    if (path / MANIFEST).is_file():
        read_manifest(LocalFolder(path))
        _once(given.shards, path)
    elif _is_run(path):
        _add_run(path, given)
    elif _is_evaluation(path):
        _add_evaluation(path, given)
    elif _splits(path):
        data_root, dataset = path.absolute().parent, path.absolute().name
        data_root = path.parent if path.name == dataset else data_root
        _add_annotations(data_root, dataset, given)
    elif any(_splits(one) for one in _folders(path)):
        _add_annotations(path, None, given)
    elif splits := [one.parent for depth in ("*", "*/*") for one in sorted(path.glob(f"{depth}/{MANIFEST}"))]:
        for folder in splits:
            read_manifest(LocalFolder(folder))
            _once(given.shards, folder)
    elif found := [one for one in _folders(path) if _is_run(one)]:
        for run in found:
            _add_run(run, given)
    else:
        raise ProspectError(f"{path}: found none of what can be shown, expected {EXPECTED}")


def _add_annotations(data_root: Path, dataset: str | None, given: Given) -> None:
    for name, split in annotated(data_root, dataset, None):
        _once(given.annotations, Annotations(data_root, name, split, annotation_file(data_root, name, split)))


def _add_run(run: Path, given: Given) -> None:
    _once(given.runs, run)
    for folder in _folders(run / runs.EVALUATION):
        if _is_evaluation(folder):
            _add_evaluation(folder, given)


def _add_evaluation(folder: Path, given: Given) -> None:
    if any(one.folder == folder for one in given.evaluations):
        return
    above = folder.absolute().parents
    run = None
    if above[0].name == runs.EVALUATION and _is_run(above[1]):
        run = folder.parent.parent if len(folder.parts) > 2 else above[1]
    parts = [above[1].name, folder.absolute().name] if run else folder.absolute().parts[-2:]
    name, taken = "/".join(parts), {one.name for one in given.evaluations}
    unique = next(one for one in _numbered(name) if one not in taken)
    given.evaluations.append(Evaluated(unique, folder, run))


def _numbered(name: str) -> Iterator[str]:
    yield name
    for number in range(2, 10_000):
        yield f"{name} ({number})"


def _once(listed: list[Any], one: object) -> None:
    if one not in listed:
        listed.append(one)


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir()) if path.is_dir() else []


def _splits(folder: Path) -> bool:
    return any(folder.glob("*_training.json*"))


def _is_run(path: Path) -> bool:
    made = (runs.CHECKPOINTS, runs.METRICS_LOG, runs.METRICS, runs.EVALUATION)
    return (path / runs.CONFIG).is_file() and any((path / name).exists() for name in made)


def _is_evaluation(path: Path) -> bool:
    if _has_json(path / PREDICTIONS / "model"):
        return True
    first = next(iter(sorted(path.glob("*.json"))), None)
    if first is None or _splits(path):
        return False
    try:
        read_prediction(first)
    except ProspectError:
        return False
    return True


def _has_json(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob("*.json"))
