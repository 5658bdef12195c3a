import os
from pathlib import Path

import pytest

from pipeline.errors import ProspectError
from prospect.config import accumulation_steps, long_warmup, warmup_steps
from prospect.config_file import dump_config, find_config, load_config
from tests.helpers.places import CONFIGS


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_loads_and_reads_back(path, tmp_path):
    config = load_config(path)
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.yaml") == config


def test_the_plans_defaults_for_real_runs():
    config = load_config(CONFIGS / "smolvlm2-2.2b.yaml")
    train = config.train
    assert (config.data.max_seq_len, train.micro_batch_size, accumulation_steps(train)) == (4096, 2, 8)
    assert (train.learning_rate, train.weight_decay, train.warmup_steps, train.epochs) == (1e-5, 0.01, 0.05, 10)
    assert (train.bf16, train.gradient_checkpointing) == (True, True)
    assert (train.save_steps, train.eval_steps, train.log_steps, train.keep_checkpoints) == (500, 500, 10, 5)
    assert config.data.negatives.start == 0.5


@pytest.mark.parametrize(
    ("value", "max_steps", "steps"),
    [(0, 50, 0), (1, 50, 1), (60, 50, 60), (0.05, 100, 5), (0.05, 101, 6), (0.05, 3, 1)],
)
def test_a_warm_up_is_steps_or_a_share_of_the_run(value, max_steps, steps):
    train = load_config(CONFIGS / "toy.yaml", [f"train.warmup_steps={value}"]).train
    assert warmup_steps(train, max_steps) == steps


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("smolvlm2-*.yaml")), ids=lambda path: path.stem)
def test_the_configs_for_real_runs_reach_their_peak_on_small_data_too(path):
    """training.md 7: a warm-up of 100 steps was never over with 160 sequences or fewer."""
    train = load_config(path).train
    assert all(long_warmup(train, max_steps) is None for max_steps in (2, 10, 100, 10_000))


def test_a_warm_up_as_long_as_the_run_is_told():
    train = load_config(CONFIGS / "toy.yaml").train
    assert long_warmup(train, 61) is None
    assert long_warmup(train, 60) == (
        "train.warmup_steps 60 is as long as the run of 60 steps: the learning rate never reaches 0.002; set a share of "
        "the run, such as train.warmup_steps=0.05, or train longer"
    )


