"""The real model and the real trainer, to the last digit: fp32, no dropout, where no narrower test has it."""

import copy
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch
from torch.nn import functional as F
from transformers import SmolVLMForConditionalGeneration, TrainerCallback

from prospect.config import LossConfig
from prospect.config_file import load_config
from prospect.data.collate import stack_items
from prospect.data.reader import Item
from prospect.layout import IGNORE, Tokens, clip_sequence, cut_parts
from prospect.losses import count_targets, loss_sums, total_loss
from prospect.model.assemble import assemble
from prospect.model.presets import PRESETS, make_checkpoint
from prospect.model.side_by_side import Slots
from prospect.model.steps import Append
from prospect.model.text import last_hidden
from prospect.train.trainer import MODEL_INPUTS, ProspectTrainer
from tests.helpers.fakes import jpeg, make_clip
from tests.helpers.models import DECIDE, TEXTS, TOKENIZER, as_pixels, grid_config, load, make_batch
from tests.helpers.parts import save_text, save_tower
from tests.helpers.places import CONFIGS
from tests.helpers.streams import TURNS

HEADS = {f"{head}.{part}" for head in ("should_update_dst", "when_to_speak") for part in ("weight", "bias")}
LOSSES = ("lm", "dst_gen", "dst_binary", "speak_binary")
CONFIG = CONFIGS / "toy.yaml"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("checkpoints")

    def made(name: str) -> Path:
        return folder / name if (folder / name).exists() else make_checkpoint(name, folder / name, TEXTS, seed=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tied", grid_config)
        patch.setitem(PRESETS, "untied", lambda tokenizer: grid_config(tokenizer, tied=False))
        yield made


# (a) The hub's checkpoints, and back


def publish(checkpoint: Path, folder: Path, tied: bool) -> set[str]:
    """Shards, and a config.json in the form of HuggingFaceTB/SmolVLM2-500M-Video-Instruct; the tensors' names."""
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    SmolVLMForConditionalGeneration.from_pretrained(checkpoint).save_pretrained(folder, max_shard_size="200KB")
    config = json.loads((folder / "config.json").read_text())
    text = {name: config["text_config"][name] for name in (
        "hidden_size", "intermediate_size", "max_position_embeddings", "model_type", "num_attention_heads",
        "num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "vocab_size",
    )}  # fmt: skip
    text |= {
        "architectures": ["VLlama3ForCausalLM"],
        "head_dim": 32,
        "is_llama_config": True,
        "pixel_shuffle_factor": 2,
    }
    text |= {
        "pad_token_id": 2,
        "rope_theta": 100000,
        "rope_interleaved": False,
        "qk_layer_norms": False,
        "torch_dtype": "bfloat16",
    }
    vision = {name: config["vision_config"][name] for name in (
        "hidden_size", "image_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "patch_size",
    )}  # fmt: skip
    vision |= {"model_type": "smolvlm_vision", "max_image_size": {"longest_edge": 64}, "use_base_siglip": False}
    published = {name: config[name] for name in ("architectures", "image_token_id", "scale_factor")}
    published |= {"model_type": "smolvlm", "text_config": text, "vision_config": vision, "tie_word_embeddings": tied}
    published |= {"torch_dtype": "float32", "transformers_version": "4.47.1", "use_cache": False, "pad_token_id": 2}
    (folder / "config.json").write_text(json.dumps(published))
    return set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"])


@pytest.mark.parametrize("by", ["folder", "id"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_published_checkpoint_lacks_only_the_heads_and_gives_and_gets_back_the_parents_logits(
    checkpoint, tmp_path, monkeypatch, tied, by
):
    hub = tmp_path / "hub" / "models--somebody--SmolVLM2-tiny"
    folder = hub / "snapshots" / ("0" * 40)
    names = publish(checkpoint("tied" if tied else "untied"), folder, tied)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(folder.name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub.parent))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    plain = SmolVLMForConditionalGeneration.from_pretrained(folder).eval()
    ours = load("somebody/SmolVLM2-tiny" if by == "id" else folder)
    assert len({*folder.glob("model-*.safetensors")}) > 2 and ("lm_head.weight" in names) != tied
    assert set(ours.state_dict()) - names - ({"lm_head.weight"} if tied else set()) == HEADS
    assert (ours.lm_head.weight is ours.get_input_embeddings().weight) == tied

    ours.save_pretrained(tmp_path / "saved", max_shard_size="200KB")
    back, found = SmolVLMForConditionalGeneration.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not found["missing_keys"] and set(found["unexpected_keys"]) == HEADS
    batch = make_batch([50, 50], 16)
    pixels = as_pixels(batch["frames"]).unflatten(0, (2, -1))
    whole = torch.ones(*pixels.shape[:2], 64, 64, dtype=torch.bool)  # as the processor gives it
    with torch.no_grad():
        expected = plain(input_ids=batch["input_ids"], pixel_values=pixels, pixel_attention_mask=whole).logits
        logits = ours(input_ids=batch["input_ids"], frames=batch["frames"]).logits
        again = back.eval()(input_ids=batch["input_ids"], pixel_values=pixels, pixel_attention_mask=whole).logits
    assert expected.dtype == logits.dtype == torch.float32
    assert (logits - expected).abs().max() == 0 and (again - expected).abs().max() == 0


# (b), (c) The gradient of one big batch


def uneven_batch():
    """Eight sequences; the third and fourth have no frame and no label, the first four no positive of speaking."""
    batch = make_batch([34, 60, 4, 4, 21, 80, 50, 47])
    batch["speak_labels"][:4].clamp_(max=0)
    return batch


def rows_of(batch, first, end):
    """Some rows of a batch, without the padding that they do not need."""
    per_row = (batch["input_ids"] == 4).sum(1).tolist()
    length = int(batch["attention_mask"][first:end].sum(1).max())
    frames = batch["frames"][sum(per_row[:first]) : sum(per_row[:end])]
    tensors = {name: value[first:end, :length] for name, value in batch.items() if name != "frames"}
    return tensors | {"frames": frames, "datasets": [], "keys": []}


def probabilities(model, hidden, logits) -> torch.Tensor:
    """Of an update and of speech, (..., 2), from the last hidden states (..., D) and all LM logits (..., V)."""
    if model.decision_tokens:
        return logits[..., list(model.decision_tokens)].softmax(-1)[..., :2]
    return torch.stack([head(hidden).softmax(-1)[..., 1] for head in model.heads], -1)


def gradients_of_full_logits(model, batch, binary) -> dict[str, dict[str, torch.Tensor]]:
    """Of each loss, by its definition: logits everywhere, picked afterwards, and means taken over the whole batch."""
    output = model(input_ids=batch["input_ids"], frames=batch["frames"], output_hidden_states=True)
    hidden, ids, kinds = output.hidden_states[-1], batch["input_ids"][:, 1:], batch["target_kind"][:, 1:]

    def spoken(kind):
        return F.cross_entropy(output.logits[:, :-1][kinds == kind], ids[kinds == kind])

    def decided(which, labels):
        p = probabilities(model, hidden, output.logits)[..., which][labels != IGNORE]
        right = torch.where(labels[labels != IGNORE] == 1, p, 1 - p)
        if binary == "balanced":
            return sum(-right[labels[labels != IGNORE] == c].log().mean() for c in (0, 1)) / 2
        alpha = [len(p) / (2 * (labels == c).sum()) for c in (0, 1)]  # Streamo's, of two classes
        weight = torch.where(labels[labels != IGNORE] == 1, alpha[1], alpha[0]) * (1 - right) ** 2
        return (weight * -right.log()).sum() / len(p)

    losses = {
        "lm": spoken(1),
        "dst_gen": spoken(2),
        "dst_binary": decided(0, batch["update_labels"]),
        "speak_binary": decided(1, batch["speak_labels"]),
    }
    assert tuple(losses) == LOSSES
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = {}
    for name, loss in losses.items():
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        found[name] = dict(zip(names, grads, strict=True))
    return found


class OneStep(ProspectTrainer):
    """Takes one optimizer step on the micro-batches given."""

    def get_train_dataloader(self):
        return self.given

    def _save_checkpoint(self, model, trial):
        pass


class Keep(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.gradients = {name: p.grad.clone() for name, p in model.named_parameters()}


def trained_gradients(model, folder, loss, binary, micro_batch_size, rank=0, world_size=1) -> dict[str, torch.Tensor]:
    """Of one loss alone over the uneven batch, as the trainer hands them to the optimizer."""
    weights = ", ".join(f"{name}: {int(name == loss)}" for name in LOSSES) + f", binary: {binary}"
    settings = ["data.eval_splits=[]", "train.global_batch_size=8", "train.max_grad_norm=1e9"]
    settings += [f"train.micro_batch_size={micro_batch_size}", f"train.loss={{{weights}}}", f"runs={folder}"]
    trainer = OneStep(
        copy.deepcopy(model),
        config=load_config(CONFIG, settings),
        reader=[],
        eval_readers={},
        order=SimpleNamespace(steps_per_epoch=1),
        position=SimpleNamespace(max_steps=1),
        processors=(None, None),
        run_log=None,
    )
    starts = range(rank * 8 // world_size, (rank + 1) * 8 // world_size, micro_batch_size)
    trainer.given = [rows_of(uneven_batch(), start, start + micro_batch_size) for start in starts]
    keep = Keep()
    trainer.add_callback(keep)
    trainer.train()
    return keep.gradients


def one_of_two_ranks(rank: int, checkpoint: Path, folder: Path, decide: str, binary: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "MASTER_ADDR": "localhost"}  # not asked: they meet at a file
    meeting, patience = f"file://{folder}/meeting", timedelta(seconds=60)
    torch.distributed.init_process_group("gloo", init_method=meeting, timeout=patience, rank=rank, world_size=2)
    model = load(checkpoint, settings=DECIDE[decide])
    found = {loss: trained_gradients(model, folder, loss, binary, 2, rank, 2) for loss in LOSSES}
    torch.save(found, folder / f"rank{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def norm(tensors) -> torch.Tensor:
    return torch.stack([tensor.norm() for tensor in tensors]).norm()


def assert_same_gradients(found, expected):
    """Relative difference of the whole and of each tensor; the tower's key biases have none but rounding: no gradient."""
    assert found.keys() == expected.keys()
    whole = norm(expected.values())
    assert norm(found[name] - grad for name, grad in expected.items()) < 1e-5 * whole
    for name, grad in expected.items():
        assert (found[name] - grad).norm() < 1e-5 * max(grad.norm(), 1e-4 * whole), name


@pytest.fixture(scope="module", params=[("heads", "balanced"), ("tokens", "focal")], ids="-".join)
def big_batch(checkpoint, request):
    """How the model decides, how decisions are averaged, and the gradients of that."""
    decide, binary = request.param
    model = load(checkpoint("toy"), settings=DECIDE[decide])
    return decide, binary, gradients_of_full_logits(model, uneven_batch(), binary)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("micro_batch_size", [8, 2])
def test_micro_batches_give_the_gradient_of_the_big_batchs_full_logits(
    checkpoint, big_batch, tmp_path, micro_batch_size, loss
):
    decide, binary, expected = big_batch
    model = load(checkpoint("toy"), settings=DECIDE[decide])
    found = trained_gradients(model, tmp_path, loss, binary, micro_batch_size)
    assert_same_gradients(found, expected[loss])


@pytest.mark.slow
def test_two_ranks_of_two_micro_batches_give_the_gradient_of_the_big_batch(checkpoint, big_batch, tmp_path):
    decide, binary, expected = big_batch
    torch.multiprocessing.spawn(one_of_two_ranks, (checkpoint("toy"), tmp_path, decide, binary), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"rank{rank}.pt")
        for loss in LOSSES:
            assert_same_gradients(found[loss], expected[loss])


def test_the_batch_of_these_tests_is_uneven():
    batch = uneven_batch()
    counts = [
        count_targets(part["target_kind"], part["update_labels"], part["speak_labels"])
        for part in (rows_of(batch, start, start + 2) for start in range(0, 8, 2))
    ]
    assert not counts[1].any() and counts[0][4] == 0 and torch.stack(counts).sum(0).min() > 0
    assert ((counts[0] + counts[1]) != (counts[2] + counts[3])).all(), "of each term the ranks have another number"


# (d), (e) Logits of a clip


@pytest.fixture(scope="module", params=[*DECIDE, "llama", "qwen2-slides", "qwen3"])
def model(checkpoint, request, tmp_path_factory):
    """SmolVLM that decides either way, and checkpoints assembled of each family of language models."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param in DECIDE:
        return load(checkpoint("untied"), tokens_per_frame=4, settings=DECIDE[request.param])
    text, tower = save_text(folder / "text", request.param), save_tower(folder / "tower")
    assemble(str(text), str(tower), None, folder / "whole", seed=0)
    return load(folder / "whole", tokens_per_frame=4)


def clip_items(frame_wrap="none") -> list[Item]:
    """The parts of a clip, as the reader hands them to the collate."""
    clip, tokens = make_clip(TURNS, frames=(0, 19)), Tokens(TOKENIZER, 4, frame_wrap)
    sequences = [clip_sequence(tokens, clip, part) for part in cut_parts(tokens, clip, 300, 60)]
    return [Item("", "", "", sequence, [jpeg(frame) for frame in sequence.frames]) for sequence in sequences]


def training_pass(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits at every target (M, V) and probabilities at every decision (N, 2) of the pass that trains."""
    kept = []
    with torch.no_grad(), model.lm_head.register_forward_hook(lambda module, args, logits: kept.append(logits)):
        output = model(**{name: batch[name] for name in MODEL_INPUTS if name in batch})
    return kept[0], output.decision_logits.softmax(-1)[..., 1]


def after(model, ids, frames) -> tuple[torch.Tensor, torch.Tensor]:
    """LM logits (V,) and probabilities (2,) at the end of `ids`, from the parent's forward of these alone."""
    frames = frames[: ids.count(4) // 4]
    with torch.no_grad():
        output = model(input_ids=torch.tensor([ids]), frames=frames, output_hidden_states=True)
        return output.logits[0, -1], probabilities(model, output.hidden_states[-1][0, -1], output.logits[0, -1])


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frame_wrap", ["none", "smolvlm"])
def test_every_decision_and_target_of_a_clip_has_the_logits_of_a_forward_of_its_prefix(model, frame_wrap):
    items = clip_items(frame_wrap)
    batch = stack_items(items, TOKENIZER.pad_token_id, 64)
    targets, decisions = [], []
    for item, frames in zip(items, batch["frames"].split([len(i.sequence.frames) for i in items]), strict=True):
        sequence = item.sequence
        for t in range(len(sequence)):
            if sequence.target_kind[t]:
                targets.append(after(model, sequence.ids[:t], frames)[0])
            if sequence.update_labels[t] != IGNORE:
                decisions.append(after(model, sequence.ids[: t + 1], frames)[1])
    assert len(items) > 1 and len(targets) > 50 and len(decisions) > 15
    for found, expected in zip(training_pass(model, batch), (targets, decisions), strict=True):
        assert_close(found, torch.stack(expected))


def test_a_stream_block_by_block_has_the_states_of_the_whole_pass(model):
    item = clip_items()[0]
    ids, frames = item.sequence.ids, stack_items([item], TOKENIZER.pad_token_id, 64)["frames"]
    ends = [t + 1 for t, label in enumerate(item.sequence.update_labels) if label != IGNORE]
    cache, streamed = model.new_cache(), []
    for start, end in itertools.pairwise([0, *ends]):
        given = frames[ids[:start].count(4) // 4 : ids[:end].count(4) // 4]
        streamed.append(model.extend(torch.tensor([ids[start:end]]), given if len(given) else None, cache))
    with torch.no_grad():
        whole = last_hidden(model.model.text_model, model._embed(torch.tensor([ids[: ends[-1]]]), frames))
    assert len(ends) > 10 and ends[-1] > 100
    assert_close(torch.cat(streamed, 1), whole)


def test_streams_side_by_side_have_the_states_of_the_whole_pass(model):
    """Three of them in the same clip, each some blocks behind the one before."""
    item = clip_items()[0]
    ids, frames = item.sequence.ids, stack_items([item], TOKENIZER.pad_token_id, 64)["frames"]
    ends = [t + 1 for t, label in enumerate(item.sequence.update_labels) if label != IGNORE]
    blocks = list(itertools.pairwise([0, *ends]))
    with torch.no_grad():
        features = model.encode_frames(frames)  # (F, K, D)
        whole = last_hidden(model.model.text_model, model._embed(torch.tensor([ids[: ends[-1]]]), frames))[0]
    slots = Slots(model, 3)
    for turn in range(len(blocks) + 4):
        due = {n: blocks[turn - 2 * n] for n in range(3) if 0 <= turn - 2 * n < len(blocks)}
        wishes = {}
        for number, (start, end) in due.items():
            given = features[ids[:start].count(4) // 4 : ids[:end].count(4) // 4].flatten(0, 1)
            wishes[number] = Append(slots.slots[number], ids[start:end], given if len(given) else None)
        for number, seen in slots.append(wishes).items():
            assert_close(seen.hidden, whole[due[number][1] - 1])
    assert [slot.length for slot in slots.slots] == [ends[-1]] * 3


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [1, 1, 0]])
def test_no_logit_of_a_clip_depends_on_the_batch_around_it(model, order):
    items, pad = clip_items(), TOKENIZER.pad_token_id
    alone = [training_pass(model, stack_items([item], pad, 64)) for item in items]
    assert len(items) == 2 and len(items[0].sequence) != len(items[1].sequence)
    batch = stack_items([items[i] for i in order], pad, 64)
    together = training_pass(model, batch)
    for which, found in enumerate(together):
        assert_close(found, torch.cat([alone[i][which] for i in order]))
    batch["input_ids"][batch["attention_mask"] == 0] = 99
    assert all(map(torch.equal, training_pass(model, batch), together)), "what the padding is does not matter"
    fills = {"input_ids": pad, "attention_mask": 0, "target_kind": 0, "update_labels": IGNORE, "speak_labels": IGNORE}
    longer = batch | {name: F.pad(batch[name], (0, 9), value=fill) for name, fill in fills.items()}
    longer |= {"target_places": None, "decision_places": None}  # looked for anew
    for found, expected in zip(training_pass(model, longer), together, strict=True):
        assert_close(found, expected)


# (f) Balanced head losses


@pytest.mark.parametrize("head", ["dst_binary", "speak_binary"])
@pytest.mark.parametrize(
    ("labels", "probabilities", "halvings", "weights"),
    [
        ([0, 0, 0], [1 / 2, 1 / 4, 1 / 8], (1 + 2 + 3) / 3 / 2, [1 / 6, 1 / 6, 1 / 6]),  # no positives
        ([1, 1, 1], [1 / 2, 1 / 4, 1 / 8], (1 + 2 + 3) / 3 / 2, [1 / 6, 1 / 6, 1 / 6]),  # no negatives
        ([1, 0, 0], [1 / 8, 1 / 2, 1 / 4], 3 / 2 + (1 + 2) / 2 / 2, [1 / 2, 1 / 4, 1 / 4]),
        ([], [], 0, []),
    ],
)
def test_a_heads_balanced_loss_and_gradient_are_those_worked_by_hand(head, labels, probabilities, halvings, weights):
    """`probabilities` of the labels are powers of two: the loss is so many log 2, a decision's share its weight."""
    which, count = int(head == "speak_binary"), len(labels)
    decided = torch.zeros(count, 2, dtype=torch.int64)
    decided[:, which] = torch.tensor(labels)
    logits = torch.zeros(count, 2, 2)
    for row, label, p in zip(logits, labels, probabilities, strict=True):
        row[which, label] = math.log(p / (1 - p))
    logits.requires_grad_()
    positions = torch.full((2, 1, 5), IGNORE)
    positions[:, 0, 1 : 1 + count] = decided.T
    counts = count_targets(torch.zeros(1, 5, dtype=torch.uint8), *positions)
    nothing = torch.zeros(0, dtype=torch.int64)
    sums = loss_sums(torch.zeros(0, 8), nothing, nothing, logits, decided)
    loss = total_loss(sums, counts, LossConfig(lm=0, dst_gen=0, **{name: float(name == head) for name in LOSSES[2:]}))
    assert loss.item() == pytest.approx(halvings * math.log(2))
    loss.backward()
    by_hand = torch.zeros(count, 2, 2)
    for row, label, p, weight in zip(by_hand, labels, probabilities, weights, strict=True):
        row[which] = weight * (1 - p)
        row[which, label] *= -1
    torch.testing.assert_close(logits.grad, by_hand)
