"""Claim: both 24 GB configs of SmolVLM2-2.2B stay under 24 GB, and `prospect plan` predicts their peak within 10%.

    python benchmarks/gpu_memory.py [--steps 3] [--json FILE]

Needs a CUDA GPU. Random weights (no hub), a full window of 4096 tokens with its frames, as the config has it, with and
without gradient checkpointing: the step that a run takes (accumulated micro-batches, vision, the run's own optimizer),
and torch.cuda.max_memory_allocated after it, beside the rehearsal's prediction; tokens/s and MFU (of
prospect/train/speed.py: what checkpointing computes twice is not counted) of the steps after the first. Nothing of a
run is left out but the loader and the log. Each setting is a process of its own.
"""

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_train import _inputs, keep, reason
from rich.console import Console
from rich.table import Table
from transformers import Trainer

from prospect.config import Config
from prospect.config_file import load_config
from prospect.layout import Tokens
from prospect.losses import total_loss
from prospect.model.checkpoint import with_tokens
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.lora import without_adapter
from prospect.model.presets import PRESETS, toy_tokenizer
from prospect.setup import prepared
from prospect.train.arguments import training_arguments
from prospect.train.memory import Shapes, predict
from prospect.train.speed import ModelFlops, peak_flops

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = ("smolvlm2-2.2b-24gb", "smolvlm2-2.2b-24gb-full")
ACCUMULATED = 2  # micro-batches of a step


class Result(NamedTuple):
    predicted: float  # bytes
    measured: float  # bytes; nan where nothing counts them
    tokens_s: float
    flops_s: float  # model FLOPs


def measure(config: Config, preset: str, device: str, steps: int) -> Result:
    """Train a window for some steps; the first warms up."""
    tokenizer = toy_tokenizer(["Well done. Now take the next part."] * 4)
    count = config.model.tokens_per_frame if preset != "toy" else "native"
    model_config = with_tokens(PRESETS[preset](tokenizer), preset, count)
    length = config.data.max_seq_len
    batch, frames = _inputs(Tokens(tokenizer, count if isinstance(count, int) else 1), length, 1)
    shapes = Shapes(1, length, frames, len(batch["target_places"]), len(batch["decision_places"]))
    predicted = predict(model_config, config, shapes).peak
    dtype = getattr(torch, config.model.dtype)
    with torch.device(device):
        model: Any = prepared(DSTSmolVLM._from_config(model_config, dtype=dtype).train(), config)
    cls, options = Trainer.get_optimizer_cls_and_kwargs(training_arguments(config, steps))
    optimizer = cls([p for p in model.parameters() if p.requires_grad], **options)
    size = model_config.vision_config.image_size
    batch["frames"] = torch.randint(0, 256, (frames, 3, size, size), dtype=torch.uint8)
    batch = {name: value.to(device) for name, value in batch.items()}
    autocast = torch.autocast(device, torch.bfloat16) if config.train.bf16 else nullcontext()

    def run(steps: int) -> float:
        torch.cuda.synchronize() if device == "cuda" else None
        began = time.perf_counter()
        for _ in range(steps):
            for _ in range(ACCUMULATED):
                with autocast:
                    output = model(**batch)
                    loss = total_loss(output.sums, ACCUMULATED * output.counts)
                loss.backward()
                del output, loss
            optimizer.step()
            optimizer.zero_grad()
        torch.cuda.synchronize() if device == "cuda" else None
        return (time.perf_counter() - began) / steps

    run(1)
    seconds = run(steps)
    measured = float(torch.cuda.max_memory_allocated()) if device == "cuda" else float("nan")
    flops = ACCUMULATED * ModelFlops.of(without_adapter(model)).step([length], shapes.targets, frames)
    return Result(predicted, measured, ACCUMULATED * length / seconds, flops / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--cpu-check", action="store_true", help=argparse.SUPPRESS)  # that the code runs: a toy
    parser.add_argument("--json", type=Path, help="write the numbers into this file too, after each")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.cpu_check:
        print("benchmarks/gpu_memory.py: needs a CUDA GPU, found none; nothing was measured")
        return
    device, preset = ("cpu", "toy") if options.cpu_check else ("cuda", "smolvlm2-2.2b")
    peak = None if options.cpu_check else peak_flops(torch.cuda.get_device_name())
    table = Table("config", "checkpointing", "predicted GB", "measured GB", "predicted / measured", "tokens/s", "MFU")
    numbers: dict[str, float | str] = {}
    for name in NAMES:
        for checkpointing in ("false", "true"):
            small = ["data.max_seq_len=512"] if options.cpu_check else []
            config = load_config(CONFIGS / f"{name}.yaml", [*small, f"train.gradient_checkpointing={checkpointing}"])
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                try:
                    found = process.submit(measure, config, preset, device, options.steps).result()
                except Exception as error:  # out of memory, the process died, a package is missing
                    numbers[f"{name}, checkpointing {checkpointing}"] = why = reason(error)
                    table.add_row(name, checkpointing, why)
                    keep(options.json, numbers)
                    continue
            ratio, mfu = found.predicted / found.measured, found.flops_s / peak if peak else float("nan")
            sizes = (f"{found.predicted / 1e9:.2f}", f"{found.measured / 1e9:.2f}", f"{ratio:.3f}")
            table.add_row(name, checkpointing, *sizes, f"{found.tokens_s:.0f}", f"{mfu:.2f}")
            values = {"predicted GB": found.predicted / 1e9, "measured GB": found.measured / 1e9}
            values |= {"predicted / measured": ratio, "tokens/s": found.tokens_s, "MFU": mfu}
            known = {what: value for what, value in values.items() if not math.isnan(value)}
            numbers |= {f"{name}, checkpointing {checkpointing}: {what}": value for what, value in known.items()}
            keep(options.json, numbers)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
