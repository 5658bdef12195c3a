"""A new video, dropped on the page: its frames file, and an empty clip to annotate."""

from pathlib import Path
from typing import Any

from pipeline.errors import ProspectError
from pipeline.importers.video import extract_frames
from pipeline.importers.video_names import Source
from pipeline.io.engine import LocalEngine
from pipeline.io.frame_store import open_frames
from pipeline.progress import unwatched
from pipeline.video.settings import Settings
from prospect.web.review.documents import Documents

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".3gp")
MOST_BYTES = 8_000_000_000
FPS = 2.0


def refuse_known(documents: Documents, dataset: str, name: str) -> None:
    """
    Raises:
        ProspectError: the dataset has frames of that name, which others may rely on.
    """
    path = documents.data_root / dataset / "frames" / f"{name}.arrow"
    if path.exists():
        raise ProspectError(f"{name}: {dataset} has frames of a video of this name; rename the file, and drop it again")


def add_video(
    documents: Documents, dataset: str, split: str, name: str, video: Path, fps: float = FPS
) -> tuple[str, int]:
    """Make the frames file of a video, and an empty clip of all of it; gives the clip's file and place.

    Raises:
        ProspectError: it is no video, is damaged, or there is one of its name.
    """
    refuse_known(documents, dataset, name)
    out = documents.data_root / dataset / "frames"
    with LocalEngine(1) as engine:
        (made,) = extract_frames([Source(name, (video,))], out, Settings(fps=fps), engine, unwatched)
    if made.error:
        raise ProspectError(f"{name}: {made.error.replace(str(video), name)}")
    rows = len(open_frames(out / f"{name}.arrow"))
    clip: dict[str, Any] = {
        "video_uid": name, "clip_idx": 0, "fps": int(fps) if fps == int(fps) else fps,
        "frames_file": f"frames/{name}.arrow", "start_frame_idx": 0, "end_frame_idx": rows - 1,
        "dst": [], "conversation": [],
    }  # fmt: skip
    file, index = documents.append(dataset, split, clip)
    return file.name, index
