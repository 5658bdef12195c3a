import pytest

from prospect.config import NegativeRate
from prospect.data.negatives import is_kept, jitter_of, rate_at


def kept(rate, seed=0, epoch=0, clip="c"):
    return {frame for frame in range(4000) if is_kept(seed, epoch, clip, frame, rate)}


def test_the_draw_is_stable_and_near_the_rate():
    assert kept(0.0) == set() and len(kept(1.0)) == 4000
    assert len(kept(0.3)) == pytest.approx(1200, abs=120)
    assert sorted(kept(0.5))[:6] == [1, 5, 6, 8, 13, 16], "the same on every machine and in every version"


def test_a_higher_rate_keeps_what_a_lower_one_kept():
    assert kept(0.1) < kept(0.5)


def test_epochs_seeds_and_clips_draw_anew():
    assert kept(0.5) != kept(0.5, epoch=1) != kept(0.5, seed=1) != kept(0.5, clip="d")


def test_schedules():
    assert rate_at(NegativeRate(start=0.25), 7, 100) == 0.25
    linear = NegativeRate(schedule="linear", start=0.1, end=0.9)
    assert [rate_at(linear, step, 5) for step in range(5)] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert rate_at(linear, 9, 5) == 0.9
    cosine = NegativeRate(schedule="cosine", start=0.2, end=1.0)
    assert [rate_at(cosine, step, 5) for step in (0, 1, 2, 4, 9)] == pytest.approx(
        [0.2, 0.31716, 0.6, 1.0, 1.0], abs=1e-5
    )
    step_up = NegativeRate(schedule="step", start=0.1, end=0.5, step_at=0.5)
    assert [rate_at(step_up, step, 5) for step in range(5)] == [0.1, 0.1, 0.5, 0.5, 0.5]
    assert rate_at(linear, 0, 1) == 0.1, "a run of one step"


def test_events_are_moved_by_a_draw_of_their_seed_epoch_and_clip():
    def moves(seed=0, epoch=0, clip="c"):
        return [jitter_of(seed, epoch, clip, frame, 1) for frame in range(8)]

    assert moves() == [0, 1, 1, 1, 0, -1, 1, 0], "the same on every machine and in every version"
    others = [moves(), moves(seed=1), moves(epoch=1), moves(clip="d")]
    assert len(set(map(tuple, others))) == 4
    found = [jitter_of(0, 0, "c", frame, 1) for frame in range(3000)]
    assert [found.count(by) for by in (-1, 0, 1)] == pytest.approx([1000] * 3, abs=100)


def test_whether_a_frame_is_kept_says_nothing_of_how_its_event_is_moved():
    """Of a draw taken for both, the lower half would be kept and moved to the front."""
    frames = kept(0.5)
    early = sum(jitter_of(0, 0, "c", frame, 2**63 - 1) < 0 for frame in frames)
    assert early / len(frames) == pytest.approx(0.5, abs=0.05)
