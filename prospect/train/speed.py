"""How fast a run goes and how near the hardware's limit: counted as batches come, told at each log.

Model FLOPs utilisation (MFU; PaLM, arXiv 2204.02311, appendix B) is the FLOPs that the model's formulas ask for, over
what the GPU could do at its dense bf16 peak. A matrix of W weights costs 2 W a token forward; causal attention over n
tokens 2 n^2 D a layer. Backward costs twice the forward for attention and where weights are trained, once where
gradients only pass through a matrix (LoRA), nothing in a frozen tower. Recomputation by gradient checkpointing counts
as nothing.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

PEAK_FLOPS = {  # dense bf16, a second (the makers' data sheets), by words of the device's name
    "GH200": 989e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 5090": 210e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
COUNTS = ("tokens", "padded", "frames", "turns", "decisions", "flops")


@dataclass(frozen=True, slots=True)
class ModelFlops:
    """FLOPs of a training step's parts, from the model's shapes."""

    token: float  # forward of the text layers' matrices
    attention: float  # forward, times the square of a sequence's tokens
    target: float  # forward of the LM head
    frame: float  # of the whole step: no part of the text's passes
    passes: int  # forwards that forward and backward of the text's matrices cost

    @classmethod
    def of(cls, model: Any, encodes_frames: bool = True) -> "ModelFlops":
        """Count those of `model`, a DSTSmolVLM; `encodes_frames` False: features come from disk."""
        text, vision = model.config.text_config, model.config.vision_config
        layers = model.model.text_model.layers
        linear = [m for name, m in layers.named_modules() if isinstance(m, nn.Linear) and "lora_" not in name]
        weights = sum(layer.in_features * layer.out_features for layer in linear)  # 4-bit weights are packed
        heads = text.num_attention_heads
        width = heads * (getattr(text, "head_dim", None) or text.hidden_size // heads)
        is_text_trained = any(p.requires_grad for name, p in layers.named_parameters() if "lora_" not in name)
        tower = model.model.vision_model
        patches = (vision.image_size // vision.patch_size) ** 2
        tower_weights = sum(p.numel() for p in tower.encoder.parameters() if p.ndim == 2)
        tower_weights += tower.embeddings.patch_embedding.weight.numel()
        frame = 2 * tower_weights * patches + 4 * vision.num_hidden_layers * vision.hidden_size * patches**2
        tower_passes = 3 if any(p.requires_grad for p in tower.parameters()) else 1
        projection = model.model.connector.modality_projection.proj
        projected = 2 * projection.in_features * projection.out_features * model.prospect_settings.tokens_per_frame
        is_connector_trained = any(p.requires_grad for p in model.model.connector.parameters())
        return cls(
            token=2 * weights,
            attention=2 * text.num_hidden_layers * width,
            target=2 * text.hidden_size * text.vocab_size,
            frame=encodes_frames * tower_passes * frame + (encodes_frames or is_connector_trained) * 3 * projected,
            passes=3 if is_text_trained else 2,
        )

    def step(self, lengths: Sequence[int], targets: int, frames: int) -> float:
        """Count those of sequences of so many tokens, `targets` labelled tokens and `frames` in all."""
        matrices = self.passes * (self.token * sum(lengths) + self.target * targets)
        return matrices + 3 * self.attention * sum(n * n for n in lengths) + self.frame * frames


def peak_flops(device_name: str) -> float | None:
    return next((peak for words, peak in PEAK_FLOPS.items() if re.search(rf"\b{words}\b", device_name)), None)


class Speed:
    """Counts since the last log, on this rank; its clock starts when the first batch is asked for."""

    def __init__(self, flops: ModelFlops, device: torch.device) -> None:
        self._flops = flops
        self._device = device
        self._peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        self._is_begun = False
        self._restart(0.0)

    def _restart(self, now: float) -> None:
        self._counts = torch.zeros(len(COUNTS), dtype=torch.float64)
        self._waited = self._elsewhere = 0.0
        self._start = now

    def take(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Hand on the batches of a step as they are asked for; count them, and how long they had to be waited for."""
        while True:
            start = time.perf_counter()
            if not self._is_begun:
                self._is_begun = True
                self._restart(start)
            batch = next(batches, None)
            self._waited += time.perf_counter() - start
            if batch is None:
                return
            self._count(batch)
            yield batch

    def _count(self, batch: dict[str, Any]) -> None:
        targets = batch["target_kind"] > 0  # (B, T)
        starts = batch.get("sequence_starts")  # where sequences follow one another in a row
        lengths = (batch["attention_mask"].sum(1) if starts is None else starts.diff()).tolist()
        num_frames = len(batch.get("pooled", batch.get("features", batch["frames"])))
        self._counts += torch.tensor(
            [
                sum(lengths),
                targets.numel(),
                num_frames,
                int((targets[:, 1:] & ~targets[:, :-1]).sum()),  # a block's header is no target
                int((batch["update_labels"] >= 0).sum()),
                self._flops.step(lengths, int(targets.sum()), num_frames),
            ],
            dtype=torch.float64,
        )

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Time evaluations and checkpoints, which no rate counts."""
        start = time.perf_counter()
        yield
        self._elsewhere += time.perf_counter() - start

    def rates(self, sum_over_ranks: Callable[[torch.Tensor], torch.Tensor], num_ranks: int) -> dict[str, float]:
        """Give rates of all ranks since the last call: per second, padding's share of tokens, the share of time that
        was spent waiting for data (of this rank), peak memory in GB (of this rank), MFU; the last two on a GPU."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # once a log
        now = time.perf_counter()
        seconds = now - self._start - self._elsewhere
        counts = sum_over_ranks(self._counts.float().to(self._device)).tolist()
        totals = dict(zip(COUNTS, counts, strict=True))
        rates = {f"{name}_per_s": totals[name] / seconds for name in ("tokens", "frames", "turns", "decisions")}
        rates["padding_waste"] = 1 - totals["tokens"] / max(totals["padded"], 1)
        rates["data_wait_share"] = self._waited / seconds
        if self._device.type == "cuda":
            rates["peak_memory_gb"] = torch.cuda.max_memory_allocated(self._device) / 1e9
        if self._peak:
            rates["mfu"] = totals["flops"] / seconds / (self._peak * num_ranks)
        self._restart(now)
        return rates
