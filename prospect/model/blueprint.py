"""What a run's model will be, known without its weights: tokenizer, token layout, and how the model counts a frame."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from transformers import SmolVLMConfig

from pipeline.clips import prompt_text
from prospect.config import Config
from prospect.data.index import clips_of, read_split
from prospect.layout import HEADERS, Tokens
from prospect.model.checkpoint import ProspectSettings, load_tokenizer, read_config, with_tokens
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.presets import PRESETS, toy_tokenizer


@dataclass(frozen=True, slots=True)
class Blueprint:
    tokenizer: Any
    tokens: Tokens
    config: SmolVLMConfig

    def tokens_a_frame(self) -> int:
        """The model's own count: the shape that its vision tower and connector give one frame (on no device)."""
        size = self.config.vision_config.image_size
        with torch.device("meta"), torch.no_grad():
            model = DSTSmolVLM(self.config)
            return model.encode_frames(torch.empty(1, 3, size, size, dtype=torch.uint8)).shape[1]


def make_blueprint(config: Config) -> Blueprint:
    """The blueprint of a run; a preset's tokenizer comes from the training split's texts.

    Raises:
        ProspectError: checkpoint or shards are missing, or so many tokens a frame cannot be given.
    """
    source, wanted = config.model.checkpoint, config.model.tokens_per_frame
    if source:
        model_config = read_config(source, wanted, config.model.vision_chunk, {})
        tokenizer: Any = load_tokenizer(source)
    else:
        assert config.model.preset is not None
        data = config.data
        splits = [
            read_split(data.shards, dataset, data.train_split, data.root, data.shard_cache) for dataset in data.datasets
        ]
        tokenizer = toy_tokenizer(text for split in splits for text in texts_of(split.index))
        model_config = with_tokens(PRESETS[config.model.preset](tokenizer), config.model.preset, wanted)
    count = ProspectSettings.of(model_config).tokens_per_frame
    return Blueprint(tokenizer, Tokens(tokenizer, count, config.data.frame_wrap), model_config)


def texts_of(index: pl.DataFrame) -> Iterator[str]:
    """Every text of a split as a sequence has it, for a tokenizer of its own."""
    for clip in clips_of(index):
        yield f"System: {prompt_text(clip.steps, clip.state)}"
        for turn in clip.turns:
            yield f"{HEADERS[turn.role]} {turn.text}"
