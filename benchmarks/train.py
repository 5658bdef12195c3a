"""Claim: `clip` packing in our loader and model learns the same labels ten times faster than the stock recipe.

    python benchmarks/train.py [--clips 8] [--passes 3] [--repeat 2] [--real]

The same clips (the toy's, or with --real of the real clip's shape, as in benchmarks/build.py), toy model (all of it
trained, native tokens a frame) and two CPU threads, no loader workers. Each way is a process of its own; its first pass
over the clips is warm-up, the others are timed. All learn each decision and target once a pass (negative rate 1; our
`turn` packing drops what fills no batch).

- ours: `prospect train`, in `clip` (2 sequences a batch, as configs/toy.yaml) and in `turn` packing (8).
- stock: HF's plain `Trainer`, plain AdamW, 8 examples of one turn each a batch, in random order, tokenized beforehand.
  Pillow and SmolVLM's image processor give pixel_values, float (B, N, 3, H, W), `SmolVLMForConditionalGeneration`'s
  forward all logits and its loss from labels (-100 elsewhere); the smallest subclass adds both heads at all T of
  output_hidden_states. An example has "this turn's frames" (earlier turns are text: as in `turn` packing), or "every
  frame so far" (the clip's prefix, as ProAssist's: what each label of `clip` packing sees).
- trl, where it is installed (trl, datasets, num2words): SFTTrainer with SmolVLM's processor, images and text as trl's
  documentation has them: 8 prompts with this turn's frames a batch, and completions, which alone are learned: the turn
  with its role, or a token of silence. There are no heads: a completion's first token is its one decision, and a turn's
  frames before the last teach nothing. Its gradient checkpointing and limit of length are off, as everywhere here.

Printed: what the timed passes learn and read; decisions and target turns (blocks that the LM learns) a second, with the
ratio to the first stock form; peak resident memory, and what of it came after imports, data and model were in place.
"""

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import transformers
from build import write_clips, write_frames
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration, Trainer, TrainerCallback, TrainingArguments

from pipeline.annotations.clips import Role
from pipeline.shards.build import build_split
from pipeline.toyworld.make import make_toy
from prospect.config import Config, DataConfig, ModelConfig, NegativeRate, TrainConfig
from prospect.data.index import read_split
from prospect.data.order import Request
from prospect.data.reader import SequenceReader
from prospect.data.sequences import sequence_table
from prospect.layout import IGNORE, SILENCE, Tokens
from prospect.model.checkpoint import load_image_processor, native_tokens
from prospect.model.presets import make_checkpoint
from prospect.setup import texts_of
from prospect.train.run import train

WAYS = ("ours, clip packing", "ours, turn packing", "stock, this turn's frames", "stock, every frame so far")
TRL, OF_TRL = "trl, this turn's frames", ("trl", "datasets", "num2words")
THREADS, TURNS_A_BATCH, CLIPS_A_BATCH = 2, 8, 2
TEXTS = ("input_ids", "attention_mask", "labels", "update_labels", "speak_labels")
COUNTS = ("decisions", "blocks", "tokens", "frames")
transformers.logging.set_verbosity_error()  # in each process
transformers.logging.disable_progress_bar()


class Meter(TrainerCallback):
    """Time, labels and memory of any Trainer's run, all passes but the first."""

    def __init__(self, passes: int) -> None:
        self.passes, self.result, self._counts = passes, dict[str, float](), dict.fromkeys(COUNTS, 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **kwargs: Any) -> None:
        self.result["loaded"] = _memory_mb("VmRSS")
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: Any, args: Any, inputs: dict[str, Any]) -> None:
        learned = inputs["target_kind"] > 0 if "target_kind" in inputs else inputs["labels"] != IGNORE  # (B, T)
        decisions = inputs["update_labels"] != IGNORE if "update_labels" in inputs else learned.any(1)
        self._counts["decisions"] += int(decisions.sum())
        self._counts["blocks"] += int((~learned[:, :-2] & learned[:, 1:-1] & learned[:, 2:]).sum())  # silence: a token
        self._counts["tokens"] += int(inputs["attention_mask"].sum())
        self._counts["frames"] += int((inputs["input_ids"] == model.config.image_token_id).sum())  # of a token each

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == state.max_steps // (1 + self.passes):  # the end of the first pass
            self._counts, self._started = dict.fromkeys(COUNTS, 0), time.perf_counter()
        elif state.global_step == state.max_steps:
            self.result |= self._counts | {"seconds": time.perf_counter() - self._started, "peak": _memory_mb("VmHWM")}


