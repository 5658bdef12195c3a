"""A data root to review, whose files are written as people write them."""

import json
import subprocess
from pathlib import Path
from typing import Any

from prospect.web.review.documents import Documents
from prospect.web.review.routes import make_review
from tests.helpers.fakes import raw_clip, write_frames

HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


def clip(**changes: Any) -> dict[str, Any]:
    """`raw_clip`, every turn of which lists the steps touched so far."""
    made = raw_clip(**changes)
    if "conversation" not in changes:
        made["conversation"][4]["dst_state"]["S2"] = "not_started"
    return made


def review_root(root: Path, clips: list[dict[str, Any]] | None = None, **style: Any) -> Path:
    """ROOT/x/train_training.json with frames, in a git repository of its own; gives the file."""
    clips = [clip(), clip(video_uid="v2", frames_file="frames/v2.arrow")] if clips is None else clips
    folder = root / "x"
    folder.mkdir(parents=True)
    path = folder / "train_training.json"
    path.write_text(json.dumps(clips, **({"indent": 1, "ensure_ascii": False} | style)) + "\n", encoding="utf-8")
    for video in ("v1", "v2"):
        write_frames(folder / "frames" / f"{video}.arrow", 20)
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "as it was"],
    ):
        subprocess.run(["git", *words], cwd=root, check=True)
    return path


def diff(root: Path) -> list[str]:
    """The lines that `git diff` shows as gone and as new."""
    done = subprocess.run(["git", "diff", "-U0", "--no-color"], cwd=root, check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]


def review_of(root: Path, predictions: Any = None) -> Any:
    """For `served`: the review of a root."""
    documents = Documents(root)
    return lambda address: make_review(documents, predictions, address)
