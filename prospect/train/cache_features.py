"""`prospect cache-features`: what a frozen tower makes of each frame of a run's splits, to disk, once."""

import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from pipeline.errors import ProspectError
from pipeline.io.engine import Engine
from pipeline.progress import Progress
from prospect.config import Config
from prospect.data.decode import decode_frame
from prospect.data.features import FeatureStore
from prospect.data.images import StoredImages
from prospect.data.index import Split, clip_starts, clips_of
from prospect.model.lora import without_adapter
from prospect.runs import INIT
from prospect.setup import feature_dtype, feature_key, feature_stage, load_model, open_splits

DECODERS = 4  # threads


@dataclass(slots=True)
class _FramesFile:
    """A frames file and where its stored images are found, a clip after the other."""

    dataset: str
    name: str
    places: list[tuple[int, tuple[int, int], list[int]]] = field(default_factory=list)  # split's number, rows, frames
    frames: set[int] = field(default_factory=set)

    def add(self, split: int, rows: tuple[int, int], frames: range) -> None:
        new = [frame for frame in frames if frame not in self.frames]
        self.frames.update(new)
        if new:
            self.places.append((split, rows, new))

    def stored(self, images: list[StoredImages]) -> Iterator[tuple[int, bytes]]:
        """Give number and image of each frame; `images`: of each split."""
        for split, rows, frames in self.places:
            yield from zip(frames, images[split].read(rows, self.name, frames), strict=True)


class _Encoder:
    """A config's model, and where its features are kept."""

    def __init__(self, config: Config, splits: dict[str, list[Split]]) -> None:
        assert config.data.features is not None
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        transformers.set_seed(config.train.seed)
        with tempfile.TemporaryDirectory(prefix="prospect-") as scratch:
            loaded = load_model(config, None, splits[config.data.train_split], Path(scratch) / INIT)
        model = without_adapter(loaded.model).to("cuda" if torch.cuda.is_available() else "cpu").eval()
        dtype, stage = feature_dtype(config), feature_stage(config)
        width = model.config.text_config.hidden_size if stage == "projected" else model.pooled_width
        folder = config.data.features / feature_key(model, dtype, stage)
        self.store = FeatureStore(folder, model.prospect_settings.tokens_per_frame, width, dtype, stage)
        self._config, self._model = config, model
        self._images = [StoredImages.of(split, config.data) for group in splits.values() for split in group]

    def make(self, file: _FramesFile) -> bool:
        """Write the features of a frames file, unless they are there; tells whether they were written.

        Raises:
            ProspectError: an image is missing or broken.
        """
        if self.store.has(file.dataset, file.name, file.stored(self._images)):
            return False
        chunks = _encoded(self._model, file.stored(self._images), file.name, self.store, self._config)
        self.store.write(file.dataset, file.name, chunks)
        return True


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


def run_cache_features(
    config: Config, progress: Progress, engine: Engine | None = None
) -> tuple[FeatureStore, int, int]:
    """Write the features that are not there yet; the store, and how many frames were encoded and how many kept.

    Args:
        engine: whose workers encode, a frames file at a time, and write; None: this process.

    Raises:
        ProspectError: no folder is set, shards or model are missing, or an image is broken; of workers also: they
            have other weights, or write elsewhere, than this process.
    """
    if config.data.features is None:
        raise ProspectError("data.features: found nothing, expected a folder; add --set data.features=features")
    splits = _splits(config)
    files = _frames_files([split for group in splits.values() for split in group])
    written: Iterator[bool]
    if engine is None:
        encoder = _Encoder(config, splits)
        store, written = encoder.store, map(encoder.make, files)
    else:
        text = config.model_dump_json()
        store, _ = engine.map(_store, [text, text])  # one alone, LocalEngine would run in this process
        written = engine.map(_make, (_Task(text, store, file) for file in files))
    store.folder.mkdir(parents=True, exist_ok=True)
    total = sum(len(file.frames) for file in files)
    made = kept = 0
    for file, is_new in zip(files, written, strict=True):
        if not store.path(file.dataset, file.name).is_file():
            raise ProspectError(
                f"{store.folder}: found no features of {file.name}, which a worker has written; data.features has to "
                "be a folder that all nodes share"
            )
        made, kept = made + len(file.frames) * is_new, kept + len(file.frames) * (not is_new)
        progress("encoding frames", made + kept, total)
    store.save_about()
    return store, made, kept


def _splits(config: Config) -> dict[str, list[Split]]:
    names = (config.data.train_split, *config.data.eval_splits)
    return {name: open_splits(config, name) for name in names}


def _frames_files(splits: list[Split]) -> list[_FramesFile]:
    files: dict[tuple[str, str], _FramesFile] = {}
    for number, split in enumerate(splits):
        dataset = split.manifest.dataset
        for clip, rows in zip(clips_of(split.index), pairwise(clip_starts(split.index)), strict=True):
            file = files.setdefault((dataset, clip.frames_file), _FramesFile(dataset, clip.frames_file))
            file.add(number, rows, range(clip.start_frame, clip.end_frame + 1))
    return list(files.values())


@dataclass(frozen=True, slots=True)
class _Task:
    """A frames file for a worker."""

    config: str  # JSON
    store: FeatureStore
    file: _FramesFile


@lru_cache(1)
def _encoder(config: str) -> _Encoder:
    """The encoder of a worker process."""
    settings = Config.model_validate_json(config)
    return _Encoder(settings, _splits(settings))


def _store(config: str) -> FeatureStore:
    return _encoder(config).store


def _make(task: _Task) -> bool:
    encoder = _encoder(task.config)
    if encoder.store != task.store:
        raise ProspectError(
            f"{encoder.store.folder}: is where one of the workers would keep features, expected {task.store.folder}, "
            "as the others: every node needs the same model and version"
        )
    return encoder.make(task.file)
