"""A run's checkpoint to a folder to keep or publish: weights, tokenizer and image processor, without a run's state."""

import json
import shutil
from pathlib import Path
from typing import Any

import transformers

from pipeline.errors import ProspectError
from pipeline.io.storage import write_json
from prospect.model.checkpoint import ProspectSettings, load_image_processor, load_tokenizer, read_config, writing
from prospect.model.dst_smolvlm import DSTSmolVLM
from prospect.model.hub import checkpoint_folder, checkpoint_name
from prospect.model.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, base_of, is_adapter
from prospect.runs import HUB_ID, THRESHOLDS


def export(checkpoint: Path, out: Path, merge: bool) -> str:
    """Write the folder `out`, whole or not at all; says what it is.

    Args:
        merge: a LoRA checkpoint as whole weights, which transformers' plain SmolVLM loads too; else as its adapter and
            heads, which need their base.

    Raises:
        ProspectError: `out` is there already, the checkpoint cannot be read, or it has no adapter to merge.
    """
    adapted = is_adapter(checkpoint)
    if out.exists():
        raise ProspectError(f"{out}: is there already, expected a new folder; remove it or name another")
    if merge and not adapted:
        raise ProspectError(f"{checkpoint}: found no LoRA adapter, expected one to merge; leave out --merge")
    checkpoint_folder(str(checkpoint))  # that it is whole,
    by_tokens = ProspectSettings.of(read_config(str(checkpoint), None, 64, {})).decision_tokens  # and one of ours
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer: Any = load_tokenizer(checkpoint)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model = None if adapted and not merge else DSTSmolVLM.from_checkpoint(checkpoint)
    with writing(partial, out):
        partial.mkdir(parents=True)
        if model is None:
            for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "config.json"):
                shutil.copyfile(checkpoint / name, partial / name)
            base = checkpoint_name(base_of(checkpoint))
            _name_base(partial / ADAPTER_CONFIG, base)
            what = f"{'adapter' if by_tokens else 'adapter and heads'}; its base is {base}"
        else:
            model.save_pretrained(partial)
            what = "SmolVLM weights" if by_tokens else "SmolVLM weights and heads"
        tokenizer.save_pretrained(partial)
        load_image_processor(checkpoint).save_pretrained(partial)
        if (checkpoint / THRESHOLDS).is_file():
            shutil.copyfile(checkpoint / THRESHOLDS, partial / THRESHOLDS)
        partial.rename(out)
    return what


def _name_base(adapter_config: Path, base: str) -> None:
    """Write a base of the hub by its id and revision, as peft reads them, in place of a folder of this machine."""
    hub_id = HUB_ID.fullmatch(base)
    if hub_id and hub_id[2]:
        record = json.loads(adapter_config.read_text())
        write_json(adapter_config, record | {"base_model_name_or_path": hub_id[1], "revision": hub_id[2]})
