from itertools import islice, pairwise

import numpy as np
import polars as pl
import pytest

from prospect.data.order import evaluation_batches, make_order

PLAN = pl.DataFrame({"shard": [f"s{i // 10}" for i in range(43)], "num_tokens": [100 + 37 * i % 91 for i in range(43)]})


def order(seed=0, window=2, batch=8, buckets=1):
    return make_order([PLAN], seed, window, batch, buckets)


def test_an_epoch_has_every_sequence_once_and_depends_on_seed_and_epoch_alone():
    first = order().epoch(0)
    assert sorted(first) == list(range(43))
    assert np.array_equal(first, order().epoch(0))
    assert not np.array_equal(first, order().epoch(1))
    assert not np.array_equal(first, order(seed=1).epoch(0))


def test_the_order_of_an_old_run_is_not_changed():
    """Written down from ORDER_VERSION 2: another order needs another version."""
    epoch = order().epoch(3).tolist()
    assert epoch[:12] == [42, 41, 12, 16, 14, 17, 10, 11, 40, 15, 18, 13]
    assert epoch[-10:] == [4, 6, 9, 8, 3, 1, 2, 5, 0, 7]


def changes(shards):
    return int((np.diff(shards) != 0).sum())


def test_sequences_are_shuffled_within_windows_of_shards():
    shard_of = np.arange(43) // 10
    by_shard = shard_of[order(window=1).epoch(0)]
    assert changes(by_shard) == 4 and list(by_shard) != sorted(by_shard), "whole shards, in a new order"
    pairs = shard_of[order(window=2).epoch(0)]
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


def test_buckets_hold_the_same_sequences_sorted_by_length_in_global_batches():
    """43 sequences in batches of 8: 3 dropped, then buckets of 2 batches (16, 16 and 8 sequences)."""
    plain, bucketed = order().epoch(0), order(buckets=2).epoch(0)
    assert list(bucketed[40:]) == list(plain[40:]), "which are dropped does not depend on their length"
    for start in (0, 16, 32):
        bucket = bucketed[start : min(start + 16, 40)]
        assert sorted(bucket) == sorted(plain[start : min(start + 16, 40)])
        batches = [PLAN["num_tokens"].to_numpy()[bucket[i : i + 8]] for i in range(0, len(bucket), 8)]
        assert all(list(batch) == sorted(batch) for batch in batches)
        in_order = sorted(batches, key=lambda batch: batch[0])
        assert all(a[-1] <= b[0] for a, b in pairwise(in_order)), "batches do not overlap in length"
    assert np.array_equal(order(buckets=2).epoch(0), bucketed) and not np.array_equal(
        order(buckets=2).epoch(1), bucketed
    )


@pytest.mark.parametrize(("start", "ranks"), [(0, 1), (3, 2), (7, 4)])
def test_buckets_change_nothing_about_ranks_and_seeking(start, ranks):
    whole = list(order(buckets=3).micro_batches(0, 12, 8))
    parts = [list(order(buckets=3).micro_batches(start, 12, 2, rank, ranks)) for rank in range(ranks)]
    steps = [[r.sequence for of_rank in parts for batch in of_rank for r in batch if r.step == n] for n in range(12)]
    assert [sorted(step) for step in steps[start:]] == [sorted(r.sequence for r in batch) for batch in whole[start:]]


@pytest.mark.parametrize("ranks", [1, 2, 4, 8, 16])
def test_one_to_sixteen_ranks_read_one_stream_and_take_it_over_from_each_other(ranks):
    """Stopped at step 11 on 16 ranks, gone on with on any number: every step of two epochs has what it had on one."""
    plan = pl.DataFrame({"shard": [f"s{i // 30}" for i in range(500)], "num_tokens": [90 + i % 77 for i in range(500)]})
    planned = make_order([plan], 3, 4, 32, 4)  # 15 steps an epoch, 20 sequences left over

    def steps(start, stop, ranks):
        of_ranks = [list(planned.micro_batches(start, stop, 2, rank, ranks)) for rank in range(ranks)]
        assert {len(batches) for batches in of_ranks} == {(stop - start) * 16 // ranks}
        every = [request for batches in of_ranks for batch in batches for request in batch]
        return [sorted(r.sequence for r in every if r.step == step) for step in range(start, stop)]

    whole = [sorted(r.sequence for r in batch) for batch in planned.micro_batches(0, 30, 32)]
    assert steps(0, 11, 16) + steps(11, 30, ranks) == whole


def waste(lengths, buckets, micro=2):
    plan = pl.DataFrame({"shard": ["s"] * len(lengths), "num_tokens": lengths})
    planned = make_order([plan], 0, 16, 16, buckets)
    batches = [[lengths[r.sequence] for r in b] for b in planned.micro_batches(0, planned.steps_per_epoch, micro)]
    return 1 - sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)


