"""Decisions by tokens: the LM head's logits of three tokens, nothing of our own; everything else as with heads."""

import copy
import json
import math
import shutil

import pytest
import torch
from transformers import SmolVLMForConditionalGeneration

from pipeline.errors import ProspectError
from prospect.config import LoraSettings
from prospect.losses import TERMS, count_targets, losses_from
from prospect.model.assemble import assemble
from prospect.model.decisions import binary_logits
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.export import export
from prospect.model.lora import add_lora
from tests.helpers.models import BY_TOKENS, load, make_batch, random_frames, row_of
from tests.helpers.parts import LLAMA_TOKENIZER, save_text, save_tower

SMALL = LoraSettings(rank=2, alpha=4, targets=("q_proj", "down_proj"))


@pytest.fixture(scope="module")
def by_tokens(checkpoints):
    return load(checkpoints["toy"], settings=BY_TOKENS)


def test_two_decisions_of_three_tokens_by_hand():
    """Probabilities 2/8, 1/8, 5/8: an update against the rest has odds of 2 to 6, speech of 1 to 7."""
    logits = torch.tensor([[2.0, 1.0, 5.0]]).log()
    p = binary_logits(logits + 3.0).softmax(-1)  # (1, 2, 2)
    torch.testing.assert_close(p, torch.tensor([[[6 / 8, 2 / 8], [7 / 8, 1 / 8]]]))


def test_two_tokens_are_a_model_without_updates_and_teach_it_nothing_of_them():
    logits = torch.tensor([[1.0, 3.0]]).log().requires_grad_()  # speech, silence
    found = binary_logits(logits)
    p = found.softmax(-1)
    torch.testing.assert_close(p, torch.tensor([[[1.0, 0.0], [3 / 4, 1 / 4]]]))
    torch.nn.functional.cross_entropy(found[:, 0], torch.tensor([0])).backward()
    assert logits.grad.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("name", ["toy", "grid-untied"])
def test_the_probabilities_are_softmax_over_the_lm_heads_three_logits(checkpoints, name):
    model = load(checkpoints[name], tokens_per_frame=1, settings=BY_TOKENS)
    batch = make_batch([70, 61])
    with torch.no_grad():
        found = model(**batch).decision_logits.softmax(-1)[..., 1]  # (N, 2)
        logits = model(input_ids=batch["input_ids"], frames=batch["frames"]).logits
    three = logits[batch["update_labels"] >= 0][:, list(model.decision_tokens)].softmax(-1)
    torch.testing.assert_close(found, three[:, :2], rtol=1e-5, atol=1e-6)
    assert (found.sum(1) < 1).all() and len(found) > 10


def test_its_weights_are_a_plain_smolvlms_and_it_remembers_how_it_decides(by_tokens, tmp_path):
    by_tokens.save_pretrained(tmp_path)
    _, found = SmolVLMForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert json.loads((tmp_path / "config.json").read_text())["prospect"]["decision_tokens"] == [
        *BY_TOKENS["decision_tokens"]
    ]


def saved(model, checkpoint, folder):
    """A checkpoint of `model`, with the tokenizer and image processor of `checkpoint`."""
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    model.save_pretrained(folder)
    return folder


def test_a_checkpoint_decides_as_it_was_trained_or_not_at_all(by_tokens, toy, checkpoints, tmp_path):
    batch = make_batch([40, 30])
    tokens = saved(by_tokens, checkpoints["toy"], tmp_path / "tokens")
    with torch.no_grad():
        assert torch.equal(load(tokens)(**batch).sums, by_tokens(**batch).sums)
    with pytest.raises(
        ProspectError, match=r"found heads, but .*tokens was trained to decide by tokens; set model.deci"
    ):
        load(tokens, settings={"decision_tokens": None})
    heads = saved(toy, checkpoints["toy"], tmp_path / "heads")
    with pytest.raises(
        ProspectError, match=r"found tokens, but .*heads was trained to decide by heads; set model.decid"
    ):
        load(heads, settings=BY_TOKENS)


@pytest.mark.parametrize("damaged", [[1], [1, 2, 3, 4], [1, 2, 384], [-1, 2, 3], "12", {"a": 1}])
def test_damaged_tokens_are_one_error(by_tokens, checkpoints, tmp_path, damaged):
    folder = saved(by_tokens, checkpoints["toy"], tmp_path / "damaged")
    record = json.loads((folder / "config.json").read_text())
    record["prospect"]["decision_tokens"] = damaged
    (folder / "config.json").write_text(json.dumps(record))
    with pytest.raises(ProspectError, match=r"config\.json: prospect.*decision_tokens"):
        load(folder)


