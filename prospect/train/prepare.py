"""What of a model is trained, and how: the same for a run and for the rehearsal that predicts its memory."""

from typing import Any

from prospect.config import Config
from prospect.model.lora import add_lora


def prepared(model: Any, config: Config) -> Any:
    """The DSTSmolVLM with LoRA adapters around it, or frozen in part; with gradient checkpointing where it is set."""
    if config.train.gradient_checkpointing:
        model.recompute_activations()
    if config.model.lora:  # everything else is frozen, but the heads, and the connector if that is wanted
        return add_lora(model, config.model.lora, config.model.freeze_connector)
    model.model.vision_model.requires_grad_(not config.model.freeze_vision)
    model.model.connector.requires_grad_(not config.model.freeze_connector)
    return model
