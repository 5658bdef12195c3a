"""`prospect plan`: what a config will ask for, told before anything is loaded.

Parameters, peak memory by part (rehearsed on the largest micro-batch of the data), tokens a frame, seconds of video in
a window, steps.
"""

from dataclasses import dataclass, field

import polars as pl
import torch
from rich.console import Group
from rich.table import Table

from prospect.carried import kept_free
from prospect.config import Config, local_ranks, long_warmup, warmup_steps
from prospect.data.classes import one_sided
from prospect.data.index import Split, clips_of
from prospect.data.sequences import cached_table, learned, no_summaries, part_of, part_sequence
from prospect.layout import IGNORE, start_prompt
from prospect.setup import Blueprint, make_blueprint, open_splits
from prospect.train.host_memory import HostMemory, host_memory, too_little_shared
from prospect.train.memory import OVERHEAD, Prediction, Shapes, predict

MIN_WINDOW_S = 10  # a window of less video cuts clips too short to learn from: most gaps between events are longer
DEFAULT_GPU_GB = 24.0


@dataclass(frozen=True, slots=True)
class RunPlan:
    """`problems`: why the run should not be started, each with what to change; `notes`: what it will not do."""

    prediction: Prediction
    shapes: Shapes
    tokens_a_frame: int
    window_frames: int  # frames in a window without any turn
    window_s: float
    longest_s: float  # the longest clip
    num_sequences: int  # of an epoch
    num_clips: int
    steps_per_epoch: int
    steps: int
    gpu_bytes: float
    warmup_steps: int
    host: HostMemory  # of each rank
    is_checkpointed: bool
    other_peak: float  # with gradient checkpointing where the config has none, without where it has
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def plan_run(config: Config, gpu_gb: float | None = None) -> RunPlan:
    """Plan `config` for a GPU of `gpu_gb` gigabytes; None: the one that is here, else one of 24.

    Raises:
        ProspectError: shards, tokenizer or model config are missing, or a clip cannot be laid out.
    """
    data, train = config.data, config.train
    splits = open_splits(config, data.train_split)
    blueprint = make_blueprint(config)
    tables = [cached_table(split, blueprint.tokens, data) for split in splits]
    shapes = max((_largest(*pair, blueprint, config) for pair in zip(splits, tables, strict=True)),
                 key=lambda shapes: shapes.tokens)  # fmt: skip
    clips = [learned(clip, data) for split in splits for clip in clips_of(split.index)]
    prompt = min(len(start_prompt(blueprint.tokens, clip).ids) for clip in clips)
    free = kept_free(data.memory, data.reserve)
    window_frames = (data.max_seq_len - free - prompt) // len(blueprint.tokens.frame.ids)
    window_s = min(window_frames / clip.fps for clip in clips)
    num_sequences = sum(
        round(passes * len(table)) for passes, table in zip(data.datasets.values(), tables, strict=True)
    )
    steps_per_epoch = num_sequences // train.global_batch_size
    steps = steps_per_epoch * train.epochs
    steps = min(steps, train.max_steps or steps)
    prediction = predict(blueprint.config, config, shapes)
    checkpointing = train.gradient_checkpointing
    other = config.model_copy(update={"train": train.model_copy(update={"gradient_checkpointing": not checkpointing})})
    other_peak = predict(blueprint.config, other, shapes).peak
    gpu_bytes = _gpu_bytes(gpu_gb)
    host = host_memory(config, int(prediction.memory["frames and labels"]))
    longest = max((clip.end_frame - clip.start_frame + 1) / clip.fps for clip in clips)
    problems = [f"found {what}: {fix}" for what, fix in one_sided(config, splits)]
    if prediction.peak + OVERHEAD > gpu_bytes:
        problems.append(
            f"needs {prediction.peak / 1e9:.1f} GB and some {OVERHEAD / 1e9:.1f} GB beside its tensors, the GPU has "
            f"{gpu_bytes / 1e9:.1f}: {'; or '.join(ways_to_fit(config))}"
        )
    if window_s < min(MIN_WINDOW_S, longest):
        problems.append(
            f"a window of data.max_seq_len {data.max_seq_len} holds {window_s:.0f} s of video and clips are up to "
            f"{longest:.0f} s long: lower model.tokens_per_frame ({config.model.tokens_per_frame}), or raise "
            "data.max_seq_len"
        )
    positions = blueprint.config.text_config.max_position_embeddings
    if data.max_seq_len > positions:
        problems.append(
            f"data.max_seq_len {data.max_seq_len} is more than the {positions} positions that the model was made for: "
            "lower it"
        )
    if not steps_per_epoch:
        problems.append(
            f"{num_sequences} sequences an epoch are fewer than one global batch: lower train.global_batch_size "
            f"({train.global_batch_size}), or add clips"
        )
    notes = [long_warmup(train, steps), no_summaries(tables, data), too_little_shared(host, local_ranks())]
    if checkpointing and other_peak + OVERHEAD <= gpu_bytes:
        notes.append(
            f"train.gradient_checkpointing=false fits too ({other_peak / 1e9:.1f} GB), and no layer is computed twice"
        )
    return RunPlan(
        prediction, shapes, blueprint.tokens.tokens_per_frame, window_frames, window_s, longest, num_sequences,
        len(clips), steps_per_epoch, steps, gpu_bytes, warmup_steps(train, steps), host, checkpointing,
        other_peak, problems, [note for note in notes if note],
    )  # fmt: skip


