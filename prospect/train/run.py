"""`prospect train`: from a config to a run folder. Read this first.

1. Data: the toy world and its shards where the config asks for them, else the shards that build-shards made.
2. Model: a checkpoint, or the preset's random weights saved as an ordinary checkpoint folder.
3. Plan: sequences from the index (cached), their order, and the position to start from.
4. Train (`trainer.py`); then the last weights are evaluated on val, test and as many training sequences, beside the
   untrained model and the baselines, into metrics.json.
"""

import json
import logging
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import transformers
from rich.console import Console
from transformers import AutoTokenizer, PrinterCallback

from pipeline.clips import Clip
from pipeline.errors import ProspectError
from pipeline.manifest import json_bytes, write_atomically
from prospect.config import Config, dump_config, load_config
from prospect.data.index import Split, clips_of, read_split
from prospect.data.loader import Sampling, SequenceReader
from prospect.data.order import make_order
from prospect.data.sequences import plan_fingerprint, plan_sequences
from prospect.layout import Tokens
from prospect.model.checkpoint import load_image_processor
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import make_checkpoint
from prospect.train.baselines import baselines
from prospect.train.resume import DataPosition, checkpoints
from prospect.train.runlog import RunLog
from prospect.train.trainer import ProspectTrainer

CONFIG, METRICS = "config.yaml", "metrics.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    folder: Path
    metrics: dict[str, Any]
    up_to_date: bool


