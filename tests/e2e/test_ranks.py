"""Training in two ranks over gloo: the curve of one process, with copies (DDP) and with weights that are shared out
(FSDP), and errors told once."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.command import TINY, ranks, records, run, succeed

FSDP = "--set=train.fsdp=true"


def test_a_run_goes_on_with_other_ranks_and_workers(trained, toy):
    """From one process to two ranks with a worker each: the same global batches, hence the same curve."""
    cut = toy / "runs" / "ranks"
    shutil.copytree(trained, cut)
    shutil.rmtree(cut / "checkpoints" / "checkpoint-6")
    (cut / "metrics.json").unlink()
    settings = ["--set=name=ranks", "--set=train.micro_batch_size=1", "--set=data.num_workers=1", "--resume"]
    done = ranks(toy, "train", *TINY, *settings)
    assert done.returncode == 0, done.stderr
    assert "resuming at step 3" in done.stdout
    for found, expected in zip(records(cut), records(trained), strict=True):
        assert (found["step"], found["split"]) == (expected["step"], expected["split"])
        for name in ("loss", "lm_loss", "dst_gen_loss", "dst_binary_loss", "speak_binary_loss"):
            assert found[name] == pytest.approx(expected[name], rel=1e-4), name


def launched(toy: Path, name: str, count: int, *settings: str, code: int = 0, **environment: str) -> str:
    words = ("train", *TINY, f"--set=name={name}", "--set=train.micro_batch_size=1", *settings)
    done = ranks(toy, *words, **environment) if count > 1 else run(toy, *words)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def shared(toy: Path, name: str, *settings: str) -> str:
    """Two ranks that share the model out: what is FSDP on GPUs, over gloo."""
    told = launched(toy, name, 2, FSDP, *settings, SHARING_ON_CPUS="1")
    counts = [line.split()[2:5] for line in told.splitlines() if "weights shared out" in line]
    assert counts and all(int(found) == int(of) for found, _, of in counts[:2]), "of both ranks, before the first step"
    return told


def cut(toy: Path, source: str, name: str, step: int) -> None:
    """`name`: the run `source` as it was at its checkpoint before `step`, its last."""
    shutil.copytree(toy / "runs" / source, toy / "runs" / name)
    shutil.rmtree(toy / "runs" / name / "checkpoints" / f"checkpoint-{step}")
    (toy / "runs" / name / "metrics.json").unlink()


def assert_same_curve(toy: Path, name: str, other: str, rel: float = 1e-4) -> None:
    one, two = (records(toy / "runs" / which) for which in (name, other))
    assert [r["step"] for r in one] == [r["step"] for r in two]
    for first, second in zip(one, two, strict=True):
        for loss in ("lm_loss", "dst_gen_loss", "dst_binary_loss", "speak_binary_loss"):
            assert second[loss] == pytest.approx(first[loss], rel=rel)
        assert second["num_decisions"] == first["num_decisions"], "evaluation drops and repeats nothing"


def test_two_ranks_give_the_curve_of_one_process(toy):
    """Over gloo, one sequence a rank: the same batches, hence the same losses up to the order of additions."""
    launched(toy, "one", 1)
    launched(toy, "two", 2, "--set=train.gradient_checkpointing=true")
    assert_same_curve(toy, "one", "two")


@pytest.fixture(scope="module")
def odd(toy: Path) -> list[str]:
    """Settings of a run of two steps whose val split has three clips: two ranks evaluate two and one."""
    world, folder = toy / "data/toy/toyworld", toy / "data/toy/odd"
    folder.mkdir()
    (folder / "frames").symlink_to(world / "frames")
    for split, count in (("train", 4), ("val", 3)):
        clips = json.loads((world / f"{split}_training.json").read_text())[:count]
        (folder / f"{split}_training.json").write_text(json.dumps(clips))
        succeed(toy, "build-shards", "--split", split, "--data-root", "data/toy", "--dataset", "odd", "--workers", 1)
    steps = ("train.eval_steps=2", "train.save_steps=1")
    return [f"--set={setting}" for setting in ("data.dataset=odd", "data.eval_splits=[val]", *steps)]


@pytest.fixture(scope="module")
def two_ways(toy: Path, odd: list[str]) -> None:
    """A run of one process, `alone`, and one that is shared out, `shared`."""
    launched(toy, "alone", 1, *odd)
    shared(toy, "shared", *odd, "--set=train.gradient_checkpointing=true")


def test_shared_out_weights_give_the_curve_of_one_process(toy, two_ways):
    assert_same_curve(toy, "alone", "shared")


@pytest.mark.parametrize(("source", "goes_on"), [("shared", "shared"), ("shared", "alone"), ("alone", "shared")])
def test_a_checkpoint_goes_on_shared_out_or_not(toy, odd, two_ways, source, goes_on):
    name, settings = f"{source}-{goes_on}", [*odd, "--resume"]
    cut(toy, source, name, 2)
    told = shared(toy, name, *settings) if goes_on == "shared" else launched(toy, name, 1, *settings)
    assert "resuming at step 1" in told
    assert_same_curve(toy, "alone", name)


def test_two_ranks_decide_by_tokens_with_the_focal_loss_as_one_process(toy, odd):
    settings = [*odd, "--set=model.decide=tokens", "--set=train.loss.binary=focal"]
    launched(toy, "one-tokens", 1, *settings)
    launched(toy, "two-tokens", 2, *settings)
    shared(toy, "shared-tokens", *settings)
    assert_same_curve(toy, "one-tokens", "two-tokens")
    assert_same_curve(toy, "one-tokens", "shared-tokens")


def test_sharing_out_needs_ranks_on_gpus(toy):
    """accelerate would train copies on CPUs, and says so nowhere."""
    message = launched(toy, "copies", 2, FSDP, code=1)
    found = "error: train.fsdp: found ranks on CPUs, expected several ranks with a GPU each (torchrun"
    assert found in message and "Traceback" not in message
    assert "error: train.fsdp: found one process, expected several ranks" in launched(toy, "copies", 1, FSDP, code=1)
    assert not (toy / "runs" / "copies").exists()


def test_an_error_of_one_rank_is_told_once_and_no_other_rank_tells_a_traceback(toy):
    message = launched(toy, "refused", 2, "--set=train.global_batch_size=3", code=1)
    assert "error: train.global_batch_size: found 3, expected a multiple of micro_batch_size 1 x 2 ranks = 2" in message
    assert "error: rank 1: the connection to another rank is lost; its message says why" in message
    assert "[rank1]: Traceback" not in message and not (toy / "runs" / "refused").exists()


@pytest.mark.slow
def test_two_nodes_that_meet_at_an_address_give_the_curve_of_one_process(toy):
    """Each started by its own torchrun, as docs/training.md has it for Slurm; here both on one machine."""
    launched(toy, "one-node", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    meet = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=7")
    torchrun = [sys.executable, "-m", "torch.distributed.run", *meet, "-m", "prospect"]
    words = ["train", *TINY, "--set=name=nodes", "--set=train.micro_batch_size=1"]
    nodes = [
        subprocess.Popen([*torchrun, *words], cwd=toy, env=os.environ | {"OMP_NUM_THREADS": "1"}) for _ in range(2)
    ]
    try:
        assert [node.wait(300) for node in nodes] == [0, 0]
    finally:
        for node in nodes:
            node.kill()
    assert_same_curve(toy, "one-node", "nodes")
