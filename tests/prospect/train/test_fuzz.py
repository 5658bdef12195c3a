"""Mutants of everything that a run, a checkpoint and a config are made of: read, or refused in one clear error.

Texts, JSON and YAML are changed by seed; PROSPECT_FUZZ_CASES says how many of each.
"""

import json
import shutil

import pytest
import torch
import yaml

from prospect.config_file import load_config
from prospect.data.features import FeatureStore
from prospect.evaluation.predict import prepare_folder
from prospect.model.checkpoint import load_image_processor, load_tokenizer, loading_errors, read_config
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.lora import base_of
from prospect.stream.load import load_streamer
from prospect.stream.task import task_of_steps
from prospect.train.compare import comparison
from prospect.train.resume import check_readable
from prospect.train.saved import Evaluation, read_lines
from tests.helpers.fuzz import fuzz, mutated_bytes, mutated_json
from tests.helpers.places import CONFIGS
from tests.helpers.runs import STEPS, run


@pytest.fixture(scope="module")
def whole(folder):
    """A finished run with adapters, and thresholds."""
    done = run(folder, "fuzzed", *STEPS, "model.lora.rank=2", "data.eval_splits=[train]")
    thresholds = {"update_threshold": 0.25, "speak_threshold": 0.5, "calibrated_on": {"data": []}}
    (done.folder / "checkpoints" / "checkpoint-4" / "thresholds.json").write_text(json.dumps(thresholds))
    return done.folder


def read_model(folder):
    """As it is built where weights are loaded, without their memory."""
    config = read_config(str(folder), None, 64, {})
    with loading_errors(str(folder)), torch.device("meta"):
        DSTSmolVLM(config)


def read_tokenizer(folder):
    tokenizer = load_tokenizer(folder)
    with loading_errors(str(folder)):
        tokenizer("text")


def read_processor(folder):
    with loading_errors(str(folder)):
        load_image_processor(folder)


READERS = {  # file of a checkpoint -> what reads it
    "config.json": read_model,
    "adapter_config.json": base_of,
    "preprocessor_config.json": read_processor,
    "tokenizer.json": read_tokenizer,
    "tokenizer_config.json": read_tokenizer,
    "trainer_state.json": lambda folder: check_readable(folder, 0),
    "data_position.json": lambda folder: check_readable(folder, 0),
    "scheduler.pt": lambda folder: check_readable(folder, 0),
    "rng_state.pth": lambda folder: check_readable(folder, 0),
}


def mutant_of(data, is_json):
    """Gives another file: of JSON half of the mutants are JSON again."""

    def mutant(random):
        if is_json and random.random() < 0.5:
            return json.dumps(mutated_json(json.loads(data), random)).encode()
        return mutated_bytes(data, random)

    return mutant


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_a_checkpoint(whole, tmp_path, name):
    folder = shutil.copytree(whole / "checkpoints" / "checkpoint-4", tmp_path / "checkpoint")
    path = folder / name

    def read(data):
        path.write_bytes(data)
        READERS[name](folder)

    fuzz(name, mutant_of(path.read_bytes(), name.endswith(".json")), read)


def test_thresholds(whole, tmp_path, monkeypatch):
    folder = shutil.copytree(whole / "checkpoints" / "checkpoint-4", tmp_path / "checkpoint")
    path, model = folder / "thresholds.json", DSTSmolVLM.from_checkpoint(whole / "init")
    monkeypatch.setattr(DSTSmolVLM, "from_checkpoint", lambda *given, **options: model)

    def read(data):
        path.write_bytes(data)
        settings = load_streamer(str(folder)).settings
        assert 0 <= settings.update_threshold <= 1 and 0 <= settings.speak_threshold <= 1

    fuzz("thresholds", mutant_of(path.read_bytes(), True), read)


def test_metrics_and_logs(whole, tmp_path):
    def read_metrics(data):
        (tmp_path / "metrics.json").write_bytes(data)
        comparison([tmp_path], "train")

    def read_log(data):
        (tmp_path / "metrics.jsonl").write_bytes(data)
        read_lines(tmp_path / "metrics.jsonl", Evaluation)

    fuzz("metrics.json", mutant_of((whole / "metrics.json").read_bytes(), True), read_metrics)
    fuzz("metrics.jsonl", mutant_of((whole / "metrics.jsonl").read_bytes(), False), read_log)


def test_settings_of_predictions_and_features(tmp_path):
    settings = {"checkpoint": "x", "weights": "0" * 16, "update_threshold": 0.5}
    about = {"tokens": 4, "width": 128, "dtype": "float32"}

    def read_settings(data):
        (tmp_path / "settings.json").write_bytes(data)
        prepare_folder(tmp_path, settings)

    def read_about(data):
        (tmp_path / "about.json").write_bytes(data)
        FeatureStore.open(tmp_path.parent, tmp_path.name)

    fuzz("settings.json", mutant_of(json.dumps(settings).encode(), True), read_settings)
    fuzz("about.json", mutant_of(json.dumps(about).encode(), True), read_about)


@pytest.mark.parametrize("name", ["toy", "smolvlm2-2.2b-24gb"])
@pytest.mark.filterwarnings("ignore:.*is no setting any more")
def test_a_config(tmp_path, name):
    data = (CONFIGS / f"{name}.yaml").read_bytes()

    def mutant(random):
        if random.random() < 0.5:
            return yaml.safe_dump(mutated_json(yaml.safe_load(data), random)).encode()
        return mutated_bytes(data, random)

    def read(made):
        (tmp_path / "config.yaml").write_bytes(made)
        load_config(tmp_path / "config.yaml")

    fuzz(name, mutant, read)


def test_a_setting_on_the_command_line():
    def mutant(random):
        value = mutated_bytes(b"{a: [1, 2], b: 2001-01-01, c: 0x1f, d: 'x', e: !!int 3}", random)
        key = random.choice(["name", "data", "data.mix", "train.epochs", "model.lora", "runs", "x.y"])
        return f"{key}={value.decode(errors='surrogateescape')}"

    fuzz("--set", mutant, lambda override: load_config(CONFIGS / "toy.yaml", [override]))


@pytest.mark.parametrize("suffix", [".txt", ".json", ".yaml"])
def test_a_list_of_steps(tmp_path, suffix):
    path = tmp_path / f"steps{suffix}"
    steps = [{"id": "S1", "name": "Take it"}, {"id": "S2", "name": "Put it down"}]
    data = b"S1: Take it\nS2: Put it down\n" if suffix == ".txt" else json.dumps(steps).encode()

    def read(made):
        path.write_bytes(made)
        task_of_steps(path)

    fuzz(f"steps{suffix}", mutant_of(data, suffix == ".json"), read)