def _memory_mb(field: str) -> float:
    """Not ru_maxrss: on Linux a process that was started by a large one inherits that one's peak."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1000


def measure(way: str, folder: Path, passes: int) -> dict[str, float]:
    torch.set_num_threads(THREADS)
    transformers.trainer.DEFAULT_CALLBACKS.append(meter := Meter(passes))  # of every Trainer
    packing: Any = "clip" if way in (WAYS[0], WAYS[3]) else "turn"
    (shards,) = (folder / "shards").iterdir()
    places: Any = {
        "dataset": shards.name,
        "root": folder / "data",
        "shards": folder / "shards",
        "cache": folder / "cache",
    }
    data = DataConfig(**places, packing=packing, eval_splits=(), negatives=NegativeRate(start=1.0), num_workers=0)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        run = {"ours": ours, "stock": stock, "trl": trl_sft}[way.partition(",")[0]]
        run(data, folder / "model", Path(out), 1 + passes)
    return meter.result


def ours(data: DataConfig, checkpoint: Path, out: Path, epochs: int) -> None:
    """`prospect train`, without evaluation."""
    batch = CLIPS_A_BATCH if data.packing == "clip" else TURNS_A_BATCH
    model = ModelConfig(checkpoint=str(checkpoint), tokens_per_frame="native")
    settings = TrainConfig(epochs=epochs, global_batch_size=batch, micro_batch_size=batch, learning_rate=2e-3)
    train(Config(runs=out, data=data, model=model, train=settings))


class Stock(SmolVLMForConditionalGeneration):
    """The plain class with the two heads' losses."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.heads = nn.ModuleList(nn.Linear(config.text_config.hidden_size, 2) for _ in range(2))
        self.post_init()

    def forward(self, update_labels: Any, speak_labels: Any, num_items_in_batch: Any, **inputs: Any) -> Any:
        num_items = num_items_in_batch.clamp(min=1)  # of a batch of silent turns the plain loss would be 0 / 0
        output = super().forward(**inputs, num_items_in_batch=num_items, output_hidden_states=True)
        for head, labels in zip(self.heads, (update_labels, speak_labels), strict=True):
            logits = head(output.hidden_states[-1]).float().flatten(0, 1)  # (B*T, 2)
            output.loss = output.loss + nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORE)
        return output


def stock(data: DataConfig, checkpoint: Path, out: Path, epochs: int) -> None:
    """HF's Trainer on examples of a turn each; `clip` packing: with the clip's whole prefix."""
    tokenizer, processor = AutoTokenizer.from_pretrained(checkpoint), load_image_processor(checkpoint)
    model = Stock.from_pretrained(checkpoint)
    dataset = list(examples(data, Tokens(tokenizer, native_tokens(model.config))))
    pads = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0}

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        images = [[Image.open(io.BytesIO(image)) for image in row["images"]] for row in batch]
        texts = {name: [torch.tensor(row[name]) for row in batch] for name in TEXTS}
        padded = {name: nn.utils.rnn.pad_sequence(rows, True, pads.get(name, IGNORE)) for name, rows in texts.items()}
        return padded | dict(processor(images, return_tensors="pt"))

    arguments = TrainingArguments(
        output_dir=str(out), num_train_epochs=epochs, per_device_train_batch_size=TURNS_A_BATCH, optim="adamw_torch",
        learning_rate=2e-3, logging_steps=10, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        remove_unused_columns=False,
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=collate)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()


def examples(data: DataConfig, tokens: Tokens) -> Iterator[dict[str, Any]]:
    """One a turn sample: a `turn` sequence, or the prefix of a `clip` sequence, learned where the last example ends."""
    assert data.dataset
    split = read_split(data.shards, data.dataset, "train", data.root)
    reader = SequenceReader(split, sequence_table(split, tokens, data), tokens, data, 0, None)
    for number in range(len(reader)):
        item = reader.read(Request(number, 0, 0))
        sequence, start, ends = item.sequence, 0, [len(item.sequence)]
        if data.packing == "clip":
            row, count = reader.table.select("row", "num_rows").row(number)
            frame_ends = [t + 1 for t, at in enumerate(sequence.at_frame) if at]  # of the clip's frames in order
            kinds = [*sequence.target_kind, 0]
            blocks = iter([t + 1 + len(tokens.newline) for t in range(len(sequence)) if kinds[t] and not kinds[t + 1]])
            turns = split.index[row : row + count].select("kind", "end_frame").rows()
            ends = [
                frame_ends[frame - sequence.frames[0]] if kind == "silent" else next(blocks) for kind, frame in turns
            ]
        labels = [i if kind else IGNORE for i, kind in zip(sequence.ids, sequence.target_kind, strict=True)]
        for end in ends:
            fields = (labels, sequence.update_labels, sequence.speak_labels)
            learned = ([IGNORE] * start + field[start:end] for field in fields)
            texts = dict(zip(TEXTS, (sequence.ids[:end], [1] * end, *learned), strict=True))
            yield texts | {"images": (item.images or [])[: sum(sequence.at_frame[:end])]}
            start = end


