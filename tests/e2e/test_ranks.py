"""Training in two ranks over gloo: the curve of one process, with DDP and FSDP, and errors told once."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.command import TINY, ranks, records, run


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


def launched(toy: Path, name: str, count: int, *settings: str, code: int = 0) -> str:
    words = ("train", *TINY, f"--set=name={name}", "--set=train.micro_batch_size=1", *settings)
    done = ranks(toy, *words) if count > 1 else run(toy, *words)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def assert_same_curve(toy: Path, name: str, other: str) -> None:
    one, two = (records(toy / "runs" / which) for which in (name, other))
    assert [r["step"] for r in one] == [r["step"] for r in two]
    for first, second in zip(one, two, strict=True):
        for loss in ("lm_loss", "dst_gen_loss", "dst_binary_loss", "speak_binary_loss"):
            assert second[loss] == pytest.approx(first[loss], rel=1e-4)
        assert second["num_decisions"] == first["num_decisions"], "evaluation drops and repeats nothing"


def test_two_ranks_give_the_curve_of_one_process_with_ddp_and_fsdp_and_checkpoints_move_between_them(toy):
    """Over gloo, one sequence a rank: the same batches, hence the same losses up to the order of additions."""
    launched(toy, "one", 1)
    fsdp = "--set=train.fsdp=true"
    launched(toy, "two", 2, "--set=train.gradient_checkpointing=true")
    launched(toy, "shared", 2, fsdp, "--set=train.gradient_checkpointing=true")
    assert_same_curve(toy, "one", "two")
    assert_same_curve(toy, "one", "shared")
    for name, source, count, settings in (("shared-one", "shared", 1, []), ("one-shared", "one", 2, [fsdp])):
        shutil.copytree(toy / "runs" / source, toy / "runs" / name)
        shutil.rmtree(toy / "runs" / name / "checkpoints" / "checkpoint-6")
        (toy / "runs" / name / "metrics.json").unlink()
        assert "resuming at step 3" in launched(toy, name, count, "--resume", *settings)
        assert_same_curve(toy, "one", name)


def test_two_ranks_decide_by_tokens_with_the_focal_loss_as_one_process(toy):
    settings = ["--set=model.decide=tokens", "--set=train.loss.binary=focal"]
    launched(toy, "one-tokens", 1, *settings)
    launched(toy, "two-tokens", 2, *settings)
    launched(toy, "shared-tokens", 2, *settings, "--set=train.fsdp=true")
    assert_same_curve(toy, "one-tokens", "two-tokens")
    assert_same_curve(toy, "one-tokens", "shared-tokens")


def test_eight_bit_optimizer_states_are_shared_out_too_and_resume(toy):
    settings = ["--set=train.optimizer=adamw_8bit", "--set=train.gradient_checkpointing=true"]
    launched(toy, "one-8bit", 1, *settings)
    launched(toy, "shared-8bit", 2, *settings, "--set=train.fsdp=true")
    assert_same_curve(toy, "one-8bit", "shared-8bit")
    shutil.rmtree(toy / "runs" / "shared-8bit" / "checkpoints" / "checkpoint-6")
    (toy / "runs" / "shared-8bit" / "metrics.json").unlink()
    assert "resuming at step 3" in launched(toy, "shared-8bit", 2, "--resume", *settings, "--set=train.fsdp=true")
    assert_same_curve(toy, "one-8bit", "shared-8bit")


def test_an_error_of_one_rank_is_told_once_and_no_other_rank_tells_a_traceback(toy):
    message = launched(toy, "refused", 2, "--set=train.global_batch_size=3", code=1)
    assert "error: train.global_batch_size: found 3, expected a multiple of micro_batch_size 1 x 2 ranks = 2" in message
    assert "error: rank 1: the connection to another rank is lost; its message says why" in message
    assert "[rank1]: Traceback" not in message and not (toy / "runs" / "refused").exists()
