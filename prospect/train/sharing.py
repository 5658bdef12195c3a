"""FSDP2 (`train.fsdp`): each rank keeps a part of every weight, gradient and optimizer state, and gathers the weights
of a layer when it computes it.

A checkpoint is whole all the same, as one process writes it: it goes on with any number of ranks, shared out or not.
"""

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from pipeline.errors import ProspectError
from prospect.config import Config


def check_can_share(config: Config) -> None:
    """
    Raises:
        ProspectError: `train.fsdp` without several ranks on GPUs: accelerate would train copies (DDP) without a word.
    """
    kind = PartialState().distributed_type
    if config.train.fsdp and kind in (DistributedType.NO, DistributedType.MULTI_CPU):
        found = "one process" if kind == DistributedType.NO else "ranks on CPUs"
        raise ProspectError(
            f"train.fsdp: found {found}, expected several ranks with a GPU each (torchrun --nproc-per-node 2 ...), "
            "between which weights are shared out; leave it out here"
        )


def fsdp_arguments(layer: str) -> dict[str, Any]:
    """Give the Trainer's arguments of FSDP2; `layer`: the class of the text model's layers, a unit each."""
    layers = {"transformer_layer_cls_to_wrap": [layer]}
    return {
        "fsdp": "full_shard auto_wrap",
        "fsdp_config": {"version": 2, "state_dict_type": "FULL_STATE_DICT", "reshard_after_forward": True, **layers},
    }


def whole_state(optimizer: Any, keep: bool) -> dict[str, Any]:
    """Give the optimizer's state as one process would have it, on the CPU. Every rank has to ask, as all give their
    parts; without `keep` it gets no tensors."""

    def whole(value: Any) -> Any:
        if isinstance(value, DTensor):
            value = value.full_tensor()
        if isinstance(value, Tensor):
            return value.cpu() if keep else None
        return value

    state: dict[str, Any] = tree_map(whole, optimizer.state_dict())
    return state


def take_up_state(optimizer: Any, whole: dict[str, Any]) -> None:
    """Load a whole state into an optimizer of shared-out weights, this rank's part of it."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]  # numbered so in the state
    for number, values in whole["state"].items():
        parameter = parameters[number]
        for name, value in values.items():
            if isinstance(parameter, DTensor) and value.shape == parameter.shape:
                there = value.to(parameter.device_mesh.device_type)
                values[name] = distribute_tensor(there, parameter.device_mesh, parameter.placements, src_data_rank=None)
    optimizer.load_state_dict(whole)


def read_state(path: Path) -> dict[str, Any]:
    """Read what torch.save wrote, onto the CPU."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
