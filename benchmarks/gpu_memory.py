"""Claim: both 24 GB configs of SmolVLM2-2.2B stay under 24 GB, and `prospect plan` predicts their peak within 10%.

    python benchmarks/gpu_memory.py [--steps 3] [--cpu-check]

Needs a CUDA GPU. Random weights (no hub), a full window of 4096 tokens with its frames, as the config has it: the step
that a run takes (accumulated micro-batches, the run's own optimizer), and torch.cuda.max_memory_allocated after it,
beside the rehearsal's prediction. Nothing of a run is left out but the loader and the log.
"""

import argparse
import gc
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from gpu_train import _inputs
from rich.console import Console
from rich.table import Table
from transformers import Trainer

from prospect.config import Config
from prospect.config_file import load_config
from prospect.layout import Tokens
from prospect.losses import total_loss
from prospect.model.checkpoint import with_tokens
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import PRESETS, toy_tokenizer
from prospect.setup import prepared
from prospect.train.arguments import training_arguments
from prospect.train.memory import Shapes, predict

CONFIGS = Path(__file__).parents[1] / "configs"
NAMES = ("smolvlm2-2.2b-24gb", "smolvlm2-2.2b-24gb-full")


def measure(config: Config, preset: str, device: str, steps: int) -> tuple[float, float]:
    """Predicted and measured peak, in bytes."""
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
    for _ in range(steps):
        for _ in range(2):
            with autocast:
                output = model(**batch)
                loss = total_loss(output.sums, 2 * output.counts)
            loss.backward()
            del output, loss
        optimizer.step()
        optimizer.zero_grad()
    return predicted, float(torch.cuda.max_memory_allocated()) if device == "cuda" else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--cpu-check", action="store_true", help=argparse.SUPPRESS)  # that the code runs: a toy
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.cpu_check:
        print("benchmarks/gpu_memory.py: needs a CUDA GPU, found none; nothing was measured")
        return
    device, preset = ("cpu", "toy") if options.cpu_check else ("cuda", "smolvlm2-2.2b")
    table = Table("config", "predicted GB", "measured GB", "predicted / measured")
    for name in NAMES:
        small = ["data.max_seq_len=512"] if options.cpu_check else []
        config = load_config(CONFIGS / f"{name}.yaml", small)
        gc.collect()  # of the config before: modules and their hooks refer to one another
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        predicted, measured = measure(config, preset, device, options.steps)
        table.add_row(name, f"{predicted / 1e9:.2f}", f"{measured / 1e9:.2f}", f"{predicted / measured:.3f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
