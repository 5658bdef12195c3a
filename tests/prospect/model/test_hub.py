"""Hub ids: one snapshot for everything, named by its revision; and what is said where the hub gives none."""

import json
import shutil
import threading

import pytest
from huggingface_hub import HfApi, constants

from pipeline.errors import ProspectError
from prospect.model import hub as hub_module
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.hub import checkpoint_folder, checkpoint_name
from prospect.model.lora import ADAPTER_CONFIG, base_of
from tests.helpers.hub import Hub, put_in_cache

OLD, NEW = "a" * 40, "b" * 40
ID = "Some/Model"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub; nobody is asked."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


@pytest.fixture
def online(cache, monkeypatch, checkpoints, tmp_path):
    """A hub that has Some/Model, and files of it that nobody needs."""
    folder = shutil.copytree(checkpoints["toy"], tmp_path / "published")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.json").write_text("{}")
    (folder / "pickle.bin").write_bytes(b"x")
    server = Hub({ID: (NEW, folder)})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield server
    server.stop()


def test_a_hub_id_is_the_folder_of_the_revision_that_main_is(cache, checkpoints):
    put_in_cache(cache, ID, OLD, checkpoints["toy"])
    new = put_in_cache(cache, ID, NEW, checkpoints["toy"])
    assert checkpoint_folder(ID) == str(new) and checkpoint_name(new) == f"{ID}@{NEW}"
    put_in_cache(cache, ID, "c" * 40, checkpoints["toy"], branch="tuned")
    assert checkpoint_name(checkpoint_folder(f"{ID}@tuned")) == f"{ID}@{'c' * 40}"
    assert checkpoint_name(checkpoint_folder(f"{ID}@{OLD}")) == f"{ID}@{OLD}"


def test_a_folder_is_itself(checkpoints, monkeypatch):
    monkeypatch.chdir(checkpoints["toy"].parent)
    assert checkpoint_folder("toy") == checkpoint_name("toy") == "toy"
    assert checkpoint_folder(str(checkpoints["toy"])) == checkpoint_name(checkpoints["toy"])


def test_what_is_no_folder_and_no_hub_id_is_named(cache, tmp_path):
    for place in ("nowhere", "a/b/c", f"{tmp_path}/x", "./x"):
        with pytest.raises(ProspectError, match=f"^{place}: found no such folder, expected a checkpoint's folder"):
            checkpoint_folder(place)


def test_offline_the_answer_comes_at_once_and_names_the_fix(cache, monkeypatch):
    monkeypatch.setattr(HfApi, "repo_info", None)  # which the download would ask
    with pytest.raises(
        ProspectError,
        match=rf"^Some/Model: not whole in the hub's cache \({cache}\), and the hub does not give it \(.*offline mode is "
        r"enabled.*\); download it where there is a network \(hf download Some/Model\), and pass the copied folder",
    ):
        checkpoint_folder(ID)


def test_a_hub_that_refuses_is_asked_once(cache, monkeypatch, checkpoints):
    asked = []

    def refuses(api, hub_id, revision, timeout):
        asked.append(hub_id)
        raise ConnectionError("Connection refused")

    monkeypatch.setattr(HfApi, "model_info", refuses)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(ProspectError, match=r"the hub does not give it \(Connection refused\)"):
        checkpoint_folder(ID)
    assert asked == [ID]
    snapshot = put_in_cache(cache, ID, OLD, checkpoints["toy"])
    assert checkpoint_folder(ID) == str(snapshot) and asked == [ID, ID], "what is here does without it"
    assert checkpoint_folder(f"{ID}@{OLD}") == str(snapshot) and asked == [ID, ID], "a commit asks nobody"


def test_a_hub_that_never_answers_costs_seconds(cache, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(HfApi, "model_info", lambda api, hub_id, revision, timeout: release.wait(60))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_module, "PATIENCE_S", 0.05)
    with pytest.raises(ProspectError, match=r"the hub does not give it \(no answer in 0\.1 s\)"):
        checkpoint_folder(ID)
    release.set()


def test_a_snapshot_that_is_not_whole_is_named_by_its_revision(cache, checkpoints):
    snapshot = put_in_cache(cache, ID, OLD, checkpoints["toy"])
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ProspectError, match=f"^{ID}@{OLD}: found .*, expected model.safetensors or"):
        checkpoint_folder(ID)
    assert checkpoint_folder(ID, weights=False) == str(snapshot)


def test_the_hubs_newest_revision_is_downloaded_without_what_nobody_needs(online, cache, checkpoints):
    put_in_cache(cache, ID, OLD, checkpoints["toy"])
    small = checkpoint_folder(ID, weights=False)
    assert checkpoint_name(small) == f"{ID}@{NEW}"
    names = {path.name for path in cache.rglob(f"snapshots/{NEW}/*")}
    assert names == {p.name for p in checkpoints["toy"].iterdir()} - {"model.safetensors"}
    model = DSTSmolVLM.from_checkpoint(ID)
    assert model.config.name_or_path == small and {path.name for path in cache.rglob(f"snapshots/{NEW}/*")} == names | {
        "model.safetensors"
    }


def test_what_was_downloaded_serves_when_the_hub_is_gone(online, monkeypatch):
    there = checkpoint_folder(ID)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert checkpoint_folder(ID) == there


def test_a_name_that_the_hub_does_not_know_is_named(online):
    with pytest.raises(ProspectError, match=r"^No/Body: found no such folder here, and no such model on the hub"):
        checkpoint_folder("No/Body")


@pytest.mark.parametrize(
    ("record", "base"),
    [
        ({"base_model_name_or_path": ID}, ID),
        ({"base_model_name_or_path": ID, "revision": OLD}, f"{ID}@{OLD}"),
        ({"base_model_name_or_path": ID, "revision": None}, ID),
        ({"base_model_name_or_path": f"/else/where/models--Some--Model/snapshots/{OLD}"}, f"{ID}@{OLD}"),
    ],
)
def test_an_adapters_base_is_of_the_revision_that_it_was(tmp_path, record, base):
    lora = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}
    (tmp_path / ADAPTER_CONFIG).write_text(json.dumps(lora | record))
    assert base_of(tmp_path) == base
