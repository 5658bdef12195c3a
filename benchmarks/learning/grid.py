"""A grid of runs, for the benchmarks that compare what is learned: every cell with every seed, side by side.

    arguments = options(__doc__).parse_args()
    run_grid([Cell("heads", ("model.decide=heads",)), ...], arguments, {"update F1": "streamed.should_update_dst_f1"})

1. The world: the toy's, made in OUT, or the config's own data.
2. Each run in a process and on a thread of its own: trained, calibrated on val, streamed on test with the thresholds
   found. Its record is a line of OUT/runs.jsonl, on disk before the next is begun; then its weights are removed.
3. The table: mean, least and greatest over seeds; what failed is named below it.

A second call does what is not there yet: an interrupted run goes on from its last checkpoint, a failed one starts over.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from pipeline.annotations.clips import SPLITS
from pipeline.errors import ProspectError
from pipeline.io.engine import end_with_parent
from pipeline.io.lock import lock_beside, sole_owner
from pipeline.shards.build import build_split
from pipeline.toyworld.make import DATASET, make_toy
from prospect.config import Config
from prospect.config_file import find_config, load_config
from prospect.runs import CHECKPOINTS, CONFIG, INIT

RUNS = "runs.jsonl"
SMALL = ("train.max_steps=2", "train.warmup_steps=1", "data.max_seq_len=1024")
SMALL_CLIPS, SMALL_LIMIT = 8, 2
ONE_PROCESS = ("data.num_workers=0", "data.eval_splits=[test]", "train.eval_steps=1000000", "train.keep_checkpoints=1")


@dataclass(frozen=True, slots=True)
class Cell:
    """What is compared: a name, and the settings (`--set`) that make it."""

    name: str
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Task:
    """One run of the grid."""

    name: str
    seed: int
    config: str
    settings: tuple[str, ...]  # all that its numbers depend on, with `config`
    places: tuple[str, ...]  # where it reads and writes
    limit: int | None  # clips that are streamed
    streams: int = 1  # of them side by side

    def told(self) -> dict[str, Any]:
        """Tell it apart from any other, in its record."""
        about = {"name": self.name, "seed": self.seed, "config": self.config, "settings": list(self.settings)}
        return about | {"limit": self.limit}


def options(about: str | None) -> argparse.ArgumentParser:
    """Make the options that every grid has."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the world, the runs and their records")
    parser.add_argument("--config", default="toy", help="what all runs share: a config's name, or a file")
    parser.add_argument("--world", choices=("standard", "hard", "own"), default="standard", help="own: the config's")
    parser.add_argument("--clips", type=int, default=300, help="training clips of a toy world")
    parser.add_argument("--limit", type=int, help="clips that are streamed of val and of test (default: all)")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for all runs; may be repeated")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", action="append", help="cells with this in their name; may be repeated")
    parser.add_argument("--streams", type=int, default=1, help="clips that are streamed side by side")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--small", action="store_true", help="two cells, one seed, two steps: whether it runs at all")
    return parser


def run_grid(cells: Sequence[Cell], arguments: argparse.Namespace, metrics: Mapping[str, str]) -> None:
    """Do what is not done yet, and print the table.

    Args:
        metrics: heading -> which of a record, such as `streamed.F1` (of `prospect evaluate`) or `trained.perplexity`
            (of `prospect train`, on test); `thresholds.0` and `.1` are those of update and speak.
    """
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    cells = [cell for cell in cells if not arguments.only or any(part in cell.name for part in arguments.only)]
    if not cells:
        raise SystemExit(f"--only: found no cell with {' or '.join(arguments.only)} in its name")
    if arguments.small:
        cells, seeds, arguments.clips = cells[:2], seeds[:1], SMALL_CLIPS
    out: Path = arguments.out.resolve()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # of the processes that are started
    with sole_owner(lock_beside(out), out, "another grid", "pass another --out"):
        places = (f"runs={out}/runs", f"data.cache={out}/cache", *_world(out, arguments.world, arguments.clips))
        common = (*ONE_PROCESS, *arguments.set, *(SMALL if arguments.small else ()))
        limit = SMALL_LIMIT if arguments.small else arguments.limit
        tasks = [
            _Task(cell.name, seed, arguments.config, (*common, *cell.settings), places, limit, arguments.streams)
            for seed in seeds  # the first seed of each cell first
            for cell in cells
        ]
        _do_missing(tasks, out / RUNS, arguments.jobs)
        records = [record for task in tasks if (record := _of(task, out / RUNS))]
    _show(cells, records, metrics)


def make_world(folder: Path, preset: Literal["standard", "hard"], clips: int) -> None:
    """Make FOLDER/data and FOLDER/shards of a toy world, unless they are there."""
    if not (folder / "data" / DATASET).exists():
        make_toy(folder / "data", clips=clips, preset=preset)
    for split in SPLITS:
        build_split(folder / "data", DATASET, split, folder / "shards")


