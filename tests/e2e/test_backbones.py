"""A checkpoint assembled of a language model and a tower goes all the way: nothing but make-checkpoint is special."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import SmolVLMForConditionalGeneration

from tests.helpers.command import fail, records, succeed
from tests.helpers.fakes import raw_clip, write_root
from tests.helpers.parts import LLAMA_TOKENIZER, save_text, save_tower

SETTINGS = [
    "--config=toy",
    *(
        f"--set={setting}"
        for setting in (
            "data.dataset=x",
            "data.root=data",
            "data.cache=cache",
            "data.num_workers=0",
            "model.preset=null",
            "model.checkpoint=whole",
            "model.tokens_per_frame=4",
            "train.epochs=4",
            "train.max_steps=4",
            "train.warmup_steps=1",
            "train.eval_steps=2",
            "train.save_steps=2",
            "train.log_steps=1",
        )
    ),
]
LORA = ["--set=model.lora={rank: 4}", "--set=name=lora"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a few clips; a language model of Qwen3's kind with a tokenizer of its own, a SigLIP, and the two joined."""
    folder = tmp_path_factory.mktemp("backbones")
    for split, count in (("train", 4), ("val", 1), ("test", 1)):
        videos = [f"{split}{number}" for number in range(count)]
        clips = [raw_clip(video_uid=v, frames_file=f"frames/{v}.arrow", end_frame_idx=13) for v in videos]
        write_root(folder / "data", clips, split=split)
        succeed(folder, "build-shards", "--split", split, "--dataset", "x", "--workers", 1)
    save_text(folder / "qwen3", "qwen3", LLAMA_TOKENIZER, rows=len(LLAMA_TOKENIZER))
    save_tower(folder / "siglip")
    told = succeed(folder, "make-checkpoint", "--text", "qwen3", "--vision", "siglip", "--out", "whole")
    assert "whole: qwen3 of 2 layers, 64 wide (qwen3); a tower of 2 layers, 64 px (siglip); 64 tokens a frame" in told
    return folder


def cut_back(run_folder: Path) -> None:
    """Leave a run as it stood after its second step."""
    shutil.rmtree(run_folder / "checkpoints" / "checkpoint-4")
    (run_folder / "metrics.json").unlink()


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_an_assembled_checkpoint_goes_all_the_way(world, lora):
    training = ["train", *SETTINGS, *(LORA if lora else ["--set=name=full"])]
    name = "lora" if lora else "full"
    folder = world / "runs" / name
    succeed(world, "plan", *training[1:])
    succeed(world, *training)
    log = records(folder)
    assert log[-1]["loss"] < log[0]["loss"]
    weights = next((folder / "checkpoints" / "checkpoint-4").glob("*model.safetensors"))
    before = load_file(weights)
    cut_back(folder)
    succeed(world, *training, "--resume")
    after = load_file(weights)
    assert records(folder) == log
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    if lora:
        deltas = [key for key in before if "trainable_tokens_delta" in key]
        assert len(deltas) == 1 and before[deltas[0]].shape == (7, 64), "tied: one table of the new tokens' rows"
        assert before[deltas[0]].std(0).max() > 0, "the new tokens are no longer alike"

    succeed(world, "calibrate", "--checkpoint", folder, "--confirm", 1)
    succeed(world, "evaluate", "--checkpoint", folder, "--rows", "", "--max-actions", 1)
    assert json.loads((folder / "evaluation" / "test" / "metrics.json").read_text())
    frames, clip = world / "data" / "x" / "frames" / "test0.arrow", world / "data" / "x" / "test_training.json"
    succeed(world, "stream", frames, "--checkpoint", folder, "--clip", f"{clip}#0", "--end", 6, "--no-repeat", 2)
    succeed(world, "export", f"exported-{name}", "--checkpoint", folder, *(["--merge"] if lora else []))
    plain, told = SmolVLMForConditionalGeneration.from_pretrained(world / f"exported-{name}", output_loading_info=True)
    assert not told["missing_keys"] and plain.config.text_config.model_type == "qwen3"
    settings = json.loads((world / f"exported-{name}" / "config.json").read_text())["prospect"]
    assert settings["parts"] == {"text": "qwen3", "vision": "siglip", "seed": 0} and settings["fps"] == [2]


@pytest.mark.slow
def test_features_are_cached_of_an_assembled_checkpoint(world):
    cached = [*SETTINGS, "--set=model.lora={rank: 4}", "--set=model.freeze_connector=true", "--set=name=cached"]
    succeed(world, "cache-features", *cached, "--set=data.features=features")
    succeed(world, "train", *cached, "--set=data.features=features")
    succeed(world, "train", *cached, "--set=name=decoded")
    read, decoded = (records(world / "runs" / name)[-1] for name in ("cached", "decoded"))
    assert read["loss"] == pytest.approx(decoded["loss"], rel=1e-5)


def test_the_command_refuses_what_does_not_go_together(world, tmp_path):
    text, tower = str(world / "qwen3"), str(world / "siglip")
    message = fail(tmp_path, "make-checkpoint", "--text", text, "--vision", "none", "--out", "out")
    assert "--preset gives the sizes of a fresh vision tower" in message
    message = fail(tmp_path, "make-checkpoint", "--text", tower, "--vision", tower, "--out", "out")
    assert "found model_type 'siglip', expected a causal language model" in message
    assert not list(tmp_path.iterdir())


def test_four_bits_need_a_gpu_and_say_so_before_anything_is_read(world):
    message = fail(
        world, "train", *SETTINGS, "--set=model.lora={rank: 4, quantize: 4bit}", "--set=model.checkpoint=nowhere"
    )
    assert "model.lora.quantize: 4bit needs a GPU, found none; leave out" in message or torch.cuda.is_available()
