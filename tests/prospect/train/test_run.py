"""Other ways to train, and how training fails: LoRA, 8-bit AdamW, cached features, no DST, NaN, memory, disk."""

import json
import shutil
import subprocess

import pytest
import torch
from accelerate import PartialState
from rich.console import Console
from safetensors.torch import load_file
from transformers import Trainer

from pipeline.errors import ProspectError
from pipeline.io.frame_store import open_frames
from pipeline.shards.build import build_split
from pipeline.shards.scan import Options
from prospect.data.decode import decode_frame
from prospect.data.features import FeatureStore, _opened
from prospect.data.index import read_split
from prospect.evaluation.evaluate import Places, ProspectEvaluator
from prospect.evaluation.predictions import read_prediction
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.runs import checkpoints
from prospect.setup import load_model
from prospect.stream.load import Overrides, load_streamer
from prospect.train.cache_features import run_cache_features
from prospect.train.plan import plan_run, plan_table
from prospect.train.trainer import ProspectTrainer
from tests.helpers.fakes import write_frames
from tests.helpers.places import ROOT
from tests.helpers.runs import STEPS, config_of, logged, run

WAYS = {
    "lora": ["model.lora={rank: 2, dropout: 0.1}", "train.learning_rate=0.01"],
    "lora-bf16": ["model.lora.rank=2", "model.dtype=bfloat16", "train.bf16=true", "train.learning_rate=0.01"],
    "8bit": ["train.optimizer=adamw_8bit", "model.dtype=bfloat16", "train.learning_rate=0.001"],
    "summary": ["data.memory=summary", "data.max_seq_len=110", "data.reserve=24", "data.knowledge=none"],
    "checkpointing": ["train.gradient_checkpointing=true", "model.lora.rank=2", "train.learning_rate=0.01"],
}


def tensors(checkpoint):
    (path,) = checkpoint.glob("*model.safetensors")
    return load_file(path)


@pytest.mark.parametrize("way", WAYS)
def test_a_way_learns_and_is_resumed_to_the_bit(folder, way):
    whole = run(folder, way, *STEPS, *WAYS[way])
    losses = [entry["loss"] for entry in logged(whole)]
    assert len(losses) == 4 and losses[-1] < losses[0]
    cut = folder / "runs" / f"{way}-cut"
    shutil.copytree(whole.folder, cut)
    for step in (3, 4):
        shutil.rmtree(cut / "checkpoints" / f"checkpoint-{step}")
    (cut / "metrics.json").unlink()
    resumed = run(folder, f"{way}-cut", *STEPS, *WAYS[way], resume=True)
    assert [entry["loss"] for entry in logged(resumed)] == losses
    first, second = (tensors(checkpoints(r.folder)[-1]) for r in (whole, resumed))
    assert first and all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_run_is_not_resumed_to_train_other_weights(folder):
    done = run(folder, "other-weights", *STEPS, *WAYS["lora"])
    (done.folder / "metrics.json").unlink()
    with pytest.raises(
        ProspectError, match=r"model.freeze_vision: False before, True now; .*model.lora.rank: 2 before, None now"
    ):
        run(folder, "other-weights", *STEPS, "model.freeze_vision=true", resume=True)


def test_a_lora_checkpoint_is_small_and_streams(folder):
    done = run(folder, "lora-streams", *STEPS, *WAYS["lora"])
    last = checkpoints(done.folder)[-1]
    assert not (last / "model.safetensors").exists() and (last / "adapter_model.safetensors").exists()
    streamer = load_streamer(str(done.folder))
    assert type(streamer.model) is DSTSmolVLM and streamer.settings.max_seq_len == 2048


