"""Where a run's numbers come from: what two runs must have in common for their metrics to compare (`compare.py`)."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.annotations.clips import Clip, encode_clip
from prospect.config import Config
from prospect.runs import ENVIRONMENT


def origin(config: Config, clips: Mapping[str, Sequence[Clip]]) -> dict[str, Any]:
    """Give, for metrics.json, a digest of the data by split, the precision, and the code's revision.

    Args:
        clips: of the run's splits by name; those that were trained on are measured under the name `train`.
    """
    digests = {name: _digest(of_split) for name, of_split in clips.items()}
    ran_with = json.loads((config.folder / ENVIRONMENT).read_text())
    revision, commit = ran_with["packages"]["prospect-vlm"], ran_with["git_commit"]
    if commit:
        revision += f", commit {commit[:12]}" + (", changed" if ran_with["git_changed"] else "")
    return {
        "data": digests | {"train": digests[config.data.train_split]},
        "precision": config.model.dtype + (", bf16 autocast" if config.train.bf16 else ""),
        "revision": revision,
    }


def _digest(clips: Iterable[Clip]) -> str:
    """Of the clips in any order, 16 hexadecimal digits: the same whatever shards they are in."""
    each = sorted(hashlib.sha256(encode_clip(clip)).digest() for clip in clips)
    return hashlib.sha256(b"".join(each)).hexdigest()[:16]
