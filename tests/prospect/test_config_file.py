"""Configs by name, texts and retired settings, and a config for one's own data."""

import shutil

import pytest
import yaml

from pipeline.errors import ProspectError
from prospect.config import Config
from prospect.config_file import dump_config, find_config, load_config, packaged_configs, starter_config
from prospect.setting_list import find_settings, list_settings, settings_markdown
from tests.helpers.fakes import raw_clip, write_root
from tests.helpers.places import CONFIGS, ROOT


@pytest.mark.parametrize("name", ["3", "no", "1e-4", "null-and-void", "2001-12-14"])
def test_the_value_of_a_text_setting_is_taken_as_it_is(name):
    assert load_config(CONFIGS / "toy.yaml", [f"name={name}"]).name == name


def test_nothing_is_still_nothing_for_a_text_setting():
    config = load_config(CONFIGS / "toy.yaml", ["model.checkpoint=Some/Model", "model.preset=null"])
    assert (config.model.checkpoint, config.model.preset) == ("Some/Model", None)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("lr", "train.learning_rate"),
        ("train.lr", "train.learning_rate"),
        ("batch_size", r"train.global_batch_size \(sequences of a step\) or train.micro_batch_size"),
        ("train.grad_accum", "nothing to set: train.global_batch_size / "),
        ("steps", "train.max_steps"),
        ("learning_rate", "train.learning_rate"),
        ("train.packing", "data.packing"),
    ],
)
def test_what_others_call_a_setting_is_told_by_its_name_here(asked, meant):
    with pytest.raises(ProspectError, match=f"no setting '{asked}'; did you mean '{meant}"):
        load_config(CONFIGS / "toy.yaml", [f"{asked}=1"])


def test_what_is_like_no_setting_is_sent_to_the_list():
    with pytest.raises(ProspectError, match=r"no setting 'zzz'; prospect settings lists them all"):
        load_config(CONFIGS / "toy.yaml", ["zzz=1"])


def test_an_older_runs_settings_are_read_and_what_did_something_is_told(tmp_path):
    config = load_config(CONFIGS / "toy.yaml")
    record = yaml.safe_load(dump_config(config))
    record["data"]["toy"] = None
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    assert load_config(tmp_path / "config.yaml") == config
    record["data"]["toy"] = "standard"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    with pytest.warns(
        UserWarning, match=r"data\.toy is no setting any more .* prospect make-toy renders the toy world"
    ):
        assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(("old", "now"), [(True, "balanced"), (False, "plain")])
def test_an_older_name_of_a_setting_means_what_it_meant(tmp_path, old, now):
    config = load_config(CONFIGS / "toy.yaml", [f"train.loss.binary={now}"])
    record = yaml.safe_load(dump_config(config))
    record["train"]["loss"]["balanced"] = old
    del record["train"]["loss"]["binary"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(record))
    assert load_config(tmp_path / "config.yaml") == config
    assert load_config(CONFIGS / "toy.yaml", [f"train.loss.balanced={str(old).lower()}"]) == config
    with pytest.raises(ProspectError, match=r"no setting 'train.loss.balanced'; did you mean 'train.loss.binary'"):
        load_config(CONFIGS / "toy.yaml", ["train.loss.balanced=maybe"])


def test_packaged_configs_are_found_by_name_and_files_by_their_path(tmp_path, monkeypatch):
    assert packaged_configs() == sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    monkeypatch.chdir(tmp_path)
    shutil.copy(CONFIGS / "toy.yaml", "mine.yaml")
    assert load_config(find_config("mine.yaml")) == load_config(find_config("toy"))
    with pytest.raises(
        ProspectError, match=r"--config mine: no such file, expected a YAML file \(make one with prospect"
    ):
        find_config("mine")


def test_no_setting_has_a_dataset_for_a_default():
    with pytest.raises(ProspectError, match=r"no data\.dataset: expected the name of a folder in data\.shards"):
        load_config(CONFIGS / "toy.yaml", ["data.dataset=null"])
    assert "toy" not in {one.default for one in list_settings()}


def test_every_setting_is_documented_and_the_page_is_current():
    settings = list_settings()
    assert len(settings) > 60 and all(one.about and one.kind for one in settings)
    assert (ROOT / "docs" / "settings.md").read_text() == settings_markdown(), "run make docs"
    assert {one.name for one in find_settings("lr")} == {"train.learning_rate", "train.lr_schedule"}


@pytest.mark.parametrize("preset", packaged_configs())
def test_a_config_for_ones_own_data_has_its_preset_and_explains_every_setting(tmp_path, preset):
    write_root(tmp_path / "data", [raw_clip()])
    write_root(tmp_path / "data", [raw_clip(video_uid="v2", frames_file="frames/v2.arrow")], split="val")
    text = starter_config(CONFIGS / f"{preset}.yaml", "mine", tmp_path / "data")
    (tmp_path / "mine.yaml").write_text(text)
    found = load_config(tmp_path / "mine.yaml").model_dump()
    expected = load_config(CONFIGS / f"{preset}.yaml").model_dump()
    expected["name"] = "mine"
    expected["data"] |= {"dataset": "x", "root": tmp_path / "data", "eval_splits": ("val",)}
    assert found == expected
    for one in list_settings():
        if not one.name.startswith("model.lora.") or "rank:" in text:
            assert one.about in text, one.name
    assert Config.model_fields.keys() <= {line.strip("# ").partition(":")[0] for line in text.splitlines()}


def test_a_config_for_ones_own_data_needs_a_dataset(tmp_path):
    write_root(tmp_path / "data", [raw_clip()])
    write_root(tmp_path / "data", [raw_clip()], dataset="y")
    preset = CONFIGS / "smolvlm2-256m.yaml"
    with pytest.raises(ProspectError, match="found the datasets x, y, expected one; pass --dataset"):
        starter_config(preset, "mine", tmp_path / "data")
    assert "dataset: y" in starter_config(preset, "mine", tmp_path / "data", "y")
    with pytest.raises(ProspectError, match="no such folder"):
        starter_config(preset, "mine", tmp_path / "nowhere")
    with pytest.raises(ProspectError, match="name: found 'my run'"):
        starter_config(preset, "my run", tmp_path / "data", "y")


@pytest.mark.parametrize(("value", "memory"), [("false", "none"), ("true", "dst")])
def test_the_old_name_of_a_memory_is_taken_as_what_it_is_now(value, memory):
    assert load_config(CONFIGS / "toy.yaml", [f"data.dst={value}"]).data.memory == memory
    with pytest.raises(ProspectError, match=r"no setting 'data.dst'; did you mean 'data.memory"):
        load_config(CONFIGS / "toy.yaml", ["data.dst=7"])