FROZEN = ["model.freeze_vision=true", "model.freeze_connector=true", "train.max_steps=2", "train.global_batch_size=2"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["full", "lora"])
def test_the_connector_trains_from_cached_features_as_from_frames(folder, way):
    """gpu.md: the largest saving of all, where the connector is what has to be learned."""
    settings = ["model.freeze_vision=true", "train.max_steps=2", "train.global_batch_size=2"]
    settings += ["model.lora.rank=2"] if way == "lora" else []
    expected = run(folder, f"frames-{way}", *settings)
    settings.append(f"data.features={folder}/pooled")
    store, *_ = run_cache_features(config_of(folder, f"pooled-{way}", *settings), lambda *step: None)
    assert store.stage == "pooled" and store.row_bytes == 4 * 64 * 16
    found = run(folder, f"pooled-{way}", *settings)
    for entry, other in zip(logged(expected), logged(found), strict=True):
        assert other["loss"] == pytest.approx(entry["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(entry["grad_norm"], rel=1e-4)
    saved = [load_file(next(checkpoints(done.folder)[-1].glob("*model.safetensors"))) for done in (expected, found)]
    (name,) = (name for name in saved[0] if "modality_projection" in name)
    torch.testing.assert_close(saved[1][name], saved[0][name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_cached_features_train_as_the_frames_do(folder):
    expected = run(folder, "frames", *FROZEN)
    settings = [*FROZEN, f"data.features={folder}/features"]
    with pytest.raises(ProspectError, match="found no features of this model"):
        run(folder, "features", *settings)
    config = config_of(folder, "features", *settings)
    told: list[tuple[str, int, int | None]] = []
    store, made, kept = run_cache_features(config, lambda *step: told.append(step))
    num_frames = sum(12 + i for i in range(6))
    assert (made, kept) == (num_frames, 0) and told[-1] == ("encoding frames", num_frames, num_frames)
    assert store.row_bytes == 4 * 128 and store.dtype == "float32"
    found = run(folder, "features", *settings)
    for entry, other in zip(logged(expected), logged(found), strict=True):
        assert other["loss"] == pytest.approx(entry["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(entry["grad_norm"], rel=1e-4)

    assert run_cache_features(config, lambda *step: None)[1:] == (0, num_frames), "they are kept"
    missing = store.path("x", "frames/v3.arrow")
    missing.unlink()
    with pytest.raises(ProspectError, match=r"found no feature of frame 2 of frames/v3.arrow; run prospect cache-feat"):
        run(folder, "features-missing", *settings, "train.max_steps=3")
    assert run_cache_features(config, lambda *step: None)[1] == 15
    missing.write_bytes(missing.read_bytes()[:300])
    with pytest.raises(ProspectError, match=r"arrow: cannot be read .* remove it, and cache features again"):
        run(folder, "features-broken", *settings, "train.max_steps=3")


def test_features_are_those_of_encode_frames_also_of_embedded_images(folder, tmp_path):
    build_split(folder / "data", "x", "train", tmp_path / "embedded", options=Options(embed_frames=True))
    config = config_of(folder, "embedded", *FROZEN, f"data.features={tmp_path}/f", f"data.shards={tmp_path}/embedded")
    store, *_ = run_cache_features(config, lambda *step: None)
    (about,) = (tmp_path / "f").glob("*/about.json")
    assert FeatureStore.open(tmp_path / "f", about.parent.name) == store
    split = read_split(tmp_path / "embedded", "x", "train", folder / "data")
    model = load_model(config, None, [split], tmp_path / "init").model
    image = open_frames(folder / "data/x/frames/v2.arrow").read(9)
    pixels = decode_frame(image, 64, "")
    with torch.no_grad():
        expected = model.eval().encode_frames(torch.from_numpy(pixels.copy())[None])[0]
    found = torch.from_numpy(store.read("x", "frames/v2.arrow", [9], image)).view(torch.float32).view(1, 128)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_damaged_feature_is_named_and_made_again(folder, tmp_path):
    """attack.md 10: cached features had no checksum."""
    settings = [*FROZEN, f"data.features={tmp_path}/f"]
    config = config_of(folder, "damaged", *settings)
    store, made, _ = run_cache_features(config, lambda *step: None)
    path = store.path("x", "frames/v3.arrow")
    row = store.read("x", "frames/v3.arrow", [5], open_frames(folder / "data/x/frames/v3.arrow").read(5)).tobytes()
    data = path.read_bytes()
    path.unlink()  # it is mapped
    path.write_bytes(data.replace(row, row[:100] + bytes([row[100] ^ 1]) + row[101:]))
    _opened.cache_clear()
    with pytest.raises(
        ProspectError, match=r"the feature of frame 5 of frames/v3\.arrow is damaged; run prospect cach"
    ):
        run(folder, "damaged", *settings, "train.max_steps=3")
    _, again, kept = run_cache_features(config, lambda *step: None)
    assert (again, kept) == (15, made - 15)
    about = store.folder / "about.json"
    about.write_text(about.read_text().replace('"float32"', '"float8"'))
    with pytest.raises(
        ProspectError, match=r"about\.json: dtype: found 'float8', expected 'bfloat16' or 'float32'; rem"
    ):
        FeatureStore.open(tmp_path / "f", store.folder.name)


def test_features_of_other_images_under_the_same_names_are_refused_and_made_again(folder, tmp_path):
    shutil.copytree(folder / "data", tmp_path / "data")
    settings = [*FROZEN, f"data.features={tmp_path}/f", f"data.root={tmp_path}/data"]
    config = config_of(folder, "other-images", *settings)
    _, made, _ = run_cache_features(config, lambda *step: None)
    assert run_cache_features(config, lambda *step: None)[1:] == (0, made)
    for path in (tmp_path / "data" / "x" / "frames").iterdir():
        path.unlink()  # it is mapped
        write_frames(path, 30, size=48)
    open_frames.cache_clear()
    with pytest.raises(
        ProspectError, match=r"was made from another image than frame 2 of frames/v\d\.arrow; run prosp"
    ):
        run(folder, "other-images", *settings)
    _, again, kept = run_cache_features(config, lambda *step: None)
    assert (again, kept) == (made, 0)


def test_features_of_another_model_or_of_a_trained_one_are_refused(folder):
    with pytest.raises(ProspectError, match=r"data.features needs model.freeze_vision \(a trained tower changes every"):
        config_of(folder, "x", "data.features=f", "model.freeze_connector=true")
    config = config_of(folder, "f1", *FROZEN, f"data.features={folder}/features2")
    run_cache_features(config, lambda *step: None)
    with pytest.raises(ProspectError, match="found no features of this model"):
        run(folder, "f2", *FROZEN, f"data.features={folder}/features2", "train.seed=7")


def test_a_baseline_that_writes_summaries_learns_them_and_its_own_are_in_its_predictions(folder):
    cut = ["data.max_seq_len=110", "data.reserve=24"]
    done = run(folder, "summaries", "data.memory=summary", *cut, *STEPS)
    assert load_streamer(str(done.folder)).settings.memory == "summary"
    places = Places((f"{folder}/shards/x/train",), folder / "data")
    evaluator = ProspectEvaluator(str(done.folder), places, out=folder / "summarized", limit=2, rows=("oracle_state",))
    rows = evaluator.evaluate()["rows"]
    predicted = {row: [read_prediction(path) for path in sorted((folder / "summarized" / "predictions" / row).iterdir())]
                 for row in ("model", "oracle_state")}  # fmt: skip
    for row, predictions in predicted.items():
        restarts = [r for prediction in predictions for r in prediction.frames if r.is_restart]
        assert len(restarts) == rows[row]["all"]["metrics"]["num_restarts"] > 0
        assert all(r.summary is not None for r in restarts)
    told = [r.summary for prediction in predicted["oracle_state"] for r in prediction.frames if r.is_restart]
    assert {*told} <= {"Nothing is done yet.", "Now: Take it.", "Done: Take it. Now: Put it."} and len({*told}) > 0
    measured = rows["model"]["all"]["metrics"]
    of_state = [name for name in measured if "dst" in name or name.startswith(("joint_state", "update_delay"))]
    assert len(of_state) == 9 and all(measured[name] is None for name in of_state)
    assert measured["when_to_speak_recall"] is not None and measured["missed"] == 0
    assert all(rows["always_silent"]["all"]["metrics"][name] is None for name in of_state)


def test_the_baseline_without_dst_learns_to_speak_and_never_writes_an_update(folder):
    done = run(folder, "no-dst", "data.memory=none", *STEPS)
    names = {name for entry in logged(done) for name in entry}
    assert "lm_loss" in names and "dst_gen_loss" not in names, "a loss without targets is no perfect loss"
    streamer = load_streamer(str(done.folder))
    assert streamer.settings.memory == "none"
    places = Places((f"{folder}/shards/x/train",), folder / "data")
    evaluator = ProspectEvaluator(
        str(done.folder),
        places,
        out=folder / "evaluated",
        limit=2,
        overrides=Overrides(update_threshold=0.0, max_new_tokens=4),
    )
    evaluator.stream(evaluator.clips(), evaluator.rows, PartialState())
    assert evaluator.rows == ("model", "blind", "text_only") and "trained without a memory" in evaluator.notes[0]
    found = [json.loads(path.read_text())["dst"]["frames"] for path in (folder / "evaluated").rglob("model/v*.json")]
    assert [len(frames) for frames in found] == [12, 13] or [len(frames) for frames in found] == [13, 12]
    assert not any(action["role"] == "dst_update" for frames in found for f in frames for action in f["actions"])
    with pytest.raises(ProspectError, match="memory: none needs packing: clip"):
        run(folder, "no-dst-turn", "data.memory=none", "data.packing=turn")


@pytest.mark.parametrize(("poison", "found"), [(float("nan"), "nan"), (float("inf"), "inf"), (1e9, r"\d{6}")])
def test_a_loss_that_is_no_loss_stops_before_a_checkpoint_and_names_the_sequences(folder, monkeypatch, poison, found):
    whole = DSTSmolVLM.forward

    def poisoned(self, **inputs):
        output = whole(self, **inputs)
        if self.training:
            self.num_forwards = getattr(self, "num_forwards", 0) + 1
            if self.num_forwards == 4:  # the second micro-batch of step 2
                output.sums = output.sums * 0 + poison * output.sums.detach().sign().abs()
        return output

    monkeypatch.setattr(DSTSmolVLM, "forward", poisoned)
    settings = ["train.micro_batch_size=1", "train.log_steps=100", "train.global_batch_size=2", "train.max_steps=3"]
    with pytest.raises(
        ProspectError,
        match=rf"step 2: found a loss of {found}.*, expected at most train.max_loss 100; it came from v\d-c000-",
    ):
        run(folder, f"poisoned-{poison}", *settings)
    names = [p.name for p in checkpoints(folder / "runs" / f"poisoned-{poison}")]
    assert names == ["checkpoint-1"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_checkpoint_that_cannot_be_written_keeps_the_one_before(folder, monkeypatch, error):
    save = Trainer._save_optimizer_and_scheduler
    name = f"disk-{type(error).__name__}"

    def full(self, output_dir):
        save(self, output_dir)
        if self.state.global_step == 3:
            raise error

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(
        ProspectError, match=r"checkpoint-3: cannot be written \(.*; the checkpoints before it are kept"
    ):
        run(folder, name, *STEPS, "train.keep_checkpoints=1")
    there = folder / "runs" / name / "checkpoints"
    assert [path.name for path in there.iterdir()] == ["checkpoint-2"], "and nothing half-written"
    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", save)
    assert len(logged(run(folder, name, *STEPS, "train.keep_checkpoints=1", resume=True))) == 4


def test_cuda_out_of_memory_says_what_was_predicted_and_what_to_change(folder, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has ...")

    monkeypatch.setattr(ProspectTrainer, "compute_loss", full)
    with pytest.raises(ProspectError) as told:
        run(folder, "memory", *STEPS)
    for part in ("GB predicted for tensors", "set train.micro_batch_size=1; or set train.gradient_checkpointing=true"):
        assert part in str(told.value)


def test_a_run_says_what_it_ran_with(folder):
    done = run(folder, "environment", "train.max_steps=1")
    record = json.loads((done.folder / "environment.json").read_text())
    assert record["packages"]["torch"] == torch.__version__ and record["num_ranks"] == 1
    git = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert record["git_commit"] == (git.stdout.strip() if git.returncode == 0 else None)
    (entry,) = logged(done)
    assert {"learning_rate", "tokens_per_s", "turns_per_s", "frames_per_s", "data_wait_share", "padding_waste"} <= set(
        entry
    )


def test_a_plan_tells_both_peaks_and_what_the_loader_takes_of_the_host(folder):
    settings = ["train.global_batch_size=2", "train.warmup_steps=0.2", "data.num_workers=1"]
    plan = plan_run(config_of(folder, "both", *settings), gpu_gb=24)
    checkpointed = plan_run(config_of(folder, "both", *settings, "train.gradient_checkpointing=true"), gpu_gb=24)
    assert plan.other_peak == checkpointed.prediction.peak < checkpointed.other_peak == plan.prediction.peak
    (note,) = checkpointed.notes
    assert note.startswith("train.gradient_checkpointing=false fits too (") and plan.notes == []
    batch = 2 * 17 * 3 * 64 * 64
    assert batch < plan.host.batch < 1.05 * batch and plan.host.shared == 4 * plan.host.batch
    assert plan.host.pinned == (2 + 1) * 2**19, "two that are asked for ahead, one under way"
    text = Console(width=120)
    with text.capture() as shown:
        text.print(plan_table(plan))
    assert "the peak with gradient checkpointing" in shown.get() and "/dev/shm" in shown.get()


def test_a_plan_counts_the_run_and_names_what_cannot_work(folder):
    plan = plan_run(config_of(folder, "plan", "train.epochs=2", "train.global_batch_size=2"), gpu_gb=24)
    assert (plan.num_sequences, plan.num_clips, plan.steps_per_epoch, plan.steps) == (6, 6, 3, 6)
    assert (plan.tokens_a_frame, plan.longest_s, plan.problems) == (1, 17 / 2, [])
    assert plan.shapes.frames == 17 and plan.shapes.sequences == 2

    (note,) = plan.notes
    assert plan.warmup_steps == 60 and note.startswith(
        "train.warmup_steps 60 is as long as the run of 6 steps: the lea"
    )
    share = plan_run(config_of(folder, "plan", "train.epochs=2", "train.global_batch_size=2", "train.warmup_steps=0.2"))
    assert (share.warmup_steps, share.notes) == (2, [])

    def problem(*settings, gpu_gb=24):
        (found,) = plan_run(config_of(folder, "plan", *settings), gpu_gb).problems
        return found

    assert "needs 0." in problem(gpu_gb=1) and "set model.lora.rank=16" in problem(gpu_gb=1)
    assert "holds 6 s of video and clips are up to 8 s long: lower model.tokens_per_frame" in problem(
        "data.max_seq_len=140", "data.reserve=60", "data.frame_wrap=smolvlm"
    )
    assert "6 sequences an epoch are fewer than one global batch" in problem("train.global_batch_size=8")
    assert "max_seq_len 100000 is more than the 8192 positions that the model was made for" in problem(
        "data.max_seq_len=100000"
    )
