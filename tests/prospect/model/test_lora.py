import json
import shutil

import pytest
import torch
from transformers import SmolVLMForConditionalGeneration

from pipeline.errors import ProspectError
from prospect.config import LoraSettings
from prospect.model.assemble import assemble
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.export import export
from prospect.model.lora import add_lora
from tests.helpers.models import as_pixels, load, make_batch, random_frames
from tests.helpers.parts import LLAMA_TOKENIZER, save_text, save_tower

SMALL = LoraSettings(rank=2, alpha=4, targets=("q_proj", "down_proj"))


def trained_a_little(model, steps=2):
    """Some steps, so that the adapters are not zero and the heads are not the base's."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for seed in range(steps):
        model.train()(**make_batch([40, 30], seed=seed)).sums.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture
def adapter(checkpoints, tmp_path):
    """A LoRA model, and its checkpoint in a run's place beside the base it was made of."""
    shutil.copytree(checkpoints["toy"], tmp_path / "run" / "init")
    model = trained_a_little(add_lora(load(tmp_path / "run" / "init"), SMALL, freeze_connector=False))
    folder = tmp_path / "run" / "checkpoints" / "checkpoint-2"
    model.save_pretrained(folder)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(checkpoints["toy"] / name, folder / name)
    return model, folder


def test_fresh_adapters_change_nothing_and_only_they_and_the_heads_are_trained(checkpoints):
    batch = make_batch([40, 30])
    with torch.no_grad():
        expected = load(checkpoints["toy"])(**batch)
        model = add_lora(load(checkpoints["toy"]), SMALL, freeze_connector=True).eval()
        assert torch.equal(model(**batch).sums, expected.sums)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sum("lora_" in name for name in trained) == 2 * 2 * 3, "two matrices, two targets, three text layers"
    assert all("text_model" in name for name in trained if "lora_" in name)
    assert {name.split(".")[2] for name in trained if "lora_" not in name} == {"should_update_dst", "when_to_speak"}
    with_connector = add_lora(load(checkpoints["toy"]), SMALL, freeze_connector=False)
    assert any("modality_projection" in n for n, p in with_connector.named_parameters() if p.requires_grad)


def test_what_is_trained_on_a_bf16_base_is_float32(checkpoints):
    model = add_lora(load(checkpoints["toy"], dtype="bfloat16"), SMALL, freeze_connector=False)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_under_autocast_no_adapter_keeps_a_float32_copy_of_its_input(checkpoints):
    """peft casts each to the adapter's float32, which autocast takes back: the same losses and gradients, for nothing."""
    batch, found = make_batch([40, 30]), []
    for under_autocast in (False, True):
        model = add_lora(load(checkpoints["toy"], dtype="bfloat16"), SMALL, False, under_autocast).train()
        for number, parameter in enumerate(p for name, p in model.named_parameters() if "lora_" in name):
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
        seen: list[torch.dtype] = []
        for name, module in model.named_modules():
            if name.endswith("lora_A.default"):
                module.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0].dtype))
        with torch.autocast("cpu", torch.bfloat16):
            sums = model(**batch).sums
        sums.sum().backward()
        found.append((sums, [p.grad for p in model.parameters() if p.grad is not None]))
        assert set(seen) == {torch.bfloat16 if under_autocast else torch.float32}
    (sums, gradients), (cheap_sums, cheap_gradients) = found
    assert torch.equal(sums, cheap_sums) and all(map(torch.equal, gradients, cheap_gradients))


@pytest.mark.parametrize("freeze_connector", [True, False])
def test_a_bf16_base_runs_without_autocast_too(checkpoints, freeze_connector):
    """README's main config ended before its first step: its heads are float32, what reaches them is bfloat16."""
    batch = make_batch([40, 30])
    model = add_lora(load(checkpoints["toy"], dtype="bfloat16"), SMALL, freeze_connector=freeze_connector)
    with torch.no_grad():
        plain = model.eval()(**batch)
        with torch.autocast("cpu", torch.bfloat16):
            automatic = model(**batch)
    assert plain.decision_logits.dtype == torch.float32, "the heads decide in their own precision"
    torch.testing.assert_close(plain.sums, automatic.sums, rtol=0.05, atol=0.05)
    model.train()(**batch).sums.sum().backward()


def test_a_checkpoint_streams_in_bf16(adapter):
    _, folder = adapter
    model = load(folder, dtype="bfloat16")
    with torch.no_grad():
        hidden = model.extend(torch.tensor([[1, 10, 4]]), random_frames(1), model.new_cache())
        p_update, p_speak = model.decide(hidden[0, -1])
    assert 0 < p_update < 1 and 0 < p_speak < 1


def test_an_unknown_target_is_refused(checkpoints):
    with pytest.raises(ProspectError, match=r"model.lora.targets: found fc9, expected linear layers"):
        add_lora(load(checkpoints["toy"]), LoraSettings(targets=("q_proj", "fc9")), freeze_connector=True)


def test_a_checkpoint_is_merged_into_its_base_where_it_is_loaded_even_if_its_run_was_moved(adapter, tmp_path):
    model, folder = adapter
    batch = make_batch([50, 20], seed=9)
    with torch.no_grad():
        expected = model(**batch)
        found = load(folder)
        torch.testing.assert_close(found(**batch).sums, expected.sums, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found(**batch).decision_logits, expected.decision_logits, rtol=1e-5, atol=1e-5)
        (tmp_path / "run").rename(tmp_path / "moved")
        moved = load(tmp_path / "moved" / "checkpoints" / "checkpoint-2")
    assert type(found) is DSTSmolVLM
    assert all(torch.equal(value, moved.state_dict()[name]) for name, value in found.state_dict().items())


