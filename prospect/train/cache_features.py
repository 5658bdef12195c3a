"""`prospect cache-features`: what a frozen tower makes of each frame of a run's splits, to disk, once."""

import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from pipeline.errors import ProspectError
from pipeline.progress import Progress
from prospect.config import Config
from prospect.data.decode import decode_frame
from prospect.data.features import FeatureStore
from prospect.data.images import StoredImages
from prospect.data.index import Split, clip_starts, clips_of
from prospect.model.lora import without_adapter
from prospect.runs import INIT
from prospect.setup import feature_dtype, feature_key, feature_stage

DECODERS = 4  # threads


@dataclass(slots=True)
class _FramesFile:
    """A frames file and where its stored images are found, a clip after the other."""

    places: list[tuple[StoredImages, tuple[int, int], list[int]]] = field(default_factory=list)
    frames: set[int] = field(default_factory=set)

    def add(self, images: StoredImages, rows: tuple[int, int], frames: range) -> None:
        new = [frame for frame in frames if frame not in self.frames]
        self.frames.update(new)
        if new:
            self.places.append((images, rows, new))

    def stored(self, name: str) -> Iterator[tuple[int, bytes]]:
        for images, rows, frames in self.places:
            yield from zip(frames, images.read(rows, name, frames), strict=True)


def cache_features(
    config: Config, model: Any, splits: list[Split], progress: Progress
) -> tuple[FeatureStore, int, int]:
    """Write the features that are not there yet; the store, and how many frames were encoded and how many kept.

    Args:
        model: as `run.load_model` gives it.

    Raises:
        ProspectError: an image is missing or broken.
    """
    assert config.data.features is not None
    model = without_adapter(model).to("cuda" if torch.cuda.is_available() else "cpu").eval()
    dtype = feature_dtype(config)
    stage = feature_stage(config)
    width = model.config.text_config.hidden_size if stage == "projected" else model.pooled_width
    folder = config.data.features / feature_key(model, dtype, stage)
    store = FeatureStore(folder, model.prospect_settings.tokens_per_frame, width, dtype, stage)
    files: dict[tuple[str, str], _FramesFile] = {}
    for split in splits:
        images = StoredImages.of(split, config.data)
        for clip, rows in zip(clips_of(split.index), pairwise(clip_starts(split.index)), strict=True):
            file = files.setdefault((split.manifest.dataset, clip.frames_file), _FramesFile())
            file.add(images, rows, range(clip.start_frame, clip.end_frame + 1))
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(len(file.frames) for file in files.values())
    made = kept = 0
    for (dataset, name), file in files.items():
        if store.has(dataset, name, file.stored(name)):
            kept += len(file.frames)
        else:
            store.write(dataset, name, _encoded(model, file.stored(name), name, store, config))
            made += len(file.frames)
        progress("encoding frames", made + kept, total)
    store.save_about()
    return store, made, kept


@torch.inference_mode()
def _encoded(
    model: Any, stored: Iterator[tuple[int, bytes]], name: str, store: FeatureStore, config: Config
) -> Iterator[tuple[list[int], list[int], npt.NDArray[np.uint8]]]:
    """Chunks of frames, crc32s of their images, and their features' bytes, under the same autocast as in training."""
    size, device = model.config.vision_config.image_size, model.device
    encode = model.encode_frames if store.stage == "projected" else model.pool_frames
    with ThreadPoolExecutor(DECODERS) as decoders:
        while chunk := list(islice(stored, model.prospect_settings.vision_chunk)):
            pixels = decoders.map(lambda item: decode_frame(item[1], size, f"{name} frame {item[0]}"), chunk)
            frames = torch.from_numpy(np.stack(list(pixels))).to(device)  # (F, 3, S, S)
            with torch.autocast(device.type, torch.bfloat16) if config.train.bf16 else nullcontext():
                features = encode(frames).to(getattr(torch, store.dtype))  # (F, K, width)
            data = features.flatten(1).contiguous().view(torch.uint8).cpu().numpy()
            yield [frame for frame, _ in chunk], [zlib.crc32(image) for _, image in chunk], data


def run_cache_features(config: Config, progress: Progress) -> tuple[FeatureStore, int, int]:
    """Run `cache_features` of a config, its shards opened and its model loaded.

    Raises:
        ProspectError: no folder is set, shards or model are missing, or an image is broken.
    """
    from prospect.setup import load_model, open_splits

    if config.data.features is None:
        raise ProspectError("data.features: found nothing, expected a folder; add --set data.features=features")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    names = (config.data.train_split, *config.data.eval_splits)
    splits = {name: open_splits(config, name) for name in names}
    transformers.set_seed(config.train.seed)
    with tempfile.TemporaryDirectory(prefix="prospect-") as scratch:
        loaded = load_model(config, None, splits[config.data.train_split], Path(scratch) / INIT)
    return cache_features(config, loaded.model, [split for group in splits.values() for split in group], progress)
