"""Checkpoints made of parts: what is kept to the bit, what is new, and what every reader of them finds."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, SiglipVisionModel

from pipeline.errors import ProspectError
from prospect.layout import Tokens
from prospect.model.assemble import assemble
from prospect.model.parts import read_text
from prospect.model.presets import make_checkpoint
from tests.helpers.models import TEXTS, as_pixels, load, random_frames
from tests.helpers.parts import FAMILIES, LLAMA_TOKENIZER, own_tokenizer, save_text, save_tower

QWEN_TOKENIZER = own_tokenizer("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="module")
def tower(tmp_path_factory) -> Path:
    return save_tower(tmp_path_factory.mktemp("parts") / "siglip")


def rows_of(folder: Path) -> tuple[torch.Tensor, torch.Tensor | None]:
    weights = load_file(folder / "model.safetensors")
    return weights["model.text_model.embed_tokens.weight"], weights.get("lm_head.weight")


@pytest.mark.parametrize("family", FAMILIES)
def test_text_alone_has_the_logits_of_the_language_model_and_frames_the_states_of_the_tower(tmp_path, tower, family):
    text = save_text(tmp_path / "text", family, LLAMA_TOKENIZER, rows=len(LLAMA_TOKENIZER))
    assemble(str(text), str(tower), None, tmp_path / "out", seed=0)
    plain, ours = AutoModelForCausalLM.from_pretrained(text).eval(), load(tmp_path / "out")
    ids = torch.randint(0, len(LLAMA_TOKENIZER), (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = plain(input_ids=ids).logits, ours(input_ids=ids).logits
    assert ours.config.text_config.model_type == family.partition("-")[0] and expected.std() > 0.1
    torch.testing.assert_close(found[..., : len(LLAMA_TOKENIZER)], expected, rtol=1e-5, atol=1e-5)

    siglip = SiglipVisionModel.from_pretrained(tower).eval()
    frames = random_frames(3)
    with torch.no_grad():
        states = siglip(as_pixels(frames)).last_hidden_state
        connector = ours.model.connector
        features = connector.modality_projection(connector.pixel_shuffle(states, connector.scale_factor))
        torch.testing.assert_close(ours.encode_frames(frames), features, rtol=1e-5, atol=1e-5)
    assert features.shape == (3, 64, 64)  # 8 x 8 patches are fewer than 81, hence tokens as they are


@pytest.mark.parametrize("family", ["llama", "qwen3"])  # untied, tied
def test_new_tokens_get_the_mean_of_the_known_rows_and_the_known_stay_to_the_bit(tmp_path, tower, family):
    text = save_text(tmp_path / "text", family, LLAMA_TOKENIZER, rows=len(LLAMA_TOKENIZER))
    assemble(str(text), str(tower), None, tmp_path / "out", seed=0)
    known = len(LLAMA_TOKENIZER)
    weights = load_file(text / "model.safetensors")
    embeddings, head = rows_of(tmp_path / "out")
    assert len(embeddings) % 128 == 0 and len(embeddings) - known - 7 < 128
    for name, found in (("model.embed_tokens.weight", embeddings), ("lm_head.weight", head)):
        if found is None:
            assert family == "qwen3"
            continue
        assert torch.equal(found[:known], weights[name])
        torch.testing.assert_close(found[known:], weights[name].mean(0).expand(len(found) - known, -1))


def test_every_id_stands_in_both_configs_and_tokens_that_were_there_keep_theirs(tmp_path, tower):
    known = len(QWEN_TOKENIZER)
    text = save_text(tmp_path / "text", "qwen3", QWEN_TOKENIZER, rows=512)
    assemble(str(text), str(tower), None, tmp_path / "out", seed=7)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    ids = {"bos_token_id": 1, "eos_token_id": known, "pad_token_id": 2}  # <|im_start|>, <end_of_utterance>, <|im_end|>
    for record, names in ((config, ["bos_token_id", "eos_token_id"]), (config["text_config"], ids)):
        assert all(record[name] == ids[name] for name in names) and record["tie_word_embeddings"] is True
    assert config["image_token_id"] == known + 1 and config["text_config"]["vocab_size"] == 512
    assert config["prospect"]["new_tokens"] == [known, known + 1, known + 2, known + 3]
    assert config["prospect"]["parts"] == {"text": str(text), "vision": str(tower), "seed": 7}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.pad_token_id == 2 and tokenizer.convert_tokens_to_ids("<image>") == known + 1
    assert Tokens(tokenizer, 4).encode("put <image> 12 down") == QWEN_TOKENIZER.encode("put <image> 12 down")
    embeddings, _ = rows_of(tmp_path / "out")  # spare rows of the language model were never trained
    torch.testing.assert_close(embeddings[known:], embeddings[:known].mean(0).expand(512 - known, -1))


def test_a_frames_tokens_are_of_the_size_of_a_words_embedding(tmp_path, tower):
    text = save_text(tmp_path / "text", "llama", initializer_range=0.01)
    assemble(str(text), str(tower), None, tmp_path / "out", seed=0, scale_factor=4)
    model = load(tmp_path / "out")
    words = model.get_input_embeddings().weight.square().mean().sqrt()
    with torch.no_grad():
        features = model.encode_frames(random_frames(8))
    assert features.shape == (8, 4, 64) and 0.5 < features.square().mean().sqrt() / words < 2


def test_the_same_parts_and_seed_give_the_same_bytes_and_leave_the_random_state(tmp_path, tower):
    text = save_text(tmp_path / "text", "llama")
    state = torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assemble(str(text), "none", "toy", tmp_path / name, seed)
    assert torch.equal(torch.get_rng_state(), state)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("image", "patch", "tokens"),
    [(384, 14, 81), (512, 16, 64), (224, 14, 64), (384, 16, 64), (224, 16, 49)],  # SigLIP's published sizes
)
def test_a_frame_has_by_default_as_many_tokens_as_can_be_up_to_81(tmp_path, image, patch, tokens):
    text = save_text(tmp_path / "text", "llama")
    tower = save_tower(tmp_path / "tower", alone=True, image_size=image, patch_size=patch, num_hidden_layers=1)
    assemble(str(text), str(tower), None, tmp_path / "out", seed=0)
    assert load(tmp_path / "out").prospect_settings.tokens_per_frame == tokens


def test_a_fresh_tower_has_the_presets_sizes_and_a_smolvlms_own_tower_is_taken_as_it_is(tmp_path):
    text = save_text(tmp_path / "text", "qwen2")
    assert "toy, fresh" in assemble(str(text), "none", "toy", tmp_path / "fresh", seed=0)
    model = load(tmp_path / "fresh")
    assert (model.config.vision_config.hidden_size, model.config.scale_factor) == (64, 4)
    toy = load(make_checkpoint("toy", tmp_path / "toy", TEXTS, seed=3))
    assemble(str(text), str(tmp_path / "toy"), None, tmp_path / "out", seed=0)
    found, expected = load(tmp_path / "out").model.vision_model, toy.model.vision_model
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


def test_what_was_a_gguf_file_does_not_say_that_it_is_quantised_which_no_trainer_takes(tmp_path, tower, monkeypatch):
    def of_a_gguf_file(place):
        words = read_text(place)
        words.model.config.quantization_config = {"quant_method": "gguf"}
        return words

    text = save_text(tmp_path / "text", "llama", LLAMA_TOKENIZER, rows=len(LLAMA_TOKENIZER))
    monkeypatch.setattr("prospect.model.assemble.read_text", of_a_gguf_file)
    assemble(str(text), str(tower), None, tmp_path / "out", seed=0)
    assert (
        not {"quantization_config", "_name_or_path"}
        & json.loads((tmp_path / "out" / "config.json").read_text())["text_config"].keys()
    )
    assert not getattr(load(tmp_path / "out"), "is_quantized", False)


def test_normalisation_and_size_are_the_towers(tmp_path):
    text, tower = save_text(tmp_path / "text", "llama"), save_tower(tmp_path / "tower", alone=True)
    record = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tower / "preprocessor_config.json").write_text(json.dumps(record))
    assemble(str(text), str(tower), None, tmp_path / "out", seed=0)
    processor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert processor["image_mean"] == record["image_mean"] and processor["size"] == {"longest_edge": 64}
    assert load(tmp_path / "out").prospect_settings.image_std == (0.4, 0.5, 0.6)


def test_half_precision_is_kept(tmp_path, tower):
    text = save_text(tmp_path / "text", "qwen3")
    AutoModelForCausalLM.from_pretrained(text, dtype=torch.bfloat16).save_pretrained(text)
    assemble(str(text), str(tower), None, tmp_path / "out", seed=0)
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("vision", "preset", "scale", "message"),
    [
        (
            "none",
            None,
            None,
            r"--preset gives the sizes of a fresh vision tower: expected with --vision none.*no --pre",
        ),
        ("TOWER", "toy", None, r"and not with a tower of its own sizes; found --vision .*--preset toy"),
        ("none", "tyo", None, r"--preset tyo: expected one of toy, toy-hard, smolvlm2-256m, "),
        ("TOWER", None, 3, r"--scale-factor 3: .*siglip has 8 x 8 patches, expected one of 1, 2, 4, 8, which divide 8"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(tmp_path, tower, vision, preset, scale, message):
    text = save_text(tmp_path / "text", "llama")
    with pytest.raises(ProspectError, match=message):
        assemble(str(text), str(tower) if vision == "TOWER" else vision, preset, tmp_path / "out", 0, scale)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text"]


def test_a_checkpoint_is_whole_or_absent_and_never_written_over(tmp_path, tower, monkeypatch):
    text, out = save_text(tmp_path / "text", "llama"), tmp_path / "out"
    out.mkdir()
    with pytest.raises(ProspectError, match=r"out: is there already, expected a new folder"):
        assemble(str(text), str(tower), None, out, seed=0)
    out.rmdir()

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prospect.model.assemble.image_processor", full)
    with pytest.raises(ProspectError, match=r"out: cannot be written \(.*No space left.*free some space"):
        assemble(str(text), str(tower), None, out, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text"]


def test_the_mean_row_is_as_likely_as_the_geometric_mean_of_all(tmp_path, tower):
    """Logits of a mean row are the mean of the logits: no new token is likelier than the known ones are by and large."""
    text = save_text(tmp_path / "text", "llama", LLAMA_TOKENIZER, rows=len(LLAMA_TOKENIZER))
    assemble(str(text), str(tower), None, tmp_path / "out", seed=0)
    with torch.no_grad():
        logits = load(tmp_path / "out")(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1]
    known = len(LLAMA_TOKENIZER)
    assert math.isclose(logits[known], logits[:known].mean(), abs_tol=1e-4)
