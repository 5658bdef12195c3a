import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, SmolVLMForConditionalGeneration

from pipeline.errors import ProspectError
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import make_checkpoint, toy_config
from tests.helpers.models import TEXTS, TOKENIZER, as_pixels, load, make_batch, random_frames


def test_heads_are_drawn_small_and_alike_under_a_seed(checkpoints, toy) -> None:
    again = load(checkpoints["toy"])
    assert torch.equal(toy.should_update_dst.weight, again.should_update_dst.weight)
    for model in (toy, DSTSmolVLM(copy.deepcopy(toy.config))):
        for head in (model.should_update_dst, model.when_to_speak):
            assert not head.bias.any()
            assert head.weight.std().item() == pytest.approx(0.05, rel=0.25)  # the text model's initializer_range
    assert not torch.equal(toy.should_update_dst.weight, toy.when_to_speak.weight)


@pytest.mark.parametrize("name", ["grid", "grid-untied"])
def test_saved_checkpoint_loads_in_both_classes(checkpoints, name, tmp_path) -> None:
    model = load(checkpoints[name], tokens_per_frame=4, vision_chunk=7, settings={"packing": "clip"})
    with torch.no_grad():
        model.should_update_dst.bias.fill_(3.0)
    model.save_pretrained(tmp_path)
    shutil.copy(checkpoints[name] / "preprocessor_config.json", tmp_path)
    again = load(tmp_path)
    settings = again.prospect_settings
    assert (settings.tokens_per_frame, settings.vision_chunk, settings.extra) == (4, 64, {"packing": "clip"})
    batch = make_batch([40], 4)
    with torch.no_grad():
        expected, found = model(**batch), again(**batch)
    assert torch.equal(found.sums, expected.sums) and torch.equal(found.decision_logits, expected.decision_logits)
    assert DSTSmolVLM.from_pretrained(tmp_path).prospect_settings.vision_chunk == 7
    plain = SmolVLMForConditionalGeneration.from_pretrained(tmp_path)
    original = SmolVLMForConditionalGeneration.from_pretrained(checkpoints[name])
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), original.parameters(), strict=True))
    assert load(tmp_path, tokens_per_frame="native").prospect_settings.tokens_per_frame == 16


def test_sharded_weights_load(checkpoints, tmp_path, toy) -> None:
    shutil.copytree(checkpoints["toy"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    SmolVLMForConditionalGeneration.from_pretrained(checkpoints["toy"]).save_pretrained(tmp_path, max_shard_size="1MB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert all(torch.equal(a, b) for a, b in zip(load(tmp_path).parameters(), toy.parameters(), strict=True))


def broken(checkpoints, tmp_path, break_it) -> Path:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoints["grid"], folder)
    break_it(folder)
    return folder


def other_model_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))


def without_a_tensor(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.connector.modality_projection.proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda f: (f / "config.json").unlink(),
            "broken: found neither config.json nor checkpoints/, expected a checkpoint's folder or a run's; train one",
        ),
        (
            lambda f: (f / "model.safetensors").unlink(),
            "broken: found config.json, .*, expected model.safetensors or model.safetensors.index.json; give a whole",
        ),
        (other_model_type, "broken: found model_type 'llava', expected 'smolvlm'; give a SmolVLM2 checkpoint"),
        (without_a_tensor, r"its weights lack 1 of the model's tensors \(such as model.connector.modality_projection"),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"\x10"),
            r"broken: cannot be loaded \(.*\), expected a whole",
        ),
        (lambda f: (f / "config.json").write_text("{"), r"broken: cannot be loaded \(.*\), expected a whole"),
        (
            lambda f: (f / "preprocessor_config.json").unlink(),
            "broken: found config.json, .*, expected preprocessor_config.json or processor_config.json; give a whole",
        ),
        (shutil.rmtree, "broken: found no such folder, expected a checkpoint's folder, a run's, or a hub id"),
    ],
)
def test_a_broken_checkpoint_is_refused_in_one_line(checkpoints, tmp_path, break_it, message) -> None:
    with pytest.raises(ProspectError, match=message) as raised:
        load(broken(checkpoints, tmp_path, break_it))
    assert "\n" not in str(raised.value)


def changed(*names, to):
    """Sets a member of config.json."""

    def change(folder):
        path = folder / "config.json"
        record = json.loads(path.read_text())
        part = record
        for name in names[:-1]:
            part = part[name]
        part[names[-1]] = to
        path.write_text(json.dumps(record))

    return change


