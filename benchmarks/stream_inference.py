"""Claims: a cached stream is many times faster than re-running the prefix at every frame, its time and memory a frame
stay flat however long it lasts, and silent frames are cheap.

    python benchmarks/stream_inference.py [--preset toy] [--long 10000] [--json FILE]

The model has random weights, which may never act; so the reference's blocks are written, token by token, as generation
would (each token is predicted and then replaced by the reference's). Printed, all in one run:

1. latency p50/p95, apart for silent and acting frames, on the real clip's rate of some 340 generated tokens in 259
   frames.
2. the same stream with frames and single tokens as forwards of fixed shapes (on a GPU: captured CUDA graphs), against
   a cache that grows (kernel by kernel): the text's time, without vision.
3. frames/s where the vision of the next frame is begun before the text (on a GPU, on a stream of its own), against
   one after the other.
4. frames/s with the cache, against running the text of the prefix again at every frame (features kept), and against
   running the frames through the vision tower again as well; clips of 90 and 900 frames.
5. with --long, a stream of so many frames in a window that overflows, for each context policy: time a frame and memory,
   the last 1,000 against the first. At real size 10,000 frames take half an hour.

On a GPU, --preset smolvlm2-2.2b runs it at real size (bf16, 384 px, 4 tokens a frame).
"""

import argparse
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pipeline.annotations.clips import ACTIVE_ROLES, Clip, Step, Turn, in_sequence_order, prompt_text
from pipeline.io.storage import write_json
from prospect.layout import Tokens, frame_groups
from prospect.model.checkpoint import with_tokens
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.early import EarlyVision
from prospect.model.fixed import FixedCache
from prospect.model.presets import PRESETS, toy_tokenizer
from prospect.model.steps import Steps
from prospect.model.writing import Generated, write
from prospect.stream.records import FrameRecord
from prospect.stream.streamer import ActiveRole, Streamer, StreamSettings

UTTERANCE = "Now, let's screw the parts together. Take your screwdriver and tighten them."
EVERY = 26  # frames between events: 9 in 259 frames


class Forcing(Streamer):
    """Writes the turns in `queue`, paying for every token of them what generation pays."""

    queue: list[Turn]

    def _write(
        self, frame: int, decision: tuple[float, float], free: Sequence[ActiveRole], budget: int
    ) -> Steps[tuple[ActiveRole, Generated] | None]:
        if not self.queue:
            return None
        turn = self.queue.pop(0)
        block = self.tokens.turn(turn)
        header, body = self.tokens.header(turn.role), block.ids[block.target_start : block.target_end]
        # Two equal choices: the token is predicted, as where there is a real choice.
        ids, seen = yield from write(self._context.cache, self.tokens, header, lambda ids: [body[len(ids)]] * 2)
        assert turn.role == "dst_update" or turn.role == "assistant"
        return turn.role, Generated(turn.text, self.tokens.closed(header, ids), seen)


def make_clip(frames: int) -> Clip:
    """Events like the real clip's: two updates and an utterance, or an utterance alone."""
    count = frames // EVERY
    steps = tuple(Step(f"S{i}", f"Attach part {i} to the chassis") for i in range(1, 13))
    turns, started = [Turn("user", "I want to assemble a toy roller.", 0, 0)], 0
    for event in range(1, count + 1):
        frame = event * EVERY
        if event % 2 and started < 12:
            if started:
                turns.append(Turn("dst_update", f"S{started}->complete", frame, frame))
            started += 1
            turns.append(Turn("dst_update", f"S{started}->start", frame, frame))
        turns.append(Turn("assistant", UTTERANCE, frame, frame))
    return Clip("b", "b", "b", 0, 2, 0, frames - 1, "", steps, ("not_started",) * 12, in_sequence_order(turns, 0))


def stream(
    streamer: Forcing, clip: Clip, pixels: torch.Tensor, *, is_ahead: bool = False
) -> Iterator[tuple[FrameRecord, float]]:
    """Each frame with its seconds, vision included; `is_ahead`: that of the next frame, begun before the text."""
    vision = EarlyVision(streamer.model)
    waiting = deque[Callable[[], torch.Tensor]]()

    def begin(frame: int) -> None:
        waiting.append(vision.begin(pixels[frame % len(pixels)][None]))

    streamer.start(clip.steps, clip.state, fps=clip.fps)
    for group in frame_groups(clip):
        began = time.perf_counter()
        streamer.queue = list(group.after)
        if not waiting:
            begin(group.frame)
        take = waiting.popleft()
        if is_ahead:
            begin(group.frame + 1)
        record = streamer.step(group.frame, take()[0], group.before)
        yield record, time.perf_counter() - began


