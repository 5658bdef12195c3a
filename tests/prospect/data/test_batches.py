"""What reaches training through the loader: the negative rate of each step, frames of their own batch, skips in a row."""

from functools import partial
from pathlib import Path

import pytest
import torch

from pipeline.errors import ProspectError
from prospect.config import NegativeRate
from prospect.data.collate import PREFETCH, collate
from prospect.data.loader import MicroBatches, make_loader
from prospect.data.negatives import is_kept
from prospect.data.order import Request, make_order
from prospect.data.reader import Sampling
from tests.helpers.readers import reader
from tests.helpers.waiting import wait_for

SILENT = [*range(2, 6), *range(7, 12), *range(13, 20)]  # frames of each clip but those of its events, 6 and 12


def test_each_step_learns_from_the_silent_frames_of_its_own_rate(root, tokenizer):
    """Three clips, one step an epoch: rates 0, 0.25, 0.5, 0.75 and 1."""
    rising = Sampling(NegativeRate(schedule="linear", start=0, end=1), seed=3, max_steps=5)
    packed = reader(root, tokenizer, sampling=rising)
    order = make_order([packed.table], 0, 1, 3)
    batches = make_loader(packed, MicroBatches(lambda: order.micro_batches(0, 5, 3), 5), 0, 0)
    learned = [int((b["at_frame"] & (b["update_labels"] == 0) & (b["speak_labels"] == 0)).sum()) for b in batches]
    expected = [
        sum(is_kept(3, step, f"v{clip}-c000", frame, step / 4) for clip in range(3) for frame in SILENT)
        for step in range(5)
    ]
    assert learned == expected and (learned[0], learned[4]) == (0, 48)


def count(items, put_together, folder: Path):
    """A collate function of a worker that leaves a file for each batch."""
    batch = put_together(items)
    (folder / batch["keys"][0]).touch()
    return batch


@pytest.mark.parametrize("kept_batches", [0, 1, 8])
def test_a_batch_stays_as_it_is_while_its_worker_makes_all_that_it_may_ahead(root, tokenizer, tmp_path, kept_batches):
    """Samples of unlike frames, of which one is computed with, or some are kept, when PREFETCH more are there."""
    turns = reader(root, tokenizer, packing="turn")
    requests = [[Request(i, 0, 0)] for i in range(8)]
    expected = [collate([turns.read(request)], 0, 32)["frames"] for (request,) in requests]
    loader = make_loader(turns, MicroBatches(lambda: iter(requests), 8), 0, 1)
    loader.collate_fn = partial(count, put_together=loader.collate_fn, folder=tmp_path)
    kept = []
    for number, batch in enumerate(loader):
        made = min(number + 1 + PREFETCH, 8)
        wait_for(lambda made=made: len(list(tmp_path.iterdir())) >= made)
        kept = [*kept, batch["frames"][:, 0]][-1 - kept_batches :]  # a part of them is enough
        first = number + 1 - len(kept)
        for frame, pixels in enumerate(kept, first):
            assert torch.equal(pixels, expected[frame][:, 0])


def skipping(root, tokenizer, batches: list[list[int]], most: int) -> tuple[list[str], list[str]]:
    """The keys of good samples and what was told of broken ones; sequence 1 is broken."""
    packed = reader(root, tokenizer, on_error="skip", max_consecutive_errors=most)
    other = packed.split.index.with_columns(key=packed.split.index["key"].str.replace("v1", "w1"))
    object.__setattr__(packed.split, "index", other)
    requests = [[Request(i, 0, 0) for i in batch] for batch in batches]
    told: list[str] = []
    loader = make_loader(packed, MicroBatches(lambda: iter(requests), len(requests)), 0, 0, told.append)
    return [key[:2] for batch in loader for key in batch["keys"] if key], told


def test_broken_samples_between_good_ones_never_stop_the_run(root, tokenizer):
    good, told = skipping(root, tokenizer, [[1, 0, 1], [2], [1, 0], [1], [2, 1]], most=2)
    assert good == ["v0", "v2", "v0", "v2"]
    assert len(told) == 5 and all("expected w1-" in error for error in told)


def test_broken_samples_are_in_a_row_across_batches(root, tokenizer):
    with pytest.raises(ProspectError, match="broken sample number 2 in a row"):
        skipping(root, tokenizer, [[0, 1], [1, 0]], most=2)
