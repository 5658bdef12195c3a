"""How much GPU memory a run will take, by a rehearsal: the real step of the real model on tensors without data.

torch's fake tensors have shape and dtype alone, so that a 2.2B model is "trained" here in seconds on any machine, while
a dispatch mode adds up what is alive at each moment. What the rehearsal cannot see is added by arithmetic: the
optimizer's states, and what 4-bit weights spare, which are rehearsed in full. What neither sees: the CUDA context and
the allocator's fragmentation (OVERHEAD).
"""

import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import SmolVLMConfig

from prospect.config import Config, accumulation_steps
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.quantize import largest_bytes, spared_bytes
from prospect.setup import feature_dtype, feature_stage, prepared

OVERHEAD = 1.2e9  # bytes beyond what tensors take: CUDA context, libraries' workspaces, fragmentation
BLOCK = 256  # values that share a scale in torchao's 8-bit states
GRANULE = 512  # bytes: the CUDA allocator rounds up to it


@dataclass(frozen=True, slots=True)
class Shapes:
    """The largest micro-batch of a run."""

    sequences: int
    tokens: int  # of each
    frames: int  # of each
    targets: int  # labelled tokens of each
    decisions: int  # of each


@dataclass(frozen=True, slots=True)
class Prediction:
    """Parameters in numbers, memory in bytes."""

    parameters: dict[str, int]  # part of the model -> count; "trained" among them
    memory: dict[str, float]  # part -> at the moment of the peak

    @property
    def peak(self) -> float:
        """Most bytes that tensors take at once: what torch.cuda.max_memory_allocated will say."""
        return sum(self.memory.values())


class _Rehearsal(DSTSmolVLM):
    """Data that is not there cannot be checked."""

    def _check(self, condition: Tensor, message: str) -> None:
        pass


def predict(model_config: SmolVLMConfig, config: Config, shapes: Shapes) -> Prediction:
    """Rehearse two micro-batches (one where no gradient is accumulated) on one GPU.

    Args:
        model_config: of the model, with our settings in it.
    """
    dtype = getattr(torch, config.model.dtype)
    model_config._attn_implementation = config.model.attn_implementation.replace("flash_attention_2", "sdpa")
    with torch.device("meta"):
        base: Any = _Rehearsal._from_config(model_config, dtype=dtype).train()
        parameters = _count(base)
        is_quantized = config.model.lora is not None and config.model.lora.quantize == "4bit"
        spared, largest = (spared_bytes(base), largest_bytes(base)) if is_quantized else (0.0, 0.0)
        model = prepared(base, config)
    with FakeTensorMode():
        _materialize(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        parameters["trained"] = sum(p.numel() for p in trained)
        batch = _batch(base, config, shapes)
        storages = _Storages()
        storages.add([*model.parameters(), *model.buffers()])
        weights = storages.alive
        storages.add(batch.values())
        inputs = storages.alive - weights
        autocast = torch.autocast("cpu", torch.bfloat16) if config.train.bf16 else nullcontext()
        with storages:
            for _ in range(min(accumulation_steps(config.train), 2)):
                with autocast:
                    sums = model(**batch).sums
                sums.sum().backward()
                del sums
    gradients = sum(p.numel() * p.element_size() for p in trained)
    memory = {
        "weights": weights - spared,
        "gradients": gradients,
        "optimizer states": sum(_state_bytes(p, config.train.optimizer) for p in trained),
        "frames and labels": inputs,
        "activations": max(0, storages.peak - weights - inputs - gradients) + largest,
    }
    return Prediction(parameters, memory)


class _Storages(TorchDispatchMode):
    """Bytes of all storages alive that were added or came out of an operation, and the most that there were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._seen = weakref.WeakSet[Any]()

    def add(self, tensors: Iterable[Any]) -> None:
        for tensor in tensors:
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._seen:
                size = -(-storage.nbytes() // GRANULE) * GRANULE
                self._seen.add(storage)
                self.alive += size
                self.peak = max(self.peak, self.alive)
                weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.alive -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default:
            query = args[0]  # torch rehearses this one by its formula: all T x T scores, which flash attention spares
            out = torch.empty_like(query), query.new_empty(query.shape[:-1], dtype=torch.float32)
        else:
            out = func(*args, **(kwargs or {}))
        self.add(tree_leaves(out))
        return out


def _materialize(model: torch.nn.Module) -> None:
    """Tensors of the mode that is on, in place of those on the meta device; what was shared stays so."""
    made: dict[Tensor, Tensor] = {}
    for module in model.modules():
        owned: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for tensors in owned:
            for name, old in tensors.items():
                if old is not None and old not in made:
                    new = torch.empty(old.shape, dtype=old.dtype)
                    is_parameter = isinstance(old, torch.nn.Parameter)
                    made[old] = torch.nn.Parameter(new, old.requires_grad) if is_parameter else new
                if old is not None:
                    tensors[name] = made[old]


def _count(model: Any) -> dict[str, int]:
    inner = model.model
    parts = {"vision tower": [inner.vision_model], "connector": [inner.connector], "text": [inner.text_model],
             "LM head": [model.lm_head], "decision heads": model.heads}  # fmt: skip
    counts = {name: sum(p.numel() for m in modules for p in m.parameters()) for name, modules in parts.items()}
    if model.lm_head.weight is model.get_input_embeddings().weight:
        counts["LM head"] = 0  # tied: counted with the text
    return counts


def _batch(model: Any, config: Config, shapes: Shapes) -> dict[str, Any]:
    table, num_frames = (shapes.sequences, shapes.tokens), shapes.sequences * shapes.frames
    packed: dict[str, Any] = {}
    if config.train.padding_free:
        table = (1, shapes.sequences * shapes.tokens)
        starts = torch.zeros(shapes.sequences + 1, dtype=torch.int32)
        packed = {"position_ids": torch.zeros(table, dtype=torch.int64), "sequence_starts": starts}
        packed |= {"longest": shapes.tokens}
    size, count = model.config.vision_config.image_size, model.prospect_settings.tokens_per_frame
    ids = torch.zeros(table, dtype=torch.int64)
    frames = {"frames": torch.zeros(num_frames, 3, size, size, dtype=torch.uint8)}
    if config.data.features:
        dtype = getattr(torch, feature_dtype(config))
        is_pooled = feature_stage(config) == "pooled"
        width = model.pooled_width if is_pooled else model.config.text_config.hidden_size
        frames = {"pooled" if is_pooled else "features": torch.zeros(num_frames, count, width, dtype=dtype)}
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        **frames,
        **packed,
        "target_kind": torch.zeros(table, dtype=torch.uint8),
        "update_labels": torch.zeros_like(ids),
        "speak_labels": torch.zeros_like(ids),
        "target_places": torch.ones(shapes.sequences * shapes.targets, dtype=torch.int64),
        "decision_places": torch.ones(shapes.sequences * shapes.decisions, dtype=torch.int64),
    }


def _state_bytes(parameter: Tensor, optimizer: str) -> float:
    """Of AdamW's two moments."""
    if optimizer == "adamw_8bit" and parameter.numel() >= 4096 and parameter.numel() % BLOCK == 0:
        return parameter.numel() * 2 * (1 + 4 / BLOCK)
    return parameter.numel() * 2 * parameter.element_size()
