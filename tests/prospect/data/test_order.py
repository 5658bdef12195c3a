from itertools import islice

import numpy as np
import polars as pl
import pytest

from prospect.data.order import evaluation_batches, make_order

PLAN = pl.DataFrame({"shard": [f"s{i // 10}" for i in range(43)]})


def order(seed=0, window=2, batch=8):
    return make_order(PLAN, seed, window, batch)


def test_an_epoch_has_every_sequence_once_and_depends_on_seed_and_epoch_alone():
    first = order().epoch(0)
    assert sorted(first) == list(range(43))
    assert np.array_equal(first, order().epoch(0))
    assert not np.array_equal(first, order().epoch(1))
    assert not np.array_equal(first, order(seed=1).epoch(0))


def changes(shards):
    return int((np.diff(shards) != 0).sum())


def test_sequences_are_shuffled_within_windows_of_shards():
    one = order(window=1)
    by_shard = one.shard_of[one.epoch(0)]
    assert changes(by_shard) == 4 and list(by_shard) != sorted(by_shard), "whole shards, in a new order"
    two = order(window=2)
    pairs = two.shard_of[two.epoch(0)]
    assert changes(pairs) > 10
    assert len(set(pairs[:13])) == 2, "the first window holds two shards, 13 or 20 sequences"


def test_the_remainder_is_dropped_by_rule():
    assert (order().steps_per_epoch, order().num_dropped) == (5, 3)
    epoch = [r.sequence for batch in order().micro_batches(0, 5, 8) for r in batch]
    assert epoch == order().epoch(0)[:40].tolist()


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 2])
def test_global_batches_do_not_depend_on_ranks_or_micro_batches(ranks, micro):
    expected = [sorted(r.sequence for r in batch) for batch in order().micro_batches(0, 12, 8)]
    per_rank = [list(order().micro_batches(0, 12, micro, rank, ranks)) for rank in range(ranks)]
    assert len({len(batches) for batches in per_rank}) == 1, "equal steps on every rank"
    steps = [[] for _ in range(12)]
    for batches in per_rank:
        for batch in batches:
            assert len(batch) == micro
            for request in batch:
                steps[request.step].append(request.sequence)
                assert request.epoch == request.step // 5
    assert [sorted(step) for step in steps] == expected


@pytest.mark.parametrize("start", [0, 1, 5, 7])
def test_seeking_gives_the_rest_of_the_stream(start):
    whole = list(order().micro_batches(0, 12, 2))
    assert list(order().micro_batches(start, 12, 2)) == whole[start * 4 :]


def test_evaluation_repeats_and_drops_nothing():
    for ranks in (1, 2, 3):
        batches = [evaluation_batches(41, 4, rank, ranks) for rank in range(ranks)]
        seen = sorted(r.sequence for of_rank in batches for batch in of_rank for r in batch)
        assert seen == list(range(41))


def test_micro_batches_are_lazy():
    assert len(list(islice(order().micro_batches(0, 10**9, 8), 3))) == 3
