"""`prospect train`: from a config to a run folder. Read this first.

1. Data: the toy world and its shards where the config asks for them, else the shards that build-shards made.
2. Model: a checkpoint, or the preset's random weights saved as an ordinary checkpoint folder.
3. Plan: sequences from the index (cached), their order, and the position to start from.
4. Train (`trainer.py`); then the last weights are evaluated on val, test and as many training sequences, beside the
   untrained model and the baselines, into metrics.json.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from rich.console import Console
from transformers import PrinterCallback

from pipeline.clips import Clip
from pipeline.errors import ProspectError
from pipeline.manifest import json_bytes
from pipeline.storage import write_atomically
from pipeline.terminal import progress_bar
from pipeline.toyworld.ensure import ensure_toy_shards
from prospect.config import Config, dump_config, load_config
from prospect.data.index import Split, clips_of, read_split
from prospect.data.loader import Readers, Sampling, SequenceReader
from prospect.data.order import ORDER_VERSION, make_order
from prospect.data.sequences import cached_plan, plan_fingerprint
from prospect.layout import Tokens
from prospect.model.blueprint import texts_of
from prospect.model.checkpoint import load_image_processor, load_tokenizer
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import make_checkpoint
from prospect.train.baselines import baselines
from prospect.train.cache_features import open_features
from prospect.train.plan import plan_run, ways_to_fit
from prospect.train.prepare import prepared
from prospect.train.resume import DataPosition, check_readable, check_same_settings, checkpoints
from prospect.train.runlog import RunLog, count_skipped, environment
from prospect.train.trainer import ProspectTrainer

CONFIG, METRICS, ENVIRONMENT = "config.yaml", "metrics.json", "environment.json"
REMEMBERED = (
    "packing",
    "frame_wrap",
    "max_seq_len",
    "reserve",
    "dst",
)  # data settings in each checkpoint, for streaming


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    folder: Path
    metrics: dict[str, Any]
    up_to_date: bool
    is_main: bool  # of the main process, under torchrun


@contextmanager
def _naming_lost_rank() -> Iterator[None]:
    """That another rank is gone is one line: what ended it is told there. NCCL does not notice; torchrun ends it."""
    try:
        yield
    except RuntimeError as error:
        if "by peer" not in str(error):  # gloo's "Connection closed by peer"
            raise
        number = PartialState().process_index
        raise ProspectError(f"rank {number}: the connection to another rank is lost; its message says why") from None


@_naming_lost_rank()
def train(config: Config, console: Console, *, resume: bool = False, overwrite: bool = False) -> Run:
    """Run `config` to its end, or return the finished run that is there.

    Raises:
        ProspectError: shards or checkpoint missing, or the run folder holds another or an unfinished run.
    """
    started = time.monotonic()
    folder = config.folder
    if config.train.wandb and find_spec("wandb") is None:
        raise ProspectError("train.wandb: needs the package wandb, found none; pip install wandb, or set it to false")
    ranks = PartialState(cpu=not torch.cuda.is_available())
    if not ranks.is_main_process:
        console = Console(quiet=True)
    with ranks.main_process_first():  # the others find the run folder made
        if not overwrite and (folder / CONFIG).is_file():
            same = load_config(folder / CONFIG) == config
            if same and (folder / METRICS).is_file():
                return Run(folder, json.loads((folder / METRICS).read_text()), True, ranks.is_main_process)
            if not resume and ranks.is_main_process:
                what = "an unfinished run" if same else "a run with other settings"
                raise ProspectError(
                    f"{folder}: found {what}; go on with --resume, start over with --overwrite, or pass --set name=..."
                )
        if config.data.toy:
            with progress_bar(console) as show:
                ensure_toy_shards(config.data.root, Path(config.data.shards), config.data.toy, show)
        splits = {name: open_splits(config, name) for name in (config.data.train_split, *config.data.eval_splits)}
        aside = folder.with_name(f".{folder.name}.overwritten")
        if overwrite and folder.exists() and ranks.is_main_process:
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            trainer, run_log, checkpoint = _set_up(config, splits, console, resume, ranks.is_main_process)
        except BaseException:
            if is_new:
                shutil.rmtree(folder)
                if aside.exists():
                    aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        write_atomically(folder / CONFIG, dump_config(config).encode())
        if ranks.is_main_process:
            write_atomically(folder / ENVIRONMENT, json_bytes(environment()))

    try:
        untrained = _untrained(trainer, config.data.eval_splits, folder, checkpoint is not None)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        metrics: dict[str, Any] = {name: trainer.evaluate_split(name) for name in trainer.eval_readers}
    except torch.OutOfMemoryError as error:
        raise _out_of_memory(config, error) from None
    finally:
        if run_log:
            run_log.close()
    training_clips = _clips(splits[config.data.train_split])
    metrics["untrained"] = untrained
    metrics["baselines"] = {name: baselines(training_clips, _clips(splits[name])) for name in config.data.eval_splits}
    if num_skipped := count_skipped(folder):
        metrics["num_skipped"] = num_skipped
    metrics["wall_s"] = round(time.monotonic() - started, 1)
    if ranks.is_main_process:
        write_atomically(folder / METRICS, json_bytes(metrics))
    return Run(folder, metrics, False, ranks.is_main_process)


def _out_of_memory(config: Config, error: torch.OutOfMemoryError) -> ProspectError:
    """The GPU's memory is full: what was predicted, and what to change."""
    found = plan_run(config)
    predicted = f"{found.prediction.peak / 1e9:.1f} GB predicted for tensors, {found.gpu_bytes / 1e9:.1f} there"
    return ProspectError(
        f"CUDA out of memory ({str(error).split('. ')[0]}; {predicted}): {'; or '.join(ways_to_fit(config))}; then go "
        "on with --resume (`prospect plan` shows the parts)"
    )