def test_overrides_reach_any_depth():
    config = load_config(
        CONFIGS / "toy.yaml",
        ["train.learning_rate=1e-4", "data.negatives.start=0.1", "name=other", "data.blind=true", "train.loss.lm=2"],
    )
    assert (config.train.learning_rate, config.data.negatives.start, config.name) == (1e-4, 0.1, "other")
    assert config.data.blind is True and config.train.loss.lm == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rat=1", r"toy\.yaml: no setting 'train.learning_rat'; did you mean 'train.learning_rate'\?"),
        ("trian.epochs=1", r"no setting 'trian'; did you mean 'train'\?"),
        ("data.negatives.strat=1", r"no setting 'data.negatives.strat'; did you mean 'data.negatives.start'\?"),
        ("train.epochs=0", r"train.epochs: found 0, expected greater than 0"),
        ("train.epochs=many", r"train.epochs: found 'many', expected a valid integer"),
        ("data.packing=both", r"data.packing: found 'both', expected 'clip' or 'turn'"),
        ("model.checkpoint=x", r"model: give either checkpoint or preset"),
        ("data.negatives.schedule=linear", r"data.negatives: .*any other schedule start and end"),
        (
            "data.negatives={schedule: step, start: 0.1, end: 0.5}",
            r"data.negatives: .*step schedule has step_at",
        ),
        ("model.lora.rnk=4", r"no setting 'model.lora.rnk'; did you mean 'model.lora.rank'\?"),
        ("model.lora.targets=[]", r"model.lora.targets: found \[\], "),
        ("model.lora.quantize=8bit", r"model.lora.quantize: found '8bit', expected 'none' or '4bit'"),
        (
            "train.warmup_steps=2.5",
            r"train.warmup_steps: found 2.5, a whole number of steps expected, or a share below 1",
        ),
        ("train.warmup_steps=-0.1", r"train.warmup_steps: found -0.1, expected greater than or equal to 0"),
        ("train.warmup_ratio=0.1", r"no setting 'train.warmup_ratio'; did you mean 'train.warmup_steps \(below 1"),
        ("train.seed=-1", r"train.seed: found -1, expected greater than or equal to 0"),
        ("train.adam_betas=[1.5, 0.9]", r"train.adam_betas.0: found 1.5, expected less than 1"),
        ("data.cache_gb=.inf", r"data.cache_gb: found inf, expected a finite number"),
        ("data.mix={x: .inf}", r"data.mix.x: found inf, expected a finite number"),
        ("name=..", r"name: found '\.\.', string should match"),
        ("name=[", r"name: found '\[', string should match"),
        ("train.seed=[", r"--set train.seed: found '\[', not valid YAML"),
        ("train", r"--set 'train': expected KEY=VALUE"),
        ("name.x=1", r"--set name.x: 'name' is a value, not a section"),
    ],
)
def test_wrong_settings_are_named(override, message):
    with pytest.raises(ProspectError, match=message):
        load_config(CONFIGS / "toy.yaml", [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.padding_free=true", "train.micro_batch_size=1"],
            r"train.padding_free has no effect with train.micro_batch_size 1, which pads nothing",
        ),
        (
            ["train.fsdp=true", "train.optimizer=adamw_8bit"],
            r"train.optimizer: the states of 8-bit AdamW \(torchao\) are not shared out; with train.fsdp use adamw",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(overrides, message):
    with pytest.raises(ProspectError, match=message):
        load_config(CONFIGS / "toy.yaml", overrides)


def test_a_missing_config_lists_those_that_are_there(tmp_path):
    with pytest.raises(ProspectError, match=r"--config tiny: no such file, expected a YAML file .* or one of .*toy, "):
        find_config("tiny")
    assert find_config("toy").samefile(CONFIGS / "toy.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ProspectError, match=r"bad\.yaml: not valid YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ProspectError, match="found list, expected sections"):
        load_config(tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b", r"c\.yaml: not valid YAML \(found 'name' twice, expected it once"),
        ("train: {epochs: 1, seed: 2, epochs: 3}", r"found 'epochs' twice, expected it once .*line 1, column 29"),
        ("train: {epochs: 1:30}", r"train\.epochs: found '1:30', expected a valid integer"),
        ("train: {epochs: !!int foo}", r"not valid YAML \(invalid literal for int"),
        ("name: !!timestamp 2001-99-99", r"not valid YAML \(month must be in 1\.\.12"),
        ("name: 2001-99-99\nx: 1", r"no setting 'x'"),
        ("name: !!python/object/apply:os.system [ls]", r"not valid YAML \(could not determine a constructor"),
        ("name: " + "9" * 6000, r"not valid YAML \(found an integer of 6000 digits, expected at most 100"),
        ("name: 0x" + "f" * 90, r"name: found an integer of 360 bits, expected a valid string"),
        ("[" * 20_000, "not valid YAML"),
        ("1: 2", r"1: found 1, keys should be strings"),
        ("", "found NoneType, expected sections"),
        (b"\xff", "not valid YAML"),
        (
            "name: [&a [&b [1, 2, 3, 4, 5], *b, *b, *b, *b], *a, *a, *a, *a, *a, *a]",
            r"name: found \[\[\[1.{,200}, expected a",
        ),
        ("name: " + "a/" * 100_000, r"name: found .{,200}, string should match"),
        ("? " + "x" * 100_000 + "\n: 1", r"no setting 'x{200}'; prospect settings"),
        ("a: 1\n#" + "x" * (1 << 20), r"found more than 1 MB, expected less; name a config"),
    ],
)
def test_a_config_that_is_none_is_one_line(tmp_path, text, message):
    """attack.md 6, 10 and 15"""
    path = tmp_path / "c.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ProspectError, match=message) as told:
        load_config(path)
    assert max(map(len, str(told.value).splitlines())) < 800


def test_a_pipe_is_no_config(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ProspectError, match=r"found (no plain file|a folder), expected a file; name a config"):
            load_config(path)


def test_accumulation_follows_from_the_global_batch(monkeypatch):
    config = load_config(CONFIGS / "toy.yaml", ["train.global_batch_size=12", "train.micro_batch_size=2"])
    assert accumulation_steps(config.train) == 6
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert accumulation_steps(config.train) == 2
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ProspectError, match="found 12, expected a multiple of micro_batch_size 2 x 4 ranks = 8"):
        accumulation_steps(config.train)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.memory=summary", "data.packing=turn"], "memory: summary needs packing: clip"),
        (["data.memory=dst", "data.knowledge=goal"], "memory: dst needs knowledge: steps in every clip"),
        (["data.without_knowledge=.5"], "memory: dst needs knowledge: steps in every clip"),
        (["data.memory=none", "data.knowledge=none", "data.without_knowledge=.5"], "without_knowledge has no effect"),
        (["data.memory=state"], "data.memory: found 'state', expected 'dst', 'summary' or 'none'"),
    ],
)
def test_a_memory_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ProspectError, match=message):
        load_config(CONFIGS / "toy.yaml", settings)