@torch.no_grad()
def rerun(streamer: Streamer, clip: Clip, pixels: torch.Tensor, with_vision: bool, samples: int) -> float:
    """Frames/s when the whole prefix goes through the model at every frame; timed at `samples` frames of the clip.

    The same tokens are generated as by the cached stream, on the cache that the prefix has left.
    """
    model, tokens = streamer.model, streamer.tokens
    ids = list(tokens.prompt(prompt_text(clip.steps, clip.state)).ids)
    wanted = set(np.linspace(0, clip.end_frame, samples).astype(int).tolist())
    features, seconds, frames = [], 0.0, []
    for group in frame_groups(clip):
        for turn in group.before:
            ids += tokens.turn(turn).ids
        ids += tokens.frame.ids
        frame = pixels[group.frame % len(pixels)]
        frames.append(frame)
        features.append(model.encode_frames(frame[None].to(model.device))[0])
        if group.frame in wanted:
            began = time.perf_counter()
            seen = model.encode_frames(torch.stack(frames).to(model.device)) if with_vision else torch.stack(features)
            embeds = model.embed_block(ids, seen.flatten(0, 1))
            hidden = model.extend_embeds(embeds, model.new_cache())
            model.decide(hidden[0, -1])
            seconds += time.perf_counter() - began
        for turn in group.after:
            ids += tokens.turn(turn).ids
    return samples / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=list(PRESETS), default="toy")
    parser.add_argument("--long", type=int, default=0, metavar="FRAMES", help="the last part, of so many frames")
    parser.add_argument("--json", type=Path, help="write the numbers of 1 to 3 into this file too, after each")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clip = make_clip(900)
    texts = [turn.text for turn in clip.turns] + [prompt_text(clip.steps, clip.state)]
    tokenizer = toy_tokenizer(texts * 4)
    is_toy = options.preset == "toy"
    config = with_tokens(PRESETS[options.preset](tokenizer), options.preset, "native" if is_toy else 4)
    torch.manual_seed(0)
    with torch.device(device):
        model = DSTSmolVLM(config).to(torch.bfloat16 if device == "cuda" else torch.float32).eval()
    tokens = Tokens(tokenizer, model.prospect_settings.tokens_per_frame)
    size = model.config.vision_config.image_size
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (32, 3, size, size), dtype=np.uint8))
    streamer = Forcing(model, tokenizer, tokens, StreamSettings(max_seq_len=8192, max_actions=9))
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{options.preset}, {parameters:.1f} million parameters, {device}, {torch.get_num_threads()} threads")
    list(stream(streamer, make_clip(90), pixels))  # warm-up
    numbers: dict[str, float] = {}
    for part in (latency, fixed_against_growing, ahead_against_in_place):
        numbers |= {f"{options.preset}, {what}": number for what, number in part(streamer, pixels).items()}
        if options.json:
            write_json(options.json, numbers)
    cache_against_prefix(streamer, pixels)
    if options.long:
        long_stream(model, tokenizer, tokens, pixels, options.long)


def cache_against_prefix(streamer: Forcing, pixels: torch.Tensor) -> None:
    table = Table("frames", "with the cache", "prefix again", "", "vision again too", "", title="frames/s")
    for frames in (90, 900):
        clip = make_clip(frames)
        began = time.perf_counter()
        for _ in stream(streamer, clip, pixels):
            pass
        cached = frames / (time.perf_counter() - began)
        text = rerun(streamer, clip, pixels, False, min(frames, 90))
        vision = rerun(streamer, clip, pixels, True, 30)
        ratios = [f"{cached / other:.1f}x" for other in (text, vision)]
        table.add_row(str(frames), f"{cached:.1f}", f"{text:.1f}", ratios[0], f"{vision:.2f}", ratios[1])
    Console().print(table)
    print("re-running is timed at frames spread over the clip, without the tokens it would generate")


def long_stream(model: DSTSmolVLM, tokenizer: object, tokens: Tokens, pixels: torch.Tensor, frames: int) -> None:
    """Time and memory a frame over a stream that overflows its window many times."""
    table = Table("context", "first 1,000: ms a frame", "last 1,000", "ratio", "restarts", "memory, last against first")
    for policy in ("state_carry", "drop_middle", "drop_all"):
        streamer = Forcing(model, tokenizer, tokens, StreamSettings(max_seq_len=2048, max_actions=9, context=policy))
        seconds, restarts, memory = [], 0, []
        for record, spent in stream(streamer, make_clip(frames), pixels):
            seconds.append(spent)
            restarts += record.is_restart
            if record.frame in (999, frames - 1):
                memory.append(_memory_bytes())
        first, last = (1000 * float(np.mean(part)) for part in (seconds[:1000], seconds[-1000:]))
        table.add_row(
            policy,
            f"{first:.2f}",
            f"{last:.2f}",
            f"{last / first:.2f}x",
            str(restarts),
            f"{memory[-1] / memory[0]:.2f}x",
        )
    Console().print(table)


