import json
import math
import shutil
import signal
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration

from prospect.train.practice import DEFAULT
from tests.helpers.clips import ASSEMBLY, clip_in
from tests.helpers.command import TINY, fail, process, records, run, start, succeed
from tests.helpers.fakes import write_frames
from tests.helpers.places import DATA
from tests.helpers.waiting import wait_for


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def test_a_run_leaves_config_metrics_curves_and_whole_checkpoints(trained):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["name"] == "tiny" and config["train"]["epochs"] == 1
    metrics = json.loads((trained / "metrics.json").read_text())
    assert {"val", "test", "train", "untrained", "baselines", "wall_s"} <= set(metrics)
    for name in (
        "lm_loss", "dst_binary_loss", "speak_binary_loss", "dst_gen_loss", "perplexity", "should_update_dst_f1",
        "should_update_dst_f1_at_frame", "when_to_speak_f1", "when_to_speak_f1_at_frame", "dst_gen_exact_match",
        "dst_gen_exact_match_start",
    ):  # fmt: skip
        assert name in metrics["test"]
    assert metrics["test"]["perplexity"] == pytest.approx(math.exp(metrics["test"]["lm_loss"]))
    assert metrics["test"]["loss"] < metrics["untrained"]["test"]["loss"]
    assert [(r["step"], r["split"]) for r in records(trained)] == [
        (0, "val"), (0, "test"), (3, "val"), (6, "val"), (6, "test"), (6, "train"),
    ]  # fmt: skip
    assert list((trained / "tensorboard").glob("events*"))
    names = sorted(p.name for p in (trained / "checkpoints").iterdir())
    assert names == ["checkpoint-3", "checkpoint-6"]
    last = {p.name for p in (trained / "checkpoints" / "checkpoint-6").iterdir()}
    assert {
        "model.safetensors",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "data_position.json",
        "tokenizer.json",
        "preprocessor_config.json",
    } <= last


def test_what_was_trained_loads_as_a_plain_smolvlm(trained):
    folder = trained / "checkpoints" / "checkpoint-6"
    model = SmolVLMForConditionalGeneration.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("Hello", return_tensors="pt").input_ids
    assert torch.isfinite(model(input_ids=ids).logits).all()


def test_a_finished_run_is_not_repeated_and_another_is_not_overwritten(trained, toy):
    assert "nothing to do" in succeed(toy, "train", *TINY, "--set", "name=tiny")
    message = fail(toy, "train", *TINY, "--set", "name=tiny", "--set", "train.seed=5")
    assert "found a run with other settings; go on with --resume, start over with --overwrite" in message