def _largest(split: Split, table: pl.DataFrame, blueprint: Blueprint, config: Config) -> Shapes:
    """The shapes of a micro-batch of the split's longest sequence, every silent frame in it."""
    row = table.row(int(table["num_tokens"].arg_max() or 0), named=True)
    frames = row["last_frame"] - row["first_frame"] + 1
    targets, decisions = config.data.reserve, frames + 1  # `turn` packing: at most
    if config.data.packing == "clip":
        clip = next(clips_of(split.index[row["row"] : row["row"] + row["num_rows"]]))
        sequence = part_sequence(clip, part_of(row), blueprint.tokens, config.data)
        targets = sum(kind > 0 for kind in sequence.target_kind)
        decisions = sum(label != IGNORE for label in sequence.update_labels)
    return Shapes(config.train.micro_batch_size, row["num_tokens"], frames, targets, decisions)


def _gpu_bytes(gpu_gb: float | None) -> float:
    if gpu_gb is None and torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return (gpu_gb or DEFAULT_GPU_GB) * 1e9


def ways_to_fit(config: Config) -> list[str]:
    """What can be changed and is not yet, the cheapest first."""
    model, train = config.model, config.train
    ways = {
        "train.micro_batch_size=1": train.micro_batch_size > 1,
        "train.gradient_checkpointing=true": not train.gradient_checkpointing,
        "model.freeze_vision=true": not model.freeze_vision and not model.lora,
        "model.dtype=bfloat16 with train.optimizer=adamw_8bit": model.dtype == "float32" and not model.lora,
        "model.dtype=bfloat16 with train.bf16=true": model.dtype == "float32" and bool(model.lora),
        "model.lora.rank=16": not model.lora,
        "model.lora.quantize=4bit": model.lora is not None and model.lora.quantize == "none" and not train.fsdp,
        f"a smaller data.max_seq_len than {config.data.max_seq_len}": True,
    }
    return [f"set {way}" for way, helps in ways.items() if helps]


def plan_table(plan: RunPlan) -> Group:
    """What `prospect plan` prints."""
    parameters = Table("parameters", "million", title="Model")
    for part, count in plan.prediction.parameters.items():
        parameters.add_row(part, f"{count / 1e6:,.1f}", style="bold" if part == "trained" else None)
    memory = Table("peak memory", "GB", title="One GPU, largest micro-batch")
    for part, size in plan.prediction.memory.items():
        memory.add_row(part, f"{size / 1e9:.2f}")
    memory.add_section()
    memory.add_row("predicted peak", f"{plan.prediction.peak / 1e9:.2f}", style="bold")
    memory.add_row("the GPU's, less context and fragmentation", f"{(plan.gpu_bytes - OVERHEAD) / 1e9:.2f}")
    how = "without" if plan.is_checkpointed else "with"
    memory.add_row(f"the peak {how} gradient checkpointing", f"{plan.other_peak / 1e9:.2f}")
    memory.add_section()
    memory.add_row("host memory of a rank: /dev/shm, made ahead", f"{plan.host.shared / 1e9:.2f}")
    memory.add_row("host memory of a rank: pinned", f"{plan.host.pinned / 1e9:.2f}")
    run = Table("", "", title="Run", show_header=False)
    shapes = plan.shapes
    for name, value in {
        "tokens a frame": plan.tokens_a_frame,
        "a window holds": f"{plan.window_frames} frames, {plan.window_s:.0f} s of video "
        f"(longest clip: {plan.longest_s:.0f} s)",
        "sequences an epoch": f"{plan.num_sequences}, of {plan.num_clips} clips",
        "steps": f"{plan.steps}, {plan.steps_per_epoch} an epoch; warm-up over {plan.warmup_steps}",
        "largest micro-batch": f"{shapes.sequences} x {shapes.tokens} tokens, {shapes.frames} frames, "
        f"{shapes.targets} targets, {shapes.decisions} decisions each",
    }.items():
        run.add_row(name, str(value))
    return Group(parameters, memory, run)