def open_splits(config: Config, name: str) -> list[Split]:
    """The split of every dataset of the run; an evaluation split may be missing in some datasets of a mix.

    Raises:
        ProspectError: none has it, or one that is trained on has not.
    """
    data, found, missing = config.data, list[Split](), list[ProspectError]()
    for dataset in data.datasets:
        try:
            found.append(read_split(data.shards, dataset, name, data.root, data.shard_cache))
        except ProspectError as error:
            if name == data.train_split or len(data.datasets) == 1:
                raise
            missing.append(error)
    if not found:
        raise missing[0]
    return found


def _clips(splits: list[Split]) -> list[Clip]:
    return [clip for split in splits for clip in clips_of(split.index)]


def _set_up(
    config: Config, splits: Mapping[str, list[Split]], console: Console, resume: bool, is_main: bool
) -> tuple[ProspectTrainer, RunLog | None, Path | None]:
    """Everything up to the first step: the trainer, the main process's log, the checkpoint to go on from, if any."""
    data, folder = config.data, config.folder
    checkpoint = next(reversed(checkpoints(folder / "checkpoints")), None) if resume else None
    if resume and checkpoint is None:
        console.print(f"{folder}: found no checkpoint yet, starting from the first step")
    if checkpoint:
        check_same_settings(load_config(folder / CONFIG), config)
        check_readable(checkpoint)
    transformers.set_seed(config.train.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model, tokenizer, image_processor = load_model(config, checkpoint, splits[data.train_split])
    features = open_features(config, model)
    tokens = Tokens(tokenizer, model.prospect_settings.tokens_per_frame, data.frame_wrap)
    size = model.config.vision_config.image_size

    def reader_of(split: Split) -> SequenceReader:
        return SequenceReader(split, cached_plan(split, tokens, tokenizer, data), tokens, data, size, None, features)

    training = [reader_of(split) for split in splits[data.train_split]]
    order = make_order(
        [reader.plan for reader in training],
        config.train.seed,
        data.shuffle_window,
        config.train.global_batch_size,
        data.bucket_batches,
        list(data.datasets.values()),
    )
    if not order.steps_per_epoch:
        raise ProspectError(
            f"{splits[data.train_split][0].folder}: {order.num_sequences} sequences an epoch are fewer than one global "
            f"batch; lower train.global_batch_size ({config.train.global_batch_size}) or add clips"
        )
    max_steps = order.steps_per_epoch * config.train.epochs
    position = DataPosition(
        step=0,
        epoch=0,
        order=ORDER_VERSION,
        plan="/".join(plan_fingerprint(split, tokens, tokenizer, data) for split in splits[data.train_split]),
        max_steps=min(max_steps, config.train.max_steps or max_steps),
    )
    start_step = position.check_resumes(checkpoint).step if checkpoint else 0
    console.print(
        f"{sum(map(len, training))} training sequences, {order.steps_per_epoch} steps an epoch of "
        f"{order.global_batch_size} ({order.num_dropped} left over in each), {position.max_steps} steps"
        + (f"; resuming at step {start_step}" if start_step else ""),
        soft_wrap=True,
    )
    if data.mix:
        for source, (name, passes) in zip(order.sources, data.datasets.items(), strict=True):
            share = source.per_epoch / order.num_sequences
            told = f"{source.per_epoch} of {source.count} sequences an epoch ({passes:g} passes)"
            console.print(f"  {name}: {told}, {share:.1%} of the stream", soft_wrap=True)
    eval_readers = {name: Readers(tuple(map(reader_of, splits[name]))) for name in data.eval_splits}
    if eval_readers:
        as_many = -(-len(next(iter(eval_readers.values()))) // len(training))  # of each dataset
        eval_readers["train"] = Readers(tuple(replace(reader, plan=reader.plan.head(as_many)) for reader in training))
    sampling = Sampling(data.negatives, config.train.seed, position.max_steps, data.event_jitter)
    run_log = RunLog(folder, console, start_step) if is_main else None
    trainer = ProspectTrainer(
        model,
        config=config,
        reader=Readers(tuple(replace(reader, sampling=sampling) for reader in training)),
        eval_readers=eval_readers,
        order=order,
        position=position,
        processors=(tokenizer, image_processor),
        run_log=run_log,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, run_log, checkpoint


def load_model(
    config: Config, resume_from: Path | None, training: list[Split], init: Path | None = None
) -> tuple[Any, Any, Any]:
    """Model, tokenizer and image processor: of the checkpoint resumed, else as the config says.

    With `model.lora` the base as the config says; the Trainer puts the resumed adapters into it. A preset's random
    weights are saved as the checkpoint folder `init`, by default in the run's folder.
    """
    source = str(resume_from) if resume_from and not config.model.lora else config.model.checkpoint
    if source is None:
        assert config.model.preset is not None
        init = init or config.folder / "init"
        if resume_from is None and PartialState().is_main_process:  # one of another seed or preset may lie there
            shutil.rmtree(init, ignore_errors=True)
            texts = chain.from_iterable(texts_of(split.index) for split in training)
            make_checkpoint(config.model.preset, init, texts, config.train.seed)
        source = str(init)
    model = DSTSmolVLM.from_checkpoint(
        source,
        tokens_per_frame=config.model.tokens_per_frame,
        vision_chunk=config.model.vision_chunk,
        dtype=config.model.dtype,
        attn_implementation=config.model.attn_implementation,
        settings={name: getattr(config.data, name) for name in REMEMBERED},
    )
    model = prepared(model, config)
    return model, load_tokenizer(source), load_image_processor(source)


def _untrained(
    trainer: ProspectTrainer, splits: tuple[str, ...], folder: Path, resumed: bool
) -> dict[str, dict[str, Any]]:
    """Metrics by split before the first step; a resumed run reads what was found then."""
    if not resumed:
        return {split: trainer.evaluate_split(split) for split in splits}
    log = folder / "metrics.jsonl"
    records = [json.loads(line) for line in log.read_text().splitlines()] if splits else []
    return {
        record["split"]: {name: value for name, value in record.items() if name not in ("step", "epoch", "split")}
        for record in records
        if record["step"] == 0
    }