def test_a_merged_export_is_a_plain_smolvlm_with_the_adapters_logits(adapter, tmp_path):
    model, folder = adapter
    (folder / "thresholds.json").write_text("{}")
    assert export(folder, tmp_path / "merged", merge=True) == "SmolVLM weights and heads"
    assert {p.name for p in (tmp_path / "merged").iterdir()} >= {
        "model.safetensors",
        "tokenizer.json",
        "thresholds.json",
    }
    plain = SmolVLMForConditionalGeneration.from_pretrained(tmp_path / "merged").eval()
    batch = make_batch([40], seed=3)
    with torch.no_grad():
        ours = model(input_ids=batch["input_ids"], frames=batch["frames"]).logits
        theirs = plain(input_ids=batch["input_ids"], pixel_values=as_pixels(batch["frames"])[None]).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_an_export_that_is_not_merged_is_the_adapter_and_names_its_base(adapter, tmp_path):
    model, folder = adapter
    assert export(folder, tmp_path / "out", merge=False) == f"adapter and heads; its base is {folder.parents[1]}/init"
    with torch.no_grad():
        batch = make_batch([30], seed=4)
        torch.testing.assert_close(load(tmp_path / "out")(**batch).sums, model(**batch).sums, rtol=1e-5, atol=1e-5)


def test_exports_that_cannot_be_made_leave_nothing(adapter, checkpoints, tmp_path):
    _, folder = adapter
    with pytest.raises(ProspectError, match="found no LoRA adapter, expected one to merge; leave out --merge"):
        export(checkpoints["toy"], tmp_path / "out", merge=True)
    with pytest.raises(ProspectError, match="is there already, expected a new folder"):
        export(checkpoints["toy"], folder, merge=False)
    record = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(record | {"base_model_name_or_path": str(tmp_path / "gone")})
    )
    with pytest.raises(ProspectError, match="gone"):
        export(folder, tmp_path / "out", merge=True)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(ProspectError, match=r"adapter_config.json: not valid JSON"):
        export(folder, tmp_path / "out", merge=True)
    (folder / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(ProspectError, match=r"checkpoint-2: its tokenizer: cannot be loaded \(JSONDecodeError"):
        export(folder, tmp_path / "out", merge=False)
    with pytest.raises(ProspectError, match="nosuch: found no such folder, expected a checkpoint's folder"):
        export(tmp_path / "nosuch", tmp_path / "out", merge=False)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*partial"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"target_modules": "(a|a)*$"},
            r"target_modules: found '\(a\|a\)\*\$', expected names of layers, or what prospect",
        ),
        ({"target_modules": ["q_proj", "(.*)*x"]}, r"target_modules: found '\(\.\*\)\*x', expected names of layers"),
        ({"rank_pattern": {"(.*)*x": 3}}, r"rank_pattern: found .*dictionary should have at most 0 items"),
        ({"layer_replication": [[0, 1000000]]}, r"layer_replication: found \[\[0, 1000000\]\], expected null"),
        ({"r": 0}, r"r: found 0, expected greater than 0"),
        ({"peft_type": "IA3"}, r"peft_type: found 'IA3', expected 'LORA'"),
        ({"base_model_name_or_path": None}, r"base_model_name_or_path: found None, expected a valid string"),
    ],
)
def test_an_adapter_that_this_program_never_writes_is_refused(adapter, changed, message):
    """attack.md 14: peft matches its patterns with every module's name, which one of them can make last for ever."""
    _, folder = adapter
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(ProspectError, match=message):
        load(folder)


@pytest.mark.parametrize("family", ["llama", "qwen3"])  # untied, tied
def test_rows_of_new_tokens_are_trained_saved_and_merged(tmp_path, family):
    text = save_text(tmp_path / "text", family, LLAMA_TOKENIZER, rows=len(LLAMA_TOKENIZER))
    assemble(str(text), str(save_tower(tmp_path / "tower")), None, tmp_path / "base", seed=0)
    base = load(tmp_path / "base", tokens_per_frame=1)
    new, known = list(base.prospect_settings.new_tokens), len(LLAMA_TOKENIZER)
    assert new == list(range(known, known + 7)) and base.lm_head.weight[new].std(0).max() < 1e-6
    before = base.get_input_embeddings().weight.detach().clone()
    model = add_lora(base, SMALL, freeze_connector=True)
    tables = [name for name, p in model.named_parameters() if "trainable_tokens" in name and p.requires_grad]
    assert len(tables) == (2 if family == "llama" else 1)
    ids = torch.tensor([[3, 9, new[0], new[1], 12, 13]])
    kinds, labels = torch.tensor([[0, 0, 1, 1, 1, 0]]).byte(), torch.full((1, 6), -100)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        out = model(input_ids=ids, target_kind=kinds, update_labels=labels, speak_labels=labels)
        out.sums.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        expected = model.eval()(input_ids=ids).logits
    model.save_pretrained(tmp_path / "adapter")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(tmp_path / "base" / name, tmp_path / "adapter" / name)
    merged = load(tmp_path / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    after = merged.get_input_embeddings().weight
    assert torch.equal(after[:known], before[:known]) and merged.lm_head.weight[new].std(0).max() > 1e-3
    assert (merged.lm_head.weight is after) == (family == "qwen3")