@pytest.mark.parametrize("micro", [2, 4, 8])
def test_padding_waste_is_under_a_tenth_on_clips_of_mixed_length(micro):
    lengths = np.random.default_rng(0).integers(200, 4096, 2000).tolist()
    assert waste(lengths, 1, micro) > 0.2 > 0.1 > waste(lengths, 16, micro)


OTHER = pl.DataFrame({"shard": ["t0"] * 6 + ["t1"] * 4, "num_tokens": [50] * 10})  # sequences 43..52


def mixed(*weights, seed=0, buckets=1):
    return make_order([PLAN, OTHER], seed, 2, 4, buckets, weights)


def test_weights_are_passes_over_a_dataset_in_each_epoch():
    """43 and 10 sequences: two passes and a half of the second are 25, one of the first 43."""
    order = mixed(1, 2.5)
    assert (order.num_sequences, order.steps_per_epoch, order.num_dropped) == (68, 17, 0)
    first, second = order.epoch(0).tolist(), order.epoch(1).tolist()
    for epoch in (first, second):
        assert sorted(i for i in epoch if i < 43) == list(range(43))
        assert {epoch.count(i) for i in range(43, 53)} == {2, 3}
    assert [first.count(i) + second.count(i) for i in range(43, 53)] == [5] * 10, "the halves make a whole pass"


def test_half_a_pass_is_completed_by_the_next_epoch():
    order = mixed(0.5, 1)
    halves = [i for epoch in (order.epoch(0), order.epoch(1)) for i in epoch.tolist() if i < 43]
    assert len(halves) == 2 * 22 and set(halves) == set(range(43)), "21.5 is rounded to 22: one is taken twice"


def test_a_mix_is_even_and_keeps_each_datasets_order():
    order = mixed(1, 4)
    epoch = order.epoch(0)
    alone = make_order([PLAN], 0, 2, 4).epoch(0)
    assert [i for i in epoch if i < 43] == alone.tolist()
    thirds = [np.mean(part >= 43) for part in np.array_split(epoch, 3)]
    assert max(thirds) - min(thirds) < 0.35 and min(thirds) > 0, "no dataset comes first"


@pytest.mark.parametrize(("start", "ranks"), [(0, 1), (20, 2), (33, 4)])
def test_a_mix_changes_nothing_about_ranks_and_seeking(start, ranks):
    order = mixed(1, 2.5, buckets=3)
    whole = list(order.micro_batches(0, 40, 4))
    parts = [list(order.micro_batches(start, 40, 1, rank, ranks)) for rank in range(ranks)]
    steps = [sorted(r.sequence for of_rank in parts for b in of_rank for r in b if r.step == n) for n in range(40)]
    assert steps[start:] == [sorted(r.sequence for r in batch) for batch in whole[start:]]
    assert np.array_equal(order.epoch(1), mixed(1, 2.5, buckets=3).epoch(1))
    assert not np.array_equal(order.epoch(1), mixed(1, 2.5, buckets=3, seed=1).epoch(1))


def test_global_batches_of_a_bucket_come_in_an_order_of_their_epoch_not_of_their_length():
    """One bucket of all five global batches; which of them is the shortest, the next, ..."""
    lengths = PLAN["num_tokens"].to_numpy()
    one = order(buckets=5)
    ranks = {tuple(np.argsort(lengths[one.epoch(epoch)[:40]].reshape(5, 8).sum(1)).tolist()) for epoch in range(6)}
    assert len(ranks) >= 4, "of 120 orders, six are drawn"


def test_datasets_are_mixed_anew_in_each_epoch():
    owners = [tuple((mixed(1, 1).epoch(epoch) >= 43).tolist()) for epoch in range(4)]
    assert len(set(owners)) == 4 and {sum(owner) for owner in owners} == {10}


def test_each_dataset_is_shuffled_by_a_draw_of_its_own():
    """Two datasets of the same shards and lengths."""
    epoch = make_order([PLAN, PLAN], 0, 2, 4, weights=(1, 1)).epoch(0)
    first, second = epoch[epoch < 43], epoch[epoch >= 43] - 43
    assert sorted(first) == sorted(second) and not np.array_equal(first, second)


def test_a_dataset_without_sequences_leaves_the_others_as_they_are():
    both = make_order([PLAN, OTHER.clear()], 0, 2, 4, weights=(1, 1))
    for epoch in range(2):
        assert np.array_equal(both.epoch(epoch), make_order([PLAN], 0, 2, 4).epoch(epoch))
