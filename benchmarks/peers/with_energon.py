"""Prints energon's rates of frames, samples of a tar file, decoded as the batch is made.

python with_energon.py FRAMES_FILE FOLDER: in an environment that has megatron-energon; see benchmarks/stream.py.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import webdataset
from megatron.energon import Cooker, DefaultTaskEncoder, WorkerConfig, get_loader, get_train_dataset, stateless
from rates import BATCH, COUNT, DECODERS, print_rates, stored


@stateless
def as_it_is(sample: dict[str, Any]) -> dict[str, Any]:
    return sample


class Encoder(DefaultTaskEncoder):
    decoder = None  # bytes
    cookers = (Cooker(as_it_is),)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    @stateless
    def batch(self, samples: list[dict[str, Any]]) -> torch.Tensor:
        return DECODERS[self._name]([sample["jpg"] for sample in samples])


def write(frames: list[bytes], folder: Path) -> None:
    folder.mkdir()
    for shard in range(8):
        with webdataset.TarWriter(str(folder / f"{shard}.tar")) as tar:
            for number in range(shard, COUNT, 8):
                tar.write({"__key__": f"{number:06d}", "jpg": frames[number % len(frames)]})
    energon = Path(sys.executable).parent / "energon"
    words = ["--no-progress", "--non-interactive", "--split-ratio", "1,0,0", "--sample-type", "CrudeWebdataset"]
    subprocess.run([energon, "prepare", *words, folder], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    write(stored(sys.argv[1]), Path(sys.argv[2]))
    for name in DECODERS:
        dataset = get_train_dataset(
            sys.argv[2],
            worker_config=WorkerConfig(rank=0, world_size=1, num_workers=1),
            batch_size=BATCH,
            shuffle_buffer_size=None,
            max_samples_per_sequence=None,
            task_encoder=Encoder(name),
        )
        print_rates(f"energon + {name}", get_loader(dataset))
