"""QLoRA (Dettmers et al., arXiv 2305.14314): under adapters the text model's frozen linear layers in 4 bits.

NF4 with doubly quantised scales, by bitsandbytes; embeddings, LM head, heads, connector and tower stay as they are. The
weights are read whole and quantised on their way to the GPU. A checkpoint holds the adapters alone, and is merged into
the base's own weights wherever it is loaded.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from pipeline.errors import ProspectError

BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)  # a weight: 4 bits, its block's 8-bit scale, and that one's own scale
FIX = "leave out model.lora.quantize (model.dtype=bfloat16 halves the weights)"


def check_quantizable() -> None:
    """Raise ProspectError where nothing can be quantised: before anything is read."""
    if not torch.cuda.is_available():
        raise ProspectError(f"model.lora.quantize: 4bit needs a GPU, found none; {FIX}")
    if find_spec("bitsandbytes") is None:
        raise ProspectError(
            f"model.lora.quantize: 4bit needs the package bitsandbytes, found none; pip install bitsandbytes, or {FIX}"
        )


def quantize(model: Any) -> None:
    """Put 4-bit layers in place of the text model's linear ones; their weights become so once they are on the GPU."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for parent in list(model.model.text_model.layers.modules()):
        for name, old in list(parent.named_children()):
            if type(old) is nn.Linear:
                new = Linear4bit(
                    old.in_features,
                    old.out_features,
                    bias=old.bias is not None,
                    compute_dtype=torch.bfloat16,
                    quant_type="nf4",
                    device="meta",
                )
                new.weight = Params4bit(old.weight.data, requires_grad=False, quant_type="nf4")
                new.bias = old.bias
                setattr(parent, name, new)
    model.is_loaded_in_4bit = True  # peft's adapters look for it


def spared_bytes(model: Any) -> float:
    """Count the bytes by which `quantize` makes a model's weights smaller."""
    linear = [m.weight for m in model.model.text_model.layers.modules() if type(m) is nn.Linear]
    return sum(weight.numel() * (weight.element_size() - BYTES) for weight in linear)


def largest_bytes(model: Any) -> float:
    """Count the bytes of the largest layer in the 16 bits that it is computed in: one at a time is."""
    return 2 * max(m.weight.numel() for m in model.model.text_model.layers.modules() if type(m) is nn.Linear)