def trl_sft(data: DataConfig, checkpoint: Path, out: Path, epochs: int) -> None:
    """trl's SFTTrainer on prompts and completions."""
    from datasets import Dataset, Features, Image, List, Value
    from transformers.models.smolvlm import SmolVLMProcessor
    from trl import SFTConfig, SFTTrainer

    class WithoutVideos(SmolVLMProcessor):
        """transformers makes none without a video processor, which asks for torchvision; no video is given here."""

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> None:
            pass

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = SmolVLMForConditionalGeneration.from_pretrained(checkpoint)
    native = native_tokens(model.config)
    rows = list(completions(data, Tokens(tokenizer, native), tokenizer))
    columns = Features({"images": List(Image()), "prompt": Value("string"), "completion": Value("string")})
    processor = WithoutVideos(load_image_processor(checkpoint), tokenizer, None, image_seq_len=native)
    arguments = SFTConfig(
        output_dir=str(out), num_train_epochs=epochs, per_device_train_batch_size=TURNS_A_BATCH, optim="adamw_torch",
        learning_rate=2e-3, logging_steps=10, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        bf16=False, gradient_checkpointing=False, max_length=None,
    )  # fmt: skip
    dataset = Dataset.from_list(rows, features=columns)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=dataset, processing_class=processor)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()


def completions(data: DataConfig, tokens: Tokens, tokenizer: Any) -> Iterator[dict[str, Any]]:
    """The rows of `examples` as trl takes them: encoded images, text before, text that is learned."""
    roles: tuple[Role, ...] = ("assistant", "dst_update")
    headers = [tokens.header(role) for role in roles]

    def text(ids: list[int]) -> str:
        runs = ((is_image, list(run)) for is_image, run in groupby(ids, lambda token: token == tokens.image))
        frames = tokens.tokens_per_frame
        return "".join("<image>" * (len(run) // frames) if image else tokenizer.decode(run) for image, run in runs)

    for row in examples(data, tokens):
        ids, learned = row["input_ids"], [label != IGNORE for label in row["labels"]]
        written, completion = len(ids), SILENCE
        if any(learned):
            first = learned.index(True)
            (header,) = (header for header in headers if ids[first - len(header) : first] == header)
            written, completion = first - len(header), text(ids[first - len(header) :])
        images = [{"bytes": bytes(image), "path": None} for image in row["images"]]
        yield {"images": images, "prompt": text(ids[:written]), "completion": completion}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--clips", 8), ("--passes", 3), ("--repeat", 2)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    dataset = "real-shape" if options.real else "toyworld"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # of the processes
    missing = [name for name in OF_TRL if find_spec(name) is None]
    if missing:
        print(f"left out: {TRL}, as not installed: {', '.join(missing)}")
    ways = WAYS if missing else (*WAYS, TRL)
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as root:
        folder = Path(root)
        if options.real:
            write_frames(folder / "frames.arrow")
            write_clips(folder / "data" / dataset, options.clips, folder / "frames.arrow")
        else:
            make_toy(folder / "data", clips=options.clips)
        build_split(folder / "data", dataset, "train", folder / "shards")
        split = read_split(folder / "shards", dataset, "train", folder / "data")
        make_checkpoint("toy", folder / "model", texts_of(split.index, DataConfig()), seed=0)
        for _ in range(options.repeat):  # in turn, as machines are noisy
            for way in ways:
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    found = process.submit(measure, way, folder, options.passes).result()
                best[way] = min(best.get(way, found), found, key=lambda result: result["seconds"])
    table = Table("", *COUNTS, "seconds", "decisions/s", "turns/s", "ratio", "peak MB", "of it training")
    decisions_s, turns_s = ({way: best[way][name] / best[way]["seconds"] for way in ways} for name in COUNTS[:2])
    for way, found in best.items():
        rates = f"{decisions_s[way]:.0f}", f"{turns_s[way]:.0f}", f"{decisions_s[way] / decisions_s[WAYS[2]]:.1f}x"
        memory = f"{found['peak']:.0f}", f"{found['peak'] - found['loaded']:.0f}"
        table.add_row(way, *(f"{found[name]:.0f}" for name in COUNTS), f"{found['seconds']:.1f}", *rates, *memory)
    Console(width=140).print(table)
    print(time.strftime("%Y-%m-%d:"), *sys.argv, f"(torch {torch.__version__}, {THREADS} threads, fastest of each)")


if __name__ == "__main__":
    main()
