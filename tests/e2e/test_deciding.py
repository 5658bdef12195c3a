"""A run that decides by tokens, from the command line: all that a run with heads does, and no mixture of both."""

import json
import shutil

from transformers import SmolVLMForConditionalGeneration

from tests.helpers.command import TINY, fail, records, succeed

BY_TOKENS = [*TINY, "--set=name=tokens", "--set=model.decide=tokens", "--set=train.loss.binary=focal"]
SHORT = ("--max-actions", 1, "--max-new-tokens", 4)  # as a model of six steps may write at every frame


def test_a_run_that_decides_by_tokens_is_planned_trained_resumed_calibrated_evaluated_streamed_and_exported(toy):
    run = toy / "runs" / "tokens"
    assert json.loads(succeed(toy, "plan", *BY_TOKENS, "--json"))["prediction"]["parameters"]["decision heads"] == 0
    assert "step 6 test: loss" in succeed(toy, "train", *BY_TOKENS)
    remembered = json.loads((run / "checkpoints" / "checkpoint-6" / "config.json").read_text())["prospect"]
    assert len({*remembered["decision_tokens"]}) == 3

    whole = records(run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-6")
    (run / "metrics.json").unlink()
    other = fail(toy, "train", *BY_TOKENS, "--set=model.decide=heads", "--resume")
    assert "cannot be resumed with other settings (model.decide: 'tokens' before, 'heads' now)" in other
    other = fail(toy, "train", *BY_TOKENS, "--set=train.loss.binary=plain", "--resume")
    assert "cannot be resumed with other settings (train.loss.binary: 'focal' before, 'plain' now)" in other
    assert "resuming at step 3" in succeed(toy, "train", *BY_TOKENS, "--resume")
    assert records(run) == whole, "to the last digit"

    assert "stored: " in succeed(toy, "calibrate", "--checkpoint", run, "--limit", 1, "--confirm", 1)
    out = succeed(toy, "evaluate", "--checkpoint", run, "--limit", 1, "--rows", "", *SHORT)
    assert "joint_state_accuracy" in out
    world = toy / "data" / "toy" / "toyworld"
    task = ("--clip", f"{world}/test_training.json#0", "--end", 3, "--out", toy / "tokens.jsonl", *SHORT)
    succeed(toy, "stream", world / "frames" / "toy-test-0-00000.arrow", "--checkpoint", run, *task)
    _, first, *_ = map(json.loads, (toy / "tokens.jsonl").read_text().splitlines())
    assert 0 < first["p_update"] + first["p_speak"] < 1, "two of three that add up to one"
    assert "out: SmolVLM weights" in succeed(toy, "export", "out", "--checkpoint", run)
    _, found = SmolVLMForConditionalGeneration.from_pretrained(toy / "out", output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]


def test_a_checkpoint_that_decides_otherwise_is_no_beginning(trained, toy):
    begin = [*TINY, "--set=name=otherwise", "--set=model.preset=null", f"--set=model.checkpoint={trained}"]
    checkpoint = f"--set=model.checkpoint={trained}/checkpoints/checkpoint-6"
    for command in ("plan", "train"):
        message = fail(toy, command, *begin, checkpoint, "--set=model.decide=tokens")
        assert "model.decide: found tokens, but" in message and "set model.decide=heads" in message
    assert not (toy / "runs" / "otherwise").exists()


def test_a_run_that_only_speaks_decides_between_two_tokens(toy):
    settings = [*TINY, "--set=name=speaks", "--set=model.decide=tokens", "--set=data.dst=false"]
    succeed(toy, "train", *settings, "--set=train.max_steps=2")
    (config,) = (toy / "runs" / "speaks" / "checkpoints").glob("*/config.json")
    assert len(json.loads(config.read_text())["prospect"]["decision_tokens"]) == 2
    found = records(toy / "runs" / "speaks")[-1]
    assert found["dst_binary_loss"] == 0 and found["speak_binary_loss"] > 0 and found["dst_gen_loss"] is None
    out = succeed(toy, "evaluate", "--checkpoint", "runs/speaks", "--limit", 1, "--rows", "", *SHORT)
    assert "when_to_speak_f1" in out