def poisoned(value):
    def poison(folder):
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        tensors["model.text_model.layers.0.mlp.up_proj.weight"][2, 3] = value
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return poison


NOT_FINITE = r"broken: model\.text_model\.layers\.0\.mlp\.up_proj\.weight: found weights that are not finite"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (poisoned(float("nan")), NOT_FINITE),
        (poisoned(float("inf")), NOT_FINITE),
        (poisoned(-float("inf")), NOT_FINITE),
        (changed("vision_config", to=None), r"broken: cannot be loaded \(AttributeError"),
        (changed("vision_config", to=[]), r"broken: cannot be loaded \("),
        (changed("text_config", to=3), r"broken: cannot be loaded \("),
        (
            changed("text_config", "num_hidden_layers", to=10**9),
            r"config\.json: text_config\.num_hidden_layers: found 1000000000,",
        ),
        (changed("scale_factor", to=0), r"broken: cannot be loaded \(ZeroDivisionError"),
        (changed("model_type", to={"a": "\x1b"}), r"broken: found model_type \{'a': '\\x1b'\}, expected 'smolvlm'"),
        (changed("prospect", to=[3]), r"config\.json: prospect: found \[3\], expected an object; copy or download"),
        (
            changed("prospect", to={"tokens_per_frame": 4.5}),
            r"prospect: tokens_per_frame: found 4\.5, expected a valid",
        ),
        (
            changed("prospect", to={"tokens_per_frame": 5}),
            r"tokens_per_frame: found 5, expected native or one of 1, 4, 9",
        ),
        (changed("prospect", to={"image_std": [0, 1, 1]}), r"prospect: image_std\.0: found 0, expected greater than 0"),
        (changed("prospect", to={"packing": "both"}), r"prospect: packing: found 'both', expected 'clip' or 'turn'"),
        (
            changed("prospect", to={"max_seq_len": "2048"}),
            r"prospect: max_seq_len: found '2048', expected a valid integ",
        ),
        (changed("prospect", to={"memory": 1}), r"prospect: memory: found 1, expected 'dst', 'summary' or 'none'"),
        (lambda f: (f / "preprocessor_config.json").write_text('{"image_mean": 3}'), r"broken: cannot be loaded \("),
        (
            lambda f: (f / "preprocessor_config.json").write_text('{"image_std": [NaN, 1, 1]}'),
            r"preprocessor_config\.json: prospect: image_std\.0: found nan, expected a finite number",
        ),
    ],
)
def test_a_checkpoint_of_other_types_or_without_numbers_is_refused_in_one_line(
    checkpoints, tmp_path, break_it, message
):
    """attack.md 10 and 15: weights that are nan were evaluated without a word."""
    with pytest.raises(ProspectError, match=message) as raised:
        load(broken(checkpoints, tmp_path, break_it))
    assert "\n" not in str(raised.value)


def test_decisions_that_are_no_numbers_are_told(toy):
    with pytest.raises(ProspectError, match="found probabilities nan and nan, expected numbers"):
        toy.decide(torch.full((128,), float("nan")))


@pytest.mark.parametrize("count", [0, 2, 25])
def test_impossible_tokens_per_frame_are_refused(checkpoints, count) -> None:
    with pytest.raises(ProspectError, match=f"found {count}, expected native or one of 1, 4, 9, 16: the squares up to"):
        load(checkpoints["grid"], tokens_per_frame=count)


def test_the_first_smolvlm_published_as_idefics3_loads_with_the_same_logits(tmp_path):
    ids = {"pad_token_id": TOKENIZER.pad_token_id, "image_token_id": TOKENIZER.convert_tokens_to_ids("<image>")}
    config = Idefics3Config(
        vision_config=toy_config(TOKENIZER).vision_config.to_dict() | {"model_type": "idefics3_vision"},
        text_config=toy_config(TOKENIZER).text_config.to_dict(),
        scale_factor=4,
        **ids,
    )
    torch.manual_seed(0)
    theirs = Idefics3ForConditionalGeneration(config).eval()
    theirs.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    make_checkpoint("toy", tmp_path / "toy", TEXTS, 0)
    shutil.copy(tmp_path / "toy" / "preprocessor_config.json", tmp_path)
    ours = load(tmp_path)
    frames, input_ids = random_frames(2), torch.tensor([[8, 4, 9, 4, 10]])
    with torch.no_grad():
        expected = theirs(input_ids=input_ids, pixel_values=as_pixels(frames)[None]).logits
        assert torch.equal(ours(input_ids=input_ids, pixel_values=as_pixels(frames)[None]).logits, expected)
