"""Two checkpoints, of one token a frame (toy) and of a 4 x 4 grid, and random batches in the collate's form."""

import numpy as np
import torch

from prospect.layout import Tokens
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import _SIZES, TOY_VOCAB_SIZE, smolvlm2_config, toy_config, toy_tokenizer

TEXTS = ["Now pick up the red circle.", "DST: S1->complete, S2->start", "Well done, put it down."] * 4
TOKENIZER = toy_tokenizer(TEXTS)
BY_TOKENS = {"decision_tokens": Tokens(TOKENIZER, 1).decision_tokens(True)}  # for `load(settings=...)`
DECIDE = {"heads": {}, "tokens": BY_TOKENS}


def grid_config(tokenizer, tied=True):
    config = toy_config(tokenizer)
    config.vision_config.patch_size, config.scale_factor = 8, 2
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = tied
    return config


def load(folder, **options):
    torch.manual_seed(0)
    return DSTSmolVLM.from_checkpoint(folder, **options).eval()


def random_frames(count, seed=0, size=64):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def as_pixels(frames):
    return (frames.float() / 255 - 0.5) / 0.5


def make_batch(lengths, tokens_per_frame=1, seed=0):
    """Random text with an <image> block every 5 tokens, a decision after it, and targets of both kinds after that."""
    rng = np.random.default_rng(seed)
    batch = {
        "input_ids": torch.full((len(lengths), max(lengths)), TOKENIZER.pad_token_id),
        "attention_mask": torch.zeros(len(lengths), max(lengths), dtype=torch.int64),
        "target_kind": torch.zeros(len(lengths), max(lengths), dtype=torch.uint8),
        "update_labels": torch.full((len(lengths), max(lengths)), -100),
        "speak_labels": torch.full((len(lengths), max(lengths)), -100),
    }
    num_frames = 0
    for row, length in enumerate(lengths):
        batch["input_ids"][row, :length] = torch.from_numpy(rng.integers(7, 263, length))
        batch["attention_mask"][row, :length] = 1
        for start in range(2, length - tokens_per_frame - 2, tokens_per_frame + 4):
            last = start + tokens_per_frame - 1
            batch["input_ids"][row, start : last + 1] = 4
            batch["target_kind"][row, last + 1 : last + 3] = int(rng.integers(0, 3))
            if rng.random() < 0.8:
                batch["update_labels"][row, last] = int(rng.integers(0, 2))
                batch["speak_labels"][row, last] = int(rng.integers(0, 2))
            num_frames += 1
    return batch | {"frames": random_frames(num_frames, seed)}


def row_of(batch, row, tokens_per_frame=1):
    """One row of a batch without its padding."""
    per_row = (batch["input_ids"] == 4).sum(1).div(tokens_per_frame).int().tolist()
    length = int(batch["attention_mask"][row].sum())
    frames = batch["frames"].split(per_row)[row]
    return {k: v[row : row + 1, :length] for k, v in batch.items() if k != "frames"} | {"frames": frames}


def shaped_as(size):
    """A preset of tiny layers that has what tells the published size apart: its ratio of heads, pixel shuffle, untied
    embeddings; 16 tokens a frame."""
    scale = _SIZES[size].scale_factor
    _, _, heads, key_value_heads, _ = _SIZES[size].text
    ratio = heads // key_value_heads

    def config(tokenizer):
        shaped = smolvlm2_config(tokenizer, size)
        text, vision = shaped.text_config, shaped.vision_config
        text.hidden_size, text.intermediate_size, text.num_hidden_layers = 16 * 2 * ratio, 64, 2
        text.num_attention_heads, text.num_key_value_heads, text.head_dim = 2 * ratio, 2, 16
        text.vocab_size = TOY_VOCAB_SIZE
        vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers = 32, 64, 1
        vision.num_attention_heads, vision.image_size, vision.patch_size = 2, 16 * scale, 4
        return shaped

    return config
