"""Two machines, each started by its own torchrun, as docs/training.md has it for Slurm: here two groups on one."""

import os
import socket
import subprocess
import sys

import pytest

from tests.e2e.test_ranks import assert_same_curve, launched
from tests.helpers.command import TINY

BOTH = ("--set=train.micro_batch_size=1", "--set=train.gradient_checkpointing=true")


@pytest.mark.slow
def test_two_nodes_that_meet_at_an_address_give_the_curve_of_one_process(toy):
    launched(toy, "one-node", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    meet = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=7")
    torchrun = [sys.executable, "-m", "torch.distributed.run", *meet, "-m", "prospect"]
    words = ["train", *TINY, "--set=name=nodes", *BOTH]
    nodes = [
        subprocess.Popen([*torchrun, *words], cwd=toy, env=os.environ | {"OMP_NUM_THREADS": "1"}) for _ in range(2)
    ]
    try:
        assert [node.wait(300) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.kill()
    assert_same_curve(toy, "one-node", "nodes")
