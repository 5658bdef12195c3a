"""Claim: text fine-tuning of SmolVLM2 at real size runs near the GPU's speed, far from the stock recipe's.

    python benchmarks/gpu_train.py [--size smolvlm2-2.2b] [--steps 10] [--batch 2] [--weights bfloat16] [--json FILE]

Needs a CUDA GPU. SmolVLM2-256M, -500M and -2.2B with random weights (no hub); sequences of 4096 tokens in the layout of
`clip` packing, made-up events at a real clip's rate; tower frozen, text, connector and heads trained; bf16 weights
(`--weights float32`: fp32 weights under bf16 autocast); no gradient checkpointing; all inputs on the GPU beforehand, no
clipping, no logging. Every way and size is a process of its own: what fails in one is a line of the table.

- ours: `DSTSmolVLM`, 4 tokens a frame, logits at targets alone, fused AdamW. "features": of the frames given, as a
  cache of a frozen tower's would; "vision": the tower runs, 64 frames at a time.
- stock: full logits in float32, both heads at all tokens, AdamW as a for-loop over parameters. "features": the same
  input as ours; "vision": the plain class's path, float pixel_values, all frames at once, its native tokens a frame.

MFU = model FLOPs / (seconds x the device's dense bf16 peak), by prospect/train/speed.py, which states the formula: only
what the labels need counts (full logits beyond them are waste), and nothing is recomputed.
"""

import argparse
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from stream_inference import make_clip
from torch import Tensor
from torch.nn import functional as F

from pipeline.annotations.clips import prompt_text
from pipeline.io.storage import write_json
from prospect.layout import IGNORE, Part, Tokens, clip_sequence
from prospect.losses import label_places, total_loss
from prospect.model.checkpoint import native_tokens, with_tokens
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import PRESETS, toy_tokenizer
from prospect.train.speed import ModelFlops, peak_flops

SIZES = ("smolvlm2-256m", "smolvlm2-500m", "smolvlm2-2.2b")
WAYS = ("ours, features", "ours, vision", "stock, features", "stock, vision")
WARM_UP = 3


class Result(NamedTuple):
    tokens_per_frame: int
    frames: int  # of a batch
    targets: int  # of a batch
    tokens_s: float
    frames_s: float
    flops_s: float  # model FLOPs, see above
    peak_bytes: int  # allocated


def measure(preset: str, way: str, device: str, weights: str, batch: int, length: int, steps: int) -> Result:
    """Train `preset` for some steps, and time them after a warm-up."""
    is_ours, has_vision = way.startswith("ours"), way.endswith("vision")
    clip = make_clip(length)
    texts = [turn.text for turn in clip.turns] + [prompt_text(clip.steps, clip.state)]
    tokenizer = toy_tokenizer(texts * 4)
    config = PRESETS[preset](tokenizer)
    native = native_tokens(config)
    per_frame = native if has_vision and not is_ours else min(4, native)
    torch.manual_seed(0)
    with torch.device(device):
        model = DSTSmolVLM(with_tokens(config, preset, per_frame)).to(getattr(torch, weights)).train()
        inputs, frames = _inputs(Tokens(tokenizer, per_frame), length, batch)
        size = config.vision_config.image_size
        pixels = torch.randint(0, 256, (frames if has_vision else 0, 3, size, size), dtype=torch.uint8)
        features = torch.randn(frames, per_frame, config.text_config.hidden_size, dtype=model.dtype)
        seen = {"frames": pixels} if has_vision else {"features": features}
    model.model.vision_model.requires_grad_(False)
    model.model.connector.requires_grad_(has_vision)  # where features are given it is frozen, as it has to be
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=is_ours, foreach=None if is_ours else False)
    labels = inputs["input_ids"].masked_fill(inputs["target_kind"] == 0, IGNORE)  # (B, T)
    images = (pixels.float() / 127.5 - 1).unflatten(0, (batch, -1)) if has_vision and not is_ours else None

    def our_loss() -> Tensor:
        output = model(**seen, **inputs)
        return total_loss(output.sums, output.counts)

    def stock_loss() -> Tensor:
        ids = inputs["input_ids"]
        if images is None:
            given = {"inputs_embeds": model._embed(ids, None, features)}
        else:
            given = {"input_ids": ids, "pixel_values": images}
        output = model(labels=labels, output_hidden_states=True, **given)
        loss: Tensor = output.loss
        for head, name in ((model.should_update_dst, "update_labels"), (model.when_to_speak, "speak_labels")):
            logits = head(output.hidden_states[-1]).float().flatten(0, 1)  # (B*T, 2)
            loss = loss + F.cross_entropy(logits, inputs[name].flatten(), ignore_index=IGNORE)
        return loss

    def synchronize() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def run(count: int) -> float:
        synchronize()
        began = time.perf_counter()
        for _ in range(count):
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=weights == "float32"):
                loss = our_loss() if is_ours else stock_loss()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        synchronize()
        return (time.perf_counter() - began) / count

    run(WARM_UP)
    torch.cuda.reset_peak_memory_stats() if device == "cuda" else None
    seconds = run(steps)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    targets = int((inputs["target_kind"] > 0).sum())
    flops = ModelFlops.of(model, has_vision).step([length] * batch, targets, frames)
    return Result(per_frame, frames, targets, batch * length / seconds, frames / seconds, flops / seconds, peak)


