"""Exactness, stated for fp32 without dropout."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import SmolVLMForConditionalGeneration

from prospect.losses import count_targets, total_loss
from prospect.model.vision import pool_grid
from tests.helpers.models import as_pixels, load, make_batch, random_frames, row_of


@pytest.mark.parametrize("name", ["grid", "grid-untied", "toy"])
def test_logits_are_the_parents_to_the_bit(checkpoints, name) -> None:
    plain = SmolVLMForConditionalGeneration.from_pretrained(checkpoints[name]).eval()
    ours = load(checkpoints[name])
    native = ours.prospect_settings.tokens_per_frame
    assert native == {"toy": 1}.get(name, 16)
    batch = make_batch([50, 50], native)
    per_row = len(batch["frames"]) // 2
    pixels = as_pixels(batch["frames"]).unflatten(0, (2, per_row))
    with torch.no_grad():
        expected = plain(input_ids=batch["input_ids"], pixel_values=pixels).logits
        as_parent = ours(input_ids=batch["input_ids"], pixel_values=pixels).logits
        from_frames = ours(input_ids=batch["input_ids"], frames=batch["frames"]).logits
    assert torch.equal(as_parent, expected)
    assert torch.equal(from_frames, expected)
    assert (plain.lm_head.weight is plain.get_input_embeddings().weight) == (name != "grid-untied")


def test_transformers_own_generation_is_the_parents(checkpoints) -> None:
    plain = SmolVLMForConditionalGeneration.from_pretrained(checkpoints["toy"]).eval()
    inputs = {
        "input_ids": torch.tensor([[9, 4, 10, 11]]),
        "pixel_values": as_pixels(random_frames(1))[None],
        "pixel_attention_mask": torch.ones(1, 1, 64, 64, dtype=torch.bool),
    }
    expected = plain.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert torch.equal(load(checkpoints["toy"]).generate(**inputs, max_new_tokens=8, do_sample=False), expected)


@pytest.mark.parametrize("tokens_per_frame", [1, 4, 16])
def test_losses_equal_those_of_full_logits(checkpoints, tokens_per_frame) -> None:
    model = load(checkpoints["grid"], tokens_per_frame=tokens_per_frame)
    batch = make_batch([70, 61, 90], tokens_per_frame, seed=tokens_per_frame)
    with torch.no_grad():
        output = model(**batch)
        full = model(input_ids=batch["input_ids"], frames=batch["frames"], output_hidden_states=True)
    hidden = full.hidden_states[-1]  # after the final norm
    sums, argmax, decisions = [0.0] * 6, [], []
    for b, t in np.ndindex(*batch["input_ids"].shape):
        kind = batch["target_kind"][b, t]
        if kind:  # shifted: token t is predicted at t-1
            logits = full.logits[b, t - 1]
            sums[kind - 1] += F.cross_entropy(logits, batch["input_ids"][b, t]).item()
            argmax.append(int(logits.argmax()))
        if batch["update_labels"][b, t] >= 0:  # not shifted: the heads read position t
            heads = [model.should_update_dst(hidden[b, t]), model.when_to_speak(hidden[b, t])]
            decisions.append(torch.stack(heads))
            for head, labels in enumerate((batch["update_labels"], batch["speak_labels"])):
                term = 2 + 2 * head + (labels[b, t].item() == 0)
                sums[term] += F.cross_entropy(heads[head], labels[b, t]).item()
    torch.testing.assert_close(output.sums, torch.tensor(sums), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.decision_logits, torch.stack(decisions), rtol=1e-5, atol=1e-5)
    assert output.target_argmax.tolist() == argmax
    counts = count_targets(batch["target_kind"], batch["update_labels"], batch["speak_labels"])
    assert torch.equal(output.counts, counts) and counts.min() > 0


def test_argmax_is_left_out_in_training(toy) -> None:
    model = copy.deepcopy(toy).train()
    assert model(**make_batch([30])).target_argmax is None


def test_padding_batching_and_order_change_nothing(checkpoints) -> None:
    model = load(checkpoints["grid"], tokens_per_frame=4)
    batch = make_batch([40, 83, 61], 4)
    with torch.no_grad():
        together = model(**batch)
        alone = [model(**row_of(batch, row, 4)) for row in (2, 0, 1)]
    torch.testing.assert_close(together.sums, sum(o.sums for o in alone), rtol=1e-5, atol=1e-5)
    assert torch.equal(together.counts, sum(o.counts for o in alone))
    in_order = torch.cat([alone[i].decision_logits for i in (1, 2, 0)])
    torch.testing.assert_close(together.decision_logits, in_order, rtol=1e-5, atol=1e-5)


def gradients(model, batches, counts):
    model.zero_grad()
    for batch in batches:
        total_loss(model(**batch).sums, counts).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def assert_same_gradients(found, expected, within=1e-5):
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        assert (found[name] - grad).norm() <= within * grad.norm() + 1e-9, name


def test_micro_batches_give_the_gradient_of_the_big_batch(toy) -> None:
    model = copy.deepcopy(toy).train()
    batch = make_batch([34, 60, 21, 80])
    counts = count_targets(batch["target_kind"], batch["update_labels"], batch["speak_labels"])
    rows = [row_of(batch, row) for row in range(4)]
    assert len({tuple(model(**row).counts.tolist()) for row in rows}) == 4  # uneven
    whole = {name: grad.clone() for name, grad in gradients(model, [batch], counts).items()}
    assert_same_gradients(gradients(model, rows, counts), whole)


@pytest.mark.parametrize("frozen", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(toy, frozen) -> None:
    batch = make_batch([34, 60])
    counts = count_targets(batch["target_kind"], batch["update_labels"], batch["speak_labels"])
    model = copy.deepcopy(toy).train()
    model.model.vision_model.requires_grad_(not frozen)
    plain = {name: grad.clone() for name, grad in gradients(model, [batch], counts).items()}
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    assert_same_gradients(gradients(model, [batch], counts), plain)


@pytest.mark.parametrize("lacking", ["frames", "everything"])
def test_every_parameter_takes_part_in_every_batch(toy, lacking) -> None:
    model = copy.deepcopy(toy).train()
    batch = make_batch([30])
    batch["input_ids"][batch["input_ids"] == 4] = 50
    batch["frames"] = batch["frames"][:0]
    if lacking == "everything":
        batch["target_kind"].zero_()
        batch["update_labels"].fill_(-100)
        batch["speak_labels"].fill_(-100)
    grads = gradients(model, [batch], torch.ones(6))
    assert [name for name, grad in grads.items() if grad is None] == []
    vision = [grad for name, grad in grads.items() if "vision_model" in name or "connector" in name]
    assert all(not grad.any() for grad in vision)
    assert model.encode_frames(batch["frames"]).shape == (0, 1, 128)


def test_bf16_trains_with_float32_losses(checkpoints) -> None:
    model = load(checkpoints["toy"], dtype="bfloat16").train()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    output = model(**make_batch([30, 40]))
    total_loss(output.sums, output.counts).backward()
    assert output.sums.dtype == torch.float32 and output.sums.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b["target_kind"][0].__setitem__(0, 1), "a target at t = 0"),
        (lambda b: b["speak_labels"].fill_(-100), "labelled at different positions"),
        (lambda b: b["attention_mask"][0].__setitem__(0, 0), "expected right padding"),
        (
            lambda b: b.update(frames=b["frames"][1:]),
            r"<image> tokens do not match the frames, expected 5: 5 frames x 1 tok",
        ),
        (lambda b: b.update(frames=b["frames"][..., :32]), r"expected torch.uint8 \(F, 3, 64, 64\)"),
        (lambda b: b.update(frames=b["frames"].float()), r"found torch.float32 \(6, 3, 64, 64\)"),
    ],
)
def test_a_batch_that_would_silently_teach_wrong_things_is_refused(toy, change, message) -> None:
    batch = make_batch([33])
    change(batch)
    with pytest.raises(ValueError, match=message):
        toy(**batch)
    with pytest.raises(ValueError, match="found <image> tokens without frames"):
        toy.extend(torch.tensor([[9, 4]]), None, toy.new_cache())


# Frames


def test_pooling_by_hand() -> None:
    grid = torch.arange(16.0).view(1, 16, 1)  # rows 0 1 2 3 / 4 5 6 7 / 8 9 10 11 / 12 13 14 15
    assert pool_grid(grid, 4).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pool_grid(grid, 1).flatten().tolist() == [7.5]
    assert pool_grid(grid, 16) is grid


@pytest.mark.parametrize("count", [1, 4])
def test_pooled_features_are_means_of_native_ones(checkpoints, count) -> None:
    frames = random_frames(3)
    with torch.no_grad():  # the projection has no bias: the mean may be taken before or after it
        native = load(checkpoints["grid"]).encode_frames(frames).view(3, 4, 4, -1)
        pooled = load(checkpoints["grid"], tokens_per_frame=count).encode_frames(frames)
    by_hand = native.mean((1, 2))[:, None]
    if count == 4:
        by_hand = torch.stack([native[:, y : y + 2, x : x + 2].mean((1, 2)) for y in (0, 2) for x in (0, 2)], 1)
    torch.testing.assert_close(pooled, by_hand, rtol=1e-5, atol=1e-6)


def test_frozen_tower_in_chunks_equals_unchunked(checkpoints) -> None:
    whole, chunked = load(checkpoints["grid"]), load(checkpoints["grid"], vision_chunk=3)
    chunked.model.vision_model.requires_grad_(False)
    sizes = []
    chunked.model.vision_model.post_layernorm.register_forward_hook(lambda m, a, out: sizes.append(len(out)))
    frames = random_frames(8)
    features = chunked.encode_frames(frames)
    assert sizes == [3, 3, 2]
    torch.testing.assert_close(features, whole.encode_frames(frames), rtol=1e-5, atol=1e-6)
    features.sum().backward()
    assert all(p.grad is None for p in chunked.model.vision_model.parameters())
    assert chunked.model.connector.modality_projection.proj.weight.grad is not None


def test_frames_that_are_zero_once_normalised_are_kept(checkpoints) -> None:
    model = load(checkpoints["toy"])
    model.config.prospect |= {"image_mean": [128 / 255] * 3}
    grey, other = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8), random_frames(1)
    with torch.no_grad():
        features = model.encode_frames(torch.cat([grey, other, grey]))
        torch.testing.assert_close(features[::2], model.encode_frames(grey).expand(2, -1, -1), rtol=1e-5, atol=1e-6)
        ids = torch.tensor([[9, 4, 10, 4, 11, 4]])
        assert model(input_ids=ids, frames=torch.cat([grey, other, grey])).logits.shape == (1, 6, 384)
