"""Frames through the vision tower ahead of the text model, which is still at the frames before.

On a GPU on a CUDA stream of its own: the text of a frame is many small kernels, which leave most of the GPU idle, and
the host waits for their answer at each decision. On a CPU, where both would share the cores, when they are asked for.

F frames, S pixels a side, K tokens a frame, D hidden.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from prospect.model.vision import SmolVLMWithFrames


class EarlyVision:
    """Begins to encode frames; may be used by other threads than the one that takes the features."""

    def __init__(self, model: SmolVLMWithFrames) -> None:
        self._model = model
        self._side = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None
        if self._side:
            self._side.wait_stream(torch.cuda.current_stream(model.device))  # until the weights are there

    def begin(self, frames: Tensor) -> Callable[[], Tensor]:
        """Begin with frames, uint8 (F, 3, S, S) in the host's memory; gives what gives features (F, K, D), for once."""
        if self._side is None:
            return lambda: self._encoded(frames)
        with torch.cuda.stream(self._side):
            features = self._encoded(frames.pin_memory().to(self._model.device, non_blocking=True))
            ready = self._side.record_event()

        def take() -> Tensor:
            using = torch.cuda.current_stream(features.device)
            using.wait_event(ready)
            features.record_stream(using)  # or the side would use their memory again while they are read
            return features

        return take

    @torch.no_grad()
    def _encoded(self, frames: Tensor) -> Tensor:
        return self._model.encode_frames(frames)