@pytest.mark.parametrize("binary", ["balanced", "plain", "focal"])
def test_micro_batches_learn_what_the_big_batch_learns(by_tokens, binary):
    model, batch = copy.deepcopy(by_tokens).train(), make_batch([34, 60, 21, 80])
    counts = count_targets(batch["target_kind"], batch["update_labels"], batch["speak_labels"])
    focusing = 2.0 if binary == "focal" else 0.0

    def gradient(batches):
        model.zero_grad()
        for one in batches:
            losses = losses_from(model(**one, focusing=focusing).sums, counts, binary)
            (losses["dst_binary_loss"] + losses["speak_binary_loss"]).backward()
        return model.lm_head.weight.grad.clone()

    whole = gradient([batch])
    assert whole[list(model.decision_tokens)].norm() > 0
    torch.testing.assert_close(gradient([row_of(batch, row) for row in range(4)]), whole, rtol=1e-4, atol=1e-6)


def test_the_focal_sums_of_a_forward_are_below_the_others(by_tokens):
    batch = make_batch([60, 50])
    with torch.no_grad():
        plain, focal = by_tokens(**batch).sums, by_tokens(**batch, focusing=2.0).sums
    assert torch.equal(plain[:2], focal[:2]) and (focal[2:] > 0).all() and (focal[2:] < plain[2:]).all()
    assert len(TERMS) == len(focal)


def test_adapters_are_all_that_is_trained_beside_the_connector(checkpoints, tmp_path):
    shutil.copytree(checkpoints["toy"], tmp_path / "run" / "init")
    model = load(tmp_path / "run" / "init", settings=BY_TOKENS)
    alone = [n for n, p in add_lora(copy.deepcopy(model), SMALL, True).named_parameters() if p.requires_grad]
    assert alone and all("lora_" in name for name in alone)
    adapted = add_lora(model, SMALL, freeze_connector=False)
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=0.05)
    adapted.train()(**make_batch([40, 30])).sums.sum().backward()
    optimizer.step()
    folder = tmp_path / "run" / "checkpoints" / "checkpoint-1"
    adapted.eval().save_pretrained(folder)
    by_tokens_config = adapted.get_base_model().config
    by_tokens_config.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(checkpoints["toy"] / name, folder / name)
    batch = make_batch([50], seed=3)
    assert export(folder, tmp_path / "adapter", merge=False).startswith("adapter; its base is ")
    assert export(folder, tmp_path / "merged", merge=True) == "SmolVLM weights"
    with torch.no_grad():
        expected = adapted(**batch).decision_logits
        for place in (folder, tmp_path / "adapter", tmp_path / "merged"):
            found = load(place)
            assert type(found) is DSTSmolVLM and found.heads == []
            torch.testing.assert_close(found(**batch).decision_logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3"])  # untied, tied
def test_a_new_token_that_decides_is_trained_by_deciding(tmp_path, family):
    """LoRA trains new rows apart from the table, where a look at the table misses them."""
    text = save_text(tmp_path / "text", family, LLAMA_TOKENIZER, rows=len(LLAMA_TOKENIZER))
    assemble(str(text), str(save_tower(tmp_path / "tower")), None, tmp_path / "base", seed=0)
    new = load(tmp_path / "base").prospect_settings.new_tokens
    base = load(tmp_path / "base", tokens_per_frame=1, settings={"decision_tokens": (5, 6, new[1])})
    model = add_lora(base, LoraSettings(rank=2, alpha=4), freeze_connector=True)
    rows = [p for name, p in model.named_parameters() if "trainable_tokens" in name and p.requires_grad]
    with torch.no_grad():
        for row in rows:
            row.add_(torch.randn_like(row))
    hidden = torch.randn(3, base.config.text_config.hidden_size)
    decided = base._decision_logits(hidden)
    expected = binary_logits(base.lm_head(hidden)[:, [5, 6, new[1]]])
    torch.testing.assert_close(decided, expected)
    decided.square().sum().backward()
    assert rows[-1].grad is not None and rows[-1].grad[1].any() and not rows[-1].grad[0].any()


def test_a_bf16_base_decides_in_float32(checkpoints):
    model = load(checkpoints["toy"], dtype="bfloat16", settings=BY_TOKENS)
    batch = make_batch([40, 30])
    with torch.no_grad():
        plain = model(**batch)
        with torch.autocast("cpu", torch.bfloat16):
            automatic = model(**batch)
        hidden = model.extend(torch.tensor([[1, 10, 4]]), random_frames(1), model.new_cache())
        p_update, p_speak = model.decide(hidden[0, -1])
    assert plain.decision_logits.dtype == automatic.decision_logits.dtype == torch.float32
    torch.testing.assert_close(plain.sums, automatic.sums, rtol=0.05, atol=0.05)
    assert 0 < p_update < 1 and 0 < p_speak < 1 and math.isfinite(p_update)
