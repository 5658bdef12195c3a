"""What decides at a position: of two heads, or of three tokens' logits, two probabilities."""

from math import isfinite

import torch
from torch import Tensor

from pipeline.errors import ProspectError


def binary_logits(logits: Tensor) -> Tensor:
    """Give two decisions (..., 2, 2) of logits (..., 3) of three tokens (update, speak, silence): softmax over the
    classes (0, 1) of a decision has at 1 the probability that softmax over the three gives its token.

    Of two tokens (speak, silence), as without DST, an update has probability 0.
    """
    *update, speak, silence = logits.unbind(-1)
    never = torch.full_like(silence, -torch.inf)
    one = update[0] if update else never
    no_update, no_speech = torch.logaddexp(speak, silence), torch.logaddexp(one, silence)
    return torch.stack([torch.stack([no_update, one], -1), torch.stack([no_speech, speak], -1)], -2)


def checked(p_update: float, p_speak: float) -> tuple[float, float]:
    """Give both.

    Raises:
        ProspectError: they are no numbers, which no threshold would tell from silence.
    """
    if not isfinite(p_update + p_speak):
        raise ProspectError(
            f"the model's decision: found probabilities {p_update} and {p_speak}, expected numbers: its hidden "
            "states overflow; use an earlier checkpoint, or model.dtype float32"
        )
    return p_update, p_speak