def latency(streamer: Forcing, pixels: torch.Tensor) -> dict[str, float]:
    clip = make_clip(259)
    silent, acting, generated = list[float](), list[float](), 0
    for record, spent in stream(streamer, clip, pixels):
        (acting if record.actions else silent).append(1000 * spent)
    for turn in clip.turns:
        generated += len(streamer.tokens.turn(turn).ids) if turn.role in ACTIVE_ROLES else 0
    table = Table("frames", "count", "p50 ms", "p95 ms", title=f"259 frames, {generated} generated tokens")
    rate = 259 / (sum(silent + acting) / 1000)
    numbers = {"frames/s": rate}
    for name, times in (("silent", silent), ("acting", acting), ("all", silent + acting)):
        p50, p95 = (float(np.quantile(times, share)) for share in (0.5, 0.95))
        numbers |= {f"{name} frames: p50 ms": p50, f"{name} frames: p95 ms": p95}
        table.add_row(name, str(len(times)), f"{p50:.1f}", f"{p95:.1f}")
    Console().print(table)
    print(f"{rate:.1f} frames/s, {rate / 2:.1f} times real time at 2 frames a second")
    return numbers


def fixed_against_growing(streamer: Forcing, pixels: torch.Tensor) -> dict[str, float]:
    """Both ways in turn; the first pass of each, in which graphs are captured, is not counted."""
    cache = FixedCache(streamer.model, streamer.settings.max_seq_len, streamer.tokens.frame.ids)
    fixed = streamer.beside(cache.emptied, time.perf_counter)
    assert isinstance(fixed, Forcing)
    found: dict[str, list[FrameRecord]] = {"growing": [], "fixed": []}
    for turn in range(4):
        for name, way in (("growing", streamer), ("fixed", fixed)):
            records = [record for record, _ in stream(way, make_clip(259), pixels)]
            found[name] += records if turn else []
    times = {
        name: [[1000 * r.seconds for r in records if bool(r.actions) == acting] for acting in (False, True)]
        for name, records in found.items()
    }
    table = Table("cache", "silent: p50 ms", "p95 ms", "acting: p50 ms", "p95 ms", title="the text of a frame")
    numbers: dict[str, float] = {}
    for name, parts in times.items():
        found_ms = [float(np.quantile(part, q)) for part in parts for q in (0.5, 0.95)]
        table.add_row(name, *(f"{ms:.2f}" for ms in found_ms))
        columns = [f"{name} cache, text of {kind} frames: p{p} ms" for kind in ("silent", "acting") for p in (50, 95)]
        numbers |= dict(zip(columns, found_ms, strict=True))
    Console().print(table)
    ratios = [np.median(growing) / np.median(fixed) for growing, fixed in zip(*times.values(), strict=True)]
    away = max(abs(a.p_update - b.p_update) for a, b in zip(*found.values(), strict=True))
    print(
        f"fixed is {ratios[0]:.2f}x as fast at silent frames, {ratios[1]:.2f}x at acting ones; probabilities differ by"
    )
    is_captured = streamer.model.device.type == "cuda" and cache.emptied() is cache  # where refused: another one
    print(f"{away:.1g} at most; graphs were {'captured' if is_captured else 'not captured'}")
    return numbers | {
        "graphs captured": float(is_captured),
        "fixed over growing, silent": float(ratios[0]),
        "fixed over growing, acting": float(ratios[1]),
        "fixed and growing, difference of p_update": away,
    }


def ahead_against_in_place(streamer: Forcing, pixels: torch.Tensor) -> dict[str, float]:
    """Both ways in turn, the first of each not counted: frames/s, vision included."""
    seconds = {True: 0.0, False: 0.0}
    for turn in range(4):
        for is_ahead in seconds:
            began = time.perf_counter()
            for _ in stream(streamer, make_clip(259), pixels, is_ahead=is_ahead):
                pass
            seconds[is_ahead] += time.perf_counter() - began if turn else 0
    ratio = seconds[False] / seconds[True]
    print(f"the next frame's vision begun before the text: {ratio:.2f}x as fast (on a CPU nothing is begun early)")
    return {"vision ahead over in place, frames/s": ratio}


def _memory_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
