"""What on a GPU would make the host wait for it, counted on a CPU."""

from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose result, or its size, the host has to know.
WAITING = (
    "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique", "_unique2", "masked_scatter_backward",
)  # fmt: skip


class HostWaits(TorchDispatchMode):
    """Collects the waiting operations that run inside it, of the backward pass too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        indexed_by_mask = name == "index" and any(i is not None and i.dtype.itemsize == 1 for i in args[1])
        if name in WAITING or indexed_by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))