def test_a_resumed_run_is_the_uninterrupted_one(trained, toy):
    """From the checkpoint at 3, after a stop at 4 or 5: the same losses, metrics and weights to the bit."""
    cut = toy / "runs" / "cut"
    shutil.copytree(trained, cut)
    shutil.rmtree(cut / "checkpoints" / "checkpoint-6")
    (cut / "metrics.json").unlink()
    config = (cut / "config.yaml").read_text()
    (cut / "config.yaml").write_text(config.replace("name: tiny", "name: cut"))
    message = fail(toy, "train", *TINY, "--set", "name=cut")
    assert "found an unfinished run; go on with --resume" in message
    out = succeed(toy, "train", *TINY, "--set", "name=cut", "--resume")
    assert "resuming at step 3" in out
    assert records(cut) == records(trained), "logs are cut back, then equal"
    first, second = (weights(r / "checkpoints" / "checkpoint-6") for r in (trained, cut))
    assert all(torch.equal(first[name], second[name]) for name in first)
    states = [
        json.loads((r / "checkpoints" / "checkpoint-6" / "trainer_state.json").read_text()) for r in (trained, cut)
    ]
    losses = [[(e["step"], e["loss"]) for e in s["log_history"] if "loss" in e] for s in states]
    assert len(losses[0]) == 6 and losses[0] == losses[1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_stopped_at_any_moment_is_resumed_to_the_same_end(trained, toy, how):
    name = f"stopped-{how.name}"
    stopped = start(toy, "train", *TINY, "--set", f"name={name}")
    position = toy / "runs" / name / "checkpoints" / "checkpoint-3" / "data_position.json"
    wait_for(lambda: position.exists() or stopped.poll() is not None, pause_s=0.01)
    stopped.send_signal(how)
    _, told = stopped.communicate(timeout=60)  # until the last process that holds stderr has ended: workers too
    if how == signal.SIGTERM:
        assert stopped.returncode == 143 and "Traceback" not in told
        assert "terminated; what was finished is kept" in told
    with (toy / "runs" / name / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9')
    succeed(toy, "train", *TINY, "--set", f"name={name}", "--resume")
    assert records(toy / "runs" / name) == records(trained)
    first, second = (weights(toy / "runs" / n / "checkpoints" / "checkpoint-6") for n in ("tiny", name))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_changed_stream_is_not_resumed(trained, toy):
    other = toy / "runs" / "other"
    shutil.copytree(trained, other)
    (other / "metrics.json").unlink()
    message = fail(
        toy,
        "train",
        *TINY,
        "--set",
        "name=other",
        "--set",
        "data.negatives.start=0.1",
        "--set",
        "train.global_batch_size=4",
        "--resume",
    )
    assert "cannot be resumed with other settings (data.negatives.start: 0.5 before, 0.1 now; " in message
    assert "train.global_batch_size: 2 before, 4 now" in message
    message = fail(toy, "train", *TINY, "--set", "name=other", "--set", "train.max_steps=5", "--resume")
    assert "cannot be resumed, as the stream has changed (max_steps: 6 in the checkpoint, 5 now)" in message


def test_worker_count_does_not_change_the_run(trained, toy):
    succeed(toy, "train", *TINY, "--set", "name=workers", "--set", "data.num_workers=2")
    assert records(toy / "runs" / "workers") == records(trained)


def test_features_plan_lora_and_export_from_the_command_line(toy):
    frozen = ["model.freeze_vision=true", "model.freeze_connector=true", "data.features=features"]
    settings = [f"--set={setting}" for setting in ("name=lora", "model.lora.rank=2", "train.max_steps=3", *frozen)]
    assert "frames encoded, 0 there already" in succeed(toy, "cache-features", *TINY, *settings)
    assert ": 0 frames encoded, " in succeed(toy, "cache-features", *TINY, *settings, "--workers", 2)
    told = succeed(toy, "plan", *TINY, *settings)
    assert "predicted peak" in told and "3, 6 an epoch" in told and "2 x " in told
    assert "the GPU has 1.0: set train.micro_batch_size=1" in fail(toy, "plan", *TINY, *settings, "--gpu-gb", 1)
    assert "step 3 test: loss" in succeed(toy, "train", *TINY, *settings)
    assert "merged: SmolVLM weights and heads" in succeed(
        toy, "export", "merged", "--checkpoint", "runs/lora", "--merge"
    )
    _, found = SmolVLMForConditionalGeneration.from_pretrained(toy / "merged", output_loading_info=True)
    assert not found["missing_keys"] and len(AutoTokenizer.from_pretrained(toy / "merged")) == 384
    assert "is there already" in fail(toy, "export", "merged", "--checkpoint", "runs/lora", "--merge")


@pytest.mark.parametrize("settings", [["data.packing=turn"], ["data.negatives={schedule: linear, start: 0.1, end: 0.9}"], ["train.gradient_checkpointing=true", "model.freeze_vision=true", "train.micro_batch_size=1"]])  # fmt: skip
def test_other_ways_to_run(toy, settings):
    more = [f"--set={setting}" for setting in settings]
    out = succeed(toy, "train", *TINY, "--set", f"name=other-{len(settings[0])}", "--set", "train.max_steps=3", *more)
    assert "step 3 test: loss" in out


def test_compare_puts_runs_beside_the_baselines(trained, toy):
    out = succeed(toy, "compare", trained)
    for row in ("tiny", "untrained", "majority", "chance", "history only"):
        assert row in out
    assert "expected the folder of a finished run" in fail(toy, "compare", toy / "data")


def test_a_start_that_came_to_nothing_is_replaced_without_asking(trained, toy):
    """Killed before its first checkpoint, or while it was set up; what is no run's folder is left alone."""
    begun = toy / "runs" / "begun"
    (begun / "init").mkdir(parents=True)
    (begun / "config.yaml").write_text((trained / "config.yaml").read_text())
    (begun / "metrics.jsonl").write_text('{"step": 0, "split": "val"}\n')
    settings = ["--set=name=begun", "--set=train.max_steps=3", "--set=train.seed=3"]
    assert "step 3 test: loss" in succeed(toy, "train", *TINY, *settings)
    assert [record["step"] for record in records(begun)] == [0, 0, 3, 3, 3]
    (toy / "runs" / "notes").mkdir()
    (toy / "runs" / "notes" / "todo.txt").write_text("mine")
    for more in ([], ["--overwrite"], ["--resume"]):
        message = fail(toy, "train", *TINY, "--set", "name=notes", *more)
        assert "runs/notes: found files there but no config.yaml, so it is no run's folder" in message
    assert (toy / "runs" / "notes" / "todo.txt").read_text() == "mine"


def test_practice_is_not_repeated_and_another_seeds_is_not_taken_for_it(tmp_path):
    about = tmp_path / "words" / "practice.json"
    about.parent.mkdir()
    about.write_text(json.dumps({"seed": 3, "lengths": asdict(DEFAULT), "format": "prospect.practice/1"}))
    assert "nothing to do: words is there already" in succeed(tmp_path, "practise", "--seed", 3, "--out", "words")
    message = fail(tmp_path, "practise", "--out", "words")
    assert "words: holds a checkpoint practised otherwise (seed: 3 there, 0 now); remove it, or pass another" in message
    about.unlink()
    assert "words is no checkpoint of today's practice" in fail(tmp_path, "practise", "--seed", 3, "--out", "words")
    assert list(tmp_path.rglob("*")) == [about.parent]


def test_plan_and_compare_for_programs(trained, toy):
    plan = json.loads(succeed(toy, "plan", *TINY, "--json"))
    assert plan["steps"] == 6 and plan["prediction"]["parameters"]["trained"] > 10**5 and plan["problems"] == []
    rows = json.loads(succeed(toy, "compare", trained, "--json"))
    assert list(rows) == ["tiny", "untrained", "majority", "chance", "history only"] and rows["tiny"]["perplexity"] > 1


def test_settings_and_a_config_of_ones_own(toy, tmp_path):
    assert "Peak learning rate" in succeed(tmp_path, "settings", "lr")
    assert {one["name"] for one in json.loads(succeed(tmp_path, "settings", "lora", "--json"))} > {"model.lora.rank"}
    assert "no such setting; did you mean 'train.warmup_steps'?" in fail(tmp_path, "settings", "warmup_stepz")
    made = ("init", "mine", "--data-root", toy / "data" / "toy", "--preset", "toy")
    assert "next: prospect plan --config mine.yaml" in succeed(tmp_path, *made)
    assert "mine.yaml: is there already" in fail(tmp_path, *made)
    out = succeed(tmp_path, "plan", "--config", "mine.yaml", "--set", f"data.shards={toy}/shards")
    assert "predicted peak" in out


def test_wrong_input_to_train_is_named(toy, trained):
    message = fail(toy, "train", "--config", "toy", "--set", "train.learning_rat=1")
    assert "no setting 'train.learning_rat'; did you mean 'train.learning_rate'?" in message
    message = fail(toy, "train", *TINY, "--set", "data.dataset=nothing", "--set", "name=x")
    assert "prospect build-shards --split train --data-root data/toy --dataset nothing --out shards" in message
    hollow = toy / "hollow"
    hollow.mkdir(exist_ok=True)
    shutil.copy(trained / "init" / "config.json", hollow)
    message = fail(
        toy, "train", *TINY, "--set", "model.preset=null", "--set", "model.checkpoint=./hollow", "--set", "name=x"
    )
    assert "hollow: found config.json, expected model.safetensors" in message
    message = fail(toy, "train", *TINY, "--set", "model.tokens_per_frame=4", "--set", "name=x")
    assert "tokens_per_frame: found 4, expected native or one of 1" in message
    assert "--config nowhere.yaml: no such file, expected a YAML file" in fail(toy, "train", "--config", "nowhere.yaml")
    assert not (toy / "runs" / "x").exists(), "nothing half-written"


def test_a_broken_shard_is_named(toy):
    shutil.copytree(toy / "shards", toy / "broken")
    shard = toy / "broken" / "toyworld" / "train" / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    data[:] = data.replace(b'"format"', b'"fXrmat"')
    shard.write_bytes(data)
    message = fail(toy, "train", *TINY, "--set", "name=broken", "--set", "data.shards=broken")
    assert "train-000000.tar sample toy-train-0-" in message and "found other bytes than were written" in message


def test_an_epoch_on_a_clip_of_real_size(tmp_path):
    uid = clip_in(ASSEMBLY).video_uid
    write_frames(tmp_path / "frames" / f"{uid}.arrow", 452, size=384)
    common = ("--data-root", DATA, "--dataset", "assembly", "--frames-root", tmp_path)
    succeed(tmp_path, "build-shards", "--split", "train", *common)
    settings = (
        "data.dataset=assembly", f"data.root={DATA}", f"data.frames_root={tmp_path}", "data.eval_splits=[train]",
        "train.global_batch_size=1", "train.micro_batch_size=1", "name=real", "data.max_seq_len=1024",
    )  # fmt: skip
    out = succeed(tmp_path, "train", *TINY, *[f"--set={s}" for s in settings])
    assert "step 3 train: loss" in out or "step 2 train: loss" in out
    metrics = json.loads((tmp_path / "runs" / "real" / "metrics.json").read_text())
    assert metrics["train"]["num_dst_updates"] == 12


def test_training_without_its_packages_names_the_install_command(toy, tmp_path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    done = process(toy, "train", *TINY, "--set", "name=notorch", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "this command needs the package torch, found none; install it with: pip install" in done.stderr
    data = ("build-shards", "--split", "train", "--data-root", "data/toy")
    assert "12 clips" in process(toy, *data, PYTHONPATH=str(tmp_path)).stdout


def test_help_names_every_command(tmp_path):
    listed = run(tmp_path, "--help", columns=80).stdout.partition("Commands:\n")[2].splitlines()
    assert {line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "} == {
        "make-toy", "validate", "extract-frames", "build-shards", "inspect-shard", "audit", "init", "settings", "plan",
        "practise", "train", "cache-features", "compare", "export", "stream", "evaluate", "calibrate", "import", "project", "annotate",
        "annotate-report", "judge", "make-checkpoint", "review", "browse", "live",
    }  # fmt: skip


def test_broken_samples_can_be_left_out_of_a_run(toy, tmp_path):
    shutil.copytree(toy / "shards", tmp_path / "shards")
    shutil.copytree(toy / "data", tmp_path / "data")
    (tmp_path / "data" / "toy" / "toyworld" / "frames" / "toy-train-0-00003.arrow").unlink()
    message = fail(tmp_path, "train", *TINY, "--set", "name=stops")
    assert "sample toy-train-0-00003-c000-" in message and "toy-train-0-00003.arrow' not found" in message
    out = succeed(tmp_path, "train", *TINY, "--set", "name=skips", "--set", "data.on_error=skip")
    assert "skipped: " in out and "toy-train-0-00003.arrow' not found" in out
    lines = (tmp_path / "runs" / "skips" / "skipped.jsonl").read_text().splitlines()
    metrics = json.loads((tmp_path / "runs" / "skips" / "metrics.json").read_text())
    assert metrics["num_skipped"] == len(lines) >= 2