def train(config: Config, console: Console, *, resume: bool = False, overwrite: bool = False) -> Run:
    """Run `config` to its end, or return the finished run that is there.

    Raises:
        ProspectError: shards or checkpoint missing, or the run folder holds another or an unfinished run.
    """
    started = time.monotonic()
    folder = config.folder
    finished = _open_folder(config, resume, overwrite)
    if finished:
        return finished
    splits = [read_split(config.data.shards, config.data.dataset, s, config.data.root) for s in _names(config)]
    start = checkpoints(folder / "checkpoints")[-1:] if resume else []

    transformers.set_seed(config.train.seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model, tokenizer, image_processor = load_model(config, start[0] if start else None, splits[0])
    tokens_per_frame = model.prospect_settings.tokens_per_frame
    tokens = Tokens(tokenizer, tokens_per_frame, config.data.frame_wrap)
    fingerprints = [plan_fingerprint(split, tokens, tokenizer, config.data) for split in splits]
    plans = [_plan(split, tokens, config, fp) for split, fp in zip(splits, fingerprints, strict=True)]
    order = make_order(plans[0], config.train.seed, config.data.shuffle_window, config.train.global_batch_size)
    if not order.steps_per_epoch:
        raise ProspectError(
            f"{splits[0].folder}: {len(plans[0])} sequences are fewer than one global batch; lower "
            f"train.global_batch_size ({config.train.global_batch_size}) or add clips"
        )
    max_steps = order.steps_per_epoch * config.train.epochs
    position = DataPosition(
        step=0,
        epoch=0,
        plan=fingerprints[0],
        packing=config.data.packing,
        tokens_per_frame=tokens_per_frame,
        max_seq_len=config.data.max_seq_len,
        seed=config.train.seed,
        global_batch_size=config.train.global_batch_size,
        shuffle_window=config.data.shuffle_window,
        max_steps=min(max_steps, config.train.max_steps or max_steps),
        negatives=config.data.negatives.model_dump_json(),
    )
    start_step = position.check_resumes(start[0]).step if start else 0
    console.print(
        f"{len(plans[0])} training sequences, {order.steps_per_epoch} steps an epoch of {order.global_batch_size} "
        f"({order.num_dropped} left over in each), {position.max_steps} steps"
        + (f"; resuming at step {start_step}" if start_step else ""),
        soft_wrap=True,
    )

    size = model.config.vision_config.image_size
    sampling = Sampling(config.data.negatives, config.train.seed, position.max_steps)
    reader = SequenceReader(splits[0], plans[0], tokens, config.data, size, sampling)
    eval_readers = {
        name: SequenceReader(split, plan, tokens, config.data, size, None)
        for name, split, plan in zip(config.data.eval_splits, splits[1:], plans[1:], strict=True)
    }
    if eval_readers:
        as_many = len(next(iter(eval_readers.values())))
        eval_readers["train"] = replace(reader, plan=plans[0].head(as_many), sampling=None)
    run_log = RunLog(folder, console, start_step)
    trainer = ProspectTrainer(
        model,
        config=config,
        reader=reader,
        eval_readers=eval_readers,
        order=order,
        position=position,
        processors=(tokenizer, image_processor),
        callbacks=[run_log],
        on_evaluation=run_log.evaluation,
    )
    trainer.remove_callback(PrinterCallback)
    try:
        untrained = _untrained(trainer, folder, start_step)
        trainer.train(resume_from_checkpoint=str(start[0]) if start else None)
        metrics: dict[str, Any] = {name: trainer.evaluate_split(name) for name in eval_readers}
    finally:
        run_log.close()
    metrics["untrained"] = untrained
    metrics["baselines"] = {
        name: baselines(_clips(splits[0]), _clips(split))
        for name, split in zip(config.data.eval_splits, splits[1:], strict=True)
    }
    metrics["wall_s"] = round(time.monotonic() - started, 1)
    if trainer.is_world_process_zero():
        write_atomically(folder / METRICS, json_bytes(metrics))
    return Run(folder, metrics, up_to_date=False)


def _names(config: Config) -> tuple[str, ...]:
    return (config.data.train_split, *config.data.eval_splits)


def _open_folder(config: Config, resume: bool, overwrite: bool) -> Run | None:
    """Make the run folder and write the resolved config; a finished run of the same config is returned."""
    folder = config.folder
    saved = folder / CONFIG
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    if saved.is_file():
        same = load_config(saved) == config
        if (folder / METRICS).is_file() and same:
            return Run(folder, json.loads((folder / METRICS).read_text()), up_to_date=True)
        if not resume:
            what = "an unfinished run" if same else "a run with other settings"
            raise ProspectError(
                f"{folder}: found {what}; go on with --resume, start over with --overwrite, or pass --set name=..."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(saved, dump_config(config).encode())
    return None


def load_model(config: Config, resume_from: Path | None, train_split: Split) -> tuple[DSTSmolVLM, Any, Any]:
    """Model, tokenizer and image processor: of the checkpoint resumed, else as the config says."""
    source = str(resume_from) if resume_from else config.model.checkpoint
    if source is None:
        assert config.model.preset is not None
        source = str(config.folder / "init")
        if not Path(source).exists():
            make_checkpoint(config.model.preset, Path(source), _texts(train_split), config.train.seed)
    model = DSTSmolVLM.from_checkpoint(
        source,
        tokens_per_frame=config.model.tokens_per_frame,
        vision_chunk=config.model.vision_chunk,
        dtype=config.model.dtype,
        attn_implementation=config.model.attn_implementation,
        settings={"packing": config.data.packing, "frame_wrap": config.data.frame_wrap},
    )
    if config.model.freeze_vision:
        model.model.vision_model.requires_grad_(False)
    return model, AutoTokenizer.from_pretrained(source), load_image_processor(source)


def _texts(split: Split) -> list[str]:
    """Every text of a split, for a tokenizer of its own."""
    return [
        text
        for clip in clips_of(split.index)
        for text in (*(s.name for s in clip.steps), *(t.text for t in clip.turns))
    ]


def _plan(split: Split, tokens: Tokens, config: Config, fingerprint: str) -> pl.DataFrame:
    cache = split.folder / f".plan-{fingerprint[:16]}.parquet"
    return plan_sequences(split, tokens, config.data, cache)


def _clips(split: Split) -> list[Clip]:
    return list(clips_of(split.index))


def _untrained(trainer: ProspectTrainer, folder: Path, start_step: int) -> dict[str, Any]:
    """The first evaluation split before the first step; a resumed run reads what it found then."""
    split = next(iter(trainer.eval_readers), None)
    if split is None:
        return {}
    if start_step == 0:
        return {split: trainer.evaluate_split(split)}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["step"] == 0:
            return {split: {k: v for k, v in record.items() if k not in ("step", "epoch", "split")}}
    return {}
