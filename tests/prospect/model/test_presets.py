import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoTokenizer, SmolVLMForConditionalGeneration

from pipeline.errors import ProspectError
from prospect.model.checkpoint import load_image_processor
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import PRESETS, SPECIAL_TOKENS, make_checkpoint, toy_tokenizer

WORDS = 40  # drawn at random for a lookup
TEXTS = [f"Now pick up the {c} {s} and put it down." for c in ("red", "green") for s in ("circle", "square")] * 5
TOKENIZER = toy_tokenizer(TEXTS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint("toy", tmp_path_factory.mktemp("presets") / "toy", TEXTS, seed=3)


@given(st.text())
def test_tokenizer_round_trips_any_text(text) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert TOKENIZER.decode(ids) == text
    assert max(ids, default=0) < 384


def test_tokenizer_has_smolvlms_special_tokens_first() -> None:
    assert TOKENIZER.convert_ids_to_tokens(list(range(7))) == list(SPECIAL_TOKENS)
    special = {token.content for token in TOKENIZER.added_tokens_decoder.values() if token.special}
    assert special == set(SPECIAL_TOKENS)
    assert (TOKENIZER.bos_token, TOKENIZER.eos_token) == ("<|im_start|>", "<end_of_utterance>")
    assert (TOKENIZER.pad_token, TOKENIZER.unk_token) == ("<|im_end|>", "<|endoftext|>")


def test_digits_are_tokens_of_their_own() -> None:
    tokenizer = toy_tokenizer(["S12 2026"] * 50)
    assert [tokenizer.decode([i]) for i in tokenizer.encode("12")] == ["1", "2"]


def test_merges_shorten_what_the_texts_hold() -> None:
    assert len(TOKENIZER.encode(TEXTS[0])) < len(TEXTS[0]) / 3


def test_same_texts_give_the_same_tokenizer() -> None:
    assert TOKENIZER.backend_tokenizer.to_str() == toy_tokenizer(iter(TEXTS)).backend_tokenizer.to_str()


def test_checkpoint_loads_with_transformers_own_classes(checkpoint) -> None:
    model = SmolVLMForConditionalGeneration.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert sum(p.numel() for p in model.parameters()) == 789_952
    assert model.model.image_seq_len == 1
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.config.image_token_id == tokenizer.convert_tokens_to_ids("<image>")
    text = model.config.text_config
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert (text.bos_token_id, text.eos_token_id, text.pad_token_id) == ids == (1, 3, 2)
    assert tokenizer("Hello <image>").input_ids == TOKENIZER("Hello <image>").input_ids
    assert model.get_input_embeddings().weight.std().item() == pytest.approx(0.05, rel=0.05)
    assert model.model.vision_model.encoder.layers[0].mlp.fc1.weight.std().item() == pytest.approx(0.05, rel=0.05)


def test_image_processor_makes_one_square_image_without_tiles(checkpoint) -> None:
    processor = load_image_processor(checkpoint)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    values = processor([Image.fromarray(pixels)], return_tensors="pt").pixel_values
    assert values.shape == (1, 1, 3, 64, 64)
    torch.testing.assert_close(values[0, 0], (torch.tensor(pixels).permute(2, 0, 1) / 255 - 0.5) / 0.5)
    saved = json.loads((checkpoint / "preprocessor_config.json").read_text())
    assert saved["image_processor_type"] == "SmolVLMImageProcessor" and saved["resample"] == Image.Resampling.LANCZOS
    assert saved["do_image_splitting"] is False and saved["rescale_factor"] == 1 / 255


def test_same_seed_same_bytes_and_the_global_random_state_is_kept(checkpoint, tmp_path) -> None:
    state = torch.random.get_rng_state()
    again = make_checkpoint("toy", tmp_path / "again", TEXTS, seed=3)
    other = make_checkpoint("toy", tmp_path / "other", TEXTS, seed=4)
    assert torch.equal(state, torch.random.get_rng_state())
    names = sorted(path.name for path in checkpoint.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all((checkpoint / name).read_bytes() == (again / name).read_bytes() for name in names)
    assert (other / "model.safetensors").read_bytes() != (again / "model.safetensors").read_bytes()


def test_a_failure_leaves_no_checkpoint(tmp_path, monkeypatch) -> None:
    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("prospect.model.presets.image_processor", fail)
        with pytest.raises(ProspectError, match="disk full"):
            make_checkpoint("toy", tmp_path / "toy", TEXTS, seed=0)
    assert not (tmp_path / "toy").exists()
    make_checkpoint("toy", tmp_path / "toy", TEXTS, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_errors_say_what_is_expected(tmp_path) -> None:
    with pytest.raises(ProspectError, match="preset 'tiny': expected one of toy"):
        make_checkpoint("tiny", tmp_path / "x", TEXTS, seed=0)
    with pytest.raises(ProspectError, match="is there already, expected a new folder"):
        make_checkpoint("toy", tmp_path, TEXTS, seed=0)


@pytest.mark.parametrize(
    ("size", "millions", "native"),
    [("smolvlm2-256m", 256.5, 64), ("smolvlm2-500m", 507.5, 64), ("smolvlm2-2.2b", 2246.8, 81)],
)
def test_published_sizes_have_the_published_parameters_and_tokens(size, millions, native):
    """As the hub counts them; on no device, so that nothing is allocated. The two heads are ours."""
    config = PRESETS[size](toy_tokenizer(TEXTS))
    with torch.device("meta"):
        model = DSTSmolVLM(config)
        frames = torch.empty(2, 3, *[config.vision_config.image_size] * 2, dtype=torch.uint8)
        with torch.no_grad():
            assert model.encode_frames(frames).shape == (2, native, config.text_config.hidden_size)
    heads = sum(p.numel() for head in (model.should_update_dst, model.when_to_speak) for p in head.parameters())
    assert sum(p.numel() for p in model.parameters()) - heads == pytest.approx(millions * 1e6, rel=1e-4)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("I/O error"), KeyboardInterrupt()]
)
def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, error):
    """attack.md 15: a full disk at a run's random weights, or at an export."""

    def full(model, folder):
        (folder / "model.safetensors").write_text("cut")
        raise error

    monkeypatch.setattr(SmolVLMForConditionalGeneration, "save_pretrained", full)
    with pytest.raises((ProspectError, KeyboardInterrupt)) as told:
        make_checkpoint("toy", tmp_path / "out", TEXTS, seed=0)
    assert isinstance(error, KeyboardInterrupt) or str(told.value).startswith(f"{tmp_path}/out: cannot be written (")
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_no_folder_can_be_is_told_by_name(tmp_path):
    (tmp_path / "file").write_text("")
    match = r"file/out: cannot be written \(.*Not a directory.*\); free some space or choose another folder, then"
    with pytest.raises(ProspectError, match=match):
        make_checkpoint("toy", tmp_path / "file" / "out", TEXTS, seed=0)


