"""Training runs of a few steps on three small clips, in this process."""

import json
from pathlib import Path

from prospect.config_file import load_config
from prospect.runs import checkpoints
from prospect.train.run import Run, train
from prospect.train.runlog import Unwatched
from tests.helpers.places import CONFIGS


def run(folder: Path, name: str, *settings: str, resume: bool = False) -> Run:
    common = [
        "data.dataset=x", f"data.root={folder}/data", f"data.shards={folder}/shards",
        "data.eval_splits=[]", "data.num_workers=0", f"runs={folder}/runs", f"name={name}", "train.log_steps=1",
        f"data.cache={folder}/cache",
        "train.warmup_steps=0", "train.save_steps=1", "train.learning_rate=1e-4",
    ]  # fmt: skip
    return train(load_config(CONFIGS / "toy.yaml", [*common, *settings]), resume=resume)


class Told(Unwatched):
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)


def logged(run: Run) -> list[dict]:
    last = checkpoints(run.folder)[-1]
    return [entry for entry in json.loads((last / "trainer_state.json").read_text())["log_history"] if "loss" in entry]


STEPS = ["train.global_batch_size=2", "train.max_steps=4", "train.epochs=2"]


def config_of(folder, name, *settings):
    common = [
        "data.dataset=x", f"data.root={folder}/data", f"data.shards={folder}/shards",
        "data.eval_splits=[]", "data.num_workers=0", f"runs={folder}/runs", f"name={name}",
    ]  # fmt: skip
    return load_config(CONFIGS / "toy.yaml", [*common, *settings])
