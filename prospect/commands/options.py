"""Options that several commands have, and what they stand for."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.errors import ProspectError
from pipeline.io.engine import LocalEngine
from prospect.runs import CONFIG, find_checkpoint, run_of

if TYPE_CHECKING:
    from pipeline.io.engine import Engine
    from pipeline.io.ray_engine import RayEngine
    from prospect.config import Config
    from prospect.evaluation.predict import Places
    from prospect.setup import Blueprint

CORES = os.cpu_count() or 1

SplitName = Literal["train", "val", "test"]
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON in place of tables.")]

# Data
EngineName = Annotated[Literal["local", "ray"], typer.Option(help="Worker processes here, or on a Ray cluster.")]
Workers = Annotated[int, typer.Option(min=1, help="Worker processes (of an existing Ray cluster: all that it has).")]
RayAddress = Annotated[str | None, typer.Option(help="Of a Ray cluster; without it, --engine ray starts one here.")]
DataRoot = Annotated[Path, typer.Option(help="Folder of your datasets.")]
Dataset = Annotated[str | None, typer.Option(help="Default: every dataset that has the split.")]
FramesRoot = Annotated[Path | None, typer.Option(help="Searched first for the clips' Arrow files.")]

# Pages
Host = Annotated[
    str,
    typer.Option(help="Where to listen. Beyond this machine (0.0.0.0) the address has a token, for those you give it."),
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")]
Open = Annotated[bool, typer.Option("--open", help="Open the browser.")]

# Runs
ConfigName = Annotated[
    str, typer.Option("--config", help="A YAML file (see prospect init), or the name of a packaged one, such as toy.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, e.g. train.learning_rate=1e-4; repeatable.")]

# Checkpoints
Checkpoint = Annotated[
    str, typer.Option(help="A checkpoint's folder, a run's (its last one), or a hub id (with @REVISION).")
]
UpdateThreshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="Default: as calibrated, else 0.5. Likewise --speak-threshold.")
]
SpeakThreshold = Annotated[float | None, typer.Option(min=0, max=1)]
Legal = Annotated[bool | None, typer.Option(help="Only transitions legal in the tracked state.")]
MaxActions = Annotated[int | None, typer.Option(min=1, help="Blocks written at one frame; default 4.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Longest utterance, in tokens; default 128.")]
LeastGap = Annotated[
    float | None,
    typer.Option("--least-gap", min=0, help="Seconds between two utterances, at least; default 0: may share a frame."),
]
NoRepeat = Annotated[
    int | None, typer.Option(min=0, help="An utterance equal to one of the last so many is not said; default 0.")
]
ShardFolders = Annotated[
    list[str] | None, typer.Option(help="Split folders, OUT/DATASET/SPLIT; default: the run's own datasets.")
]
RunDataRoot = Annotated[Path | None, typer.Option(help="Where frames files are looked for; default: the run's.")]
VideoIds = Annotated[list[str] | None, typer.Option(help="Of these videos (or clips) alone; may be repeated.")]
Limit = Annotated[int | None, typer.Option(min=1, help="The first so many clips.")]
Streams = Annotated[int, typer.Option(min=1, help="Clips that each process streams side by side, in one batch.")]
Overwrite = Annotated[bool, typer.Option(help="Stream again over another evaluation's predictions.")]


def open_engine(name: str, workers: int, ray_address: str | None, *, models: bool = False) -> "LocalEngine | RayEngine":
    """Start the engine that the options name.

    Args:
        models: its tasks load a model, which a worker keeps; on Ray each worker has a GPU, where there are some.

    Raises:
        ProspectError: an address without Ray, or one where nothing answers.
    """
    if name == "ray":
        from pipeline.io.ray_engine import RayEngine, RayWorkers

        return (RayWorkers if models else RayEngine)(workers, ray_address)
    if ray_address:
        raise ProspectError("--ray-address: has no effect without --engine ray")
    return LocalEngine(workers)


@contextmanager
def model_engine(name: str, workers: int, ray_address: str | None) -> "Iterator[Engine | None]":
    """Open the engine of a command that runs a model; None: this process runs it, as one of torchrun's does.

    Raises:
        ProspectError: as `open_engine`, or torchrun has started several processes.
    """
    if name == "local" and workers == 1 and not ray_address:
        yield None
        return
    from prospect.config import world_size

    if (ranks := world_size()) > 1:
        raise ProspectError(
            f"--engine {name}, --workers {workers}: torchrun started {ranks} processes, which share the work "
            "already; leave these options out, or torchrun"
        )
    with open_engine(name, workers, ray_address, models=True) as engine:
        yield engine


def read_config(name: str, overrides: Sequence[str] | None) -> "Config":
    """Read the settings that --config and --set name."""
    from prospect.config_file import find_config, load_config

    return load_config(find_config(name), overrides or ())


def read_blueprint(name: str, overrides: Sequence[str] | None) -> "tuple[Config, Blueprint]":
    """Read a run's settings, tokenizer and layout."""
    from prospect.setup import make_blueprint

    config = read_config(name, overrides)
    return config, make_blueprint(config)


def places_of(
    checkpoint: str,
    split: str,
    data: Sequence[str] | None,
    data_root: Path | None,
    frames_root: Path | None,
    out: Path | None,
    what: str,
) -> "tuple[Places, Path]":
    """Find where the clips are and where results go: as given, else as the checkpoint's run has it.

    Raises:
        ProspectError: no --data, and the checkpoint is in no run.
    """
    from prospect.config import DataConfig
    from prospect.config_file import load_config
    from prospect.data.shard_cache import ShardCache
    from prospect.evaluation.predict import Places

    run = run_of(Path(find_checkpoint(checkpoint)))
    settings = load_config(run / CONFIG).data if run else None
    if not data and not settings:
        raise ProspectError(
            f"{checkpoint}: stands in no run that would say which data it was trained on; pass --data OUT/DATASET/SPLIT"
        )
    splits = tuple(data or ())
    if settings and not data:
        splits = tuple(f"{settings.shards}/{dataset}/{split}" for dataset in settings.datasets)
    places = Places(
        splits,
        data_root or (settings.root if settings else Path("data")),
        frames_root or (settings.frames_root if settings else None),
        ShardCache.of(settings or DataConfig()),
    )
    return places, out or ((run or Path()) / what / split)