@pytest.fixture(scope="module", params=range(3))
def begun(request, tmp_path_factory):
    folder = make_checkpoint("toy-hard", tmp_path_factory.mktemp("begun") / "drawn", TEXTS, seed=request.param)
    return SmolVLMForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")


def attention_at_the_end(model, ids):
    """Give what each head of the layers looks at from the last token (layers, heads, tokens)."""
    with torch.no_grad():
        told = model(input_ids=torch.tensor([ids]), output_attentions=True).attentions
    return torch.stack([layer[0, :, -1] for layer in told])


def random_words(rng):
    return [int(word) for word in 7 + rng.permutation(256)[:WORDS]]


def test_at_the_start_the_first_layers_heads_look_as_far_back_as_they_are_to(begun):
    rng = np.random.default_rng(0)
    for _ in range(20):
        first = attention_at_the_end(begun, random_words(rng))[0]
        assert [WORDS - 1 - int(head.argmax()) for head in first] == [3, 4, 11, 4]
        assert first.amax(1).min() > 0.75


@pytest.mark.parametrize(("head", "back"), [(0, 3), (2, 11)])
def test_at_the_start_a_head_of_the_second_finds_the_word_it_looks_for_among_many(begun, head, back):
    """The word `back` tokens back is at one of four places before: which of them? A guess is right once in four."""
    rng, right = np.random.default_rng(1), 0
    for _ in range(200):
        ids, places = random_words(rng), [6, 13, 20, 27]
        wanted = places[rng.integers(4)]
        ids[-1 - back] = ids[wanted]
        right += places[int(attention_at_the_end(begun, ids)[1, head, places].argmax())] == wanted
    assert right > 180
