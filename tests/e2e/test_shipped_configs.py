"""Each file of configs/ is run as it is shipped, on a tiny checkpoint of its shape: nothing is overridden but sizes
and places. Trained with evaluations, killed, resumed, calibrated, evaluated, streamed, exported."""

import json
import math
import shutil
import signal
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from prospect.config_file import load_config
from prospect.model.assemble import assemble
from prospect.model.presets import PRESETS, make_checkpoint
from tests.helpers.command import records, start, succeed
from tests.helpers.fakes import raw_clip, write_root
from tests.helpers.models import TEXTS, shaped_as
from tests.helpers.parts import LLAMA_TOKENIZER, save_text, save_tower
from tests.helpers.places import CONFIGS
from tests.helpers.waiting import wait_for

SIZES = {
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": "smolvlm2-2.2b",
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": "smolvlm2-500m",
    "HuggingFaceTB/SmolVLM2-256M-Video-Instruct": "smolvlm2-256m",
    "data/toy-hard/words": "toy-hard",
}
LLAMA = {  # what tells the assembled ones apart: the ratio of heads, tied embeddings
    "models/llama3.1-8b-siglip": {"num_attention_heads": 8, "tie_word_embeddings": False},
    "models/llama3.2-3b-siglip": {"num_attention_heads": 6, "hidden_size": 96, "tie_word_embeddings": True},
    "models/llama3.2-1b-siglip": {"num_attention_heads": 8, "tie_word_embeddings": True},
}
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards of clips of 12 frames: four to train on, one in each other split."""
    folder = tmp_path_factory.mktemp("shipped")
    for split, count in (("train", 4), ("val", 1), ("test", 1)):
        videos = [f"{split}{number}" for number in range(count)]
        clips = [raw_clip(video_uid=v, frames_file=f"frames/{v}.arrow", end_frame_idx=13) for v in videos]
        write_root(folder / "data", clips, split=split)
        succeed(folder, "build-shards", "--split", split, "--dataset", "x", "--workers", 1)
    return folder


def checkpoint_for(world: Path, shipped: str) -> str:
    """A tiny checkpoint of the shape of the one that a config names."""
    name = SIZES.get(shipped, Path(shipped).name)
    folder = world / "models" / name
    if not folder.exists() and shipped in LLAMA:
        parts = world / "parts" / name
        text = save_text(parts / "text", "llama", LLAMA_TOKENIZER, rows=len(LLAMA_TOKENIZER), **LLAMA[shipped])
        assemble(str(text), str(save_tower(parts / "tower", image_size=48, patch_size=4)), None, folder, seed=0)
    elif not folder.exists():
        with patch.dict(PRESETS, {} if name == "toy-hard" else {name: shaped_as(name)}):
            make_checkpoint(name, folder, TEXTS, seed=0)
    return str(folder)


def sizes_and_places(world: Path, name: str) -> list[str]:
    shipped = load_config(CONFIGS / f"{name}.yaml")
    settings = [
        "data.dataset=x",
        "data.shards=shards",
        "data.root=data",
        "data.cache=cache",
        "data.num_workers=1",
        "train.epochs=3",
        "train.global_batch_size=2",
        f"train.micro_batch_size={min(shipped.train.micro_batch_size, 2)}",
        "train.max_steps=4",
        "train.eval_steps=2",
        "train.save_steps=2",
        "train.log_steps=1",
    ]
    if shipped.model.checkpoint:
        settings.append(f"model.checkpoint={checkpoint_for(world, shipped.model.checkpoint)}")
    return [f"--set={setting}" for setting in settings]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_config_goes_all_the_way(world, name):
    training = ["train", "--config", name, *sizes_and_places(world, name)]
    succeed(world, *training)
    whole, cut = world / "runs" / name, world / "runs" / "killed"
    log = records(whole)
    assert {record["step"] for record in log} >= {0, 2, 4}, "evaluated before the first step, and every two"
    assert all(math.isfinite(record["lm_loss"]) for record in log)

    shutil.rmtree(cut, ignore_errors=True)
    killed = start(world, *training, "--set=name=killed")
    position = cut / "checkpoints" / "checkpoint-2" / "data_position.json"
    wait_for(lambda: position.exists() or killed.poll() is not None, pause_s=0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert position.exists()
    succeed(world, *training, "--set=name=killed", "--resume")
    assert records(cut) == log
    first, second = (next((r / "checkpoints/checkpoint-4").glob("*model.safetensors")) for r in (whole, cut))
    weights, others = load_file(first), load_file(second)
    assert weights.keys() == others.keys() and all(torch.equal(weights[key], others[key]) for key in weights)

    succeed(world, "calibrate", "--checkpoint", whole, "--confirm", 1)
    succeed(world, "evaluate", "--checkpoint", whole, "--rows", "", "--max-actions", 1)
    report = json.loads((whole / "evaluation" / "test" / "metrics.json").read_text())
    assert report
    frames, clip = world / "data" / "x" / "frames" / "test0.arrow", world / "data" / "x" / "test_training.json"
    succeed(world, "stream", frames, "--checkpoint", whole, "--clip", f"{clip}#0", "--end", 6, "--max-actions", 1)
    succeed(world, "export", world / f"exported-{name}", "--checkpoint", whole)
    assert (world / f"exported-{name}" / "config.json").is_file()
