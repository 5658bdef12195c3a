"""The Trainer subclass on three small clips: accumulation, logs, resume records. In process, a few steps each."""

import json
import time
import weakref
from datetime import timedelta

import pytest
import yaml

from pipeline.errors import ProspectError
from pipeline.shards.build import build_split
from pipeline.shards.scan import Options
from prospect.config_file import load_config
from prospect.model.assemble import assemble
from prospect.runs import checkpoints
from prospect.train import arguments as arguments_module
from prospect.train import run as run_module
from prospect.train import trainer as trainer_module
from prospect.train.metrics import MetricTerms
from prospect.train.resume import DataPosition
from prospect.train.run import train
from prospect.train.sharing import fsdp_arguments
from prospect.train.trainer import ProspectTrainer
from tests.helpers.fakes import raw_clip, write_root
from tests.helpers.parts import save_text, save_tower
from tests.helpers.places import CONFIGS
from tests.helpers.runs import Told, config_of, logged, run


@pytest.mark.parametrize("workers", [0, 1])
def test_micro_batches_give_the_loss_and_gradient_of_one_big_batch(folder, workers):
    settings = ["train.global_batch_size=6", "train.max_steps=1", f"data.num_workers={workers}"]
    runs = [run(folder, f"micro{n}-{workers}", *settings, f"train.micro_batch_size={n}") for n in (6, 2, 1)]
    whole, *split = (logged(r)[0] for r in runs)
    for entry in split:
        for name in ("loss", "grad_norm", "lm_loss", "dst_gen_loss", "dst_binary_loss", "speak_binary_loss"):
            assert entry[name] == pytest.approx(whole[name], rel=1e-4), name
    parts = sum(whole[name] for name in ("lm_loss", "dst_gen_loss", "dst_binary_loss", "speak_binary_loss"))
    assert whole["loss"] == pytest.approx(parts, rel=1e-3)


def test_a_step_of_many_micro_batches_is_not_in_memory_at_once(folder, monkeypatch):
    """gpu.md 6: 28 GB of frames at 2.2B."""
    compute_loss, alive, most = ProspectTrainer.compute_loss, weakref.WeakSet(), []

    def watched(trainer, model, inputs, **options):
        alive.add(inputs["frames"])
        most.append(len(alive))
        return compute_loss(trainer, model, inputs, **options)

    monkeypatch.setattr(ProspectTrainer, "compute_loss", watched)
    settings = ["train.global_batch_size=6", "train.micro_batch_size=1", "train.epochs=4", "data.num_workers=1"]
    entries = logged(run(folder, "lazy", *settings))
    assert len(most) == 6 * len(entries) and max(most) <= 2


def test_a_run_without_padding_has_the_losses_decisions_and_updates_of_a_padded_one(folder):
    settings = [
        "train.global_batch_size=3", "train.micro_batch_size=3", "data.eval_splits=[train]", "train.max_steps=2",
    ]  # fmt: skip
    padded, free = (run(folder, f"free-{free}", *settings, f"train.padding_free={free}") for free in (False, True))
    for found, expected in zip(logged(free), logged(padded), strict=True):
        assert found["padding_waste"] == 0 < expected["padding_waste"]
        for name in ("loss", "lm_loss", "dst_gen_loss", "dst_binary_loss", "speak_binary_loss"):
            assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    found, expected = free.metrics["train"], padded.metrics["train"]
    assert found.keys() == expected.keys() and expected["num_decisions"] and expected["num_dst_updates"]
    for name, value in expected.items():
        assert found[name] == (value if name.startswith("num_") or value is None else pytest.approx(value, rel=1e-4))


def test_ranks_wait_for_the_one_that_lays_out_all_clips(folder, monkeypatch):
    """NCCL's own patience is ten minutes."""
    asked, real = [], run_module.PartialState

    def watched(*args, **options):
        asked.append(options.pop("timeout", None))
        return real(*args, **options)

    monkeypatch.setattr(run_module, "PartialState", watched)
    with pytest.raises(ProspectError, match="global batch"):
        run(folder, "patient", "train.global_batch_size=8")
    assert asked[0] == run_module.PATIENCE >= timedelta(hours=1)


