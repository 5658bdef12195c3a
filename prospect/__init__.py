import logging

for _library in ("torchao", "torch.utils._pytree"):  # say at import which of their CUDA kernels they cannot load
    logging.getLogger(_library).setLevel(logging.ERROR)
