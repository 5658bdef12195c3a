"""Claim: where the context is full, `slide` puts the prompt alone through the model, and keeps the last frames; what
that costs against starting over from the state (`state_carry`), and against running what is kept again (`drop_middle`).

    python benchmarks/slide.py [--frames 10000] [--checkpoint RUN --data OUT/DATASET/SPLIT --data-root DATA]

One stream of so many frames for each policy, in turns of `--turn` frames, so that a machine that is busy is so for all.
Timed is what a stream does with a frame's features, the vision tower apart. Ratios are to `state_carry` of the same
run. Without a checkpoint: the toy with random weights, whose blocks are the reference's, written token by token as
generation would. With one the same, of its model and window; and with clips (`--data`) it is evaluated under each
policy, writing what it wants.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stream_inference import Forcing, make_clip

from pipeline.annotations.clips import prompt_text
from pipeline.errors import ProspectError
from prospect.evaluation.evaluate import evaluate_contexts
from prospect.evaluation.predict import Places
from prospect.layout import Tokens, frame_groups
from prospect.model.checkpoint import with_tokens
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import PRESETS, toy_tokenizer
from prospect.stream.context import Policy
from prospect.stream.load import Overrides, load_streamer
from prospect.stream.records import FrameRecord
from prospect.stream.streamer import Streamer, StreamSettings

COMPARED: tuple[Policy, ...] = ("state_carry", "drop_middle", "slide")
SCORES = ("joint_state_accuracy", "should_update_dst_f1", "when_to_speak_f1", "num_restarts")


def made_toy() -> Streamer:
    """The toy with random weights, and a window that its stream overflows often."""
    clip = make_clip(900)
    tokenizer = toy_tokenizer([*(turn.text for turn in clip.turns), prompt_text(clip.steps, clip.state)] * 4)
    torch.manual_seed(0)
    model = DSTSmolVLM(with_tokens(PRESETS["toy"](tokenizer), "toy", "native")).eval()
    return Streamer(model, tokenizer, Tokens(tokenizer, model.prospect_settings.tokens_per_frame), StreamSettings(1024))


def streamed(of: Streamer, policy: Policy, frames: int, features: Sequence[torch.Tensor]) -> Iterator[FrameRecord]:
    settings = replace(of.settings, context=policy, max_actions=9)
    streamer = Forcing(of.model, of.tokenizer, of.tokens, settings, of.transitions)
    clip = make_clip(frames)
    streamer.start(clip.steps, clip.state, fps=clip.fps)
    for group in frame_groups(clip):
        streamer.queue = [turn for turn in group.after if settings.memory == "dst" or turn.role == "assistant"]
        yield streamer.step(group.frame, features[group.frame % len(features)], group.before)


def in_turns(of: Streamer, frames: int, turn: int) -> dict[Policy, list[FrameRecord]]:
    size = of.model.config.vision_config.image_size
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (32, 3, size, size), dtype=np.uint8))
    with torch.no_grad():
        features = list(of.model.encode_frames(pixels.to(of.model.device)))
    for policy in COMPARED:
        list(streamed(of, policy, 50, features))  # warm-up
    streams = {policy: streamed(of, policy, frames, features) for policy in COMPARED}
    records: dict[Policy, list[FrameRecord]] = {policy: [] for policy in COMPARED}
    for begin in range(0, frames, turn):
        for policy, stream in streams.items():
            records[policy] += [next(stream) for _ in range(min(turn, frames - begin))]
    return records


def show_costs(records: dict[Policy, list[FrameRecord]]) -> None:
    names = ("mean ms", "ratio", "p50", "p99", "worst", "restarts", "p50 of restarts", "ratio", "tokens", "of restarts")
    table = Table("context", *names)
    first: list[float] = []
    for policy, found in records.items():
        times = 1000 * np.array([record.seconds for record in found])
        is_restart = np.array([record.is_restart for record in found])
        tokens = np.array([record.computed_tokens for record in found])
        restarts = np.quantile(times[is_restart], 0.5) if is_restart.any() else float("nan")
        first = first or [times.mean(), restarts]
        table.add_row(
            policy, f"{times.mean():.2f}", f"{times.mean() / first[0]:.2f}x", f"{np.quantile(times, 0.5):.2f}",
            f"{np.quantile(times, 0.99):.2f}", f"{times.max():.1f}", str(is_restart.sum()), f"{restarts:.2f}",
            f"{restarts / first[1]:.2f}x", str(tokens.sum()), str(tokens[is_restart].sum()),
        )  # fmt: skip
    Console(width=140).print(table)


def show_scores(compared: dict[str, dict[str, Any]]) -> None:
    table = Table("context", *SCORES)
    for policy, metrics in compared.items():
        scores = metrics["rows"]["model"]["all"]["metrics"]
        cells = [scores.get(name) for name in SCORES]
        table.add_row(policy, *("-" if cell is None else f"{cell:.3f}" for cell in cells))
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--turn", type=int, default=100, help="frames of one policy before those of the next")
    parser.add_argument("--max-seq-len", type=int, help="window; default: the checkpoint's, 1024 of the toy")
    parser.add_argument("--checkpoint", help="a run's or checkpoint's folder")
    parser.add_argument("--data", help="split folder of build-shards, to evaluate on")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--limit", type=int, help="the first so many clips")
    options = parser.parse_args()
    of = load_streamer(options.checkpoint) if options.checkpoint else made_toy()
    if options.max_seq_len:
        of.settings = replace(of.settings, max_seq_len=options.max_seq_len)
    settings = of.settings
    print(
        f"{of.model.device}, {torch.get_num_threads()} threads; {options.frames} frames, window {settings.max_seq_len}"
    )
    show_costs(in_turns(of, options.frames, options.turn))
    if options.checkpoint and options.data:
        with tempfile.TemporaryDirectory() as folder:
            places = Places((options.data,), options.data_root)
            limit, out = options.limit, Path(folder) / "out"
            overrides = Overrides(max_seq_len=options.max_seq_len)
            show_scores(evaluate_contexts(options.checkpoint, places, out, limit=limit, overrides=overrides))


if __name__ == "__main__":
    try:
        main()
    except ProspectError as error:  # a window that is too small
        sys.exit(f"error: {error}")
