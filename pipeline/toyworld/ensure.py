"""The toy world where it is absent, so that every command works without options."""

from pathlib import Path
from typing import Literal

from pipeline.annotations.clips import SPLITS
from pipeline.progress import Progress
from pipeline.shards.build import build_split
from pipeline.shards.manifest import MANIFEST
from pipeline.toyworld.make import make_toy, num_clips

DATASET = "toyworld"
DEFAULT_ROOT = Path("data/toy")
DEFAULT_CLIPS = 300


def ensure_toy(
    root: Path,
    progress: Progress,
    *,
    preset: Literal["standard", "hard"] = "standard",
    seed: int = 0,
    clips: int = DEFAULT_CLIPS,
) -> dict[str, int] | None:
    """Render the toy world into ROOT/toyworld; None when it is there already, else clips by split."""
    if (root / DATASET).exists():
        return None
    total, done = sum(num_clips(clips).values()), 0

    def on_clip() -> None:
        nonlocal done
        done += 1
        progress("rendering clips", done, total)

    return make_toy(root, seed=seed, clips=clips, preset=preset, on_clip=on_clip)


def ensure_toy_shards(root: Path, shards: Path, preset: Literal["standard", "hard"], progress: Progress) -> None:
    """Make the toy world under `root` and its shards under `shards`, each where absent."""
    ensure_toy(root, progress, preset=preset)
    for split in SPLITS:
        if not (shards / DATASET / split / MANIFEST).is_file():
            build_split(root, DATASET, split, shards, progress=progress)
