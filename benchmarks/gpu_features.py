"""Question: how many frames a second does `prospect cache-features` encode, decoding included?

    python benchmarks/gpu_features.py [--preset smolvlm2-2.2b] [--videos 10] [--json FILE]

JPEGs of 384 px (benchmarks/build.py), random weights, the tower frozen, 4 tokens a frame; bfloat16 on a GPU.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from build import clip, write_frames

from pipeline.shards.build import build_split
from prospect.config import Config
from prospect.train.cache_features import run_cache_features

PRESETS = ("smolvlm2-2.2b", "smolvlm2-500m", "smolvlm2-256m", "toy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default=PRESETS[0])
    parser.add_argument("--videos", type=int, default=10, help="of 259 frames, each its own file")
    parser.add_argument("--json", type=Path, help="write the numbers into this file too")
    options = parser.parse_args()
    done: list[tuple[float, int]] = []  # after each file: seconds, and frames until then

    def watch(what: str, count: int, total: int | None) -> None:
        done.append((time.perf_counter(), count))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data" / "x").mkdir(parents=True)
        clips = []
        for video in range(options.videos):
            write_frames(folder / f"{video}.arrow")
            clips.append(clip(video, folder / f"{video}.arrow"))
        (folder / "data" / "x" / "train_training.json").write_text(json.dumps(clips))
        build_split(folder / "data", "x", "train", folder / "shards")
        data = {"dataset": "x", "root": folder / "data", "shards": folder / "shards", "features": folder / "features"}
        model = {"preset": options.preset, "freeze_vision": True, "freeze_connector": True}
        model["dtype"] = "bfloat16" if torch.cuda.is_available() else "float32"
        model["tokens_per_frame"] = "native" if options.preset == "toy" else 4
        data |= {"eval_splits": [], "max_seq_len": 8192}
        run_cache_features(Config.model_validate({"data": data, "model": model}), watch)
    (began, first), (ended, last) = done[0], done[-1]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    rate = (last - first) / (ended - began)
    print(f"{options.preset}, {device}: {rate:.0f} frames/s, of {last - first} frames after the first video")
    if options.json:
        options.json.write_text(json.dumps({f"{options.preset}: frames/s": rate}))


if __name__ == "__main__":
    main()