def test_a_setting_that_compiles_needs_a_compiler(folder, monkeypatch):
    monkeypatch.setattr(arguments_module, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ProspectError, match=r"train\.compile: found no C compiler \(cc, gcc, clang"):
        run(folder, "no-compiler", "train.compile=true")
    assert not (folder / "runs" / "no-compiler").exists()


@pytest.mark.parametrize("lora", [False, True])
def test_what_fsdp_shares_out_are_the_layers_of_this_language_model(folder, tmp_path, monkeypatch, lora):
    """Those of Llama were named, whatever the model."""
    made, real = [], trainer_module.training_arguments

    def watched(config, max_steps, layer):
        made.append(layer)
        return real(config, max_steps, layer)

    monkeypatch.setattr(trainer_module, "training_arguments", watched)
    text = save_text(tmp_path / "text", "qwen3")
    assemble(str(text), str(save_tower(tmp_path / "tower")), None, tmp_path / "qwen3", seed=0)
    settings = ["model.preset=null", f"model.checkpoint={tmp_path}/qwen3", "train.max_steps=1", "data.eval_splits=[]"]
    run(folder, f"qwen3-{lora}", *settings, *(["model.lora.rank=2"] if lora else []))
    assert made == ["Qwen3DecoderLayer"] == fsdp_arguments(made[0])["fsdp_config"]["transformer_layer_cls_to_wrap"]


def test_logged_losses_are_over_the_steps_that_have_such_targets(folder):
    """A step of one turn has targets of one kind. training.md 11."""
    settings = ["data.packing=turn", "train.global_batch_size=1", "train.micro_batch_size=1", "train.max_steps=6"]
    one_by_one = logged(run(folder, "turns", *settings))
    (together,) = logged(run(folder, "turns-together", *settings, "train.log_steps=6", "train.save_steps=6"))
    for name in ("lm_loss", "dst_gen_loss"):
        there = [entry[name] for entry in one_by_one if name in entry]
        assert 0 < len(there) < 6 and 0 not in there, "absent, not 0, where a step has no such target"
        assert min(there) <= together[name] <= max(there)
    assert together["loss"] == pytest.approx(sum(entry["loss"] for entry in one_by_one) / 6, rel=1e-5)


def test_rates_leave_out_the_evaluation_before_the_first_step(folder, monkeypatch):
    """training.md 8: an hour passes in each evaluation."""
    add, now, late = MetricTerms.add, time.perf_counter, [0.0]

    def slow(terms, batch, output):
        add(terms, batch, output)
        late[0] += 3600

    monkeypatch.setattr(time, "perf_counter", lambda: now() + late[0])
    monkeypatch.setattr(MetricTerms, "add", slow)
    settings = ["data.eval_splits=[train]", "train.max_steps=3", "train.global_batch_size=2", "train.eval_steps=2"]
    entries = logged(run(folder, "rates", *settings))
    assert late[0] >= 3600 and all(entry["tokens_per_s"] > 1 for entry in entries)


def test_loss_weights_count(folder):
    weights = "train.loss={lm: 0, dst_gen: 0, dst_binary: 2, speak_binary: 0}"
    (entry,) = logged(run(folder, "weights", weights, "train.max_steps=1"))
    assert entry["loss"] == pytest.approx(2 * entry["dst_binary_loss"], rel=1e-3)


def test_logs_name_the_real_epoch_and_the_negative_rate(folder):
    schedule = "data.negatives={schedule: linear, start: 0.2, end: 1.0}"
    entries = logged(run(folder, "epochs", schedule, "train.epochs=2", "train.global_batch_size=2"))
    assert [entry["epoch"] for entry in entries] == pytest.approx([i / 3 for i in range(1, 7)])
    assert [entry["negative_rate"] for entry in entries] == pytest.approx([0.2 + 0.16 * i for i in range(6)])


def test_the_last_checkpoints_are_kept_each_with_its_position(folder):
    done = run(folder, "kept", "train.epochs=3", "train.global_batch_size=2", "train.keep_checkpoints=4")
    found = checkpoints(done.folder)
    assert [path.name for path in found] == [f"checkpoint-{n}" for n in (6, 7, 8, 9)]
    record = json.loads((found[0] / "data_position.json").read_text())
    assert (record["step"], record["epoch"], record["max_steps"]) == (6, 2, 9)
    assert record.keys() == {"step", "epoch", "order", "plan", "max_steps"}, "the settings are beside the run"
    (found[-1] / "data_position.json").unlink()
    assert checkpoints(done.folder) == found[:-1], "one without its position is not complete"


