"""HF Trainer with PROSPECT's stream and losses.

What differs from the stock Trainer, and why:
- The stream is planned (`data/order.py`): the loader is ours, unprepared by accelerate, and one "Trainer epoch" is the
  whole run, so that resuming seeks to the optimizer step instead of replaying batches.
- Every loss is divided by its count over the whole optimizer step, all micro-batches and ranks, gathered before the
  first backward: k micro-batches give the gradient of one big batch.
- Evaluation adds up terms in the step (`metrics.py`); it splits by index, so nothing is padded, dropped or repeated.
- Losses are logged, and looked at, without a host synchronisation per step: each over the targets since the last log,
  and absent where there are none. A checkpoint is a log too, so that nothing is under way that a resumed run lacks.
- A checkpoint is written aside and moved into its place once complete.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_utils import TrainOutput

from pipeline.errors import ProspectError
from prospect.config import Config, accumulation_steps
from prospect.data.collate import Batch
from prospect.data.loader import Loader, MicroBatches, counts_of_steps, make_loader
from prospect.data.negatives import rate_at
from prospect.data.order import Order, Request, evaluation_batches
from prospect.data.reader import Readers
from prospect.losses import TERMS, count_targets, focusing, total_loss
from prospect.model.checkpoint import writing
from prospect.model.lora import without_adapter
from prospect.runs import OPTIMIZER, SCHEDULER, STAGING
from prospect.train.arguments import training_arguments
from prospect.train.metrics import MetricTerms, named_losses
from prospect.train.resume import DataPosition, publish, restoring
from prospect.train.runlog import RunLog, log_skipped
from prospect.train.sharing import read_state, take_up_state, whole_state
from prospect.train.speed import ModelFlops, Speed
from prospect.train.steps import Step, Steps, mean_loss

logger = logging.getLogger(__name__)
MODEL_INPUTS = (
    "input_ids", "attention_mask", "frames", "features", "pooled", "target_kind", "update_labels", "speak_labels",
    "target_places", "decision_places", "position_ids", "sequence_starts", "longest",
)  # fmt: skip


class ProspectTrainer(Trainer):
    """Trains a `DSTSmolVLM` on a planned stream."""

    _counts_ahead: Iterator[torch.Tensor] | None = None  # of each step, where its micro-batches are loaded one by one

    def __init__(
        self,
        model: Any,
        *,
        config: Config,
        reader: Readers,
        eval_readers: Mapping[str, Readers],
        order: Order,
        position: DataPosition,
        processors: tuple[Any, Any],
        run_log: RunLog | None,
    ) -> None:
        """
        Args:
            eval_readers: split -> reader; the first is validated on during training.
            position: of the run at step 0; saved, with the step, in each checkpoint.
            processors: tokenizer and image processor, saved beside the weights.
            run_log: of the main process.
        """
        super().__init__(
            model=model,
            args=training_arguments(
                config, position.max_steps, type(without_adapter(model).model.text_model.layers[0]).__name__
            ),
            train_dataset=reader,
            eval_dataset=next(iter(eval_readers.values()), None),
            callbacks=[Steps(order.steps_per_epoch, self._evaluate_untrained), *([run_log] if run_log else [])],
        )
        self.model_accepts_loss_kwargs = True  # our losses are normalised over the step: no division by accumulation
        self.config = config
        self.reader, self.eval_readers, self.order, self.position = reader, eval_readers, order, position
        self.tokenizer_, self.image_processor_ = processors
        self.run_log = run_log
        self.loss_config = config.train.loss
        # Of the six terms, since the last log: this rank's sums, all ranks' counts.
        self._sums, self._counts = torch.zeros(2, len(TERMS), dtype=torch.float64, device=self.args.device)
        self.speed = Speed(
            ModelFlops.of(without_adapter(model), encodes_frames=config.data.features is None), self.args.device
        )
        self._losses: list[tuple[torch.Tensor, int, list[str]]] = []  # since the last check: of which step, which keys
        self._sequences = torch.zeros(len(config.data.datasets), dtype=torch.int64)  # by dataset, since the last log
        self._evaluated: dict[tuple[str, int], dict[str, Any]] = {}  # (split, step): metrics
        self.untrained: dict[str, dict[str, Any]] = {}  # split: metrics before the first step, where it is one
        if self.is_world_process_zero():
            shutil.rmtree(self._staging, ignore_errors=True)  # of a run that was killed

    # The stream

    def get_train_dataloader(self) -> Loader:
        accumulation = accumulation_steps(self.config.train)
        # Where a step is many micro-batches, what they hold is counted ahead of them: they are then let go one by one.
        # Not with samples that may be left out, which no count foresees.
        self._counts_ahead = None
        if accumulation > 1 and self.config.data.num_workers and self.config.data.on_error == "error":
            self._counts_ahead = counts_of_steps(self.reader, self._requests(accumulation, 1))
        return self._loader(self.reader, self._requests(1, accumulation), learns=True)

    def _requests(self, micro_batches: int, per_step: int) -> MicroBatches:
        """This rank's requests of the run, so many micro-batches at a time, from the step where the run stands."""
        size = self.config.train.micro_batch_size * micro_batches
        rank, ranks = self.args.process_index, self.args.world_size

        def requests() -> Iterator[list[Request]]:
            return self.order.micro_batches(self.state.global_step, self.position.max_steps, size, rank, ranks)

        return MicroBatches(requests, self.position.max_steps * per_step)

    def _loader(self, reader: Readers, batches: MicroBatches, learns: bool) -> Loader:
        pad, workers = self.tokenizer_.pad_token_id, self.config.data.num_workers
        packs = self.config.train.padding_free
        return make_loader(reader, batches, pad, workers, partial(self._skipped, learns), packs)

    def _skipped(self, learns: bool, error: str) -> None:
        """A broken sample was left out (`data.on_error: skip`)."""
        step = self.state.global_step + learns  # of the step under way, or of an evaluation after one
        log_skipped(self.config.folder, step, "training" if learns else "evaluation", error)
        if self.run_log:
            self.run_log.skipped(step, error)
        else:
            logger.warning("rank %d skipped: %s", self.args.process_index, error)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor | None]:
        """Give the micro-batches of one optimizer step, and the six counts over all of them and all ranks."""
        batches = self._counted(self.speed.take(islice(epoch_iterator, num_batches)))
        if self._counts_ahead:
            step: list[Batch] | Step = Step(batches, num_batches)
            counts = next(self._counts_ahead)
        else:
            step = list(batches)
            if not step:
                return [], None
            labels = [(b["target_kind"], b["update_labels"], b["speak_labels"]) for b in step]
            counts = torch.stack([count_targets(*of_batch) for of_batch in labels]).sum(0)
        if device.type == "cuda":
            counts = counts.pin_memory()
        counts = self._sum_over_ranks(counts.to(device, non_blocking=True))
        self._counts += counts
        return step, counts  # type: ignore[return-value]  # the Trainer asks for its length, and goes through it once

    def _counted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            for place, name in enumerate(self.config.data.datasets):
                self._sequences[place] += batch["datasets"].count(name)
            yield batch

    def _prepare_inputs(self, inputs: Batch) -> Batch:
        """To the device, beside what it is doing: the loader's memory is pinned."""
        device = self.args.device
        return {n: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for n, v in inputs.items()}

    # The loss

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        assert num_items_in_batch is not None  # from get_batch_samples
        output = model(**_model_inputs(inputs), focusing=focusing(self.loss_config))
        # DDP averages the ranks' gradients, and the counts are already those of all ranks.
        loss = total_loss(output.sums, num_items_in_batch, self.loss_config) * self.args.world_size
        self._losses.append((loss.detach(), self.state.global_step + 1, inputs["keys"]))
        self._sums += output.sums.detach()
        return loss

    def _check_losses(self) -> None:
        """Looks at the losses since the last check, at a log or before a checkpoint: no synchronisation in between.

        Raises:
            ProspectError: one is not finite, or above `train.max_loss`; names the sequences of its micro-batch.
        """
        losses = [loss for loss, _, _ in self._losses]
        for value, (_, step, keys) in zip(torch.stack(losses).tolist() if losses else [], self._losses, strict=True):
            if not value <= self.config.train.max_loss:
                raise ProspectError(
                    f"step {step}: found a loss of {value}, expected at most train.max_loss "
                    f"{self.config.train.max_loss:g}; it came from {', '.join(keys)}: look at them with prospect "
                    "inspect-shard; start a new run with a lower train.learning_rate, or, where such a loss is right, "
                    "raise train.max_loss and go on from the last checkpoint with --resume"
                )
        self._losses.clear()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add, over the steps since the last log, the four losses (over their targets; absent without any), the rates
        of `Speed`, and each dataset's share of the sequences of a mix; the negative rate. At the end, `train_loss` is
        made that of all steps, of sessions before this one too."""
        if "loss" in logs:
            self._check_losses()
            sums, counts = self._sum_over_ranks(self._sums).cpu(), self._counts.cpu()
            losses = named_losses(sums, counts, self.loss_config.binary)
            logs |= {name: value for name, value in losses.items() if value is not None}
            logs |= self.speed.rates(self._sum_over_ranks, self.args.world_size)
            if self.config.data.mix:
                taken = self._sum_over_ranks(self._sequences.to(self.args.device)).tolist()
                logs |= {
                    f"share/{name}": n / max(sum(taken), 1) for name, n in zip(self.config.data.mix, taken, strict=True)
                }
            logs["negative_rate"] = rate_at(
                self.config.data.negatives, self.state.global_step - 1, self.position.max_steps
            )
            for counted in (self._sums, self._counts, self._sequences):
                counted.zero_()
        if "train_loss" in logs:
            logs["train_loss"] = mean_loss(self.state.log_history)
        super().log(logs, start_time)

    # Evaluation

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate the first evaluation split; called by the Trainer every eval_steps."""
        split = next(iter(self.eval_readers))
        self._check_losses()
        metrics = self.evaluate_split(split)
        named = {f"eval_{name}": value for name, value in metrics.items() if value is not None}
        self.log(named)
        self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        return named

    def _evaluate_untrained(self) -> None:
        """Before the first step, but once the model is on its device, and shared out with FSDP."""
        self.untrained = {split: self.evaluate_split(split) for split in self.config.data.eval_splits}

    def _autocast(self) -> torch.autocast:
        """The precision of training."""
        return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.config.train.bf16)

    def evaluate_split(self, split: str) -> dict[str, Any]:
        """Give teacher-forced metrics of one of `eval_readers`, over every sequence once, without generation."""
        known = self._evaluated.get((split, self.state.global_step))
        if known:
            return known
        with self.speed.elsewhere():
            metrics = self._measured(split)
        self._evaluated[split, self.state.global_step] = metrics
        if self.run_log:
            self.run_log.evaluation(split, self.state.global_step, self.state.epoch or 0.0, metrics)
        return metrics

    def _measured(self, split: str) -> dict[str, Any]:
        reader = self.eval_readers[split]
        size = self.config.train.micro_batch_size
        batches = evaluation_batches(len(reader), size, self.args.process_index, self.args.world_size)
        count, is_shared = len(batches), self.is_fsdp_enabled
        if is_shared:  # every forward is all ranks': a rank with fewer batches repeats a sequence that does not count
            most = len(evaluation_batches(len(reader), size, 0, self.args.world_size))
            batches += [[Request(0, 0, 0)]] * (most - count)
        terms = MetricTerms()
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad() if is_shared else torch.inference_mode():  # gathered weights are trained with later
            loader = self._loader(reader, MicroBatches(lambda: iter(batches), len(batches)), learns=False)
            for number, batch in enumerate(loader):
                moved = self._prepare_inputs(batch)
                with self._autocast():
                    output = self.model(**_model_inputs(moved), focusing=focusing(self.loss_config))
                if number < count:
                    terms.add(moved, output)
        self.model.train(was_training)
        total = MetricTerms()
        total.add_vector(self._sum_over_ranks(torch.from_numpy(terms.vector()).to(self.args.device)).cpu().numpy())
        return total.metrics(self.loss_config)

    def _sum_over_ranks(self, values: torch.Tensor) -> torch.Tensor:
        if self.args.world_size == 1:
            return values
        summed: torch.Tensor = self.accelerator.reduce(values, "sum")
        return summed

    # Checkpoints

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if not self.args.should_save:  # with FSDP every rank comes here
            return
        folder = Path(output_dir or self.args.output_dir)
        self.model.config.save_pretrained(folder)  # peft saves none
        self.tokenizer_.save_pretrained(folder)
        self.image_processor_.save_pretrained(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = whole_state(self.optimizer, keep=self.args.should_save)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train from the first step, or from a checkpoint on."""
        if self.is_fsdp_enabled and resume_from_checkpoint and self.config.model.lora:
            self._load_from_checkpoint(str(resume_from_checkpoint))  # while the model is whole
        return super().train(resume_from_checkpoint, **kwargs)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled and model is not None:  # shared out by now, with the weights of `setup.load_model`
            return
        with restoring(resume_from_checkpoint, "weights"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with restoring(checkpoint, f"{OPTIMIZER} or {SCHEDULER}"):
            if not self.is_fsdp_enabled or checkpoint is None:
                super()._load_optimizer_and_scheduler(checkpoint)
                return
            take_up_state(self.optimizer, read_state(Path(checkpoint) / OPTIMIZER))
            self.lr_scheduler.load_state_dict(read_state(Path(checkpoint) / SCHEDULER))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with restoring(checkpoint, "random states (rng_state.pth)"):
            super()._load_rng_state(checkpoint)

    def _get_output_dir(self, trial: Any) -> str:
        """Where the Trainer puts checkpoint-N: a staging folder, from which it is moved once it is complete."""
        return str(self._staging)

    @property
    def _staging(self) -> Path:
        return Path(self.args.output_dir) / STAGING

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint is there whole, or not at all, and then those before it are.

        Raises:
            ProspectError: it cannot be written, as on a full disk.
        """
        self._check_losses()
        step = self.state.global_step
        staged = self._staging / f"checkpoint-{step}"
        fix = "the checkpoints before it are kept: free some space, then go on with --resume"
        with writing(self._staging, f"{self.args.output_dir}/checkpoint-{step}", fix), self.speed.elsewhere():
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            replace(self.position, step=step, epoch=step // self.order.steps_per_epoch).save(staged)
            publish(staged, Path(self.args.output_dir), self.config.train.keep_checkpoints)


def _model_inputs(batch: Batch) -> Batch:
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}
