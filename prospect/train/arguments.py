"""What the settings of a run are called by transformers' Trainer."""

import os
from shutil import which

import torch
from transformers import TrainingArguments

from pipeline.errors import ProspectError
from prospect.config import Config, accumulation_steps, warmup_steps
from prospect.runs import CHECKPOINTS
from prospect.train.sharing import fsdp_arguments


def training_arguments(config: Config, max_steps: int, layer: str = "LlamaDecoderLayer") -> TrainingArguments:
    """Make the arguments of `max_steps` optimizer steps of this process's rank; `layer`: the class of the text model's
    layers, which FSDP shares out."""
    train = config.train
    arguments = TrainingArguments(
        output_dir=str(config.folder / CHECKPOINTS),
        max_steps=max_steps,
        per_device_train_batch_size=train.micro_batch_size,
        gradient_accumulation_steps=accumulation_steps(train),
        optim="adamw_torch_8bit" if train.optimizer == "adamw_8bit" else "adamw_torch_fused",
        optim_args="bf16_stochastic_round=True" if train.optimizer == "adamw_8bit" else None,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        adam_beta1=train.adam_betas[0],
        adam_beta2=train.adam_betas[1],
        warmup_steps=warmup_steps(train, max_steps),
        lr_scheduler_type=train.lr_schedule,
        max_grad_norm=train.max_grad_norm,
        bf16=train.bf16,
        eval_strategy="steps" if config.data.eval_splits else "no",
        eval_steps=train.eval_steps,
        save_strategy="steps",
        save_steps=train.save_steps,
        logging_steps=train.log_steps,
        logging_nan_inf_filter=False,
        seed=train.seed,
        ignore_data_skip=True,
        remove_unused_columns=False,
        disable_tqdm=True,
        log_level="error",  # else a resumed FSDP run warns of tied weights, which are no weights of their own
        **(fsdp_arguments(layer) if train.fsdp else {}),
        report_to=["wandb"] if train.wandb else "none",
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
    )
    if arguments.use_cpu and not train.compile:
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # torchao compiles its step: not worth it on a CPU
    if arguments.n_gpu > 1:  # without torchrun: one GPU, not the Trainer's DataParallel, which would split our batches
        arguments._n_gpu = 1
    return arguments


def compiles(config: Config) -> str | None:
    """Name the setting for which torch compiles kernels in the first step, if there is one."""
    if config.train.compile:
        return "train.compile"
    is_8bit = config.train.optimizer == "adamw_8bit" and torch.cuda.is_available()
    return "train.optimizer adamw_8bit" if is_8bit else None


def check_can_compile(config: Config) -> None:
    """
    Raises:
        ProspectError: a setting needs a C compiler, and none is here.
    """
    what = compiles(config)
    if what and not os.environ.get("CC") and not any(map(which, ("cc", "gcc", "clang"))):
        raise ProspectError(
            f"{what}: found no C compiler (cc, gcc, clang, or CC in the environment), which torch's kernels are made "
            "with; install one (apt-get install gcc), or leave the setting out"
        )
