"""`prospect train`: from a config to a run folder. Read this first.

1. The run's folder: new, resumed, or replaced where nothing in it was worth keeping (`_Place`).
2. Set-up: splits and model (`prospect/setup.py`), sequences from the index (cached), their order, and the position to
   start from.
3. Train (`trainer.py`); then the last weights are evaluated on val, test and as many training sequences, beside the
   untrained model and the baselines, into metrics.json.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState
from transformers import PrinterCallback

from pipeline.annotations.clips import Clip
from pipeline.errors import ProspectError
from pipeline.io.lock import lock_beside, sole_owner
from pipeline.io.storage import write_atomically, write_json
from prospect.config import Config, DataConfig, long_warmup
from prospect.config_file import dump_config, load_config
from prospect.data.classes import refuse_one_sided
from prospect.data.index import Split, clips_of
from prospect.data.order import ORDER_VERSION, Order, make_order
from prospect.data.reader import Readers, Sampling, SequenceReader
from prospect.data.sequences import cached_table, no_summaries, table_fingerprint
from prospect.layout import Tokens
from prospect.model.lora import without_adapter
from prospect.model.quantize import check_quantizable
from prospect.model.text import compile_layers
from prospect.runs import CONFIG, ENVIRONMENT, METRICS, METRICS_LOG, checkpoints, strangers
from prospect.setup import load_model, open_features, open_splits
from prospect.train.arguments import check_can_compile, compiles
from prospect.train.baselines import baselines
from prospect.train.origin import origin
from prospect.train.plan import plan_run, ways_to_fit
from prospect.train.resume import DataPosition, check_readable, check_same_settings
from prospect.train.runlog import RunLog, Unwatched, Watcher, count_skipped, environment
from prospect.train.saved import Evaluation, read_lines, read_metrics
from prospect.train.sharing import check_can_share
from prospect.train.trainer import ProspectTrainer

PATIENCE = timedelta(hours=3)  # of ranks for one another: one lays out all clips, and loads the model, before the rest


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    folder: Path
    metrics: dict[str, Any]
    up_to_date: bool
    is_main: bool  # of the main process, under torchrun


@contextmanager
def _naming_lost_rank() -> Iterator[None]:
    """Tell in one line that another rank is gone: its message says why. NCCL does not notice; torchrun ends it."""
    try:
        yield
    except RuntimeError as error:
        if "by peer" not in str(error):  # gloo's "Connection closed by peer"
            raise
        number = PartialState().process_index
        raise ProspectError(f"rank {number}: the connection to another rank is lost; its message says why") from None


@_naming_lost_rank()
def train(config: Config, *, resume: bool = False, overwrite: bool = False, watcher: Watcher | None = None) -> Run:
    """Run `config` to its end, or return the finished run that is there.

    Args:
        watcher: is told how the run goes, on the main process.

    Raises:
        ProspectError: shards or checkpoint missing, or the run folder holds another or an unfinished run.
    """
    started = time.monotonic()
    if config.train.wandb and find_spec("wandb") is None:
        raise ProspectError("train.wandb: needs the package wandb, found none; pip install wandb, or set it to false")
    if config.model.lora and config.model.lora.quantize == "4bit":
        check_quantizable()
    ranks = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    check_can_share(config)
    check_can_compile(config)
    watcher = watcher if watcher and ranks.is_main_process else Unwatched()
    with ExitStack() as held:
        with ranks.main_process_first():  # the others find the run folder made
            place = _Place(config, ranks.is_main_process)
            if not overwrite and (metrics := place.finished()):
                return Run(config.folder, metrics, True, ranks.is_main_process)
            splits = {name: open_splits(config, name) for name in (config.data.train_split, *config.data.eval_splits)}
            refuse_one_sided(config, splits[config.data.train_split])
            held.enter_context(place.locked())
            if not overwrite and not resume:
                place.refuse_other_run()
            with place.prepared(overwrite, resume):
                trainer, run_log, checkpoint = _set_up(config, splits, resume, watcher, ranks.is_main_process)
        try:
            resumed = _measured_before(config) if checkpoint else {}
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            metrics = {name: trainer.evaluate_split(name) for name in trainer.eval_readers}
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(config, error) from None
        finally:
            if run_log:
                run_log.close()
        metrics |= _beside(config, splits, trainer.untrained or resumed)
        metrics["wall_s"] = round(time.monotonic() - started, 1)
        if ranks.is_main_process:
            metrics["origin"] = origin(config, {name: _clips(of_split) for name, of_split in splits.items()})
            write_json(config.folder / METRICS, metrics)
    return Run(config.folder, metrics, False, ranks.is_main_process)


class _Place:
    """The run's folder, before the run. Only the main process changes it."""

    def __init__(self, config: Config, is_main: bool) -> None:
        """
        Raises:
            ProspectError: files that are no run's stand there.
        """
        self._config, self._folder, self._is_main = config, config.folder, is_main
        if is_main and not self._is_run and self._folder.exists() and any(self._folder.iterdir()):
            raise ProspectError(
                f"{self._folder}: found files there but no {CONFIG}, so it is no run's folder; pass --set name=..., or "
                "move them away"
            )

    @property
    def _is_run(self) -> bool:
        return (self._folder / CONFIG).is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other runs of the name.

        Raises:
            ProspectError: one is at work.
        """
        if not self._is_main:
            yield
            return
        with sole_owner(lock_beside(self._folder), self._folder, "another train", "pass --set name=..."):
            yield

    @property
    def _is_same(self) -> bool:
        return load_config(self._folder / CONFIG) == self._config

    def finished(self) -> dict[str, Any] | None:
        """Give the metrics of this very run, where it was finished before."""
        is_finished = self._is_run and (self._folder / METRICS).is_file() and self._is_same
        return read_metrics(self._folder) if is_finished else None

    def refuse_other_run(self) -> None:
        """Raise ProspectError where a run is there that has something to lose."""
        if self._is_main and self._is_run and not self._is_empty:
            what = "an unfinished run" if self._is_same else "a run with other settings"
            raise ProspectError(
                f"{self._folder}: found {what}; go on with --resume, start over with --overwrite, or pass --set "
                "name=..."
            )

    @property
    def _is_empty(self) -> bool:
        """Whether a run was begun here and came to no checkpoint: it is replaced without asking."""
        return self._is_run and not checkpoints(self._folder) and not (self._folder / METRICS).is_file()

    @contextmanager
    def prepared(self, overwrite: bool, resume: bool) -> Iterator[None]:
        """Make the folder. A start that fails leaves what was there before; an old run goes when the new one stands.

        Raises:
            ProspectError: files would go that no run makes.
        """
        folder, aside = self._folder, self._folder.with_name(f".{self._folder.name}.overwritten")
        is_replaced = overwrite or (self._is_empty and not resume)
        if is_replaced and folder.exists() and self._is_main:
            if others := strangers(folder):
                raise ProspectError(
                    f"{folder}: found {', '.join(others[:3])} there, which no run makes; move it away, or pass --set "
                    "name=..."
                )
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        if is_new:  # first of all: what a kill leaves is then a run that came to nothing
            write_atomically(folder / CONFIG, dump_config(self._config).encode())
        try:
            yield
        except BaseException:
            if is_new:
                shutil.rmtree(folder)
                if aside.exists():
                    aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        write_atomically(folder / CONFIG, dump_config(self._config).encode())
        if self._is_main:
            write_json(folder / ENVIRONMENT, environment())


def _set_up(
    config: Config, splits: Mapping[str, list[Split]], resume: bool, watcher: Watcher, is_main: bool
) -> tuple[ProspectTrainer, RunLog | None, Path | None]:
    """Make everything up to the first step: trainer, the main process's log, the checkpoint to go on from, if any."""
    data, folder = config.data, config.folder
    checkpoint = next(reversed(checkpoints(folder)), None) if resume else None
    if resume and checkpoint is None:
        watcher.tell(f"{folder}: found no checkpoint yet, starting from the first step")
    if checkpoint:
        check_same_settings(load_config(folder / CONFIG), config)
        if not check_readable(checkpoint, PartialState().process_index):
            watcher.tell(f"{checkpoint}: was saved by another number of ranks; what is drawn at random is drawn anew")
    transformers.set_seed(config.train.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    watcher.tell("loading the model ...")
    loaded = load_model(config, checkpoint, splits[data.train_split])
    if config.train.compile:
        compile_layers(without_adapter(loaded.model).model.text_model)
    features = open_features(config, loaded.model)
    tokens = Tokens(loaded.tokenizer, loaded.model.prospect_settings.tokens_per_frame, data.frame_wrap)
    size = loaded.model.config.vision_config.image_size

    def reader_of(split: Split, data: DataConfig) -> SequenceReader:
        return SequenceReader(split, cached_table(split, tokens, data), tokens, data, size, None, features)

    training = [reader_of(split, data) for split in splits[data.train_split]]
    order = _order(config, training)
    max_steps = order.steps_per_epoch * config.train.epochs
    position = DataPosition(
        step=0,
        epoch=0,
        order=ORDER_VERSION,
        plan="/".join(table_fingerprint(split, tokens, data) for split in splits[data.train_split]),
        max_steps=min(max_steps, config.train.max_steps or max_steps),
    )
    start_step = position.check_resumes(checkpoint).step if checkpoint else 0
    for line in _told_of_stream(config, training, order, position.max_steps, start_step):
        watcher.tell(line)
    eval_readers = {
        name: Readers(tuple(reader_of(split, data.evaluated) for split in splits[name])) for name in data.eval_splits
    }
    if eval_readers:
        as_many = -(-len(next(iter(eval_readers.values()))) // len(training))  # of each dataset
        eval_readers["train"] = Readers(tuple(replace(reader, table=reader.table.head(as_many)) for reader in training))
    sampling = Sampling(data.negatives, config.train.seed, position.max_steps, data.event_jitter)
    run_log = RunLog(folder, watcher, start_step) if is_main else None
    trainer = ProspectTrainer(
        loaded.model,
        config=config,
        reader=Readers(tuple(replace(reader, sampling=sampling) for reader in training)),
        eval_readers=eval_readers,
        order=order,
        position=position,
        processors=(loaded.tokenizer, loaded.image_processor),
        run_log=run_log,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, run_log, checkpoint


def _order(config: Config, training: list[SequenceReader]) -> Order:
    """Make the order of training.

    Raises:
        ProspectError: an epoch has not one global batch.
    """
    order = make_order(
        [reader.table for reader in training],
        config.train.seed,
        config.data.shuffle_window,
        config.train.global_batch_size,
        config.data.bucket_batches,
        list(config.data.datasets.values()),
    )
    if not order.steps_per_epoch:
        raise ProspectError(
            f"{training[0].split.folder}: {order.num_sequences} sequences an epoch are fewer than one global batch; "
            f"lower train.global_batch_size ({config.train.global_batch_size}) or add clips"
        )
    return order


def _told_of_stream(
    config: Config, training: list[SequenceReader], order: Order, max_steps: int, start_step: int
) -> Iterator[str]:
    """Tell of the stream what a person wants to know before it starts."""
    yield (
        f"{sum(map(len, training))} training sequences, {order.steps_per_epoch} steps an epoch of "
        f"{order.global_batch_size} ({order.num_dropped} left over in each), {max_steps} steps"
        + (f"; resuming at step {start_step}" if start_step else "")
    )
    if config.data.mix:
        for source, (name, passes) in zip(order.sources, config.data.datasets.items(), strict=True):
            share = source.per_epoch / order.num_sequences
            told = f"{source.per_epoch} of {source.count} sequences an epoch ({passes:g} passes)"
            yield f"  {name}: {told}, {share:.1%} of the stream"
    notes = [long_warmup(config.train, max_steps), no_summaries([reader.table for reader in training], config.data)]
    if what := compiles(config):
        notes.append(f"{what} compiles in the first step, which takes minutes")
    yield from (f"note: {note}" for note in notes if note)


def _out_of_memory(config: Config, error: torch.OutOfMemoryError) -> ProspectError:
    """The GPU's memory is full: what was predicted, and what to change."""
    plan = plan_run(config)
    predicted = f"{plan.prediction.peak / 1e9:.1f} GB predicted for tensors, {plan.gpu_bytes / 1e9:.1f} there"
    return ProspectError(
        f"CUDA out of memory ({str(error).split('. ')[0]}; {predicted}): {'; or '.join(ways_to_fit(config))}; then go "
        "on with --resume (`prospect plan` shows the parts)"
    )


def _beside(config: Config, splits: Mapping[str, list[Split]], untrained: dict[str, Any]) -> dict[str, Any]:
    """Measure what the model's metrics are read against."""
    training = _clips(splits[config.data.train_split])
    beside: dict[str, Any] = {
        "untrained": untrained,
        "baselines": {
            name: baselines(training, _clips(splits[name]), config.data.event_margin)
            for name in config.data.eval_splits
        },
    }
    num_skipped = count_skipped(config.folder)
    return beside | ({"num_skipped": num_skipped} if num_skipped else {})


def _clips(splits: list[Split]) -> list[Clip]:
    return [clip for split in splits for clip in clips_of(split.index)]


def _measured_before(config: Config) -> dict[str, dict[str, Any]]:
    """Read what was measured before the first step, by split, of a run that is resumed."""
    log, splits = config.folder / METRICS_LOG, config.data.eval_splits
    measured = {
        record["split"]: {name: value for name, value in record.items() if name not in ("step", "epoch", "split")}
        for _, record in read_lines(log, Evaluation)
        if record["step"] == 0
    }
    if missing := [split for split in splits if split not in measured]:
        raise ProspectError(
            f"{log}: found no evaluation of {', '.join(missing)} before the first step, expected what the run began "
            "with; restore the file, or start over with --overwrite"
        )
    return {split: measured[split] for split in splits}
