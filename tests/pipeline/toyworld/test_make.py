"""The toy world: formats of real data, held-out combinations, and events that can be seen."""

import base64
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.annotations.dst import MOVES
from pipeline.annotations.validate import check_clip
from pipeline.errors import ProspectError
from pipeline.io.frame_store import FrameFile
from pipeline.toyworld.make import make_toy, num_clips
from pipeline.toyworld.world import COLOURS, LEAD, draw_episode, split_of


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    out = tmp_path_factory.mktemp("toy")
    assert make_toy(out, seed=3, clips=30) == {"train": 30, "val": 8, "test": 8}
    return out / "toyworld"


def clips(toy: Path, split: str = "train") -> list[dict]:
    return json.loads((toy / f"{split}_training.json").read_text())


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        make_toy(tmp_path / name, seed=1, clips=2)
    digests = [
        {
            str(p.relative_to(tmp_path / n)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in (tmp_path / n).rglob("*.*")
        }
        for n in ("one", "two")
    ]
    assert digests[0] == digests[1] and len(digests[0]) > 10
    make_toy(tmp_path / "other", seed=2, clips=2)
    first, other = (next((tmp_path / n / "toyworld" / "frames").glob("*train*")) for n in ("one", "other"))
    assert first.read_bytes() != other.read_bytes()


def test_clips_pass_every_check_of_real_data(toy):
    for split in ("train", "val", "test"):
        found = clips(toy, split)
        assert len(found) == num_clips(30)[split]
        for index, raw in enumerate(found):
            _, problems = check_clip(
                raw, index=index, file=split, dataset="toyworld", open_frames=lambda name: FrameFile(toy / name)
            )
            assert problems == []
            assert 40 <= raw["end_frame_idx"] - raw["start_frame_idx"] + 1 <= 90


def test_states_before_turns_are_the_replayed_ones(toy):
    for raw in clips(toy):
        state = dict.fromkeys((s["id"] for s in raw["dst"]), "not_started") | raw.get("initial_dst_state", {})
        for turn in raw["conversation"]:
            if turn["role"] == "system":
                continue
            assert turn["dst_state"] == {step: state[step] for step in turn["dst_state"]}
            if turn["role"] == "DST_UPDATE":
                for update in turn["content"]:
                    before, after = MOVES[update["transition"]]
                    assert state[update["id"]] in before
                    state[update["id"]] = after
        silent_tail = raw["end_frame_idx"] - max(t.get("end_frame", 0) for t in raw["conversation"])
        assert silent_tail >= 1 or raw["clip_idx"] == 0


def test_some_clips_are_second_parts_of_a_video(toy):
    seconds = [raw for raw in clips(toy) if raw["clip_idx"] == 1]
    assert seconds
    for raw in seconds:
        first = next(c for c in clips(toy) if c["video_uid"] == raw["video_uid"] and c["clip_idx"] == 0)
        assert raw["start_frame_idx"] == first["end_frame_idx"] + 1 and set(raw["initial_dst_state"].values())


def executed(toy: Path, split: str, clip: dict) -> list[str]:
    starts = [
        u["id"]
        for t in clip["conversation"]
        if t["role"] == "DST_UPDATE"
        for u in t["content"]
        if u["transition"] == "start"
    ]
    return [next(s["name"] for s in clip["dst"] if s["id"] == i).split()[-2] for i in starts]


def test_no_combination_of_steps_is_in_two_splits(toy):
    seen = {}
    for split in ("train", "val", "test"):
        seen[split] = {frozenset(s["name"].split()[-2] for s in raw["dst"]) for raw in clips(toy, split)}
        assert all(split_of(combination) == split for combination in seen[split])
    assert not seen["train"] & seen["val"] and not seen["train"] & seen["test"] and not seen["val"] & seen["test"]
    assert frozenset().union(*seen["train"]) == frozenset(COLOURS)


def test_the_order_of_steps_is_never_the_prompts(toy):
    whole = [raw for raw in clips(toy) if raw["clip_idx"] == 0 and len(executed(toy, "train", raw)) == len(raw["dst"])]
    assert len(whole) > 10
    for raw in whole:
        assert executed(toy, "train", raw) != [s["name"].split()[-2] for s in raw["dst"]]


def test_ids_are_of_colours_or_in_the_hard_preset_of_places(toy, tmp_path):
    for raw in clips(toy):
        assert [s["id"] for s in raw["dst"]] == [f"S{COLOURS.index(s['name'].split()[-2]) + 1}" for s in raw["dst"]]
    make_toy(tmp_path, seed=3, clips=20, preset="hard")
    hard = clips(tmp_path / "toyworld")
    assert all([s["id"] for s in raw["dst"]] == [f"S{i + 1}" for i in range(len(raw["dst"]))] for raw in hard)
    assert any(
        [COLOURS.index(s["name"].split()[-2]) for s in raw["dst"]]
        != sorted(COLOURS.index(s["name"].split()[-2]) for s in raw["dst"])
        for raw in hard
    )


def test_frames_are_jpegs_in_an_arrow_stream(toy):
    path = toy / clips(toy)[0]["frames_file"]
    with path.open("rb") as file, pa.ipc.open_stream(file) as reader:
        value = reader.read_all()["frame"][0].as_py()
    with Image.open(io.BytesIO(base64.b64decode(value))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))


def test_an_event_is_seen_from_its_frame_on_and_not_before():
    episode, _ = draw_episode(np.random.default_rng(0), "train", hard=False, two_parts=False)
    for event in episode.events:
        scene, before = episode.scenes[event.frame], episode.scenes[event.frame - 1]
        if event.kind == "start":
            assert scene.carried == event.part and before.carried != event.part
        else:
            assert event.part in scene.placed and event.part not in before.placed
            assert all(episode.scenes[event.frame - i].carried == event.part for i in range(1, LEAD + 1))


def test_an_existing_world_is_refused_untouched(toy):
    before = (toy / "val_training.json").stat().st_mtime_ns
    with pytest.raises(ProspectError, match="is there already; remove it, or pass another --out"):
        make_toy(toy.parent, seed=9, clips=1)
    assert (toy / "val_training.json").stat().st_mtime_ns == before


def test_two_that_write_one_folder_do_not_meet(tmp_path):
    """attack.md 16: the second removed what the first had made so far, and both went on in one folder."""

    def start_another():
        with pytest.raises(
            ProspectError, match=r"another make-toy is writing here; wait for it, or pass another --out"
        ):
            make_toy(tmp_path, seed=2, clips=2)

    make_toy(tmp_path, seed=1, clips=2, on_clip=start_another)
    make_toy(tmp_path / "alone", seed=1, clips=2)
    alone, both = (
        (folder / "toyworld" / "train_training.json").read_bytes() for folder in (tmp_path / "alone", tmp_path)
    )
    assert alone == both and sorted(p.name for p in tmp_path.iterdir()) == ["alone", "toyworld"]


def test_what_a_killed_run_left_is_replaced(tmp_path):
    (tmp_path / ".toyworld.partial" / "frames").mkdir(parents=True)
    (tmp_path / ".toyworld.lock").touch()
    make_toy(tmp_path, seed=1, clips=2)
    assert [p.name for p in tmp_path.iterdir()] == ["toyworld"]
    with pytest.raises(ProspectError, match="is there already"):
        make_toy(tmp_path, seed=1, clips=2)
    assert [p.name for p in tmp_path.iterdir()] == ["toyworld"]
