"""Which files of a data root hold a split: DATA_ROOT/DATASET/SPLIT_training.json or .jsonl."""

import unicodedata
from pathlib import Path

from pipeline.annotations.clips import SPLITS
from pipeline.errors import ProspectError


def annotation_file(data_root: Path, dataset: str, split: str) -> Path:
    """Find DATA_ROOT/DATASET/SPLIT_training.json or .jsonl.

    Raises:
        ProspectError: the data root, the dataset or the split is not there; the message names what is.
    """
    if not data_root.is_dir():
        raise ProspectError(f"data root {data_root}: no such folder; pass --data-root with the folder of your datasets")
    folder = data_root / dataset
    if Path(dataset).name != dataset or dataset in ("", ".."):
        example = f", e.g. {name}" if (name := Path(dataset).name) not in ("", "..") else ""
        raise ProspectError(f"--dataset {dataset}: expected the name of a folder in {data_root}{example}")
    if not folder.is_dir():
        same = next((name for name in datasets(data_root, split) if _one_form(name) == _one_form(dataset)), None)
        if same:
            raise ProspectError(
                f"{folder}: no such dataset, but one whose name looks the same in another Unicode form, "
                f"{same.encode('ascii', 'backslashreplace').decode()}; rename the folder, or name it with the Tab key"
            )
        there = ", ".join(datasets(data_root, split)) or "none"
        raise ProspectError(f"{folder}: no such dataset; {data_root} has these with a {split} split: {there}")
    path = _split_file(folder, split)
    if path is None:
        there = ", ".join(s for s in SPLITS if _split_file(folder, s)) or "none"
        raise ProspectError(f"{folder}: no {split}_training.json (or .jsonl); splits found there: {there}")
    return path


def datasets(data_root: Path, split: str) -> list[str]:
    """List the datasets under `data_root` that have this split, sorted."""
    return sorted(f.name for f in data_root.iterdir() if f.is_dir() and _split_file(f, split))


def annotated(data_root: Path, dataset: str | None, split: str | None) -> list[tuple[str, str]]:
    """List dataset and split of every annotation file, or those of one dataset or split.

    Raises:
        ProspectError: there is none.
    """
    if dataset and split:
        return [(dataset, split)]
    splits = (split,) if split else SPLITS
    if not data_root.is_dir():
        raise ProspectError(f"data root {data_root}: no such folder; pass --data-root with the folder of your datasets")
    pairs = [(name, s) for s in splits for name in datasets(data_root, s) if dataset in (None, name)]
    if not pairs:
        where = data_root / dataset if dataset else data_root / "DATASET"
        raise ProspectError(
            f"{where}: found no annotations, expected {' or '.join(f'{s}_training.json' for s in splits)}"
        )
    return pairs


def other_annotations(source: Path, split: str) -> list[Path]:
    """List the annotation files of the dataset's other splits."""
    paths = (_split_file(source.parent, other) for other in SPLITS if other != split)
    return [path for path in paths if path]


def _one_form(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _split_file(folder: Path, split: str) -> Path | None:
    paths = [folder / f"{split}_training{suffix}" for suffix in (".json", ".jsonl")]
    there = [path for path in paths if path.is_file()]
    if len(there) > 1:
        raise ProspectError(
            f"{folder}: found {there[0].name} and {there[1].name}, expected one of them; remove the other"
        )
    return there[0] if there else None
