"""What a state, a summary or nothing carries from one context to the next, and what it is worth to know the task.

    .venv/bin/python benchmarks/learning/memory.py --out /tmp/memory [--seeds 0,1,2] [--jobs 2]

`long`: a clip fits the window; `short`: it is cut into some four parts, in a window for each memory that gives as many,
as a summary needs room of its own. A step of `short` learns four times as many sequences, so that it sees as many
frames. Knowledge is compared where summaries carry the task. What has no state has no joint state: `summaries right`
is the share of summaries that are, to the letter, those of the reference's state at that frame, in its words.
"""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from grid import Cell, options, run_grid
from rich.console import Console
from rich.table import Table

from prospect.carried import as_learned, summary_before
from prospect.evaluation.predictions import read_prediction

SHORT = {"dst": 256, "summary": 320, "none": 240}  # tokens: some four parts of a clip of the standard world
OF_SHORT = ("data.reserve=80", "train.global_batch_size=8", "train.micro_batch_size=8")
METRICS = {
    "joint state": "streamed.joint_state_accuracy",
    "speak F1": "streamed.when_to_speak_f1",
    "ProAssist's F1": "streamed.F1",
    "tokens a frame": "streamed.computed_tokens_per_frame",
    "restarts": "streamed.num_restarts",
}


def cells() -> list[Cell]:
    short = [
        Cell(f"{memory} short", (f"data.memory={memory}", f"data.max_seq_len={window}", *OF_SHORT))
        for memory, window in SHORT.items()
    ]
    knowing = [
        Cell(f"summary short, {knowledge}", (*short[1].settings, f"data.knowledge={knowledge}"))
        for knowledge in ("goal", "none")
    ]
    return [*short, *(Cell(f"{memory} long", (f"data.memory={memory}",)) for memory in SHORT), *knowing]


def main(arguments: Namespace) -> None:
    run_grid(cells(), arguments, METRICS)
    table = Table("", "seed", "summaries", "right", title="Summaries streamed on test")
    for cell in cells():
        for seed in arguments.seeds.split(","):
            folder = arguments.out / "runs" / f"{cell.name}-s{seed}".replace(" ", "_").replace(",", "")
            if right := list(_right(folder / "evaluation" / "test" / "predictions" / "model")):
                table.add_row(cell.name, seed, f"{len(right)}", f"{sum(right) / len(right):.3f}")
    Console(width=200).print(table)


def _right(folder: Path) -> Iterator[bool]:
    """Of each summary in a folder of predictions, whether it is the reference's."""
    for path in sorted(folder.glob("*.json")):
        prediction = read_prediction(path)
        clip = as_learned(prediction.clip, "summary")
        for record in prediction.frames:
            if record.summary is not None:
                yield record.summary == summary_before(clip, record.frame)


if __name__ == "__main__":
    main(options(__doc__).parse_args())
