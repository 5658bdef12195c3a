"""One stream's cache of fixed buffers; a frame goes through it in a forward of fixed shapes: on a GPU one CUDA graph.

A silent frame is a handful of tokens through every layer: some 15 kernels a layer, each launched by Python, which takes
longer than they run. A graph is launched once. It asks for shapes and addresses that never change, so keys and values
have buffers for the whole window (those of `side_by_side.Slots`, with one slot), the position is a tensor, and
attention looks at the first L places of the buffers, masked, where L grows by `BUCKET`. A graph is captured when a
bucket is first met, some 2 forwards' time, and kept: streams that follow in the same buffers capture nothing.

Two kinds of blocks go this way: a frame's, and single tokens, of which a text is written. All others (prompts, lines, a
frame with a line) run kernel by kernel on the same buffers. On a CPU the same function runs, uncaptured.

Memory: 2 * layers * heads * width numbers a token, of SmolVLM2-2.2B in bfloat16 .2 MB: .8 GB of 4096 tokens, for as
long as the cache is there, whatever stands in it; the graphs have one pool, of what a forward of few tokens takes.

T tokens, K tokens a frame, D hidden, L places.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import ProspectError
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.side_by_side import Slots
from prospect.model.steps import Append, Ends, Layers, OwnForward, Seen, StreamCache

BUCKET = 512  # places by which a step's view of the buffers grows
WAITING_ROPE = ("dynamic", "longrope")  # positions for which the host looks at how long the context is


class FixedCache(OwnForward):
    """A `StreamCache` of one stream at a time; `emptied` begins the next."""

    def __init__(self, model: DSTSmolVLM, capacity: int, frame: Sequence[int]) -> None:
        """
        Args:
            capacity: tokens of the window; rounded up to whole buckets.
            frame: ids of a frame's block.

        Raises:
            ProspectError: the text model attends in a way that has no fixed shape.
        """
        _check_supported(model.model.text_model.config)
        self._model, self._frame = model, list(frame)
        self._capacity = -(-capacity // BUCKET) * BUCKET
        self._is_refused = False  # by the device: no graph could be captured
        self._begin()

    def emptied(self) -> StreamCache:
        """Give this cache, with nothing in it; where graphs were refused, one of the model's, which needs less."""
        if self._is_refused:
            self._begin()  # frees the buffers
            return self._model.new_cache()
        self._slot.emptied()
        return self

    def get_seq_length(self) -> int:
        return self._slot.get_seq_length()

    def crop(self, max_length: int, /) -> None:
        self._slot.crop(max_length)

    def tail(self, count: int) -> Layers:
        return self._slot.tail(count)

    def join(self, layers: Layers) -> None:
        """In place, so graphs stay as they are."""
        if self._slot.length + layers[0][0].shape[1] > self._slots.capacity:
            self._forget()
        self._slot.join(layers)

    def append(self, wish: Append) -> Seen:
        if self._slot.length + len(wish.ids) > self._slots.capacity:
            self._forget()  # graphs of buffers that are now replaced by larger ones
        step = self._step(wish)
        if step is None:
            return self._slots.append({0: wish})[0]
        hidden, probabilities = step(wish, self._slot.length)
        self._slot.length += len(wish.ids)
        return Seen(Ends(self._model, hidden, probabilities), 0)

    def _begin(self) -> None:
        self._slots = Slots(self._model, 1, self._capacity)
        self._slot = self._slots.slots[0]
        self._forget()

    def _forget(self) -> None:
        self._steps: dict[tuple[bool, int], _FixedStep] = {}  # by whether it is of a frame, and L
        self._pool: Any = None  # of the graphs' memory, which is shared: one runs at a time

    def _step(self, wish: Append) -> "_FixedStep | None":
        """The step for a wish; None: it has none."""
        is_frame = wish.features is not None
        if self._is_refused or (list(wish.ids) != self._frame if is_frame else len(wish.ids) != 1):
            return None
        end = self._slot.length + len(wish.ids)
        longest = -(-end // BUCKET) * BUCKET
        if end <= self._slots.capacity:
            longest = min(longest, self._slots.capacity)
        if (is_frame, longest) not in self._steps:
            try:
                self._steps[is_frame, longest] = self._made(wish, longest)
            except RuntimeError as error:  # of CUDA; out of memory is one too
                self._is_refused = True
                self._forget()
                first = (str(error).splitlines() or [type(error).__name__])[0]
                warnings.warn(
                    f"CUDA graphs: found that none can be captured here ({first}); frames are run kernel by kernel, "
                    "with the same results, slower. Without PROSPECT_GRAPHS none are tried",
                    stacklevel=2,
                )
                return None
        return self._steps[is_frame, longest]

    def _made(self, wish: Append, longest: int) -> "_FixedStep":
        step = _FixedStep(self._model, self._slots, wish, longest)
        if self._model.device.type == "cuda":
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            step.capture(self._slot.length, self._pool)
        return step


class _FixedStep:
    """A forward of T tokens that sees L places."""

    def __init__(self, model: DSTSmolVLM, slots: Slots, like: Append, longest: int) -> None:
        """`like`: what will be appended; features, and the id where there is one alone, are each time others."""
        self._model, self._slots, self._longest = model, slots, longest
        self._ids = torch.tensor([like.ids], device=model.device)  # (1, T)
        self._features = None if like.features is None else like.features.clone()  # (K, D)
        self._begins = torch.zeros(1, dtype=torch.int64, device=model.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple[Tensor, Tensor] | None = None

    def __call__(self, wish: Append, begin: int) -> tuple[Tensor, Tensor]:
        """Give the last token's hidden state (1, D) and probabilities (1, 2); nothing here waits for the device."""
        if len(wish.ids) == 1:
            self._ids.fill_(wish.ids[0])
        if self._features is not None and wish.features is not None:
            self._features.copy_(wish.features)
        self._begins.fill_(begin)
        if self._graph is None or self._outputs is None:
            return self._forward()
        self._graph.replay()
        hidden, probabilities = self._outputs
        return hidden.clone(), probabilities.clone()  # the next replay writes over them

    def capture(self, begin: int, pool: Any) -> None:
        """Capture the graph, for a stream that has `begin` tokens; what stands in the buffers before them stays."""
        self._begins.fill_(begin)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):  # as torch asks: libraries make their workspaces at first calls
                self._forward()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use CUDA meanwhile: a page's, or one that decodes.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._outputs = self._forward()
        self._graph = graph

    @torch.no_grad()
    def _forward(self) -> tuple[Tensor, Tensor]:
        hidden = self._slots.run(self._ids, self._features, self._begins, slice(0, 1), self._longest)  # (1, T, D)
        text: Any = self._model.model.text_model
        last = text.norm(hidden[:, -1])
        return last, self._model.probabilities(last)


def _check_supported(config: Any) -> None:
    """Raise ProspectError where a text model has no forward of fixed shape; of its layers `Slots` knows."""
    kernel = config._attn_implementation
    if kernel != "sdpa":  # which takes the mask as it is
        raise ProspectError(f"the text model: found attention {kernel!r}, expected 'sdpa' for a step of fixed shape")
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in WAITING_ROPE:
        raise ProspectError(
            f"the text model: found positions of {rope!r}, which depend on how long the context is, expected others "
            "for a step of fixed shape"
        )
