"""Small things that a test can check by hand: a word tokenizer, clips, frames files, data roots."""

import base64
import copy
import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pipeline.annotations.clips import Clip, Step, Turn, in_sequence_order
from pipeline.annotations.dst import State
from prospect.model.presets import SPECIAL_TOKENS


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A token is a word with the space before it, a run of other space, or a special token: readable in a test."""
    split = pre_tokenizers.Split(Regex(r" ?[^\s,]+|,|\s"), "isolated")
    base = ["\n", ",", "System:", "User:", "Assistant:", "DST:", "Progress:"]
    base += [f" S{i}->{t}" for i in range(1, 13) for t in ("start", "complete")]
    base += ["Current", " Progress:", *(f" S{i}:{s}" for i in range(1, 13) for s in ("in_progress", "completed"))]
    words = [piece for text in texts for piece, _ in split.pre_tokenize_str(f" {text}")]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*SPECIAL_TOKENS, *base, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = split
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS[4:])})
    return fast


def pieces(tokenizer: PreTrainedTokenizerFast, ids: Iterable[int]) -> list[str]:
    return [tokenizer.convert_ids_to_tokens(int(i)) for i in ids]


def make_clip(
    turns: Iterable[Turn] = (),
    *,
    frames: tuple[int, int] = (0, 9),
    steps: int = 2,
    initial: tuple[State, ...] | None = None,
    clip_id: str = "v-c000",
    **more: Any,
) -> Clip:
    """A clip of steps S1.. named "do S1", with the turns given in file order."""
    return Clip(
        id=clip_id,
        dataset="toy",
        video_uid="v",
        clip_idx=0,
        fps=2,
        start_frame=frames[0],
        end_frame=frames[1],
        frames_file="frames/v.arrow",
        steps=tuple(Step(f"S{i}", f"do S{i}") for i in range(1, steps + 1)),
        initial_state=initial or ("not_started",) * steps,
        turns=in_sequence_order(list(turns), frames[0]),
        **more,
    )


def clip_texts(clip: Clip) -> list[str]:
    from pipeline.annotations.clips import prompt_text

    return [prompt_text(clip.steps, clip.state), *(turn.text for turn in clip.turns)]


def jpeg(seed: int, size: int = 64) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
    return out.getvalue()


def write_frames(
    path: Path, count: int, *, form: str = "stream", column: str = "frame", size: int = 64, first: int = 0
) -> list[bytes]:
    """An Arrow file of `count` frames; form: stream (base64 text), file (bytes), or struct (stream, {bytes, path}).

    Frame i is `jpeg(first + i, size)`.
    """
    images = [jpeg(first + i, size) for i in range(count)]
    values: list[Any] = list(images)
    if form == "stream":
        values = [base64.b64encode(image).decode() for image in images]
    elif form == "struct":
        values = [{"bytes": image, "path": None} for image in images]
    table = pa.table({"index": list(range(count)), column: values})
    path.parent.mkdir(parents=True, exist_ok=True)
    make = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with make(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=7)
    return images


RAW_CLIP: dict[str, Any] = {
    "video_uid": "v1",
    "frames_file": "data/x/frames/v1.arrow",
    "start_frame_idx": 2,
    "end_frame_idx": 19,
    "dst": [{"type": "step", "id": "S1", "name": "Take it"}, {"type": "step", "id": "S2", "name": "Put it"}],
    "note": "metadata",
    "conversation": [
        {"role": "system", "content": "Be kind.", "start_frame": 0, "end_frame": 1},
        {"role": "user", "content": "Hello", "start_frame": 3, "end_frame": 4},
        {
            "role": "DST_UPDATE",
            "content": [{"id": "S1", "transition": "start"}],
            "start_frame": 4,
            "end_frame": 6,
            "dst_state": {"S1": "not_started"},
        },
        {
            "role": "assistant",
            "content": "Well begun.",
            "start_frame": 4,
            "end_frame": 6,
            "dst_state": {"S1": "in_progress"},
        },
        {
            "role": "DST_UPDATE",
            "content": [{"id": "S1", "transition": "complete"}, {"id": "S2", "transition": "start"}],
            "start_frame": 10,
            "end_frame": 12,
            "dst_state": {"S1": "in_progress"},
        },
    ],
}


def raw_clip(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(RAW_CLIP) | changes


def write_root(root: Path, clips: list[dict[str, Any]], *, split: str = "train", dataset: str = "x") -> Path:
    """DATA_ROOT/DATASET with one annotation file and 20 frames of its own for every video that it names."""
    folder = root / dataset
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}_training.json").write_text(json.dumps(clips))
    for number, video in enumerate(dict.fromkeys(clip["video_uid"] for clip in clips)):
        write_frames(folder / "frames" / f"{video}.arrow", 20, first=20 * number)
    return root


def replace_in_index(folder: Path, old: str, new: str) -> None:
    """Write another text into the targets of a split's index, and its digest into the manifest: built so, as it were."""
    path = folder / "index.parquet"
    pl.read_parquet(path).with_columns(pl.col("target").str.replace(old, new, literal=True)).write_parquet(path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["index"] = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
