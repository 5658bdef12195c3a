"""Commands about a run: init, settings, make-checkpoint, practise, plan, train, compare, cache-features, export."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ProspectError
from prospect.commands.options import (
    Checkpoint,
    ConfigName,
    EngineName,
    Json,
    RayAddress,
    Set,
    SplitName,
    Workers,
    model_engine,
    read_config,
)
from prospect.commands.terminal import RunWatcher, clear_errors, console, print_json, progress_bar, tell
from prospect.runs import finished_runs

app = typer.Typer()
PAST = Path("data/toy-hard/words")


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Of the run; the file is NAME.yaml.")],
    data_root: Annotated[Path, typer.Option(help="Folder of your datasets.")],
    dataset: Annotated[str | None, typer.Option(help="Needed where DATA_ROOT has several.")] = None,
    frames_root: Annotated[Path | None, typer.Option(help="Where the Arrow files are, if elsewhere.")] = None,
    preset: Annotated[str, typer.Option(help="The packaged config to start from.")] = "smolvlm2-2.2b-24gb",
) -> None:
    """Write a config for your own data: NAME.yaml.

    Every setting is explained in it.
    """
    from prospect.config_file import find_config, starter_config

    with clear_errors():
        path = Path(f"{name}.yaml")
        if path.exists():
            raise ProspectError(f"{path}: is there already; remove it, or choose another name")
        text = starter_config(find_config(preset), name, data_root, dataset, frames_root)
        path.write_text(text, encoding="utf-8")
        tell(f"{path}: written; next: prospect plan --config {path}")


@app.command()
def settings(
    name: Annotated[str | None, typer.Argument(help="A setting, a section, or a word in either.")] = None,
    json: Json = False,
) -> None:
    """List the settings of a run.

    What each does, which values it takes, its default.
    """
    from prospect.setting_list import find_settings, suggest_setting

    with clear_errors():
        chosen = find_settings(name or "")
        if not chosen:
            raise ProspectError(f"{name}: no such setting; {suggest_setting(str(name))}")
        if json:
            print_json([asdict(one) for one in chosen])
            return
        for one in chosen:
            default = f"default {one.default}" if one.default else "to be given"
            console.print(f"{one.name}  ({one.kind}; {default})", style="bold", highlight=False)
            console.print(f"    {one.about}", highlight=False)


@app.command()
def make_checkpoint(
    text: Annotated[str, typer.Option(help="A causal language model: a folder, a hub id, or a .gguf file.")],
    vision: Annotated[str, typer.Option(help="A SigLIP or SigLIP2 tower: a folder, a hub id; or none: a fresh one.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    preset: Annotated[
        str | None,
        typer.Option(help="With --vision none: whose sizes the fresh tower has: toy, smolvlm2-256m, -500m, -2.2b."),
    ] = None,
    scale_factor: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the squares of patches that make one token; default: at most 81 a frame."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is new: the connector, a fresh tower.")] = 0,
) -> None:
    """Make a checkpoint of a language model and a vision tower.

    A new connector joins them, and the tokenizer gets SmolVLM's special tokens; train it like any other. The language
    model brings its own sizes, and so does a tower; only a fresh one takes them from --preset.
    """
    with clear_errors():
        tell("loading torch ...")
        from prospect.model.assemble import assemble

        tell(f"{out}: {assemble(text, vision, preset, out, seed, scale_factor)}")


@app.command()
def practise(
    out: Annotated[Path, typer.Option(help="A new folder; what the config toy-hard starts from.")] = PAST,
    seed: Annotated[int, typer.Option(min=0, help="Of random weights, lists and pictures.")] = 0,
) -> None:
    """Give a small model a past, for the config toy-hard.

    It practises the toy's language in words, to find the step of the prompt's list that is meant, then what single
    frames show, as a published model has. Held-out combinations of steps do not occur.
    """
    with clear_errors():
        tell("loading torch ...")
        from prospect.train.practice import is_practised
        from prospect.train.practice import practise as run_practice

        if is_practised(out, seed=seed):
            tell(f"nothing to do: {out} is there already (remove it to make it again)")
            return
        with progress_bar() as show:

            def on_step(what: str, step: int, most: int, loss: float) -> None:
                show(f"practising on {what} (loss {loss:.3f})", step, most)

            run_practice(out, seed=seed, on_step=on_step)
        tell(f"{out}: a checkpoint; next: prospect train --config toy-hard")


@app.command()
def plan(
    config: ConfigName,
    set_: Set = None,
    gpu_gb: Annotated[float | None, typer.Option(min=1, help="Default: the GPU that is here, else 24.")] = None,
    json: Json = False,
) -> None:
    """Tell what a run will ask for: memory, window, steps.

    Nothing is loaded. Exits with an error where it cannot fit.
    """
    with clear_errors():
        settings = read_config(config, set_)
        from prospect.train.plan import plan_run, plan_table

        plan = plan_run(settings, gpu_gb)
        print_json(asdict(plan)) if json else console.print(plan_table(plan))
        for note in () if json else plan.notes:
            tell(f"note: {note}")
        if plan.problems:
            raise ProspectError("\n".join(f"{config}: {problem}" for problem in plan.problems))


@app.command()
def train(
    config: ConfigName,
    set_: Set = None,
    resume: Annotated[bool, typer.Option(help="Go on from the run's last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Start over: removes the run of the same name.")] = False,
) -> None:
    """Train a model on shards, into runs/NAME."""
    with clear_errors():
        settings = read_config(config, set_)
        tell("loading torch ...")
        from prospect.train.compare import comparison
        from prospect.train.run import train as run_training

        run = run_training(settings, resume=resume, overwrite=overwrite, watcher=RunWatcher())
        if not run.is_main:  # another rank prints
            return
        if run.up_to_date:
            tell(f"nothing to do: {run.folder} is finished; --overwrite starts it over")
        if settings.data.eval_splits:
            console.print(comparison([run.folder], settings.data.eval_splits[-1]))
        tell(f"metrics: {run.folder}/metrics.json, curves: tensorboard --logdir {run.folder.parent}")


@app.command()
def cache_features(
    config: ConfigName,
    set_: Set = None,
    engine: EngineName = "local",
    workers: Workers = 1,
    ray_address: RayAddress = None,
) -> None:
    """Encode each frame once, for a frozen tower.

    With vision tower and connector frozen; training then decodes no image.
    """
    with clear_errors():
        settings = read_config(config, set_)
        from prospect.train.cache_features import run_cache_features

        with model_engine(engine, workers, ray_address) as running, progress_bar() as show:
            store, made, kept = run_cache_features(settings, show, running)
        size = (made + kept) * store.row_bytes / 1e9
        tell(f"{store.folder}: {made} frames encoded, {kept} there already; {size:.2f} GB, {store.row_bytes} B a frame")


@app.command()
def compare(
    runs: Annotated[list[Path] | None, typer.Argument(help="Run folders; default: the finished ones of runs/.")] = None,
    split: Annotated[SplitName, typer.Option()] = "test",
    json: Json = False,
) -> None:
    """Put finished runs into one table.

    Beside the untrained model and the baselines that see no pixels. Told: runs of other data, precision or revision
    than the first.
    """
    from prospect.train.compare import comparison, comparison_rows

    with clear_errors():
        folders = runs or finished_runs(Path("runs"))
        print_json(comparison_rows(folders, split)) if json else console.print(comparison(folders, split))


@app.command()
def export(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    merge: Annotated[bool, typer.Option(help="LoRA: into whole SmolVLM weights, beside the heads.")] = False,
) -> None:
    """Write a checkpoint to a folder to keep or publish.

    Weights, tokenizer and image processor, without the run's state.
    """
    with clear_errors():
        from prospect.model.export import export as export_checkpoint
        from prospect.model.hub import checkpoint_folder

        tell(f"{out}: {export_checkpoint(Path(checkpoint_folder(checkpoint)), out, merge)}")