def _world(out: Path, world: str, clips: int) -> tuple[str, ...]:
    """Make the world, if it is a toy's; the settings that name it."""
    if world == "own":
        return ()
    folder = out / f"{world}-{clips}"
    make_world(folder, world, clips)  # type: ignore[arg-type]  # of the choices
    return f"data.dataset={DATASET}", f"data.root={folder / 'data'}", f"data.shards={folder / 'shards'}"


def _do_missing(tasks: Sequence[_Task], path: Path, jobs: int) -> None:
    missing = [task for task in tasks if "error" in (_of(task, path) or {"error": ""})]
    pool, started = ThreadPoolExecutor(jobs), time.monotonic()
    doing: dict[Future[dict[str, Any]], _Task] = {pool.submit(_in_a_process, task): task for task in missing}
    try:
        for number, done in enumerate(as_completed(doing), 1):
            task, record = doing[done], done.result()
            _append(path, task.told() | record)
            outcome = record.get("error", f"{record.get('seconds', 0):.0f} s")
            took = time.monotonic() - started
            print(f"{number}/{len(missing)} {task.name} seed {task.seed}: {outcome} ({took:.0f} s so far)", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_a_process(task: _Task) -> dict[str, Any]:
    """One that is killed, as where memory runs out, takes no other run with it."""
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as alone:
        try:
            return alone.submit(_run, task).result()
        except BrokenProcessPool:
            return {"error": "its process was killed"}


def _run(task: _Task) -> dict[str, Any]:
    """Train, calibrate, stream; what went wrong is a record too."""
    try:
        started = time.monotonic()
        name = f"{task.name}-s{task.seed}".replace(" ", "_").replace(",", "")
        named = (f"name={name}", f"train.seed={task.seed}")
        config = load_config(find_config(task.config), [*task.places, *task.settings, *named])
        record = _measured(config, task.limit, task.streams)
        return record | {"seconds": round(time.monotonic() - started, 1)}
    except Exception as error:
        return {"error": str(error) if isinstance(error, ProspectError) else f"{type(error).__name__}: {error}"}


def _measured(config: Config, limit: int | None, streams: int) -> dict[str, Any]:
    import torch

    from prospect.data.shard_cache import ShardCache
    from prospect.evaluation.calibrate import calibrate_checkpoint
    from prospect.evaluation.evaluate import ProspectEvaluator
    from prospect.evaluation.predict import Places
    from prospect.train.run import train

    torch.set_num_threads(1)
    folder, data = config.folder, config.data
    is_begun = (folder / CONFIG).is_file() and load_config(folder / CONFIG) == config
    trained = train(config, resume=is_begun, overwrite=not is_begun).metrics["test"]

    def places(split: str) -> Places:
        of_datasets = tuple(f"{data.shards}/{dataset}/{split}" for dataset in data.datasets)
        return Places(of_datasets, data.root, data.frames_root, ShardCache.of(data))

    found = calibrate_checkpoint(
        str(folder), places("val"), folder / "calibration" / "val", limit=limit, confirm=3, overwrite=True,
        streams=streams,
    ).tried[0]  # fmt: skip
    evaluator = ProspectEvaluator(
        str(folder), places("test"), out=folder / "evaluation" / "test", rows=(), limit=limit, overwrite=True,
        streams=streams,
    )  # fmt: skip
    streamed = evaluator.evaluate()["rows"]["model"]["all"]["metrics"]
    for weights in (CHECKPOINTS, INIT):
        shutil.rmtree(folder / weights, ignore_errors=True)
    thresholds = [found["update_threshold"], found["speak_threshold"]]
    return {"trained": trained, "thresholds": thresholds, "streamed": streamed}


def _append(path: Path, record: Mapping[str, Any]) -> None:
    """On a line of its own, whatever was cut short before it."""
    with path.open("ab", buffering=0) as file:
        file.write(b"\n" + json.dumps(record).encode() + b"\n")
        os.fsync(file.fileno())


def _of(task: _Task, path: Path) -> dict[str, Any] | None:
    """The last whole record of a task."""
    last = None
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:  # cut short
            continue
        if isinstance(record, dict) and task.told().items() <= record.items():
            last = record
    return last


def _show(cells: Sequence[Cell], records: Sequence[Mapping[str, Any]], metrics: Mapping[str, str]) -> None:
    table = Table("", "seeds", *metrics, title="mean (least to greatest)")
    for cell in cells:
        done = [record for record in records if record["name"] == cell.name and "error" not in record]
        table.add_row(
            cell.name, f"{len(done)}", *(_summary([_value(r, place) for r in done]) for place in metrics.values())
        )
    Console(width=200).print(table)
    for record in records:
        if "error" in record:
            print(f"failed: {record['name']} seed {record['seed']}: {record['error']}")


def _value(record: Any, place: str) -> float | None:
    for key in place.split("."):
        record = record[int(key)] if isinstance(record, list) else record.get(key)
    return record


def _summary(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    missing = f", {len(values) - len(there)} undefined" if len(there) < len(values) else ""
    spread = f" ({min(there):.3f}-{max(there):.3f})" if len(there) > 1 else ""
    return f"{mean(there):.3f}{spread}{missing}"
