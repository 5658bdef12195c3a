"""What matters on a GPU, shown on a CPU: no wait of the host, each operation in its dtype. With a GPU: the same there."""

import pytest
import torch

from prospect.losses import count_targets, label_places, total_loss
from prospect.model.vision import SmolVLMWithFrames
from tests.helpers.models import load, make_batch, random_frames
from tests.helpers.waits import HostWaits

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def training_step(model, batch):
    counts = count_targets(batch["target_kind"], batch["update_labels"], batch["speak_labels"])
    total_loss(model(**batch).sums, counts).backward()


def with_places(batch):
    places = label_places(batch["target_kind"], batch["update_labels"])
    return batch | dict(zip(("target_places", "decision_places"), places, strict=True))


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_training_step_never_waits_for_the_gpu(checkpoints, monkeypatch, lora) -> None:
    monkeypatch.setattr(SmolVLMWithFrames, "_check", lambda *args: None)  # asserted on a GPU in its own time
    model = load(checkpoints["grid"]).train()
    model.model.vision_model.requires_grad_(not lora)
    batch = with_places(make_batch([60, 41], 16))
    with HostWaits() as waits:
        training_step(model, batch)
    assert waits.found == []


def test_the_counter_of_waits_counts() -> None:
    with HostWaits() as waits:
        x = torch.ones(3, requires_grad=True)
        x.masked_scatter(x.detach() > 2, x).sum().backward()
        _ = x[x > 0], x.sum().item()
    assert "masked_scatter_backward" in waits.found or "masked_select" in waits.found
    assert {"index", "_local_scalar_dense"} <= {*waits.found} | {
        name.replace("nonzero", "index") for name in waits.found
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_training_step_never_waits_on_a_gpu(checkpoints) -> None:
    model = load(checkpoints["grid"]).cuda().train()
    batch = {n: v.cuda() for n, v in with_places(make_batch([60, 41], 16)).items()}
    training_step(model, batch)  # kernels are chosen
    torch.cuda.set_sync_debug_mode("error")
    try:
        training_step(model, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("device", DEVICES)
def test_each_patch_has_its_own_position_in_any_dtype(checkpoints, dtype, device) -> None:
    """In bf16 transformers 5.17 gives 288 of 729 patches a neighbour's."""
    model = load(checkpoints["grid"]).to(device, dtype)
    embeddings = model.model.vision_model.embeddings
    with torch.no_grad():
        embeddings.patch_embedding.weight.zero_()
        embeddings.patch_embedding.bias.zero_()
    seen = []
    model.model.vision_model.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        model.encode_frames(random_frames(2).to(device))
    weight = embeddings.position_embedding.weight
    assert torch.equal(seen[0], weight.expand(2, *weight.shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_tower_in_bf16_runs_outside_autocast(checkpoints, dtype) -> None:
    model = load(checkpoints["grid"]).to(dtype)
    under = []
    model.model.vision_model.post_layernorm.register_forward_hook(
        lambda *args: under.append(torch.is_autocast_enabled("cpu"))
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.encode_frames(random_frames(3))
    assert under == [dtype == torch.float32]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_layer_norm_is_given_bf16_under_autocast(checkpoints, dtype) -> None:
    """CUDA's autocast would make float32 copies that a CPU's, which `plan` rehearses, does not (gpu.md 10)."""
    model = load(checkpoints["grid"]).to(dtype).train()
    given = []
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.register_forward_pre_hook(
                lambda module, args: given.append((torch.is_autocast_enabled("cpu"), args[0].dtype))
            )
    with torch.autocast("cpu", torch.bfloat16):
        model(**make_batch([60, 41], 16))
    assert given and (True, torch.bfloat16) not in given


def test_placing_features_has_the_gradient_of_masked_scatter(checkpoints) -> None:
    model = load(checkpoints["grid"], tokens_per_frame=4)
    batch = make_batch([40, 23], 4)
    embeds, features = (
        torch.randn(2, 40, 128, requires_grad=True),
        torch.randn(len(batch["frames"]), 4, 128, requires_grad=True),
    )
    is_image = batch["input_ids"] == 4
    scale = torch.randn(2, 40, 128)
    ours = model._with_features(embeds, is_image, features)
    grads = torch.autograd.grad((ours * scale).sum(), (embeds, features))
    theirs = embeds.masked_scatter(is_image[..., None], features)
    expected = torch.autograd.grad((theirs * scale).sum(), (embeds, features))
    assert torch.equal(ours, theirs)
    assert all(map(torch.equal, grads, expected))
