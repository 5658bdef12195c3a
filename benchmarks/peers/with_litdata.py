"""Prints litdata's rates of frames: JPEG bytes are streamed, and decoded as the batch is made.

python with_litdata.py FRAMES_FILE FOLDER: in an environment that has litdata; see benchmarks/stream.py.
"""

import sys
from functools import partial

import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize
from rates import BATCH, COUNT, DECODERS, print_rates, stored

FRAMES = stored(sys.argv[1])


def image(number: int) -> dict[str, bytes]:
    return {"image": FRAMES[number % len(FRAMES)]}


def collate(items: list[dict[str, bytes]], decoder: str) -> torch.Tensor:
    return DECODERS[decoder]([item["image"] for item in items])


if __name__ == "__main__":
    optimize(image, list(range(COUNT)), sys.argv[2], chunk_bytes="64MB", num_workers=1)
    dataset = StreamingDataset(sys.argv[2])
    for name in DECODERS:
        collated = partial(collate, decoder=name)
        loader = StreamingDataLoader(
            dataset, batch_size=BATCH, num_workers=1, collate_fn=collated, persistent_workers=True
        )
        print_rates(f"litdata + {name}", loader)
