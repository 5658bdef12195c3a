"""A run's folder: the names in it, and its checkpoints. Nobody else spells them.

    runs/NAME/
      config.yaml           the resolved settings
      environment.json      packages, hardware, commit
      init/                 a preset's random weights, as an ordinary checkpoint
      checkpoints/          checkpoint-STEP/, the last few; .partial/ while one is written
      metrics.jsonl         a line an evaluation; skipped.jsonl: a line a broken sample
      metrics.json          at the end: the run is finished
      tensorboard/
      evaluation/SPLIT/     of `prospect evaluate`; calibration/SPLIT/ of `prospect calibrate`

A checkpoint is what transformers and peft save (weights, tokenizer, image processor, optimizer, scheduler) and
data_position.json, written last: without it a checkpoint is not complete. `prospect calibrate` adds thresholds.json.
"""

import re
from pathlib import Path

from pipeline.errors import ProspectError

CONFIG, ENVIRONMENT, INIT = "config.yaml", "environment.json", "init"
METRICS, METRICS_LOG, SKIPPED_LOG, TENSORBOARD = "metrics.json", "metrics.jsonl", "skipped.jsonl", "tensorboard"
CHECKPOINTS, STAGING = "checkpoints", ".partial"
EVALUATION, CALIBRATION = "evaluation", "calibration"
POSITION, THRESHOLDS = "data_position.json", "thresholds.json"  # of a checkpoint
OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"  # likewise
HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+(?:/[\w.-]+)*))?")  # ORG/NAME, or ORG/NAME@REVISION
RUN_FILES = (
    CONFIG,
    ENVIRONMENT,
    INIT,
    METRICS,
    METRICS_LOG,
    SKIPPED_LOG,
    TENSORBOARD,
    CHECKPOINTS,
    EVALUATION,
    CALIBRATION,
)
CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")


def strangers(run: Path) -> list[str]:
    """List what is in a run's folder that no command puts there."""
    return sorted(path.name for path in run.iterdir() if path.name not in RUN_FILES and path.suffix != ".partial")


def checkpoints(run: Path) -> list[Path]:
    """List the complete checkpoints of a run, oldest first."""
    there = ((CHECKPOINT_NAME.fullmatch(path.name), path) for path in (run / CHECKPOINTS).glob("checkpoint-*"))
    complete = [(int(name[1]), path) for name, path in there if name and (path / POSITION).is_file()]
    return [path for _, path in sorted(complete)]


def find_checkpoint(place: str) -> str:
    """Find the checkpoint that `place` names: a checkpoint's folder, a run's (its last one), or a hub id.

    Raises:
        ProspectError: a folder that is neither, or none.
    """
    folder = Path(place)
    if not folder.is_dir() and not may_be_hub_id(place):
        raise ProspectError(
            f"{place}: found no such folder, expected a checkpoint's folder, a run's, or a hub id; train one with "
            "prospect train"
        )
    if not folder.is_dir() or (folder / "config.json").is_file():
        return place
    complete = checkpoints(folder)
    if not complete:
        raise ProspectError(
            f"{place}: found neither config.json nor checkpoints/, expected a checkpoint's folder or a run's; train "
            "one with prospect train"
        )
    return str(complete[-1])


def may_be_hub_id(place: str) -> bool:
    """Whether `place` looks like ORG/NAME (or ORG/NAME@REVISION) of a hub, and like no path here."""
    return HUB_ID.fullmatch(place) is not None and not Path(place).parent.exists()


def run_of(checkpoint: Path) -> Path | None:
    """Find the run that a checkpoint stands in; None: it stands elsewhere."""
    run = checkpoint.parent.parent
    return run if checkpoint.parent.name == CHECKPOINTS and (run / CONFIG).is_file() else None


def finished_runs(folder: Path) -> list[Path]:
    """List the finished runs of `folder`, by name.

    Raises:
        ProspectError: there is none.
    """
    finished = sorted(path.parent for path in folder.glob(f"*/{METRICS}"))
    if not finished:
        raise ProspectError(
            f"{folder}: found no finished run, expected one with {METRICS}; make one with prospect train"
        )
    return finished
