"""A frame of real shape reaches other processes unchanged, as one file of all, and leaves nothing behind."""

import multiprocessing
import os

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prospect.data import shared_frame
from prospect.data.shared_frame import LARGE


def frame(rows):
    return pl.DataFrame(
        {
            "shard": [f"train-{i // 1000:06}.tar" for i in range(rows)],
            "clip": [None if i % 3 else {"fps": 2.0, "step_ids": ["S1", "Sé"], "progress": []} for i in range(rows)],
            "data_offsets": [list(range(i % 4)) for i in range(rows)],
        }
    )


def is_open(descriptor):
    try:
        return "(deleted)" in os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return False


def tell(frames, sender):
    for one in frames:
        with open("/proc/self/maps") as file:
            sender.send((one.slice(5, 100).to_dicts(), one.schema, one.height, "(deleted)" in file.read()))


@pytest.fixture(autouse=True)
def shared():
    shared_frame.share_large_frames()


def told(context, frames):
    """What a new process finds in `frames`."""
    start = multiprocessing.get_context(context)
    receiver, sender = start.Pipe(duplex=False)
    process = start.Process(target=tell, args=(frames, sender))
    process.start()
    sender.close()
    answers = [receiver.recv() for _ in frames]  # EOFError where the process died
    process.join()
    receiver.close()
    process.close()
    return answers


@pytest.mark.parametrize("context", ["forkserver", "spawn"])
def test_a_large_frame_is_mapped_and_a_small_one_sent(context, monkeypatch):
    monkeypatch.setattr(shared_frame, "LARGE", 100_000)
    small, large = frame(200), frame(30_000)
    assert small.estimated_size() < 100_000 < large.estimated_size() < LARGE
    for frames, is_mapped in (([small], False), ([large], True), ([large, large], True)):
        for sent, answer in zip(frames, told(context, frames), strict=True):
            assert answer == (sent.slice(5, 100).to_dicts(), sent.schema, sent.height, is_mapped)
    assert_frame_equal(large, frame(30_000))
    (file,) = shared_frame._files.values()  # written once for all
    assert is_open(file)
    del large, frames, sent
    assert not shared_frame._files and not is_open(file)


def test_a_full_disk_sends_it(monkeypatch):
    monkeypatch.setattr(shared_frame, "LARGE", 1)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared_frame.tempfile, "TemporaryFile", full)
    assert told("spawn", [frame(50)])[0][2:] == (50, False)