def test_resuming_with_another_stream_names_both_values(tmp_path):
    values = {"step": 0, "epoch": 0, "order": 2, "plan": "p", "max_steps": 5}
    saved = DataPosition(**values | {"step": 3})
    saved.save(tmp_path)
    assert DataPosition(**values).check_resumes(tmp_path) == saved
    for name, before, now in (("order", 2, 3), ("plan", "p", "q"), ("max_steps", 5, 6)):
        with pytest.raises(ProspectError, match=rf"\({name}: {before!r} in the checkpoint, {now!r} now\)"):
            DataPosition(**values | {name: now}).check_resumes(tmp_path)
    (tmp_path / "data_position.json").write_text("{")
    with pytest.raises(ProspectError, match="not valid JSON"):
        saved.check_resumes(tmp_path)


def test_a_warm_up_longer_than_the_run_is_told(folder):
    told = Told()
    common = ["train.epochs=1", "train.global_batch_size=2", f"data.cache={folder}/cache", "train.log_steps=1"]
    train(config_of(folder, "cold", *common), watcher=told)
    assert [line for line in told.lines if "warmup" in line] == [
        "note: train.warmup_steps 60 is as long as the run of 3 steps: the learning rate never reaches 0.002; set a share "
        "of the run, such as train.warmup_steps=0.05, or train longer"
    ]
    warm = Told()
    done = train(config_of(folder, "warm", *common, "train.warmup_steps=0.5", "train.epochs=2"), watcher=warm)
    assert not any("warmup" in line for line in warm.lines)
    rates = [entry["learning_rate"] for entry in logged(done)]
    assert rates[:4] == pytest.approx([0, 0.002 / 3, 0.004 / 3, 0.002]), "the peak after three of six steps"


def test_too_few_sequences_for_a_batch_are_named_and_leave_nothing(folder):
    with pytest.raises(
        ProspectError,
        match=r"6 sequences an epoch are fewer than one global batch; lower train.global_batch_size \(8\)",
    ):
        run(folder, "few", "train.global_batch_size=8")
    assert not (folder / "runs" / "few").exists()


def test_the_resolved_config_is_beside_the_outputs(folder):
    done = run(folder, "config", "train.max_steps=1")
    saved = yaml.safe_load((done.folder / "config.yaml").read_text())
    assert saved["train"]["adam_betas"] == [0.9, 0.95] and saved["data"]["reserve"] == 256


def test_a_mix_takes_each_datasets_passes_and_logs_its_share(folder):
    """Six clips once and two clips three times: 12 sequences, six steps of two; only y has a val split."""
    for split, count in (("train", 2), ("val", 3)):
        clips = [raw_clip(video_uid=f"{split}{i}", frames_file=f"frames/{split}{i}.arrow") for i in range(count)]
        write_root(folder / "data", clips, split=split, dataset="y")
        build_split(folder / "data", "y", split, folder / "shards", options=Options())
    told = Told()
    settings = [
        "data.mix={x: 1, y: 3}", f"data.root={folder}/data", f"data.shards={folder}/shards",
        "data.eval_splits=[val]", "data.num_workers=0", f"runs={folder}/runs", "name=mix", "train.log_steps=3",
        "train.epochs=1", "train.global_batch_size=2", f"data.cache={folder}/cache",
    ]  # fmt: skip
    done = train(load_config(CONFIGS / "toy.yaml", settings), watcher=told)
    entries = logged(done)
    assert sum(entry["share/x"] for entry in entries) / len(entries) == pytest.approx(0.5)
    assert [entry["share/x"] + entry["share/y"] for entry in entries] == pytest.approx([1, 1])
    assert "8 training sequences, 6 steps an epoch of 2" in told.lines[1]
    assert "  y: 6 of 2 sequences an epoch (3 passes), 50.0% of the stream" in told.lines[3]
    assert done.metrics["val"]["num_dst_updates"] == 3 * 2
    with pytest.raises(ProspectError, match=r"shards/nothing/train: found no finished shards"):
        train(load_config(CONFIGS / "toy.yaml", [*settings, "data.mix={x: 1, nothing: 1}", "name=none"]))