def _inputs(tokens: Tokens, length: int, batch: int) -> tuple[dict[str, Tensor], int]:
    """`batch` times the first `length` tokens of a long clip, on the default device; the number of frames in them."""
    clip = make_clip(length // tokens.tokens_per_frame)
    sequence = clip_sequence(tokens, clip, Part(0, clip.end_frame, tuple(clip.state.values()), 0))
    ids = sequence.ids[:length]
    frames, cut_off = divmod(ids.count(tokens.image), tokens.tokens_per_frame)
    if cut_off:  # a last frame that is not whole
        ids[-cut_off:] = [tokens.newline[-1]] * cut_off
    names = ("target_kind", "update_labels", "speak_labels")
    rows = {"input_ids": ids} | {name: getattr(sequence, name)[:length] for name in names}
    inputs = {name: torch.tensor([row] * batch) for name, row in rows.items()}
    places = label_places(inputs["target_kind"], inputs["update_labels"])
    return inputs | dict(zip(("target_places", "decision_places"), places, strict=True)), frames * batch


def reason(error: Exception) -> str:
    """Why something could not be measured, in a line."""
    return f"{type(error).__name__}: {str(error).partition('. ')[0].partition(chr(10))[0]}"


def keep(path: Path | None, numbers: Mapping[str, float | str]) -> None:
    """Write what is known so far: a script may be stopped."""
    if path:
        write_json(path, numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, help="one size alone")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=2, help="sequences of a step")
    parser.add_argument("--weights", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--cpu-check", action="store_true", help=argparse.SUPPRESS)  # that the code runs: a toy
    parser.add_argument("--json", type=Path, help="write the numbers into this file too, after each")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.cpu_check:
        print("benchmarks/gpu_train.py: needs a CUDA GPU, found none; nothing was measured")
        return
    sizes = ("toy",) if options.cpu_check else (options.size,) if options.size else SIZES
    device, length = ("cpu", 512) if options.cpu_check else ("cuda", 4096)
    name = "cpu" if options.cpu_check else torch.cuda.get_device_name()
    peak = peak_flops(name)
    title = (
        f"{name}, batches of {options.batch} x {length} tokens, {options.weights} weights, torch {torch.__version__}"
    )
    columns = ("tokens a frame", "frames", "targets", "tokens/s", "frames/s", "model TFLOP/s", "MFU", "peak GB")
    table = Table("size", "", *columns, title=title)
    numbers: dict[str, Any] = {}
    for size in sizes:
        for way in WAYS:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                try:
                    settings = (options.weights, options.batch, length, options.steps)
                    found = process.submit(measure, size, way, device, *settings).result()
                except Exception as error:  # out of memory, the process died, another version of a package
                    numbers[f"{size}, {way}"] = why = reason(error)
                    table.add_row(size, way, *[""] * len(columns[:-1]), why)
                    keep(options.json, numbers)
                    continue
            mfu = f"{found.flops_s / peak:.2f}" if peak else ""
            rates = (f"{found.tokens_s:.0f}", f"{found.frames_s:.0f}", f"{found.flops_s / 1e12:.3g}", mfu)
            table.add_row(size, way, *map(str, found[:3]), *rates, f"{found.peak_bytes / 1e9:.1f}")
            values = {"tokens/s": found.tokens_s, "frames/s": found.frames_s, "peak GB": found.peak_bytes / 1e9}
            values |= {"MFU": found.flops_s / peak} if peak else {}
            numbers |= {f"{size}, {way}: {what}": value for what, value in values.items()}
            keep(options.json, numbers)
        for who in ("ours", "stock"):
            kinds = [numbers.get(f"{size}, {who}, {kind}: tokens/s") for kind in ("features", "vision")]
            if kinds[0] and kinds[1]:
                numbers[f"{size}, {who}: share of vision in a step's time"] = 1 - kinds[1] / kinds[0]
        both = [numbers.get(f"{size}, {who}, vision: frames/s") for who in ("ours", "stock")]
        if both[0] and both[1]:
            numbers[f"{size}: frames/s of ours over stock, vision"] = both[0] / both[1]
        keep(options.json, numbers)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
